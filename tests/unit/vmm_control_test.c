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
	cr_assert_eq(control_create(path, machine, hotplug, &control, &err), 0, "%s", err.message);
}

static void teardown(void)
{
	hotplug_stop(hotplug);
	control_destroy(control);
	hotplug_destroy(hotplug);
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
