// SPDX-License-Identifier: MIT
/*
 * Message vectors, for MSI and MSI-X alike. Batches: all routes in one commit, and neighbouring new vectors in one
 * VFIO_DEVICE_SET_IRQS. A vector that is armed is never armed again, because the kernel would free its host interrupt first
 * and lose what arrives in between.
 */
#include <errno.h>
#include <linux/vfio.h>
#include <stdlib.h>
#include <string.h>

#include "device.h"
#include "kernel.h"

#define IDS_AT_ONCE 32u /* of kernel_poll_take */

bool vector_pending(const struct vector *vector)
{
	return vector->armed && !vector->delivered && kernel_eventfd_pending(vector->eventfd);
}

/* ---- Host vectors ---- */

/* How many vectors can be armed in this mode. */
static unsigned limit_of(const struct tenon_device *device, unsigned irq)
{
	const struct interrupts *interrupts = &device->interrupts;
	return irq == VFIO_PCI_MSIX_IRQ_INDEX && interrupts->msix_resizable ? interrupts->msix.count
									    : interrupts->allocated;
}

static int enable(struct tenon_device *device, unsigned irq, unsigned count, struct tenon_error *err)
{
	int *fds = malloc(count * sizeof(*fds));
	if (!fds)
		return tenon_fail(err, -ENOMEM, "%s: interrupts stay off: out of memory; free some memory",
				  device->address.name);
	for (unsigned i = 0; i < count; i++)
		fds[i] = -1;
	int code = device->transport->ops->irq_arm(device->transport, irq, 0, count, fds, err);
	free(fds);
	return code;
}

/*
 * Turns the kind on. Where the kernel can add vectors later, one suffices and none needs an eventfd; where it cannot, all of
 * them are allocated at once, so that no vector ever has to be torn down for another one's sake.
 */
static int allocate(struct tenon_device *device, unsigned irq, struct tenon_error *err)
{
	struct interrupts *interrupts = &device->interrupts;
	if (interrupts->allocated)
		return 0;
	unsigned asked = irq == VFIO_PCI_MSI_IRQ_INDEX ? msi_enabled_count(device)
			 : interrupts->msix_resizable  ? 1
						       : interrupts->msix.count;
	unsigned count = asked;
	int given = enable(device, irq, count, err);
	if (given > 0 && (unsigned)given < asked) {
		if (!interrupts->shortage_told)
			device_log(device, TENON_LOG_WARNING,
				   "%s: the host has only %d of %u interrupt vectors to give, and the guest's others "
				   "never fire; free vectors on the host, or let the guest use fewer",
				   device->address.name, given, asked);
		interrupts->shortage_told = true;
		count = (unsigned)given;
		given = enable(device, irq, count, err);
	}
	if (given > 0)
		return tenon_fail(err, -ENOSPC,
				  "%s: interrupts stay off: the host has no vectors to give; free vectors on the host",
				  device->address.name);
	if (given < 0)
		return given;
	interrupts->asked = asked;
	interrupts->allocated = count;
	return 0;
}

static bool has_eventfd(struct tenon_device *device, struct vector *vector)
{
	if (vector->eventfd >= 0)
		return true;
	int fd = kernel_eventfd_at(vector->came);
	if (fd >= 0) {
		vector->eventfd = fd;
		return true;
	}
	device_log(device, TENON_LOG_ERROR,
		   "%s: cannot make an interrupt's eventfd: %s; raise the limit of open files (ulimit -n)",
		   device->address.name, strerror(-fd));
	device->interrupts.scarce = true;
	return false;
}

static bool to_arm(struct tenon_device *device, unsigned index, message_fn message_of)
{
	struct vector *vector = &device->interrupts.vectors[index];
	if (vector->armed)
		return false;
	struct message message = message_of(device, index);
	bool asked = vector->kept || (device->interrupts.scarce ? message.wanted : message.usable);
	return asked && has_eventfd(device, vector);
}

static bool arm_run(struct tenon_device *device, unsigned irq, unsigned first, unsigned count, int *fds)
{
	struct vector *vectors = device->interrupts.vectors + first;
	struct tenon_error error;
	for (unsigned i = 0; i < count; i++)
		fds[i] = vectors[i].eventfd;
	int code = device->transport->ops->irq_arm(device->transport, irq, first, count, fds, &error);
	if (code > 0)
		code = tenon_fail(&error, -ENOSPC,
				  "%s: vectors %u-%u stay off: the host has too few; free vectors on the host",
				  device->address.name, first, first + count - 1);
	if (code < 0)
		device_log_error(device, &error);
	for (unsigned i = 0; code == 0 && i < count; i++)
		vectors[i].armed = true;
	return code == 0;
}

