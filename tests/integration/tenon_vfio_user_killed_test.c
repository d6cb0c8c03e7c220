// SPDX-License-Identifier: MIT
/* A device's server that is killed: at each message of set-up, under load, again and again; or stopped for a while. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "layout.h"
#include "tenon_guest.h"
#include "vfio_user_liar.h"

TestSuite(tenon_vfio_user_killed, .init = guest_skip_without_kvm, .timeout = 180);

/* More messages than opening a device takes, guest memory not among them. */
#define MESSAGES_MAX 60
/* What opening at least asks: greeting, description, regions, interrupts, events. */
#define MESSAGES_LEAST 20

static const char *address_of(const char *path, const char *options)
{
	static char text[128];
	snprintf(text, sizeof(text), "vfio-user:%s%s", path, options);
	return text;
}

/* SIGKILL while a request waits for its reply. @return whether the program gave up in set-up */
static bool refuses_when_killed_at(unsigned nth)
{
	const struct lie lie = {.index = -1, .nth = nth, .kind = LIE_KILL};
	struct liar liar;
	struct run run;
	liar_start(&liar, &lie, NULL);
	run_start(&run,
		  ARGS("run", "--firmware", "default", "--append", "mode=list", "--device", address_of(liar.path, "")),
		  NULL);
	int status = run_wait(&run, PATIENCE_MS);
	bool refused = status == 1;
	cr_expect_eq(run_count(&run.complained, "\n"), status == 0 && !atomic_load(&liar.told) ? 0 : 1, "%u: '%s'", nth,
		     run.complained.bytes);
	if (refused)
		cr_expect(strstr(run.complained.bytes,
				 "the device is gone: it closed the connection; restart its server"),
			  "%u: '%s'", nth, run.complained.bytes);
	else
		cr_expect_eq(status, 0, "%u: status %d, '%s'", nth, status, run.complained.bytes);
	liar_stop(&liar);
	run_finish(&run);
	liar_finish(&liar);
	return refused;
}

Test(tenon_vfio_user_killed, at_each_message_of_set_up_it_is_missed_in_one_line)
{
	unsigned nth = 1;
	while (nth < MESSAGES_MAX && refuses_when_killed_at(nth))
		nth++;
	cr_expect_geq(nth, MESSAGES_LEAST);
	cr_expect_lt(nth, MESSAGES_MAX);
}

#define LOAD "run", "--firmware", "default", "--memory", "32M", "--append"

Test(tenon_vfio_user_killed, under_load_the_guest_reads_ones_and_keeps_its_memory)
{
	struct testdev_run device;
	struct run run;
	testdev_start(&device, NULL);
	run_start(&run,
		  ARGS(LOAD, "mode=load rate=200 size=512 device-rate=1000", "--device",
		       address_of(device.path, ",timeout=5000")),
		  NULL);
	run_expect(&run, "# load ms=", 2);
	testdev_kill(&device);
	cr_expect_eq(run_wait(&run, PATIENCE_MS), LAYOUT_FIRMWARE_FAILED, "%s", run.said.bytes);
	cr_expect(strstr(run.said.bytes, "# load trouble: the device is gone: its registers read as ones"), "%s",
		  run.said.bytes);
	cr_expect_not(strstr(run.said.bytes, "corruption"), "%s", run.said.bytes);
	cr_expect(strstr(run.said.bytes, "\nnot ok 1 - load: "), "%s", run.said.bytes);
	cr_expect(strstr(run.complained.bytes, "the device is gone, and reads as ones: it closed the connection"), "%s",
		  run.complained.bytes);
	cr_expect_eq(run_count(&run.complained, "\n"), 1, "%s", run.complained.bytes);
	run_finish(&run);
	rmdir(device.folder);
}

/* The first one's death is nothing to the second, which is under load. */
Test(tenon_vfio_user_killed, under_load_it_costs_the_guest_that_device_and_no_other)
{
	struct testdev_run idle, device;
	struct run run;
	char second[128];
	testdev_start(&idle, NULL);
	testdev_start(&device, NULL);
	snprintf(second, sizeof(second), "vfio-user:%s,root-port,timeout=5000", device.path);
	run_start(&run,
		  ARGS(LOAD, "mode=load seconds=4 rate=200 size=512 device-rate=1000 skip=1", "--device",
		       address_of(idle.path, ",timeout=5000"), "--device", second),
		  NULL);
	run_expect(&run, "# load ms=", 1);
	testdev_kill(&idle);
	run_expect_complaint(&run, "is gone");
	cr_expect_eq(run_wait(&run, PATIENCE_MS), 0, "%s", run.said.bytes);
	cr_expect(strstr(run.said.bytes, "\nok 1 - load: "), "%s", run.said.bytes);
	cr_expect_eq(testdev_stop(&device), 0, "%s", device.run.said.bytes);
	run_finish(&run);
	testdev_finish(&device);
	rmdir(idle.folder);
}

Test(tenon_vfio_user_killed, again_and_again_it_comes_back_with_reconnect)
{
	struct testdev_run device;
	struct run run;
	char text[8] = "a";
	testdev_start(&device, NULL);
	run_start(&run,
		  ARGS("run", "--kernel", guest_interpreter(), "--memory", "64M", "--append", "e", "--device",
		       address_of(device.path, ",reconnect=on")),
		  NULL);
	unsigned files = 0;
	for (unsigned i = 1; i <= 5; i++) {
		text[0] = (char)('a' + i);
		run_send(&run, text);
		run_expect(&run, text, 1); /* the VM lives */
		if (i == 2)
			files = run_count_entries(&run, "fd");
		testdev_kill(&device);
		run_expect_complaint_times(&run, "the device is gone, and reads as ones", i);
		testdev_restart(&device, NULL);
		run_expect_complaint_times(&run, "its server is back", i);
	}
	cr_expect_eq(run_count_entries(&run, "fd"), files, "files are left behind");
	run_signal(&run, SIGTERM);
	cr_expect_eq(run_wait(&run, ENDING_MS), 128 + SIGTERM);
	cr_expect_eq(testdev_stop(&device), 0, "%s", device.run.said.bytes);
	run_finish(&run);
	testdev_finish(&device);
}

/* Not killed: it does nothing, as under a debugger. */
Test(tenon_vfio_user_killed, one_that_is_stopped_under_load_holds_up_nobody)
{
	struct testdev_run device;
	struct run run;
	testdev_start(&device, NULL);
	run_start(&run,
		  ARGS(LOAD, "mode=load rate=200 size=512 device-rate=1000", "--device", address_of(device.path, "")),
		  NULL);
	run_expect(&run, "# load ms=", 2);
	run_signal(&device.run, SIGSTOP);
	cr_expect_eq(run_wait(&run, PATIENCE_MS), LAYOUT_FIRMWARE_FAILED, "%s", run.said.bytes);
	cr_expect(strstr(run.said.bytes, "its registers read as ones"), "%s", run.said.bytes);
	cr_expect_not(strstr(run.said.bytes, "corruption"), "%s", run.said.bytes);
	cr_expect(strstr(run.complained.bytes, "its server does not answer, and it reads as ones until it does"), "%s",
		  run.complained.bytes);
	cr_expect_eq(run_count(&run.complained, "\n"), 1, "%s", run.complained.bytes);
	run_signal(&device.run, SIGCONT);
	cr_expect_eq(testdev_stop(&device), 0, "%s", device.run.said.bytes);
	run_finish(&run);
	testdev_finish(&device);
}
