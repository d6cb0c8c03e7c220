// SPDX-License-Identifier: MIT
/*
 * The control socket: its requests as a parser sees them, and its protocol as clients of every kind see it, on a machine that has
 * nothing but slots. What happens to devices is hotplug's; the lab shows that.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <json-c/json.h>

#include "control/control.h"
#include "control/listener.h"
#include "control/request.h"
#include "log.h"
#include "vmm_engine_fake.h"

/* ---- Requests ---- */

static int parse(const char *line, struct control_request *request, struct tenon_error *err)
{
	return control_request_parse(line, strlen(line), request, err);
}

Test(control_request, each_command_is_known_by_its_name)
{
	static const char *const lines[] = {
		"{\"command\":\"device-add\",\"device\":\"3b:00.0,rom=off,on-error=reset\"}",
		"{\"command\":\"device-remove\",\"device\":\"3b:00.0\",\"force\":true,\"group\":true,\"timeout\":7}",
		"{\"command\":\"devices\"}",
		"{\"command\":\"topology\"}",
		"{\"command\":\"status\"}",
		" { \"command\" : \"quit\" } ",
		"{\"command\":\"migrate\",\"address\":\"tcp:host:4444\"}",
		"{\"assume-all-dirty\":true,\"command\":\"migrate-check\"}",
		"{\"command\":\"migrate-status\"}",
		"{\"command\":\"migrate-cancel\"}",
		"{\"command\":\"migrate-resolve\",\"choose\":\"run\"}",
	};
	for (enum control_command i = 0; i < CONTROL_COMMANDS; i++) {
		struct control_request request;
		struct tenon_error err = {0};
		cr_assert_eq(parse(lines[i], &request, &err), 0, "%s: %s", lines[i], err.message);
		cr_expect_eq(request.command, i);
		if (i == CONTROL_DEVICE_ADD) {
			cr_expect_str_eq(request.device.address, "0000:3b:00.0");
			cr_expect_eq(request.device.rom, TENON_ROM_OFF);
			cr_expect_eq(request.device.on_error, ON_ERROR_RESET);
		}
		cr_expect_eq(request.force, i == CONTROL_DEVICE_REMOVE);
		cr_expect_eq(request.timeout_seconds, i == CONTROL_DEVICE_REMOVE ? 7 : 0);
		cr_expect_eq(request.migrate.address != NULL, i == CONTROL_MIGRATE);
		cr_expect_eq(request.migrate.assume_all_dirty, i == CONTROL_MIGRATE_CHECK);
		cr_expect_eq(request.run, i == CONTROL_MIGRATE_RESOLVE);
		control_request_finish(&request);
	}
	cr_expect_eq(control_command_of("reboot"), CONTROL_COMMANDS);
}

