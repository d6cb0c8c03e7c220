// SPDX-License-Identifier: MIT
/*
 * INTx: the kernel masks the host's line at each interrupt and signals `trigger`, KVM raises the guest's line; the guest's
 * end of interrupt lowers it and signals `unmask`, upon which the kernel unmasks the host's line. If the device still asserts
 * it, it all starts again: level semantics without user space. Source: Linux drivers/vfio/pci/vfio_pci_intrs.c.
 */
#include <errno.h>
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

int intx_enable(struct tenon_device *device, struct tenon_error *err)
{
	struct interrupts *interrupts = &device->interrupts;
	struct transport *transport = device->transport;

	interrupts->intx_trigger = kernel_eventfd();
	interrupts->intx_unmask = kernel_eventfd();
	int code = interrupts->intx_trigger < 0  ? interrupts->intx_trigger
		   : interrupts->intx_unmask < 0 ? interrupts->intx_unmask
						 : 0;
	if (code < 0) {
		close_fds(interrupts);
		return tenon_fail(err, code,
				  "%s: cannot make INTx's eventfds: %s; raise the limit of open files (ulimit -n)",
				  device->address.name, strerror(-code));
	}
	code = device->ops->intx_attach(device->host, interrupts->intx_pin, interrupts->intx_trigger,
					interrupts->intx_unmask, err);
	if (code < 0) {
		close_fds(interrupts);
		return code;
	}
	code = transport->ops->irq_arm(transport, VFIO_PCI_INTX_IRQ_INDEX, 0, 1, &interrupts->intx_trigger, err);
	if (code == 0) {
		code = transport->ops->irq_unmask_on(transport, VFIO_PCI_INTX_IRQ_INDEX, interrupts->intx_unmask, err);
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

void intx_disable(struct tenon_device *device)
{
	struct interrupts *interrupts = &device->interrupts;
	struct tenon_error error;
	if (device->transport->ops->irq_disable(device->transport, VFIO_PCI_INTX_IRQ_INDEX, &error) < 0)
		device_log_error(device, &error);
	device->ops->intx_detach(device->host, interrupts->intx_pin, interrupts->intx_trigger, interrupts->intx_unmask);
	close_fds(interrupts);
}
