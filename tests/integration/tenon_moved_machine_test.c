// SPDX-License-Identifier: MIT
/*
 * A whole machine on /dev/kvm moves into another of this process: RAM copied, all else by its parts. The machines are the program's, whose
 * main loop is played here. The guest echoes what it is told by its serial port.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <linux/pci_regs.h>

#include "layout.h"
#include "migrate/describe.h"
#include "migrate/quiet.h"
#include "tenon_guest.h"

#define MEMORY_BYTES (16ull << 20)
#define CPUS         2

static char folder[] = "/tmp/tenon-moved-XXXXXX";

/* A machine, and who sits at its serial port. */
struct host {
	struct run_options options;
	struct machine *machine;
	char path[64], serial[80];
	int terminal;
};

static struct tenon_error error;

#define REQUIRE(call) cr_assert_eq(call, 0, "%s", error.message)

static void host_open(struct host *host, const char *name, const char *append)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	snprintf(host->path, sizeof(host->path), "%s/%s", folder, name);
	snprintf(host->serial, sizeof(host->serial), "socket:%s", host->path);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", host->path);
	host->options = (struct run_options){
		.kernel = guest_interpreter(),
		.append = append,
		.serial = host->serial,
		.memory = {.size_bytes = MEMORY_BYTES},
		.cpus = CPUS,
		.hotplug_ports = 1,
		.exit_device = true,
		.quiet = true,
	};
	REQUIRE(machine_create(&host->options, &host->machine, &error));
	host->terminal = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_geq(host->terminal, 0);
	cr_assert_eq(connect(host->terminal, (struct sockaddr *)&address, sizeof(address)), 0);
	chardev_dispatch(host->machine->chardev);
}

static void host_close(struct host *host)
{
	machine_destroy(host->machine);
	close(host->terminal);
	unlink(host->path);
}

/* What the main loop does for the serial port. */
static void serve(struct host *host)
{
	unsigned events = chardev_dispatch(host->machine->chardev);
	if (events & CHARDEV_READABLE)
		serial_receive(host->machine->serial);
	if (events & CHARDEV_DRAINED)
		serial_transmit_ready(host->machine->serial);
}

/* Waits until the guest has said just that. The test's own time limit ends it. */
static void hear(struct host *host, const char *expected)
{
	char said[64] = "";
	size_t count = 0, length = strlen(expected);
	while (count < length) {
		struct pollfd ready[] = {{.fd = host->terminal, .events = POLLIN},
					 {.fd = chardev_poll_fd(host->machine->chardev), .events = POLLIN}};
		cr_assert_geq(poll(ready, 2, -1), 0);
		serve(host);
		ssize_t got = recv(host->terminal, said + count, length - count, MSG_DONTWAIT);
		count += got > 0 ? (size_t)got : 0;
	}
	cr_assert_str_eq(said, expected);
}

static void tell(struct host *host, const char *text)
{
	cr_assert_eq(send(host->terminal, text, strlen(text), 0), (ssize_t)strlen(text));
}

static int load_into(void *context, const char *name, uint32_t version, const void *data, size_t bytes,
		     struct tenon_error *err)
{
	return machine_part_load(context, name, version, data, bytes, err);
}

static void stop(struct host *source)
{
	machine_lock_topology(source->machine);
	machine_quiet_begin(source->machine);
	machine_pause(source->machine);
	REQUIRE(machine_settled(source->machine, NULL, &error));
}

static void move(struct host *source, struct host *target)
{
	for (unsigned i = 0; i < source->machine->memory.part_count; i++)
		memcpy(target->machine->memory.parts[i].hva, source->machine->memory.parts[i].hva,
		       source->machine->memory.parts[i].size_bytes);
	REQUIRE(machine_parts_save(source->machine, load_into, target->machine, &error));
	REQUIRE(machine_parts_loaded(target->machine, &error));
}

static void start(struct host *target)
{
	REQUIRE(machine_start(target->machine, &error));
	machine_quiet_end(target->machine);
}