Test(control_request, everything_else_is_refused_in_one_sentence)
{
	static const char *const lines[] = {
		"",
		"null",
		"true",
		"[]",
		"{}",
		"{",
		"\"devices\"",
		"devices",
		"{\"command\":\"devices\"}{\"command\":\"devices\"}",
		"{\"command\":\"devices\"} x",
		"{\"command\":\"reboot\"}",
		"{\"command\":7}",
		"{\"command\":null}",
		"{\"command\":\"devices\",\"device\":\"0000:3b:00.0\"}",
		"{\"command\":\"devices\",\"force\":true}",
		"{\"command\":\"devices\",\"colour\":\"red\"}",
		"{\"command\":\"device-add\"}",
		"{\"command\":\"device-add\",\"device\":\"\"}",
		"{\"command\":\"device-add\",\"device\":[\"0000:3b:00.0\"]}",
		"{\"command\":\"device-add\",\"device\":\"0000:3b:00.0\",\"timeout\":5}",
		"{\"command\":\"device-add\",\"device\":\"0000:3b:00.0,colour=red\"}",
		"{\"command\":\"device-add\",\"device\":\"0000:3b:00.0\\u0000,rom=off\"}",
		"{\"command\":\"device-add\",\"device\":\"0000:3b:00.0\\u001b[31m\"}",
		"{\"command\":\"device-remove\",\"device\":\"0000:3b:00.0,rom=off\"}",
		"{\"command\":\"device-remove\",\"device\":\"0000:3b:00.0\",\"force\":1}",
		"{\"command\":\"device-remove\",\"device\":\"0000:3b:00.0\",\"timeout\":0}",
		"{\"command\":\"device-remove\",\"device\":\"0000:3b:00.0\",\"timeout\":3601}",
		"{\"command\":\"device-remove\",\"device\":\"0000:3b:00.0\",\"timeout\":1.5}",
		"{\"command\":\"device-remove\",\"device\":\"0000:3b:00.0\",\"timeout\":99999999999999999999}",
		"{\"command\":\"devices\xff\"}",
		"{\"command\":\"migrate\"}",
		"{\"command\":\"migrate\",\"address\":7}",
		"{\"command\":\"migrate\",\"address\":\"\"}",
		"{\"command\":\"migrate\",\"address\":\"tcp:host\"}",
		"{\"command\":\"migrate\",\"address\":\"tcp:h:1\",\"device\":\"3b:00.0\"}",
		"{\"command\":\"migrate\",\"address\":\"tcp:h:1\",\"timeout\":3}",
		"{\"command\":\"migrate\",\"address\":\"tcp:h:1\",\"downtime-limit-ms\":0}",
		"{\"command\":\"migrate\",\"address\":\"tcp:h:1\",\"downtime-limit-ms\":3600001}",
		"{\"command\":\"migrate\",\"address\":\"tcp:h:1\",\"bandwidth\":-1}",
		"{\"command\":\"migrate\",\"address\":\"tcp:h:1\",\"bandwidth\":\"1G\"}",
		"{\"command\":\"migrate\",\"address\":\"tcp:h:1\",\"connections\":17}",
		"{\"command\":\"migrate\",\"address\":\"tcp:h:1\",\"rounds\":0}",
		"{\"command\":\"migrate\",\"address\":\"tcp:h:1\",\"insecure\":\"yes\"}",
		"{\"command\":\"migrate\",\"address\":\"tcp:h:1\",\"stay-stopped\":true}",
		"{\"command\":\"migrate\",\"address\":\"tcp:h:1\",\"tls-ca\":\"/ca\"}",
		"{\"command\":\"migrate\",\"address\":\"tcp:h:1\",\"choose\":\"run\"}",
		"{\"command\":\"migrate-check\",\"address\":\"tcp:h:1\"}",
		"{\"command\":\"migrate-status\",\"force\":true}",
		"{\"command\":\"migrate-resolve\"}",
		"{\"command\":\"migrate-resolve\",\"choose\":\"both\"}",
		"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
	};
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		struct control_request request;
		struct tenon_error err = {0};
		cr_expect_eq(parse(lines[i], &request, &err), -EINVAL, "%s", lines[i]);
		cr_expect(strstr(err.message, "; "), "%s says what to do: %s", lines[i], err.message);
		cr_expect(!strchr(err.message, '\n') && !strchr(err.message, '\x1b'), "%s", lines[i]);
	}
}

Test(control_request, a_migration_is_asked_for_in_every_detail)
{
	struct control_request request;
	struct tenon_error err = {0};
	cr_assert_eq(
		parse("{\"command\":\"migrate\",\"address\":\"tcp:host:4444\",\"downtime-limit-ms\":20,\"bandwidth\":"
		      "1000000000,\"connections\":4,\"rounds\":7,\"force\":true,\"assume-all-dirty\":true,\"insecure\":"
		      "true,\"compress\":true,\"tls-ca\":\"/ca\",\"tls-cert\":\"/cert\",\"tls-key\":\"/key\","
		      "\"tls-peer\":\"host2\"}",
		      &request, &err),
		0, "%s", err.message);
	const struct engine_request *migrate = &request.migrate;
	cr_expect_str_eq(migrate->address, "tcp:host:4444");
	cr_expect_eq(migrate->downtime_limit_ns, 20000000);
	cr_expect_eq(migrate->bytes_per_second, 1000000000);
	cr_expect_eq(migrate->connections, 4);
	cr_expect_eq(migrate->rounds, 7);
	cr_expect(migrate->force && migrate->assume_all_dirty && migrate->insecure && migrate->compress);
	cr_expect_not(migrate->stay_stopped);
	cr_expect_not(request.force, "that of a removal is another");
	cr_expect_str_eq(migrate->tls.ca, "/ca");
	cr_expect_str_eq(migrate->tls.cert, "/cert");
	cr_expect_str_eq(migrate->tls.key, "/key");
	cr_expect_str_eq(migrate->tls.peer, "host2");
	cr_expect_null(migrate->tls.psk);
	control_request_finish(&request);
	cr_expect_null(request.migrate.address);
	cr_assert_eq(
		parse("{\"command\":\"migrate\",\"address\":\"file:/vm\",\"stay-stopped\":true,\"tls-psk\":\"/p\"}",
		      &request, &err),
		0, "%s", err.message);
	cr_expect(request.migrate.stay_stopped);
	cr_expect_str_eq(request.migrate.tls.psk, "/p");
	cr_expect_eq(request.migrate.downtime_limit_ns + request.migrate.bytes_per_second, 0);
	cr_expect_eq(request.migrate.connections + request.migrate.rounds, 0);
	control_request_finish(&request);
}

