// SPDX-License-Identifier: MIT
/*
 * Reset groups from the command line to the guest: what --dry-run and tenon ctl say, and what a firmware that enumerates the buses
 * finds, is the same.
 */
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "layout.h"
#include "tenon_guest.h"
#include "testdev_run.h"

#define DEVICES 4

static struct testdev_run devices[DEVICES];
static char options[DEVICES][160];

/* Two groups of two, interleaved, unless a test wants something else. */
static void setup(void)
{
	guest_skip_without_kvm();
	for (unsigned i = 0; i < DEVICES; i++) {
		testdev_start(&devices[i], NULL);
		snprintf(options[i], sizeof(options[i]), "vfio-user:%s,timeout=5000,reset-group=%c", devices[i].path,
			 'a' + (char)(i % 2));
	}
}

static void teardown(void)
{
	for (unsigned i = 0; i < DEVICES; i++) {
		cr_expect_eq(testdev_stop(&devices[i]), 0, "%s", devices[i].run.said.bytes);
		testdev_finish(&devices[i]);
	}
}

TestSuite(tenon_topology, .init = setup, .fini = teardown, .timeout = 180);

#define FIRMWARE(mode) "run", "--firmware", "default", "--memory", "64M", "--append", mode
#define ALL            "--device", options[0], "--device", options[1], "--device", options[2], "--device", options[3]

static const char *text_of(json_object *object, const char *key)
{
	json_object *value = json_object_object_get(object, key);
	cr_assert_not_null(value, "no %s", key);
	return json_object_get_string(value);
}

static json_object *parse(const struct run *run)
{
	json_object *object = json_tokener_parse(run->said.bytes);
	cr_assert_not_null(object, "no JSON: %s", run->said.bytes);
	return object;
}

/* The groups that have a bus reset, in the firmware's words: "reset-group 01:00.0 01:00.1\n" for each. */
static void write_groups(json_object *topology, char *out, size_t capacity)
{
	json_object *groups = json_object_object_get(topology, "reset_groups");
	out[0] = '\0';
	for (size_t i = 0; i < json_object_array_length(groups); i++) {
		json_object *group = json_object_array_get_idx(groups, i);
		json_object *members = json_object_object_get(group, "members");
		if (!json_object_get_boolean(json_object_object_get(group, "bus_reset")))
			continue;
		strncat(out, "\nreset-group", capacity - strlen(out) - 1);
		for (size_t j = 0; j < json_object_array_length(members); j++) {
			strncat(out, " ", capacity - strlen(out) - 1);
			strncat(out, text_of(json_object_array_get_idx(members, j), "slot"),
				capacity - strlen(out) - 1);
		}
	}
}

static json_object *topology_of_plan(const char *const *args)
{
	struct run run;
	run_start(&run, args, NULL);
	cr_assert_eq(run_wait(&run, PATIENCE_MS), 0, "%s", run.complained.bytes);
	json_object *plan = parse(&run);
	json_object *topology = json_object_get(json_object_object_get(plan, "topology"));
	json_object_put(plan);
	run_finish(&run);
	return topology;
}

static void expect_firmware_finds(const char *const *args, json_object *topology)
{
	char wanted[512], *at;
	struct run run;
	write_groups(topology, wanted, sizeof(wanted));
	run_start(&run, args, NULL);
	cr_expect_eq(run_wait(&run, PATIENCE_MS), 0, "%s", run.complained.bytes);
	for (char *line = strtok_r(wanted, "\n", &at); line; line = strtok_r(NULL, "\n", &at))
		cr_expect(strstr(run.said.bytes, line), "no '%s' in: %s", line, run.said.bytes);
	cr_expect(strstr(run.said.bytes, "reset-groups agree"), "%s", run.said.bytes);
	run_finish(&run);
}

