// SPDX-License-Identifier: MIT
/* See vfio_user_fixture.h. */
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vfio_user_fixture.h"

struct server servers[SERVERS];
const char *const addresses[SERVERS] = {"vfio-user:/run/a.sock", "vfio-user:/run/b.sock"};

static void *serve(void *context)
{
	struct server *server = context;
	server->result = server_serve(server->device, server->fd, server->stop);
	return NULL;
}

void server_end(struct server *server, bool kill)
{
	if (!server->running)
		return;
	if (kill)
		eventfd_write(server->stop, 1);
	pthread_join(server->thread, NULL);
	eventfd_t ignored;
	eventfd_read(server->stop, &ignored);
	server->running = false;
}

static int connect_server(const char *path)
{
	struct server *server = &servers[strcmp(path, "/run/b.sock") == 0];
	int pair[2];
	if (!server->device)
		return -ECONNREFUSED;
	server_end(server, false); /* one client at a time */
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	server->fd = pair[1];
	server->running = pthread_create(&server->thread, NULL, serve, server) == 0;
	return pair[0];
}

void server_start(struct server *server, const struct testdev_options *options)
{
	struct testdev_options copy = options ? *options : (struct testdev_options){0};
	copy.quiet = true;
	server->stop = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	cr_assert_eq(testdev_create(&copy, &server->device, NULL), 0);
	fake_on_connect(connect_server);
}

void server_finish(struct server *server)
{
	server_end(server, true);
	testdev_destroy(server->device);
	close(server->stop);
	server->device = NULL;
}

int ram_file(void)
{
	static int fd = -1;
	if (fd < 0) {
		fd = memfd_create("ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);
		cr_assert_eq(ftruncate(fd, RAM_BYTES), 0);
	}
	return fd;
}

uint8_t *ram(void)
{
	static uint8_t *memory;
	if (!memory)
		memory = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, ram_file(), 0);
	return memory;
}

void space_init(struct fixture *fixtures, unsigned count, bool shared)
{
	struct tenon_space *space;
	cr_assert_eq(tenon_space_create(NULL, &space, NULL), 0);
	const struct tenon_space_region region = {
		.size = sizeof(region), .size_bytes = RAM_BYTES, .hva = ram(), .fd = shared ? ram_file() : 0};
	cr_assert_eq(tenon_space_add(space, &region, NULL), 0);
	for (unsigned i = 0; i < count; i++) {
		memset(&fixtures[i], 0, sizeof(fixtures[i]));
		host_init(&fixtures[i].host);
		fixtures[i].space = space;
	}
}

struct tenon_device_options options_for(struct fixture *fixture, unsigned server)
{
	struct tenon_device_options options = fixture_options(fixture, NULL);
	options.address = addresses[server];
	return options;
}

int try_open(struct fixture *fixture, const struct tenon_device_options *options)
{
	fixture->err = (struct tenon_error){0};
	int code = tenon_device_open(options, &fixture->device, &fixture->err);
	fixture->host.device = fixture->device;
	return code;
}

void place(struct fixture *fixture)
{
	guest_config_write(fixture, PCI_BASE_ADDRESS_0, 4, REGISTERS_GPA);
	guest_config_write(fixture, PCI_BASE_ADDRESS_1, 4, 0);
	guest_config_write(fixture, PCI_BASE_ADDRESS_2, 4, MEMORY_GPA);
	guest_config_write(fixture, PCI_BASE_ADDRESS_3, 4, 0);
	guest_config_write(fixture, PCI_BASE_ADDRESS_4, 4, PORTS_AT);
	guest_config_write(fixture, PCI_BASE_ADDRESS_5, 4, PAGE_GPA);
	guest_command(fixture, PCI_COMMAND_MEMORY | PCI_COMMAND_IO | PCI_COMMAND_MASTER, 0);
}

void open_one(struct fixture *fixture, const struct testdev_options *options, bool shared)
{
	server_start(&servers[0], options);
	space_init(fixture, 1, shared);
	const struct tenon_device_options device = options_for(fixture, 0);
	cr_assert_eq(try_open(fixture, &device), 0, "%s", fixture->err.message);
	place(fixture);
}

void close_one(struct fixture *fixture)
{
	fixture_close(fixture);
	server_finish(&servers[0]);
}

uint32_t reg(struct fixture *fixture, unsigned offset)
{
	return (uint32_t)guest_bar(fixture, TD_BAR_REGISTERS, offset, 4);
}

void set_reg(struct fixture *fixture, unsigned offset, uint32_t value)
{
	guest_bar_write(fixture, TD_BAR_REGISTERS, offset, 4, value);
}

void set_reg64(struct fixture *fixture, unsigned offset, uint64_t value)
{
	guest_bar_write(fixture, TD_BAR_REGISTERS, offset, 8, value);
}

bool reg_becomes(struct fixture *fixture, unsigned offset, uint32_t mask, uint32_t value)
{
	for (unsigned i = 0; i < 10000; i++) {
		if ((reg(fixture, offset) & mask) == value)
			return true;
		usleep(1000);
	}
	return false;
}

uint32_t copy(struct fixture *fixture, uint64_t source, uint64_t target, uint32_t bytes, uint32_t flags)
{
	const struct copy_descriptor descriptor = {.source = source, .target = target, .length = bytes, .flags = flags};
	memcpy(ram(), &descriptor, sizeof(descriptor));
	set_reg64(fixture, TD_LIST_ADDRESS, 0);
	set_reg(fixture, TD_LIST_COUNT, 1);
	set_reg(fixture, TD_CONTROL, TD_CONTROL_START);
	cr_assert(reg_becomes(fixture, TD_STATUS, TD_STATUS_BUSY, 0), "the copy does not end");
	return reg(fixture, TD_STATUS);
}

enum tenon_device_event next_event(struct fixture *fixture)
{
	for (unsigned i = 0; i < 2000; i++) {
		enum tenon_device_event event = tenon_device_next_event(fixture->device);
		if (event != TENON_DEVICE_EVENT_NONE)
			return event;
		usleep(1000);
	}
	return TENON_DEVICE_EVENT_NONE;
}