static void setup(void)
{
	guest_skip_without_kvm();
	cr_assert(mkdtemp(folder));
}

static void finish(void)
{
	rmdir(folder);
}

TestSuite(moved_machine, .init = setup, .fini = finish, .timeout = 120);

Test(moved_machine, goes_on_where_it_was)
{
	static struct host source, target;
	host_open(&source, "source", "be");
	host_open(&target, "target", "pXpYh");
	REQUIRE(machine_start(source.machine, &error));
	hear(&source, "B1");
	tell(&source, "one");
	hear(&source, "one");
	/* What the guest did to its root port. */
	const uint16_t command = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	uint16_t found = 0;
	bus_write(&source.machine->mmio, LAYOUT_ECAM + (1 << 15) + PCI_COMMAND, &command, 2);

	stop(&source);
	move(&source, &target);
	start(&target);
	tell(&target, "two");
	hear(&target, "two");
	bus_read(&target.machine->mmio, LAYOUT_ECAM + (1 << 15) + PCI_COMMAND, &found, 2);
	cr_expect_eq(found, command);
	host_close(&source);
	host_close(&target);
}

Test(moved_machine, takes_what_was_typed_and_not_read_along)
{
	static struct host source, target;
	uint8_t enabled = 1;
	host_open(&source, "source", "bh");
	host_open(&target, "target", "h");
	REQUIRE(machine_start(source.machine, &error));
	hear(&source, "B1");
	/* FIFOs on, ready to receive; the guest reads nothing. */
	serial_write(source.machine->serial, 2, enabled);
	serial_write(source.machine->serial, 4, 0x02);
	tell(&source, "abc");
	while (!(serial_read(source.machine->serial, 5) & 1))
		serve(&source);
	stop(&source);
	move(&source, &target);
	start(&target);
	cr_expect_eq(serial_read(target.machine->serial, 0), 'a');
	host_close(&source);
	host_close(&target);
}

Test(moved_machine, boots_anew_there_when_its_guest_resets_itself)
{
	static struct host source, target;
	host_open(&source, "source", "be");
	host_open(&target, "target", "be");
	REQUIRE(machine_start(source.machine, &error));
	hear(&source, "B1");
	stop(&source);
	move(&source, &target);
	start(&target);
	tell(&target, "r");
	hear(&target, "r");
	machine_pause(target.machine);
	REQUIRE(machine_reset(target.machine, &error));
	hear(&target, "B1");
	tell(&target, "again");
	hear(&target, "again");
	host_close(&source);
	host_close(&target);
}

Test(moved_machine, runs_on_at_the_source_when_it_is_not_taken)
{
	static struct host source, target;
	host_open(&source, "source", "be");
	host_open(&target, "target", "h");
	REQUIRE(machine_start(source.machine, &error));
	hear(&source, "B1");
	stop(&source);
	tell(&source, "early"); /* while it stands */
	serve(&source);
	move(&source, &target);
	for (unsigned i = 0; i < CPUS; i++)
		tenon_vcpu_resume(source.machine->vcpus[i].vcpu);
	machine_quiet_end(source.machine);
	machine_unlock_topology(source.machine);
	hear(&source, "early");
	host_close(&source);
	host_close(&target);
}

Test(moved_machine, is_accepted_by_its_like_and_by_no_other)
{
	static struct host source, target;
	char *text = NULL;
	host_open(&source, "source", "be");
	host_open(&target, "target", "h");
	REQUIRE(machine_start(source.machine, &error));
	REQUIRE(machine_describe(source.machine, &text, &error)); /* while it runs */
	REQUIRE(machine_accept(target.machine, text, strlen(text), &error));
	target.options.cpus = 1;
	cr_expect_eq(machine_accept(target.machine, text, strlen(text), &error), -EINVAL);
	cr_expect_str_eq(error.message, "CPUs: the source has 2, this machine 1; start it with --cpus 2");
	target.options.cpus = CPUS;
	free(text);
	host_close(&source);
	host_close(&target);
}