Test(tenon_topology, the_firmware_finds_the_groups_of_the_plan)
{
	json_object *topology = topology_of_plan(ARGS(FIRMWARE("mode=list"), ALL, "--dry-run", "--json"));
	json_object *groups = json_object_object_get(topology, "reset_groups");
	cr_expect_str_eq(text_of(topology, "mode"), "mirror");
	cr_assert_eq(json_object_array_length(groups), 2);
	for (size_t i = 0; i < 2; i++) {
		json_object *group = json_object_array_get_idx(groups, i);
		cr_expect_eq(json_object_array_length(json_object_object_get(group, "members")), 2);
		cr_expect_str_eq(text_of(group, "kind"), "root port");
	}
	expect_firmware_finds(ARGS(FIRMWARE("mode=list"), ALL), topology);
	json_object_put(topology);
}

Test(tenon_topology, a_device_of_no_group_has_a_port_of_its_own)
{
	options[3][strlen(options[3]) - strlen(",reset-group=b")] = '\0';
	json_object *topology = topology_of_plan(ARGS(FIRMWARE("mode=list"), ALL, "--dry-run", "--json"));
	cr_expect_eq(json_object_array_length(json_object_object_get(topology, "reset_groups")), 3);
	expect_firmware_finds(ARGS(FIRMWARE("mode=list"), ALL), topology);
	json_object_put(topology);
}

Test(tenon_topology, flat_offers_no_bus_reset)
{
	json_object *topology =
		topology_of_plan(ARGS(FIRMWARE("mode=list"), ALL, "--topology", "flat", "--dry-run", "--json"));
	json_object *groups = json_object_object_get(topology, "reset_groups");
	cr_expect_str_eq(text_of(topology, "mode"), "flat");
	cr_assert_eq(json_object_array_length(groups), DEVICES);
	for (size_t i = 0; i < DEVICES; i++) {
		json_object *group = json_object_array_get_idx(groups, i);
		cr_expect_str_eq(text_of(group, "kind"), "root bus");
		cr_expect(!json_object_get_boolean(json_object_object_get(group, "bus_reset")));
	}
	json_object_put(topology);
}

Test(tenon_topology, a_wish_that_lies_is_refused_before_the_guest_starts)
{
	struct run run;
	strcat(options[0], ",port=3");
	strcat(options[2], ",port=4");
	run_start(&run, ARGS(FIRMWARE("mode=list"), ALL), NULL);
	cr_expect_eq(run_wait(&run, PATIENCE_MS), 1);
	cr_expect(strstr(run.complained.bytes, devices[2].path) &&
			  strstr(run.complained.bytes, "resets together with") && strstr(run.complained.bytes, "; "),
		  "%s", run.complained.bytes);
	cr_expect_eq(run_count(&run.complained, "\n"), 1);
	run_finish(&run);
}

Test(tenon_topology, each_function_works_and_a_bus_reset_hits_its_group)
{
	struct run run;
	run_start(&run, ARGS(FIRMWARE("mode=selftest"), ALL), NULL);
	cr_expect_eq(run_wait(&run, 2 * PATIENCE_MS), 0, "%s", run.said.bytes);
	cr_expect_eq(run_count(&run.said, "bus reset"), DEVICES, "%s", run.said.bytes);
	cr_expect_eq(run_count(&run.said, "not ok"), 0, "%s", run.said.bytes);
	run_finish(&run);
}

