// SPDX-License-Identifier: MIT
/* Doorbells. An eventfd gathers rings until the device looks, as a register write that the VMM forwards does not. */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "testdev.h"

int doorbells_init(struct doorbells *doorbells, struct tenon_error *err)
{
	memset(doorbells->fds, -1, sizeof(doorbells->fds));
	doorbells->poll = epoll_create1(EPOLL_CLOEXEC);
	for (unsigned i = 0; i < TD_DOORBELL_FAST; i++) {
		struct epoll_event event = {.events = EPOLLIN};
		doorbells->fds[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		if (doorbells->fds[i] < 0 || epoll_ctl(doorbells->poll, EPOLL_CTL_ADD, doorbells->fds[i], &event) < 0)
			return tenon_fail(err, -errno, "test device: cannot make an eventfd: %s; raise ulimit -n",
					  strerror(errno));
	}
	return 0;
}

void doorbells_finish(struct doorbells *doorbells)
{
	for (unsigned i = 0; i < TD_DOORBELL_FAST; i++) {
		if (doorbells->fds[i] >= 0)
			close(doorbells->fds[i]);
	}
	if (doorbells->poll >= 0)
		close(doorbells->poll);
}

void doorbells_reset(struct testdev *device)
{
	struct doorbells *doorbells = &device->doorbells;
	for (unsigned i = 0; i < TD_DOORBELL_FAST; i++) {
		uint64_t count;
		while (read(doorbells->fds[i], &count, sizeof(count)) == sizeof(count))
			;
	}
	memset(doorbells->counts, 0, sizeof(doorbells->counts));
	doorbells->irqs = 0;
	doorbells->woken_ns = 0;
}

static void ring(struct testdev *device, unsigned bell, uint32_t times)
{
	struct doorbells *doorbells = &device->doorbells;
	doorbells->woken_ns = now_ns();
	doorbells->counts[bell] += times;
	if (bell == 0)
		copy_engine_start(device);
	else if (doorbells->irqs >> bell & 1)
		irqs_raise(device, TD_IRQ(TD_IRQ_MSIX, bell));
}

void doorbells_ring(struct testdev *device, unsigned bell)
{
	ring(device, bell, 1);
}

void doorbells_take(struct testdev *device)
{
	for (unsigned i = 0; i < TD_DOORBELL_FAST; i++) {
		uint64_t count;
		if (read(device->doorbells.fds[i], &count, sizeof(count)) != sizeof(count))
			continue;
		if (migration_touchable(device->migration.state))
			ring(device, i, (uint32_t)count);
		else
			journal_add(device, TD_BAD_STOPPED_ACCESS, TD_DOORBELL(i), "doorbell %u", i);
	}
}
