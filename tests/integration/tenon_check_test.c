// SPDX-License-Identifier: MIT
/* `tenon check` and the firmware's other modes on the test device, which is another process: what a user sees, healthy or not. */
#include <fcntl.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "tenon_guest.h"
#include "tenon_run.h"

TestSuite(tenon_check, .init = guest_skip_without_kvm, .timeout = 180);

/* ---- The device ---- */

struct device {
	pid_t pid;
	char folder[32], socket[48], address[64];
};

/* @param fault  NULL: none */
static void device_start(struct device *device, const char *fault)
{
	strcpy(device->folder, "/tmp/tenon-check-XXXXXX");
	cr_assert_not_null(mkdtemp(device->folder));
	snprintf(device->socket, sizeof(device->socket), "%s/s", device->folder);
	snprintf(device->address, sizeof(device->address), "vfio-user:%s", device->socket);
	device->pid = fork();
	cr_assert_geq(device->pid, 0);
	if (device->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		int null = open("/dev/null", O_RDWR);
		dup2(null, STDOUT_FILENO);
		dup2(null, STDERR_FILENO);
		if (fault)
			execl(TENON_TESTDEV, "tenon-testdev", "--strict", "--fault", fault, device->socket, NULL);
		else
			execl(TENON_TESTDEV, "tenon-testdev", "--strict", device->socket, NULL);
		_exit(126);
	}
	for (unsigned waited = 0; access(device->socket, F_OK) != 0; waited++) {
		cr_assert_lt(waited, 1000, "the device does not listen");
		usleep(10000);
	}
}

/* Before run_finish, which wants no process left. @return its exit status */
static int device_stop(struct device *device)
{
	int status;
	kill(device->pid, SIGTERM);
	cr_assert_eq(waitpid(device->pid, &status, 0), device->pid);
	unlink(device->socket);
	rmdir(device->folder);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000;
}

#define CONTRACT_KEPT 0

/* ---- Reports ---- */

static void run_checked(struct run *run, const char *const *args, int status)
{
	run_start(run, args, NULL);
	cr_assert_eq(run_wait(run, 120000), status, "it said '%s' and complained '%s'", run->said.bytes,
		     run->complained.bytes);
}

Test(tenon_check, text_shows_config_interrupts_dma_and_reset_of_a_healthy_device)
{
	static const char *const lines[] = {"  ok    config ids ", "  ok    bar 0 ",     "  ok    intx ",
					    "  ok    msi ",        "  ok    msi-x ",     "  ok    flr ",
					    "  ok    dma copy ",   "  ok    contract ",  "64 raised and delivered",
					    "pieces, checksum ",   "0 failed, 1 skipped"};
	struct device device;
	struct run run;
	device_start(&device, NULL);
	run_checked(&run, ARGS("check", "--device", device.address), 0);
	cr_expect_eq(strncmp(run.said.bytes, device.address, strlen(device.address)), 0, "%s", run.said.bytes);
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		cr_expect(strstr(run.said.bytes, lines[i]), "no '%s' in %s", lines[i], run.said.bytes);
	cr_expect_str_empty(run.complained.bytes);
	cr_expect_eq(device_stop(&device), CONTRACT_KEPT);
	run_finish(&run);
}

Test(tenon_check, json_has_every_check_of_every_device)
{
	struct device devices[2];
	struct run run;
	device_start(&devices[0], NULL);
	device_start(&devices[1], NULL);
	char behind_port[80];
	snprintf(behind_port, sizeof(behind_port), "%s,root-port", devices[1].address);
	run_checked(&run, ARGS("check", "--json", "--device", devices[0].address, "--device", behind_port), 0);
	json_object *report = json_tokener_parse(run.said.bytes);
	cr_assert_not_null(report, "%s", run.said.bytes);
	json_object *list = json_object_object_get(report, "devices");
	cr_assert_eq(json_object_array_length(list), 2);
	size_t count = 0;
	for (unsigned i = 0; i < 2; i++) {
		json_object *one = json_object_array_get_idx(list, i);
		cr_expect_str_eq(json_object_get_string(json_object_object_get(one, "address")), devices[i].address);
		cr_expect_str_eq(json_object_get_string(json_object_object_get(one, "guest_address")),
				 i ? "02:00.0" : "01:00.0");
		count += json_object_array_length(json_object_object_get(one, "checks"));
	}
	cr_expect_gt(count, 30);
	cr_expect_eq(json_object_get_uint64(json_object_object_get(report, "passed")), count);
	cr_expect(json_object_get_boolean(json_object_object_get(report, "complete")));
	json_object_put(report);
	cr_expect_eq(device_stop(&devices[0]), CONTRACT_KEPT);
	cr_expect_eq(device_stop(&devices[1]), CONTRACT_KEPT);
	run_finish(&run);
}

