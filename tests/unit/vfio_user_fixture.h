/* SPDX-License-Identifier: MIT */
/*
 * The library on the fake kernel, and test devices behind its sockets: each in this process, on a thread that serves whoever
 * connects.
 */
#ifndef VFIO_USER_FIXTURE_H
#define VFIO_USER_FIXTURE_H

#include <pthread.h>

#include <criterion/criterion.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>

#include "server.h"
#include "testdev.h"
#include "vfio_fixture.h"
#include "vfio_user_protocol.h"

#define SERVERS 2
/* Where the guest's BARs are, BAR 4 in port space. */
#define REGISTERS_GPA 0xe0000000u
#define MEMORY_GPA    0xe0100000u
#define PORTS_AT      0x1000u
#define PAGE_GPA      0xe0300000u

struct server {
	struct testdev *device; /* NULL: nobody listens */
	pthread_t thread;
	bool running;
	int fd, stop;
	int result;
};

extern struct server servers[SERVERS];
extern const char *const addresses[SERVERS];

/** Waits until the client has left, or makes it leave. */
void server_end(struct server *server, bool kill);
void server_start(struct server *server, const struct testdev_options *options);
void server_finish(struct server *server);
/** What the guest's RAM is a mapping of. */
int ram_file(void);
uint8_t *ram(void);
/** A space with RAM at 0, and a host for each of the servers. */
void space_init(struct fixture *fixtures, unsigned count, bool shared);
struct tenon_device_options options_for(struct fixture *fixture, unsigned server);
int try_open(struct fixture *fixture, const struct tenon_device_options *options);
void place(struct fixture *fixture);
/** One server, one device, BARs placed. */
void open_one(struct fixture *fixture, const struct testdev_options *options, bool shared);
void close_one(struct fixture *fixture);
uint32_t reg(struct fixture *fixture, unsigned offset);
void set_reg(struct fixture *fixture, unsigned offset, uint32_t value);
void set_reg64(struct fixture *fixture, unsigned offset, uint64_t value);
/** Polls a register until it holds what is expected; the device has a thread of its own. */
bool reg_becomes(struct fixture *fixture, unsigned offset, uint32_t mask, uint32_t value);
/** Has the device copy; the list is at the start of RAM. @return TD_STATUS */
uint32_t copy(struct fixture *fixture, uint64_t source, uint64_t target, uint32_t bytes, uint32_t flags);
/** What the VMM's event loop is told next, within a moment. */
enum tenon_device_event next_event(struct fixture *fixture);

#endif