/* What is in use comes first when the host cannot give all: one vector at a time, up to the first that it refuses. */
static void arm_wanted(struct tenon_device *device, unsigned irq, unsigned limit, message_fn message_of)
{
	int fd;
	device->interrupts.scarce = true;
	for (unsigned i = 0; i < limit; i++) {
		if (to_arm(device, i, message_of) && !arm_run(device, irq, i, 1, &fd))
			return;
	}
}

/* Arms every vector that the guest has filled in, masked or not, one call for each run of neighbours. */
static void arm_usable(struct tenon_device *device, unsigned irq, message_fn message_of)
{
	unsigned limit = limit_of(device, irq);
	if (device->interrupts.scarce) {
		arm_wanted(device, irq, limit, message_of);
		return;
	}
	int *fds = malloc(limit * sizeof(*fds));
	if (!fds) {
		device_log(device, TENON_LOG_ERROR, "%s: interrupts stay off: out of memory; free some memory",
			   device->address.name);
		return;
	}
	bool armed = true;
	for (unsigned i = 0; i < limit && armed;) {
		unsigned run = 0;
		while (i + run < limit && to_arm(device, i + run, message_of))
			run++;
		armed = run == 0 || arm_run(device, irq, i, run, fds);
		i += run ? run : 1;
	}
	free(fds);
	if (!armed)
		arm_wanted(device, irq, limit, message_of);
}

/* ---- The event loop's set ---- */

/* An interrupt that waits already wakes the loop at once. */
static bool watch(struct tenon_device *device, unsigned index)
{
	struct vector *vector = &device->interrupts.vectors[index];
	if (!vector->watched)
		vector->watched = kernel_poll_add(device->events.poll_fd, vector->eventfd, index, true) == 0;
	return vector->watched;
}

static void unwatch(struct tenon_device *device, struct vector *vector)
{
	if (vector->watched)
		kernel_poll_remove(device->events.poll_fd, vector->eventfd);
	vector->watched = false;
}

/* ---- Delivery ---- */

static void stop_delivery(struct tenon_device *device, struct vector *vector)
{
	if (vector->delivered)
		device->ops->irqfd_detach(device->host, vector->route, vector->eventfd);
	vector->delivered = false;
}

/*
 * Better no interrupt than one to where the guest no longer expects it. What arrives meanwhile stays in the eventfd, and the event
 * loop tries again with the next.
 */
static void give_up(struct tenon_device *device, unsigned index)
{
	struct vector *vector = &device->interrupts.vectors[index];
	stop_delivery(device, vector);
	vector->routed = vector->ready = false;
	watch(device, index);
}

static bool is_current(const struct vector *vector, const struct message *message)
{
	return vector->routed && vector->address == message->address && vector->data == message->data;
}

/* Sets the routes of the ready vectors whose message changed. @return whether any did */
static bool set_routes(struct tenon_device *device, unsigned first, unsigned end, message_fn message_of)
{
	struct tenon_error error;
	bool changed = false;
	for (unsigned i = first; i < end; i++) {
		struct vector *vector = &device->interrupts.vectors[i];
		if (!vector->ready)
			continue;
		struct message message = message_of(device, i);
		if (is_current(vector, &message))
			continue;
		if (device->ops->route_set(device->host, &vector->route, message.address, message.data, &error) < 0) {
			give_up(device, i);
			device_log_error(device, &error);
			continue;
		}
		vector->address = message.address;
		vector->data = message.data;
		vector->routed = false;
		changed = true;
	}
	return changed;
}

static void commit_routes(struct tenon_device *device, unsigned first, unsigned end)
{
	struct tenon_error error;
	bool committed = device->ops->route_commit(device->host, &error) == 0;
	if (!committed)
		device_log_error(device, &error);
	for (unsigned i = first; i < end; i++) {
		struct vector *vector = &device->interrupts.vectors[i];
		if (vector->ready && !vector->routed && committed)
			vector->routed = true;
		else if (vector->ready && !vector->routed)
			give_up(device, i);
	}
}

/* Delivers the range's ready vectors, with what waits in their eventfds, to the messages that hold now. */
static void deliver_ready(struct tenon_device *device, unsigned first, unsigned end, message_fn message_of)
{
	struct tenon_error error;
	if (set_routes(device, first, end, message_of))
		commit_routes(device, first, end);
	for (unsigned i = first; i < end; i++) {
		struct vector *vector = &device->interrupts.vectors[i];
		if (!vector->ready)
			continue;
		vector->ready = false;
		if (vector->delivered)
			continue;
		if (device->ops->irqfd_attach(device->host, vector->route, vector->eventfd, &error) < 0) {
			watch(device, i);
			device_log_error(device, &error);
			continue;
		}
		vector->delivered = true;
		vector->fired = false;
		unwatch(device, vector);
	}
}