Test(tenon_topology, the_control_socket_tells_it_too)
{
	struct run run, ctl;
	char socket[64], wanted[512], *at;
	snprintf(socket, sizeof(socket), "%s/control", devices[0].folder);
	json_object *topology = topology_of_plan(ARGS(FIRMWARE("mode=list"), ALL, "--dry-run", "--json"));
	write_groups(topology, wanted, sizeof(wanted));
	json_object_put(topology);
	run_start(&run,
		  ARGS("run", "--kernel", guest_interpreter(), "--append", "pRe", "--memory", "64M", "--control",
		       socket, ALL),
		  NULL);
	run_expect(&run, "R", 1);
	run_start(&ctl, ARGS("ctl", socket, "topology"), NULL);
	cr_expect_eq(run_wait(&ctl, PATIENCE_MS), 0, "%s", ctl.complained.bytes);
	for (char *name = strtok_r(wanted, " \n", &at); name; name = strtok_r(NULL, " \n", &at)) {
		if (strcmp(name, "reset-group") != 0)
			cr_expect(strstr(ctl.said.bytes, name), "no '%s' in: %s", name, ctl.said.bytes);
	}
	cr_expect_eq(run_count(&ctl.said, "bus reset offered"), 2, "%s", ctl.said.bytes);
	run_finish(&ctl);

	/* One that shares its slot does not leave alone. */
	char address[128];
	snprintf(address, sizeof(address), "vfio-user:%s", devices[0].path);
	run_start(&ctl, ARGS("ctl", socket, "device-remove", address, "--force"), NULL);
	cr_expect_eq(run_wait(&ctl, PATIENCE_MS), 1);
	cr_expect(strstr(ctl.complained.bytes, "--group"), "%s", ctl.complained.bytes);
	run_finish(&ctl);
	run_start(&ctl, ARGS("ctl", socket, "device-remove", address, "--force", "--group"), NULL);
	cr_expect_eq(run_wait(&ctl, PATIENCE_MS), 0, "%s", ctl.complained.bytes);
	run_finish(&ctl);
	run_start(&ctl, ARGS("ctl", socket, "topology"), NULL);
	cr_expect_eq(run_wait(&ctl, PATIENCE_MS), 0, "%s", ctl.complained.bytes);
	cr_expect_eq(run_count(&ctl.said, "\n"), 1, "the other group is left: %s", ctl.said.bytes);
	run_finish(&ctl);

	run_start(&ctl, ARGS("ctl", socket, "devices"), NULL);
	cr_expect_eq(run_wait(&ctl, PATIENCE_MS), 0, "%s", ctl.complained.bytes);
	cr_expect_eq(run_count(&ctl.said, "empty"), 1, "one port is empty: %s", ctl.said.bytes);
	run_finish(&ctl);

	/* What the VM has is not added twice. */
	run_start(&ctl, ARGS("ctl", socket, "device-add", options[1]), NULL);
	cr_expect_eq(run_wait(&ctl, PATIENCE_MS), 1, "the VM has it");
	run_finish(&ctl);
	run_signal(&run, SIGTERM);
	cr_expect_eq(run_wait(&run, ENDING_MS), 128 + SIGTERM);
	run_finish(&run);
}

/* Waits for a device behind the port, switches its memory on, and keeps it; knows nothing of hot-plug slots. */
GUEST_CODE(keeps, GUEST_STACK "2: cmpl $-1, 0xe0100000\n"
			      "je 2b\n"
			      "movw $2, 0xe0100004\n"
			      "movb $'U', %al\n" GUEST_CALL_PUT "3: jmp 3b\n" GUEST_PUT);

Test(tenon_topology, a_guest_that_uses_a_device_without_its_slots_power_is_asked_for_it)
{
	struct run run, ctl;
	char socket[64], address[128];
	snprintf(socket, sizeof(socket), "%s/control", devices[0].folder);
	snprintf(address, sizeof(address), "vfio-user:%s", devices[0].path);
	run_start(&run,
		  ARGS("run", "--kernel", GUEST_FILE(keeps), "--memory", "64M,shared", "--control", socket,
		       "--hotplug-ports", "1"),
		  NULL);
	run_start(&ctl, ARGS("ctl", socket, "device-add", address), NULL);
	while (run_wait(&ctl, PATIENCE_MS) != 0) {
		cr_assert(strstr(ctl.complained.bytes, "control socket"), "%s", ctl.complained.bytes);
		run_finish(&ctl);
		usleep(50000); /* the VM does not listen yet */
		run_start(&ctl, ARGS("ctl", socket, "device-add", address), NULL);
	}
	run_finish(&ctl);
	run_expect(&run, "U", 1);
	run_start(&ctl, ARGS("ctl", socket, "device-remove", address, "--timeout", "1"), NULL);
	cr_expect_eq(run_wait(&ctl, PATIENCE_MS), 1, "it has not released it");
	cr_expect(strstr(ctl.complained.bytes, "did not release it in time"), "%s", ctl.complained.bytes);
	run_finish(&ctl);
	run_signal(&run, SIGTERM);
	cr_expect_eq(run_wait(&run, ENDING_MS), 128 + SIGTERM);
	run_finish(&run);
}
