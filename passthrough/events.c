// SPDX-License-Identifier: MIT
/* The error and request interrupts of VFIO, and the set of file descriptors that wakes the event loop. */
#include <errno.h>
#include <linux/vfio.h>
#include <string.h>

#include "device.h"
#include "kernel.h"

static int arm(struct tenon_device *device, unsigned irq, enum event_id id, int *out, struct tenon_error *err)
{
	struct transport_irq info;
	int code = device->transport->ops->irq_info(device->transport, irq, &info, err);
	if (code < 0 || info.count == 0)
		return code;
	int fd = kernel_eventfd();
	code = fd < 0 ? fd : kernel_poll_add(device->events.poll_fd, fd, id, false);
	if (code < 0)
		tenon_fail(err, code, "%s: cannot watch for events: %s; raise the limit of open files (ulimit -n)",
			   device->address.name, strerror(-code));
	else
		code = device->transport->ops->irq_arm(device->transport, irq, 0, 1, &fd, err);
	if (code < 0) {
		if (fd >= 0)
			kernel_close(fd);
		return code;
	}
	*out = fd;
	return 0;
}

int events_init(struct tenon_device *device, struct tenon_error *err)
{
	struct events *events = &device->events;
	int poll_fd = kernel_poll_create();
	if (poll_fd < 0)
		return tenon_fail(err, poll_fd,
				  "%s: cannot watch for events: %s; raise the limit of open files (ulimit -n)",
				  device->address.name, strerror(-poll_fd));
	events->poll_fd = poll_fd;
	/* What they are for ends the VM, which is the host's to decide and no server's: that has its socket to close. */
	if (device->transport->remote)
		return 0;
	int code = arm(device, VFIO_PCI_ERR_IRQ_INDEX, EVENT_ID_ERROR, &events->error_fd, err);
	if (code == 0)
		code = arm(device, VFIO_PCI_REQ_IRQ_INDEX, EVENT_ID_REQUEST, &events->request_fd, err);
	return code;
}

void events_finish(struct tenon_device *device)
{
	int *fds[] = {&device->events.error_fd, &device->events.request_fd, &device->events.poll_fd};
	for (unsigned i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		if (*fds[i] >= 0)
			kernel_close(*fds[i]);
		*fds[i] = -1;
	}
}

enum tenon_device_event events_next(struct tenon_device *device)
{
	enum tenon_device_event event = remote_run(device);
	if (event != TENON_DEVICE_EVENT_NONE)
		return event;
	interrupts_run(device);
	if (device->events.error_fd >= 0 && kernel_eventfd_take(device->events.error_fd))
		return TENON_DEVICE_EVENT_ERROR;
	if (device->events.request_fd >= 0 && kernel_eventfd_take(device->events.request_fd))
		return TENON_DEVICE_EVENT_REQUEST;
	return TENON_DEVICE_EVENT_NONE;
}
