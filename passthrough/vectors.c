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

bool vector_pending(const struct vector *vector)
{
	return vector->armed && !vector->delivered && kernel_eventfd_pending(vector->eventfd);
}

static int prepare(struct tenon_device *device, struct vector *vector, const struct message *message,
		   struct tenon_error *err)
{
	if (vector->eventfd < 0) {
		int fd = kernel_eventfd();
		if (fd < 0)
			return tenon_fail(
				err, fd,
				"%s: cannot make an interrupt's eventfd: %s; raise the limit of open files (ulimit -n)",
				device->address.name, strerror(-fd));
		vector->eventfd = fd;
	}
	if (vector->route >= 0 && !vector->dirty)
		return 0;
	int code = device->ops->route_set(device->host, &vector->route, message->address, message->data, err);
	if (code == 0)
		vector->dirty = false;
	return code;
}

/* Arms every vector of the range that is prepared and not armed yet, one call for each run of neighbours. */
static void arm_runs(struct tenon_device *device, unsigned irq, unsigned first, unsigned end)
{
	struct interrupts *interrupts = &device->interrupts;
	int *fds = calloc(end - first, sizeof(*fds));
	if (!fds) {
		device_log(device, TENON_LOG_ERROR, "%s: interrupts stay off: out of memory; free some memory",
			   device->address.name);
		return;
	}
	for (unsigned i = first; i < end;) {
		unsigned run = 0;
		while (i + run < end && interrupts->vectors[i + run].delivered && !interrupts->vectors[i + run].armed) {
			fds[run] = interrupts->vectors[i + run].eventfd;
			run++;
		}
		if (run == 0) {
			i++;
			continue;
		}
		struct tenon_error error;
		bool armed = device->transport->ops->irq_arm(device->transport, irq, i, run, fds, &error) == 0;
		if (!armed)
			device_log_error(device, &error);
		for (unsigned j = i; j < i + run; j++)
			interrupts->vectors[j].armed = armed;
		i += run;
	}
	free(fds);
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
	unsigned count = irq == VFIO_PCI_MSI_IRQ_INDEX ? msi_enabled_count(device)
			 : interrupts->msix_resizable  ? 1
						       : interrupts->msix.count;
	int *fds = malloc(count * sizeof(*fds));
	if (!fds)
		return tenon_fail(err, -ENOMEM, "%s: interrupts stay off: out of memory; free some memory",
				  device->address.name);
	for (unsigned i = 0; i < count; i++)
		fds[i] = -1;
	int code = device->transport->ops->irq_arm(device->transport, irq, 0, count, fds, err);
	free(fds);
	if (code == 0)
		interrupts->allocated = count;
	return code;
}

static void stop_delivery(struct tenon_device *device, struct vector *vector)
{
	if (vector->delivered)
		device->ops->irqfd_detach(device->host, vector->route, vector->eventfd);
	vector->delivered = false;
}

/* Sets the routes of the range's wanted vectors and lets go of the others. @return whether any route may have changed */
static bool prepare_range(struct tenon_device *device, unsigned first, unsigned end,
			  struct message (*message_of)(const struct tenon_device *device, unsigned vector))
{
	struct tenon_error error;
	bool changed = false;
	for (unsigned i = first; i < end; i++) {
		struct vector *vector = &device->interrupts.vectors[i];
		struct message message = message_of(device, i);
		if (!message.wanted) {
			stop_delivery(device, vector);
		} else if (!vector->delivered || vector->dirty) {
			changed = true;
			if (prepare(device, vector, &message, &error) < 0) {
				/* Better no interrupt than one to where the guest no longer expects it. */
				stop_delivery(device, vector);
				vector->dirty = true;
				device_log_error(device, &error);
			}
		}
	}
	return changed;
}

static void attach_range(struct tenon_device *device, unsigned first, unsigned end,
			 struct message (*message_of)(const struct tenon_device *device, unsigned vector))
{
	struct tenon_error error;
	for (unsigned i = first; i < end; i++) {
		struct vector *vector = &device->interrupts.vectors[i];
		if (vector->delivered || vector->dirty || vector->eventfd < 0 || vector->route < 0 ||
		    !message_of(device, i).wanted)
			continue;
		if (device->ops->irqfd_attach(device->host, vector->route, vector->eventfd, &error) < 0)
			device_log_error(device, &error);
		else
			vector->delivered = true;
	}
}

void vectors_sync(struct tenon_device *device, unsigned irq, unsigned first, unsigned count,
		  struct message (*message_of)(const struct tenon_device *device, unsigned vector))
{
	struct tenon_error error;
	unsigned end = first + count;
	if (allocate(device, irq, &error) < 0) {
		device_log_error(device, &error);
		return;
	}
	if (!prepare_range(device, first, end, message_of))
		return;
	if (device->ops->route_commit(device->host, &error) < 0) {
		device_log_error(device, &error);
		for (unsigned i = first; i < end; i++) {
			stop_delivery(device, &device->interrupts.vectors[i]);
			device->interrupts.vectors[i].dirty = true;
		}
		return;
	}
	attach_range(device, first, end, message_of);
	arm_runs(device, irq, first, end);
}

void vectors_release(struct tenon_device *device, unsigned irq)
{
	struct interrupts *interrupts = &device->interrupts;
	struct tenon_error error;

	/* The device first: a signal after the routes are gone would be lost silently. */
	if (interrupts->allocated && device->transport->ops->irq_disable(device->transport, irq, &error) < 0)
		device_log_error(device, &error);
	interrupts->allocated = 0;

	bool freed = false;
	for (unsigned i = 0; i < interrupts->vector_count; i++) {
		struct vector *vector = &interrupts->vectors[i];
		stop_delivery(device, vector);
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
