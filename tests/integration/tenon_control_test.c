// SPDX-License-Identifier: MIT
/* The control socket of the whole program, asked by its own client, while a guest runs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <json-c/json.h>

#include "tenon_guest.h"
#include "tenon_run.h"

#define SCRIPT(text) "run", "--kernel", guest_interpreter(), "--memory", "64M", "--append", (text)

static char folder[] = "/tmp/tenon-control-XXXXXX", path[64];

static void setup(void)
{
	guest_skip_without_kvm();
	cr_assert(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/socket", folder);
}

static void teardown(void)
{
	rmdir(folder);
}

TestSuite(tenon_control, .init = setup, .fini = teardown, .timeout = 180);

static bool is_there(void)
{
	return access(path, F_OK) == 0;
}

/* A guest that echoes: once it does, all of the VM runs. */
static void start(struct run *run, const char *ports)
{
	run_start(run, ARGS(SCRIPT("e"), "--control", path, "--hotplug-ports", ports), NULL);
	run_send(run, "here");
	run_expect(run, "here", 1);
	cr_assert(is_there(), "the socket");
}

/* One request's exit status; what it said stays until run_finish. */
static int ask(struct run *client, const char *command, const char *argument)
{
	run_start(client, ARGS("ctl", path, command, argument), NULL);
	return run_wait(client, PATIENCE_MS);
}

Test(tenon_control, quit_ends_the_vm_with_0_and_the_socket_goes_with_it)
{
	struct run vm, client;
	start(&vm, "0");
	cr_expect_eq(ask(&client, "quit", NULL), 0, "%s", client.complained.bytes);
	run_finish(&client);
	cr_expect_eq(run_wait(&vm, ENDING_MS), 0, "%s", vm.complained.bytes);
	run_finish(&vm);
	cr_expect(!is_there());
}

Test(tenon_control, the_socket_goes_when_a_signal_ends_the_vm)
{
	struct run vm;
	start(&vm, "0");
	run_signal(&vm, SIGTERM);
	cr_expect_eq(run_wait(&vm, ENDING_MS), 143);
	run_finish(&vm);
	cr_expect(!is_there());
}

Test(tenon_control, devices_lists_the_empty_ports)
{
	struct run vm, client;
	start(&vm, "3");
	cr_expect_eq(ask(&client, "devices", NULL), 0);
	cr_expect_eq(run_count(&client.said, "empty"), 3, "%s", client.said.bytes);
	run_finish(&client);
	cr_expect_eq(ask(&client, "status", NULL), 0);
	cr_expect_eq(run_count(&client.said, "running"), 1, "%s", client.said.bytes);
	run_finish(&client);
	cr_expect_eq(ask(&client, "devices", "--json"), 0);
	json_object *answer = json_tokener_parse(client.said.bytes);
	cr_assert_not_null(answer);
	cr_expect_eq(json_object_array_length(json_object_object_get(answer, "slots")), 3);
	json_object_put(answer);
	run_finish(&client);
	run_signal(&vm, SIGTERM);
	run_wait(&vm, ENDING_MS);
	run_finish(&vm);
}

Test(tenon_control, a_device_that_cannot_be_added_leaves_the_vm_as_it_was)
{
	static const char *const ports[] = {"0", "1"};
	static const char *const words[] = {"--hotplug-ports", "no such PCI device"};
	for (unsigned i = 0; i < 2; i++) {
		struct run vm, client;
		start(&vm, ports[i]);
		unsigned files = run_count_entries(&vm, "fd");
		cr_expect_eq(ask(&client, "device-add", "ffff:ff:1f.7"), 1);
		cr_expect(strstr(client.complained.bytes, words[i]), "%s", client.complained.bytes);
		run_finish(&client);
		cr_expect_eq(ask(&client, "devices", NULL), 0);
		cr_expect_eq(run_count(&client.said, "empty"), i, "%s", client.said.bytes);
		run_finish(&client);
		/* The VM learns a moment later that the client has gone. */
		for (unsigned tries = 0; tries < 500 && run_count_entries(&vm, "fd") > files; tries++)
			usleep(10000);
		cr_expect_leq(run_count_entries(&vm, "fd"), files, "no file stays open");
		run_signal(&vm, SIGTERM);
		cr_expect_eq(run_wait(&vm, ENDING_MS), 143, "%s", vm.complained.bytes);
		run_finish(&vm);
	}
}

Test(tenon_control, a_second_vm_cannot_take_the_socket_of_a_running_one)
{
	struct run vm, other, client;
	start(&vm, "0");
	run_start(&other, ARGS(SCRIPT("o"), "--control", path), NULL);
	cr_expect_eq(run_wait(&other, PATIENCE_MS), 1);
	cr_expect(strstr(other.complained.bytes, "in use"), "%s", other.complained.bytes);
	run_finish(&other);
	cr_expect_eq(ask(&client, "quit", NULL), 0, "the first one's works on");
	run_finish(&client);
	cr_expect_eq(run_wait(&vm, ENDING_MS), 0);
	run_finish(&vm);
}

Test(tenon_control, wrong_usage_of_the_client_is_2_in_one_line)
{
	static const char *const cases[][7] = {
		{"ctl"},
		{"ctl", "/tmp/socket"},
		{"ctl", "/tmp/socket", "reboot"},
		{"ctl", "/tmp/socket", "device-add"},
		{"ctl", "/tmp/socket", "devices", "0000:3b:00.0"},
		{"ctl", "/tmp/socket", "devices", "--force"},
		{"ctl", "/tmp/socket", "device-remove", "0000:3b:00.0", "--timeout", "0"},
		{"ctl", "/tmp/socket", "device-remove", "0000:3b:00.0", "more"},
		{"ctl", "--colour"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct run run;
		run_start(&run, cases[i], NULL);
		cr_expect_eq(run_wait(&run, PATIENCE_MS), 2, "case %zu: %s", i, run.complained.bytes);
		cr_expect_eq(run_count(&run.complained, "\n"), 1, "%s", run.complained.bytes);
		run_finish(&run);
	}
	cr_expect_eq(run_to_end(ARGS("ctl", "/tmp/no-such-socket", "status")), 1);
	cr_expect_eq(run_to_end(ARGS("ctl", "--help")), 0);
}