Test(control_request, a_line_that_is_too_long_is_refused)
{
	static char line[CONTROL_LINE_MAX + 2];
	struct control_request request;
	struct tenon_error err = {0};
	memset(line, ' ', sizeof(line));
	memcpy(line, "{\"command\":\"quit\"}", 18);
	cr_expect_eq(control_request_parse(line, CONTROL_LINE_MAX, &request, &err), 0, "%s", err.message);
	control_request_finish(&request);
	cr_expect_eq(control_request_parse(line, CONTROL_LINE_MAX + 1, &request, &err), -EINVAL);
}

/* ---- The socket ---- */

static char folder[] = "/tmp/control-XXXXXX", path[64];
static struct machine *machine;
static struct hotplug *hotplug;
static struct engine *engine;
static struct control *control;
static struct run_options options = {.cpus = 0, .hotplug_ports = 2};

static void setup(void)
{
	struct tenon_error err = {0};
	cr_assert(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/socket", folder);
	machine = calloc(1, sizeof(*machine));
	options.memory.size_bytes = 256ull << 20;
	machine->options = &options;
	machine->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	bus_init(&machine->mmio, "memory");
	pthread_mutex_init(&machine->topology, NULL);
	dma_memory_init(&machine->dma);
	cr_assert_eq(tenon_space_create(NULL, &machine->space, &err), 0, "%s", err.message);
	cr_assert_eq(slots_init(&machine->slots, &err), 0, "%s", err.message);
	cr_assert_eq(pci_host_init(&machine->pci, 3, &machine->mmio, &err), 0, "%s", err.message);
	cr_assert_eq(slots_create(&machine->slots, &options, &err), 0, "%s", err.message);
	cr_assert_eq(slots_arrange(&machine->slots, &options, &machine->pci, &err), 0, "%s", err.message);
	cr_assert_eq(hotplug_create(machine, &hotplug, &err), 0, "%s", err.message);
	engine = fake_engine_create();
	cr_assert_eq(control_create(path, machine, hotplug, engine, &control, &err), 0, "%s", err.message);
}

static void teardown(void)
{
	hotplug_stop(hotplug);
	control_destroy(control);
	hotplug_destroy(hotplug);
	fake_engine_destroy(engine);
	slots_finish(&machine->slots);
	tenon_space_destroy(machine->space);
	pci_host_finish(&machine->pci);
	bus_finish(&machine->mmio);
	close(machine->wake_fd);
	free(machine);
	cr_expect_eq(access(path, F_OK), -1, "the socket is removed");
	unlink(path);
	cr_expect_eq(rmdir(folder), 0);
}

static int client(void)
{
	struct tenon_error err = {0};
	int fd = control_connect(path, &err);
	cr_assert_geq(fd, 0, "%s", err.message);
	return fd;
}

static void say(int fd, const char *text)
{
	cr_assert_eq(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* One line, without its newline; "" when the other side closed. */
static const char *hear(int fd)
{
	static char line[16384];
	size_t used = 0;
	while (used < sizeof(line) - 1) {
		struct pollfd ready = {.fd = fd, .events = POLLIN};
		cr_assert_eq(poll(&ready, 1, 30000), 1, "an answer");
		ssize_t count = recv(fd, line + used, 1, 0);
		if (count <= 0 || line[used] == '\n')
			break;
		used++;
	}
	line[used] = '\0';
	return line;
}

static json_object *ask(int fd, const char *request)
{
	say(fd, request);
	json_object *answer = json_tokener_parse(hear(fd));
	cr_assert(answer);
	return answer;
}

static bool is_ok(json_object *answer)
{
	return json_object_get_boolean(json_object_object_get(answer, "ok"));
}

static const char *error_of(json_object *answer)
{
	return json_object_get_string(json_object_object_get(answer, "error"));
}

static void expect_served(int fd)
{
	json_object *answer = ask(fd, "{\"command\":\"status\"}\n");
	cr_expect(is_ok(answer));
	json_object_put(answer);
}

TestSuite(control, .init = setup, .fini = teardown, .timeout = 120);

Test(control, only_its_owner_may_connect)
{
	struct stat status;
	cr_assert_eq(stat(path, &status), 0);
	cr_expect(S_ISSOCK(status.st_mode));
	cr_expect_eq(status.st_mode & 0777, 0600);
}

Test(control, status_and_devices_tell_of_the_machine)
{
	int fd = client();
	json_object *status = ask(fd, "{\"command\":\"status\"}\n");
	cr_expect_str_eq(json_object_get_string(json_object_object_get(status, "state")), "running");
	cr_expect_eq(json_object_get_uint64(json_object_object_get(status, "memory_bytes")), 256ull << 20);
	cr_expect_eq(json_object_get_int(json_object_object_get(status, "empty_ports")), 2);
	json_object_put(status);

	json_object *devices = ask(fd, "{\"command\":\"devices\"}\n");
	json_object *slots = json_object_object_get(devices, "slots");
	cr_assert_eq(json_object_array_length(slots), 2);
	json_object *second = json_object_array_get_idx(slots, 1);
	cr_expect_str_eq(json_object_get_string(json_object_object_get(second, "port")), "00:02.0");
	cr_expect_str_eq(json_object_get_string(json_object_object_get(second, "state")), "empty");
	json_object_put(devices);
	close(fd);
}

Test(control, what_hotplug_refuses_is_an_answer)
{
	static const struct {
		const char *request, *words;
	} cases[] = {
		{"{\"command\":\"device-add\",\"device\":\"ffff:ff:1f.7\"}\n", "ffff:ff:1f.7: "},
		{"{\"command\":\"device-add\",\"device\":\"ffff:ff:1f.7,slot=9\"}\n", "slot=9 is no empty root port"},
		{"{\"command\":\"device-add\",\"device\":\"fd=17\"}\n", "takes no open file"},
		{"{\"command\":\"device-remove\",\"device\":\"0000:3b:00.0\"}\n", "has no such device"},
	};
	int fd = client();
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		json_object *answer = ask(fd, cases[i].request);
		cr_expect(!is_ok(answer));
		cr_expect(strstr(error_of(answer), cases[i].words), "%s: %s", cases[i].request, error_of(answer));
		json_object_put(answer);
	}
	json_object *devices = ask(fd, "{\"command\":\"devices\"}\n");
	cr_expect_eq(json_object_array_length(json_object_object_get(devices, "slots")), 2, "all is as it was");
	json_object_put(devices);
	close(fd);
}

Test(control, quit_stops_the_machine)
{
	int fd = client();
	json_object *answer = ask(fd, "{\"command\":\"quit\"}\n");
	eventfd_t count;
	cr_expect(is_ok(answer));
	json_object_put(answer);
	struct pollfd woken = {.fd = machine->wake_fd, .events = POLLIN};
	cr_assert_eq(poll(&woken, 1, 30000), 1, "the main loop is woken");
	cr_expect_eq(eventfd_read(machine->wake_fd, &count), 0);
	cr_expect_eq(atomic_load(&machine->stop), MACHINE_QUIT);
	close(fd);
}

Test(control, many_requests_in_one_packet_are_answered_in_order)
{
	int fd = client();
	say(fd, "{\"command\":\"status\"}\n{\"command\":\"device-remove\",\"device\":\"3b:00.0\"}\nnonsense\n"
		"{\"command\":\"devices\"}\n");
	cr_expect(strstr(hear(fd), "uptime_seconds"));
	cr_expect(strstr(hear(fd), "has no such device"));
	cr_expect(strstr(hear(fd), "no JSON"));
	cr_expect(strstr(hear(fd), "slots"));
	close(fd);
}

Test(control, a_request_may_come_in_pieces)
{
	int fd = client();
	for (const char *at = "{\"command\":\"status\"}\n"; *at; at++) {
		const char piece[2] = {*at, '\0'};
		say(fd, piece);
	}
	cr_expect(strstr(hear(fd), "\"ok\":true"));
	close(fd);
}

Test(control, a_client_that_will_send_no_more_still_gets_its_answers)
{
	int fd = client();
	say(fd,
	    "{\"command\":\"status\"}\n{\"command\":\"device-add\",\"device\":\"ffff:ff:1f.7\"}\n{\"command\":\"dev");
	shutdown(fd, SHUT_WR);
	cr_expect(strstr(hear(fd), "\"ok\":true"));
	cr_expect(strstr(hear(fd), "ffff:ff:1f.7"));
	cr_expect_str_eq(hear(fd), "", "half a request is none");
	close(fd);
}

Test(control, an_endless_line_ends_its_client_alone)
{
	static char line[2 * CONTROL_LINE_MAX];
	int fd = client(), other = client();
	memset(line, 'x', sizeof(line) - 1);
	send(fd, line, strlen(line), MSG_NOSIGNAL);
	cr_expect(strstr(hear(fd), "longer than"));
	cr_expect_str_eq(hear(fd), "");
	expect_served(other);
	close(fd);
	close(other);
}

Test(control, clients_that_say_nothing_take_no_others_time)
{
	int silent[CONTROL_CLIENTS_MAX - 1], fd;
	for (unsigned i = 0; i < CONTROL_CLIENTS_MAX - 1; i++)
		silent[i] = client();
	fd = client();
	expect_served(fd);
	int surplus = client();
	cr_expect(strstr(hear(surplus), "too many clients"));
	close(surplus);
	close(silent[0]);
	expect_served(fd);
	surplus = client();
	expect_served(surplus);
	close(surplus);
	for (unsigned i = 1; i < CONTROL_CLIENTS_MAX - 1; i++)
		close(silent[i]);
	close(fd);
}

Test(control, a_client_that_leaves_in_the_middle_is_forgotten)
{
	int other = client();
	for (unsigned i = 0; i < 200; i++) {
		int fd = client();
		say(fd, "{\"command\":\"device-add\",\"device\":\"ffff:ff:1f.7\"}\n{\"command\":\"devices\"}\n{\"comm");
		close(fd);
	}
	expect_served(other);
	close(other);
}

Test(control, a_client_that_does_not_read_is_not_waited_for)
{
	int fd = client(), other = client();
	fcntl(fd, F_SETFL, O_NONBLOCK);
	static const char request[] = "{\"command\":\"devices\"}\n";
	/* Until nobody takes any more of it. */
	for (unsigned idle = 0; idle < 100;) {
		if (send(fd, request, strlen(request), MSG_NOSIGNAL) > 0)
			idle = 0;
		else
			idle++, usleep(1000);
	}
	expect_served(other);
	close(fd);
	expect_served(other);
	close(other);
}

Test(control, requests_after_the_end_are_told_so)
{
	int fd = client();
	hotplug_stop(hotplug);
	json_object *answer = ask(fd, "{\"command\":\"device-add\",\"device\":\"0000:3b:00.0\"}\n");
	cr_expect(!is_ok(answer) && strstr(error_of(answer), "the VM ended"));
	json_object_put(answer);
	close(fd);
}

/* ---- Migration ---- */

#define MIGRATE "{\"command\":\"migrate\",\"address\":\"tcp:host:4444\"}\n"

/* The next line, and that it is an event in this phase and round. */
static void expect_progress(int fd, const char *phase, int round)
{
	json_object *line = json_tokener_parse(hear(fd));
	cr_assert(line);
	cr_expect_str_eq(json_object_get_string(json_object_object_get(line, "event")), "progress");
	cr_expect_str_eq(json_object_get_string(json_object_object_get(line, "phase")), phase);
	cr_expect_eq(json_object_get_int(json_object_object_get(line, "round")), round);
	json_object_put(line);
}

Test(control, a_migration_is_told_as_it_goes_and_ends_with_one_answer)
{
	int fd = client();
	say(fd, MIGRATE);
	expect_progress(fd, "set-up", 0);
	fake_engine_advance(engine, TENON_MIGRATION_PHASE_PRE_COPY, 1);
	expect_progress(fd, "pre-copy", 1);
	fake_engine_advance(engine, TENON_MIGRATION_PHASE_PRE_COPY, 2);
	expect_progress(fd, "pre-copy", 2);
	fake_engine_become(engine, ENGINE_OVER, TENON_OUTGOING_MOVED, NULL);
	expect_progress(fd, "done", 2);
	cr_expect_str_eq(hear(fd), "{\"ok\":true,\"end\":\"moved\"}");
	cr_expect_str_eq(engine->request.address, "tcp:host:4444");
	expect_served(fd);
	close(fd);
}

Test(control, a_migration_that_fails_says_why)
{
	int fd = client();
	say(fd, MIGRATE);
	expect_progress(fd, "set-up", 0);
	fake_engine_become(engine, ENGINE_OVER, TENON_OUTGOING_RESUMED, "tcp:host:4444: Connection refused; start it");
	expect_progress(fd, "failed", 0);
	cr_expect_str_eq(
		hear(fd),
		"{\"ok\":false,\"error\":\"tcp:host:4444: Connection refused; start it\",\"end\":\"resumed\"}");
	say(fd, "{\"command\":\"migrate\",\"address\":\"file:/vm\"}\n");
	expect_progress(fd, "set-up", 0);
	fake_engine_become(engine, ENGINE_OVER, TENON_OUTGOING_SAVED, NULL);
	expect_progress(fd, "done", 0);
	cr_expect_str_eq(hear(fd), "{\"ok\":true,\"end\":\"saved\"}");
	close(fd);
}

Test(control, others_ask_and_cancel_while_a_migration_goes_on)
{
	int fd = client(), other = client();
	say(fd, MIGRATE);
	expect_progress(fd, "set-up", 0);
	fake_engine_advance(engine, TENON_MIGRATION_PHASE_PRE_COPY, 5);
	expect_progress(fd, "pre-copy", 5);
	json_object *answer = ask(other, "{\"command\":\"status\"}\n");
	cr_expect_str_eq(json_object_get_string(json_object_object_get(answer, "state")), "migrating");
	json_object_put(answer);
	answer = ask(other, "{\"command\":\"migrate-status\"}\n");
	cr_expect_str_eq(json_object_get_string(json_object_object_get(answer, "state")), "running");
	json_object *progress = json_object_object_get(answer, "progress");
	cr_expect_eq(json_object_get_int(json_object_object_get(progress, "round")), 5);
	json_object_put(answer);
	answer = ask(other, MIGRATE);
	cr_expect(!is_ok(answer) && strstr(error_of(answer), "under way"));
	json_object_put(answer);
	answer = ask(other, "{\"command\":\"migrate-cancel\"}\n");
	cr_expect(is_ok(answer));
	cr_expect_eq(engine->cancels, 1);
	json_object_put(answer);
	fake_engine_become(engine, ENGINE_OVER, TENON_OUTGOING_RESUMED, "cancelled; the guest runs on here");
	expect_progress(fd, "failed", 5);
	cr_expect(strstr(hear(fd), "cancelled"));
	answer = ask(other, "{\"command\":\"migrate-cancel\"}\n");
	cr_expect(!is_ok(answer) && strstr(error_of(answer), "none is under way"));
	json_object_put(answer);
	close(fd);
	close(other);
}

Test(control, a_client_that_leaves_cancels_no_migration)
{
	int fd = client(), other = client();
	say(fd, MIGRATE);
	expect_progress(fd, "set-up", 0);
	close(fd);
	fake_engine_advance(engine, TENON_MIGRATION_PHASE_PRE_COPY, 1);
	json_object *answer = ask(other, "{\"command\":\"migrate-status\"}\n");
	cr_expect_str_eq(json_object_get_string(json_object_object_get(answer, "state")), "running");
	cr_expect_eq(engine->cancels, 0);
	json_object_put(answer);
	fake_engine_become(engine, ENGINE_OVER, TENON_OUTGOING_MOVED, NULL);
	answer = ask(other, "{\"command\":\"migrate-status\"}\n");
	cr_expect_str_eq(json_object_get_string(json_object_object_get(answer, "state")), "over");
	cr_expect_str_eq(json_object_get_string(json_object_object_get(answer, "end")), "moved");
	json_object_put(answer);
	close(other);
}

Test(control, a_client_that_does_not_read_misses_progress_and_not_the_end)
{
	int fd = client(), other = client();
	unsigned rounds = 0, lines = 0;
	say(fd, MIGRATE);
	/* Until its queue is full, and then as many again: what is not read is not kept. */
	for (unsigned i = 0; i < 2000; i++) {
		fake_engine_advance(engine, TENON_MIGRATION_PHASE_PRE_COPY, ++rounds);
		expect_served(other);
	}
	fake_engine_become(engine, ENGINE_OVER, TENON_OUTGOING_MOVED, NULL);
	expect_served(other);
	for (;;) {
		const char *line = hear(fd);
		cr_assert(*line, "the end comes");
		if (strstr(line, "\"ok\":true,\"end\":\"moved\""))
			break;
		lines++;
	}
	cr_expect_lt(lines, rounds, "%u lines of %u", lines, rounds);
	cr_expect_gt(lines, 1);
	expect_served(fd);
	close(fd);
	close(other);
}

Test(control, progress_within_a_round_is_told_ten_times_a_second_and_the_latest_wins)
{
	int fd = client();
	uint64_t began_ns = log_now_ns();
	say(fd, MIGRATE);
	expect_progress(fd, "set-up", 0);
	for (unsigned i = 1; i <= 100; i++) {
		pthread_mutex_lock(&engine->lock);
		engine->progress.sent_bytes = i;
		pthread_mutex_unlock(&engine->lock);
		eventfd_write(engine->fd, 1);
	}
	unsigned lines = 0;
	uint64_t sent = 0;
	while (sent < 100) {
		json_object *line = json_tokener_parse(hear(fd));
		sent = json_object_get_uint64(json_object_object_get(line, "sent_bytes"));
		json_object_put(line);
		lines++;
	}
	cr_expect_leq(lines, (log_now_ns() - began_ns) / 100000000 + 1, "%u lines", lines);
	fake_engine_become(engine, ENGINE_OVER, TENON_OUTGOING_MOVED, NULL);
	expect_progress(fd, "done", 0);
	cr_expect(strstr(hear(fd), "moved"));
	close(fd);
}

Test(control, what_only_a_person_can_decide_is_asked_and_taken)
{
	int fd = client(), other = client();
	json_object *answer = ask(other, "{\"command\":\"migrate-resolve\",\"choose\":\"run\"}\n");
	cr_expect(!is_ok(answer) && strstr(error_of(answer), "nothing waits"));
	json_object_put(answer);
	say(fd, MIGRATE);
	expect_progress(fd, "set-up", 0);
	fake_engine_advance(engine, TENON_MIGRATION_PHASE_RESOLVE, 3);
	expect_progress(fd, "resolve", 3);
	fake_engine_become(engine, ENGINE_BLOCKED, TENON_OUTGOING_RESUMED, "host2: gone; say who runs");
	while (!strstr(hear(fd), "{\"event\":\"blocked\",\"error\":\"host2: gone; say who runs\"}"))
		;
	answer = ask(other, "{\"command\":\"migrate-status\"}\n");
	cr_expect_str_eq(json_object_get_string(json_object_object_get(answer, "state")), "blocked");
	json_object_put(answer);
	answer = ask(other, "{\"command\":\"migrate-resolve\",\"choose\":\"stop\"}\n");
	cr_expect(is_ok(answer) && engine->chosen && !engine->chose_run);
	json_object_put(answer);
	fake_engine_become(engine, ENGINE_OVER, TENON_OUTGOING_MOVED, NULL);
	while (!strstr(hear(fd), "\"end\":\"moved\""))
		;
	close(fd);
	close(other);
}

Test(control, a_check_tells_what_stands_in_the_way)
{
	engine->check = (struct tenon_migration_check){
		.size = sizeof(engine->check), .total_ns = 5, .downtime_ns = 3, .blocker_count = 1};
	strcpy(engine->check.blockers[0], "0000:3b:00.0: cannot be saved; leave it out");
	int fd = client();
	say(fd, "{\"command\":\"migrate-check\",\"assume-all-dirty\":true}\n");
	cr_expect_str_eq(hear(fd), "{\"ok\":true,\"possible\":false,\"total_ns\":5,\"downtime_ns\":3,\"blockers\":["
				   "\"0000:3b:00.0: cannot be saved; leave it out\"]}");
	cr_expect(engine->check_assumed);
	close(fd);
}

/* A request with an open file. */
static void say_with(int fd, const char *text, int passed)
{
	_Alignas(struct cmsghdr) char space[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec part = {.iov_base = (char *)text, .iov_len = strlen(text)};
	struct msghdr message = {
		.msg_iov = &part, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof(space)};
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);
	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(head), &passed, sizeof(int));
	cr_assert_eq(sendmsg(fd, &message, MSG_NOSIGNAL), (ssize_t)strlen(text));
}

Test(control, an_open_file_is_the_clients_and_never_the_vms)
{
	static const char request[] = "{\"command\":\"migrate\",\"address\":\"fd:3\"}\n";
	int fd = client(), ends[2], number;
	json_object *answer = ask(fd, request);
	cr_expect(!is_ok(answer) && strstr(error_of(answer), "did not come with the request"));
	json_object_put(answer);
	cr_assert_eq(pipe(ends), 0);
	say_with(fd, request, ends[1]);
	expect_progress(fd, "set-up", 0);
	cr_assert_eq(sscanf(engine->request.address, "fd:%d", &number), 1);
	cr_expect_eq(write(number, "x", 1), 1);
	char byte = 0;
	cr_expect_eq(read(ends[0], &byte, 1), 1);
	cr_expect_eq(byte, 'x');
	close(number);
	/* One that is not used, since a migration is under way, goes with its client. */
	int other = client();
	say_with(other, request, ends[1]);
	close(ends[1]);
	cr_expect(strstr(hear(other), "under way"));
	close(other);
	cr_expect_eq(read(ends[0], &byte, 1), 0, "its last holder has closed it");
	close(ends[0]);
	close(fd);
}

Test(control, whoever_watches_is_told_when_the_vm_ends_before)
{
	int fd = client(), moved = client();
	say(fd, MIGRATE);
	expect_progress(fd, "set-up", 0);
	hotplug_stop(hotplug);
	control_destroy(control);
	control = NULL;
	cr_expect(strstr(hear(fd), "\"ok\":false,\"error\":\"the VM ends"));
	cr_expect_str_eq(hear(fd), "");
	close(fd);
	close(moved);
}

Test(control, the_end_is_told_even_when_the_vm_ends_with_it)
{
	int fd = client();
	say(fd, MIGRATE);
	expect_progress(fd, "set-up", 0);
	fake_engine_become(engine, ENGINE_OVER, TENON_OUTGOING_MOVED, NULL);
	hotplug_stop(hotplug);
	control_destroy(control);
	control = NULL;
	expect_progress(fd, "done", 0);
	cr_expect_str_eq(hear(fd), "{\"ok\":true,\"end\":\"moved\"}");
	close(fd);
}

/* ---- Its place ---- */

Test(control, a_socket_in_use_is_refused_and_stays)
{
	struct control_listener listener;
	struct tenon_error err = {0};
	cr_expect_eq(control_listener_open(path, &listener, &err), -EADDRINUSE);
	cr_expect(strstr(err.message, "in use") && strstr(err.message, "; "), "%s", err.message);
	int fd = client();
	expect_served(fd);
	close(fd);
}

static struct tenon_error refused(const char *where)
{
	struct control_listener listener;
	struct tenon_error err = {0};
	cr_expect_lt(control_listener_open(where, &listener, &err), 0, "%s", where);
	cr_expect(strstr(err.message, "; "), "%s", err.message);
	cr_expect_eq(listener.fd, -1);
	return err;
}

Test(control_listener, what_is_no_socket_of_a_dead_vm_stays)
{
	char file[] = "/tmp/control-file-XXXXXX";
	int fd = mkstemp(file);
	cr_assert_geq(fd, 0);
	cr_expect_eq(refused(file).code, -EEXIST);
	cr_expect_eq(access(file, F_OK), 0);
	unlink(file);
	close(fd);
	cr_expect_eq(refused("/nonexistent/folder/socket").code, -ENOENT);
	cr_expect_eq(refused("").code, -ENAMETOOLONG);
	char name[200];
	memset(name, 'a', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	cr_expect_eq(refused(name).code, -ENAMETOOLONG);
}

Test(control_listener, a_dead_vms_socket_is_replaced_and_anothers_is_not_removed)
{
	char place[] = "/tmp/control-XXXXXX", name[64];
	struct control_listener first, second;
	struct tenon_error err = {0};
	cr_assert(mkdtemp(place));
	snprintf(name, sizeof(name), "%s/socket", place);
	cr_assert_eq(control_listener_open(name, &first, &err), 0, "%s", err.message);
	shutdown(first.fd, SHUT_RDWR);
	close(first.fd);
	cr_assert_eq(control_listener_open(name, &second, &err), 0, "%s", err.message);
	cr_expect_eq(unlink(name), 0);
	cr_expect_eq(close(creat(name, 0600)), 0);
	control_listener_close(&second);
	cr_expect_eq(access(name, F_OK), 0, "it is not the second's any more");
	control_listener_close(&second);
	unlink(name);
	rmdir(place);
}

Test(control_listener, a_path_where_nobody_listens_is_an_error_in_words)
{
	struct tenon_error err = {0};
	cr_expect_eq(control_connect("/tmp/no-such-control-socket", &err), -ENOENT);
	cr_expect(strstr(err.message, "tenon run --control"), "%s", err.message);
}