Test(tenon_check, tap_numbers_checks_and_ends_with_its_plan)
{
	struct device device;
	struct run run;
	char line[128];
	unsigned number = 1;
	device_start(&device, NULL);
	run_checked(&run, ARGS("check", "--tap", "--device", device.address), 0);
	cr_expect_eq(strncmp(run.said.bytes, "TAP version 13\n# vfio-user:", 27), 0, "%s", run.said.bytes);
	for (;; number++) {
		snprintf(line, sizeof(line), "\nok %u - %s ", number, device.address);
		if (!strstr(run.said.bytes, line))
			break;
	}
	cr_expect_gt(number, 15);
	snprintf(line, sizeof(line), "\n1..%u\n", number - 1);
	cr_expect(strstr(run.said.bytes, line), "no '%s' in %s", line, run.said.bytes);
	device_stop(&device);
	run_finish(&run);
}

Test(tenon_check, device_that_dies_meanwhile_fails_the_check_and_nothing_else)
{
	struct device device;
	struct run run;
	device_start(&device, "disconnect@region-read#20");
	run_checked(&run, ARGS("check", "--device", device.address), 1);
	cr_expect(strstr(run.said.bytes, "  FAIL  "), "%s", run.said.bytes);
	cr_expect(strstr(run.said.bytes, " failed, "), "%s", run.said.bytes);
	device_stop(&device);
	run_finish(&run);
}

Test(tenon_check, self_test_that_stands_still_is_ended_and_said_to)
{
	struct run run;
	struct device device;
	device_start(&device, "stall=8000@region-read#20");
	run_checked(&run, ARGS("check", "--json", "--timeout", "2", "--device", device.address), 1);
	json_object *report = json_tokener_parse(run.said.bytes);
	cr_assert_not_null(report, "%s", run.said.bytes);
	cr_expect_not(json_object_get_boolean(json_object_object_get(report, "complete")));
	json_object *trouble = json_object_object_get(report, "trouble");
	cr_expect(trouble && strstr(json_object_get_string(trouble), "--timeout gives it more time"), "%s",
		  run.said.bytes);
	json_object_put(report);
	device_stop(&device);
	run_finish(&run);
}

Test(tenon_check, device_that_nobody_serves_is_no_result)
{
	struct run run;
	run_checked(&run, ARGS("check", "--device", "vfio-user:/nowhere/socket"), 3);
	cr_expect_str_empty(run.said.bytes);
	cr_expect(strstr(run.complained.bytes, "/nowhere/socket"), "%s", run.complained.bytes);
	run_finish(&run);
}

/* ---- Other modes, with devices ---- */

Test(tenon_check, load_drives_devices_and_finds_nothing_wrong)
{
	struct device device;
	struct run run;
	device_start(&device, NULL);
	run_checked(&run,
		    ARGS("run", "--firmware", "default", "--memory", "32M", "--device", device.address, "--append",
			 "mode=load seconds=3 rate=300 size=512 device-rate=500"),
		    0);
	cr_expect(strstr(run.said.bytes, "# load pages=128 rate=300 devices=1"), "%s", run.said.bytes);
	cr_expect(strstr(run.said.bytes, "\nok 1 - load: "), "%s", run.said.bytes);
	cr_expect_null(strstr(run.said.bytes, " copies=0 device-pages=0 errors=0\r\nok"), "%s", run.said.bytes);
	cr_expect_eq(device_stop(&device), CONTRACT_KEPT);
	run_finish(&run);
}

Test(tenon_check, timing_has_the_moments_of_each_round)
{
	struct device device;
	struct run run;
	unsigned rounds = 0;
	device_start(&device, NULL);
	run_checked(&run,
		    ARGS("run", "--firmware", "default", "--memory", "16M", "--device", device.address, "--append",
			 "mode=timing rounds=5"),
		    0);
	unsigned long ring, woken, handled, read, last = 0;
	for (const char *at = run.said.bytes; (at = strstr(at, "timing ring=")); at++, rounds++, last = woken) {
		cr_assert_eq(
			sscanf(at, "timing ring=%lu woken=%lu handled=%lu read=%lu", &ring, &woken, &handled, &read), 4,
			"%s", at);
		cr_expect_lt(ring, handled);
		cr_expect_gt(woken, last, "the device was woken anew");
		cr_expect_gt(read, 0);
	}
	cr_expect_eq(rounds, 5);
	cr_expect_eq(device_stop(&device), CONTRACT_KEPT);
	run_finish(&run);
}

Test(tenon_check, hostile_guest_with_two_devices_ends_as_it_should)
{
	struct device devices[2];
	struct run run;
	device_start(&devices[0], NULL);
	device_start(&devices[1], NULL);
	char behind_port[80];
	snprintf(behind_port, sizeof(behind_port), "%s,root-port", devices[1].address);
	run_checked(&run,
		    ARGS("run", "--firmware", "default", "--device", devices[0].address, "--device", behind_port,
			 "--append", "mode=hostile seconds=10 seed=20261121"),
		    0);
	cr_expect(strstr(run.said.bytes, "ok 1 - hostile: "), "%s", run.said.bytes);
	device_stop(&devices[0]);
	device_stop(&devices[1]);
	run_finish(&run);
}
