// SPDX-License-Identifier: MIT
/*
 * INTx, a level. Inside the kernel: VFIO masks the host's line at each interrupt and signals `trigger`, KVM raises the guest's
 * line; the guest's end of interrupt lowers it and signals `unmask`, upon which VFIO unmasks the host's line. If the device
 * still asserts it, it all starts again. Source: Linux drivers/vfio/pci/vfio_pci_intrs.c.
 *
 * Trapped, where that does not work: the event loop raises the guest's line, and the guest's next access to a BAR, which
 * therefore must trap, takes the place of the end of interrupt. A driver touches its device to silence it; if the first
 * touch did not, the device still asserts and the line rises again.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <string.h>

#include "device.h"
#include "kernel.h"

static void close_fds(struct interrupts *interrupts)
{
	if (interrupts->intx_trigger >= 0)
		kernel_close(interrupts->intx_trigger);
	if (interrupts->intx_unmask >= 0)
		kernel_close(interrupts->intx_unmask);
	interrupts->intx_trigger = interrupts->intx_unmask = -1;
}

static int fail_fds(struct tenon_device *device, int code, struct tenon_error *err)
{
	close_fds(&device->interrupts);
	return tenon_fail(err, code, "%s: cannot make INTx's eventfds: %s; raise the limit of open files (ulimit -n)",
			  device->address.name, strerror(-code));
}

/* @param elsewhere  set when the failure is one that trapping avoids */
static int enable_in_kernel(struct tenon_device *device, bool *elsewhere, struct tenon_error *err)
{
	struct interrupts *interrupts = &device->interrupts;
	struct transport *transport = device->transport;

	interrupts->intx_trigger = kernel_eventfd_at(interrupts->intx_came);
	interrupts->intx_unmask = kernel_eventfd();
	int code = interrupts->intx_trigger < 0  ? interrupts->intx_trigger
		   : interrupts->intx_unmask < 0 ? interrupts->intx_unmask
						 : 0;
	if (code < 0)
		return fail_fds(device, code, err);
	code = device->ops->intx_attach(device->host, interrupts->intx_pin, interrupts->intx_trigger,
					interrupts->intx_unmask, err);
	if (code < 0) {
		*elsewhere = code == -ENOTSUP;
		close_fds(interrupts);
		return code;
	}
	code = transport->ops->irq_arm(transport, VFIO_PCI_INTX_IRQ_INDEX, 0, 1, &interrupts->intx_trigger, err);
	if (code == 0) {
		code = transport->ops->irq_unmask_on(transport, VFIO_PCI_INTX_IRQ_INDEX, interrupts->intx_unmask, err);
		*elsewhere = code < 0;
		if (code < 0)
			transport->ops->irq_disable(transport, VFIO_PCI_INTX_IRQ_INDEX, NULL);
	}
	if (code < 0) {
		device->ops->intx_detach(device->host, interrupts->intx_pin, interrupts->intx_trigger,
					 interrupts->intx_unmask);
		close_fds(interrupts);
	}
	return code;
}

static int enable_trapped(struct tenon_device *device, struct tenon_error *err)
{
	struct interrupts *interrupts = &device->interrupts;
	interrupts->intx_trigger = kernel_eventfd_at(interrupts->intx_came);
	int code = interrupts->intx_trigger < 0
			   ? interrupts->intx_trigger
			   : kernel_poll_add(device->events.poll_fd, interrupts->intx_trigger, EVENT_ID_INTX, false);
	if (code < 0)
		return fail_fds(device, code, err);
	code = device->transport->ops->irq_arm(device->transport, VFIO_PCI_INTX_IRQ_INDEX, 0, 1,
					       &interrupts->intx_trigger, err);
	if (code < 0)
		close_fds(interrupts);
	return code;
}

int intx_enable(struct tenon_device *device, struct tenon_error *err)
{
	struct interrupts *interrupts = &device->interrupts;
	if (!interrupts->intx_trapped) {
		struct tenon_error reason;
		bool elsewhere = false;
		int code = enable_in_kernel(device, &elsewhere, &reason);
		if (code == 0)
			return 0;
		if (!elsewhere || !device->ops->intx_level) {
			tenon_fail(err, code, "%s", reason.message);
			return code;
		}
		device_log(device, TENON_LOG_WARNING, "%s: INTx works trapped, but slowly: %s", device->address.name,
			   reason.message);
		interrupts->intx_trapped = true;
	}
	return enable_trapped(device, err);
}

/* A line that the VMM does not raise never will be: INTx goes off until the next reset, and with it the trapping. */
static void set_line(struct tenon_device *device)
{
	struct interrupts *interrupts = &device->interrupts;
	struct tenon_error error;
	bool disabled = config_value16(&device->config, PCI_COMMAND) & PCI_COMMAND_INTX_DISABLE;
	bool asserted = interrupts->intx_waiting && !disabled;
	if (asserted == interrupts->intx_asserted)
		return;
	if (device->ops->intx_level(device->host, interrupts->intx_pin, asserted, &error) == 0) {
		interrupts->intx_asserted = asserted;
		return;
	}
	device_log_error(device, &error);
	if (asserted) {
		interrupts->intx_failed = true;
		interrupts_update(device);
	}
}

void intx_disable(struct tenon_device *device)
{
	struct interrupts *interrupts = &device->interrupts;
	struct tenon_error error;
	if (device->transport->ops->irq_disable(device->transport, VFIO_PCI_INTX_IRQ_INDEX, &error) < 0)
		device_log_error(device, &error);
	if (interrupts->intx_trapped) {
		interrupts->intx_waiting = false;
		set_line(device);
		kernel_poll_remove(device->events.poll_fd, interrupts->intx_trigger);
	} else {
		device->ops->intx_detach(device->host, interrupts->intx_pin, interrupts->intx_trigger,
					 interrupts->intx_unmask);
	}
	close_fds(interrupts);
}

bool intx_traps(const struct tenon_device *device)
{
	return device->interrupts.mode == INTERRUPT_INTX && device->interrupts.intx_trapped;
}

void intx_run(struct tenon_device *device)
{
	if (!intx_traps(device) || !kernel_eventfd_take(device->interrupts.intx_trigger))
		return;
	device->interrupts.intx_waiting = true;
	set_line(device);
}

void intx_gate(struct tenon_device *device)
{
	if (intx_traps(device))
		set_line(device);
}

void intx_accessed(struct tenon_device *device)
{
	struct interrupts *interrupts = &device->interrupts;
	struct tenon_error error;
	if (!intx_traps(device))
		return;
	bool waiting = interrupts->intx_waiting;
	interrupts->intx_waiting = false;
	set_line(device); /* also one that could not be lowered before */
	if (!waiting)
		return;
	/* After the access: if it silenced the device, no interrupt follows. */
	if (device->transport->ops->irq_unmask(device->transport, VFIO_PCI_INTX_IRQ_INDEX, &error) < 0)
		device_log_error(device, &error);
}