/* One vector's next step, by what the guest wants of it. @return whether it became ready */
static bool step(struct tenon_device *device, unsigned index, message_fn message_of)
{
	struct vector *vector = &device->interrupts.vectors[index];
	struct message message = message_of(device, index);
	if (!message.wanted || !vector->armed) {
		stop_delivery(device, vector);
		return false;
	}
	if (vector->delivered)
		vector->ready = !is_current(vector, &message);
	else
		/* One that was in use goes on without the event loop; so does one that the loop cannot watch. */
		vector->ready = vector->route >= 0 || vector->fired || !watch(device, index);
	return vector->ready;
}

static bool must_arm(const struct tenon_device *device, unsigned first, unsigned end, message_fn message_of)
{
	for (unsigned i = first; i < end; i++) {
		if (device->interrupts.vectors[i].armed)
			continue;
		struct message message = message_of(device, i);
		if (device->interrupts.vectors[i].kept || (end - first == 1 ? message.wanted : message.usable))
			return true;
	}
	return false;
}

void vectors_sync(struct tenon_device *device, unsigned irq, unsigned first, unsigned count, message_fn message_of)
{
	struct tenon_error error;
	unsigned end = first + count;
	if (allocate(device, irq, &error) < 0) {
		device_log_error(device, &error);
		return;
	}
	/* A vector that is only filled in waits for the first that is unmasked, or for the function's mask. */
	if (must_arm(device, first, end, message_of)) {
		/* Which may include those that could not be armed when their turn was. */
		unsigned limit = limit_of(device, irq);
		arm_usable(device, irq, message_of);
		first = 0;
		end = limit > end ? limit : end;
	}
	bool ready = false;
	for (unsigned i = first; i < end; i++)
		ready |= step(device, i, message_of);
	if (ready)
		deliver_ready(device, first, end, message_of);
}

void vectors_settle(struct tenon_device *device, unsigned index, message_fn message_of)
{
	struct vector *vector = &device->interrupts.vectors[index];
	if (!vector->watched || !message_of(device, index).wanted || !kernel_eventfd_pending(vector->eventfd))
		return;
	vector->ready = true;
	deliver_ready(device, index, index + 1, message_of);
}

/* A masked vector leaves the set when it fires, so that a device cannot keep the event loop busy with it. */
static bool take_fired(struct tenon_device *device, unsigned index, message_fn message_of)
{
	struct vector *vector = &device->interrupts.vectors[index];
	vector->fired = true;
	vector->ready = message_of(device, index).wanted;
	if (!vector->ready)
		unwatch(device, vector);
	return vector->ready;
}

void vectors_collect(struct tenon_device *device, message_fn message_of)
{
	uint32_t ids[IDS_AT_ONCE];
	unsigned first = UINT32_MAX, end = 0, taken;
	do {
		taken = kernel_poll_take(device->events.poll_fd, ids, IDS_AT_ONCE);
		for (unsigned i = 0; i < taken; i++) {
			if (ids[i] >= device->interrupts.vector_count || !take_fired(device, ids[i], message_of))
				continue;
			first = ids[i] < first ? ids[i] : first;
			end = ids[i] + 1 > end ? ids[i] + 1 : end;
		}
	} while (taken == IDS_AT_ONCE);
	if (end)
		deliver_ready(device, first, end, message_of);
}

void vectors_release(struct tenon_device *device, unsigned irq)
{
	struct interrupts *interrupts = &device->interrupts;
	struct tenon_error error;

	/* The device first: a signal after the routes are gone would be lost silently. */
	if (interrupts->allocated && device->transport->ops->irq_disable(device->transport, irq, &error) < 0)
		device_log_error(device, &error);
	interrupts->asked = interrupts->allocated = 0;
	interrupts->scarce = false;

	bool freed = false;
	for (unsigned i = 0; i < interrupts->vector_count; i++) {
		struct vector *vector = &interrupts->vectors[i];
		stop_delivery(device, vector);
		unwatch(device, vector);
		if (vector->route >= 0) {
			device->ops->route_free(device->host, vector->route);
			freed = true;
		}
		if (vector->eventfd >= 0)
			kernel_close(vector->eventfd);
		*vector = (struct vector){.eventfd = -1, .route = -1};
	}
	if (freed && device->ops->route_commit(device->host, &error) < 0)
		device_log_error(device, &error);
}
