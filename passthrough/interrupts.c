// SPDX-License-Identifier: MIT
/*
 * Which kind of interrupt is on, by what the guest's registers say, and the switch between kinds. VFIO allows one kind at a
 * time: the old one is turned off before the new one is turned on.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <stdlib.h>

#include "bars.h"
#include "device.h"
#include "kernel.h"

static int msi_init(struct tenon_device *device, struct tenon_error *err)
{
	struct interrupts *interrupts = &device->interrupts;
	struct config *config = &device->config;
	if (!config->msi)
		return 0;
	struct transport_irq info;
	int code = device->transport->ops->irq_info(device->transport, VFIO_PCI_MSI_IRQ_INDEX, &info, err);
	if (code < 0)
		return code;
	interrupts->msi_count = info.count > 32 ? 32 : info.count;
	device->info.msi_vectors = interrupts->msi_count;
	if (interrupts->vectors && interrupts->vector_count >= interrupts->msi_count)
		return 0;
	struct vector *vectors = realloc(interrupts->vectors, 32 * sizeof(struct vector));
	if (!vectors)
		return tenon_fail(err, -ENOMEM, "%s: cannot set up MSI: out of memory; free some memory",
				  device->address.name);
	interrupts->vectors = vectors;
	interrupts->vector_count = interrupts->msi_count;
	return 0;
}

static int intx_init(struct tenon_device *device, struct tenon_error *err)
{
	struct config *config = &device->config;
	struct transport_irq info;
	int code = device->transport->ops->irq_info(device->transport, VFIO_PCI_INTX_IRQ_INDEX, &info, err);
	if (code < 0)
		return code;
	unsigned pin = config->value[PCI_INTERRUPT_PIN];
	if (info.count == 0 || pin > 4 || (!device->ops->intx_attach && !device->ops->intx_level))
		pin = 0;
	config->value[PCI_INTERRUPT_PIN] = (uint8_t)pin;
	device->interrupts.intx_pin = pin;
	device->interrupts.intx_trapped =
		device->interrupts.intx_policy == TENON_INTX_TRAPPED || !device->ops->intx_attach;
	device->info.intx_pin = pin;
	return 0;
}

int interrupts_init(struct tenon_device *device, struct tenon_error *err)
{
	struct interrupts *interrupts = &device->interrupts;
	interrupts->intx_trigger = interrupts->intx_unmask = -1;
	int code = msix_init(device, err);
	if (code == 0)
		code = msi_init(device, err);
	if (code == 0)
		code = intx_init(device, err);
	for (unsigned i = 0; code == 0 && i < interrupts->vector_count; i++)
		interrupts->vectors[i] = (struct vector){.eventfd = -1, .route = -1};
	return code;
}

static void switch_off(struct tenon_device *device)
{
	struct interrupts *interrupts = &device->interrupts;
	switch (interrupts->mode) {
	case INTERRUPT_NONE:
		break;
	case INTERRUPT_INTX:
		intx_disable(device);
		break;
	case INTERRUPT_MSI:
		vectors_release(device, VFIO_PCI_MSI_IRQ_INDEX);
		break;
	case INTERRUPT_MSIX:
		vectors_release(device, VFIO_PCI_MSIX_IRQ_INDEX);
		break;
	}
	interrupts->mode = INTERRUPT_NONE;
}

void interrupts_finish(struct tenon_device *device)
{
	switch_off(device);
	free(device->interrupts.msix_table);
	free(device->interrupts.vectors);
	device->interrupts.msix_table = NULL;
	device->interrupts.vectors = NULL;
	device->interrupts.vector_count = 0;
}

void interrupts_reset(struct tenon_device *device)
{
	switch_off(device);
	device->interrupts.intx_failed = device->interrupts.shortage_told = false;
	msix_reset_table(device);
}

/*
 * INTx is on when nothing better is and a driver may expect it: not before the guest turns the device on (a device
 * that only ever uses messages then never has its INTx set up). The guest's disable bit keeps it from being turned on; once
 * on, the bit only gates it, because handlers write the bit at every interrupt.
 */
static enum interrupt_mode wanted_mode(const struct tenon_device *device)
{
	const struct config *config = &device->config;
	const struct interrupts *interrupts = &device->interrupts;
	uint16_t command = config_value16(config, PCI_COMMAND);
	if (interrupts->msix.count && (config_value16(config, config->msix + PCI_MSIX_FLAGS) & PCI_MSIX_FLAGS_ENABLE))
		return INTERRUPT_MSIX;
	if (interrupts->msi_count && (config_value16(config, config->msi + PCI_MSI_FLAGS) & PCI_MSI_FLAGS_ENABLE))
		return INTERRUPT_MSI;
	if (interrupts->intx_pin && !interrupts->intx_failed &&
	    (interrupts->mode == INTERRUPT_INTX || !(command & PCI_COMMAND_INTX_DISABLE)) &&
	    (command & (PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY | PCI_COMMAND_IO)))
		return INTERRUPT_INTX;
	return INTERRUPT_NONE;
}

static void change_mode(struct tenon_device *device, enum interrupt_mode mode)
{
	struct interrupts *interrupts = &device->interrupts;
	struct tenon_error error;
	switch_off(device);
	if (mode == INTERRUPT_INTX && intx_enable(device, &error) < 0) {
		device_log_error(device, &error);
		interrupts->intx_failed = true; /* not tried again at every write, but after a reset */
		mode = INTERRUPT_NONE;
	}
	interrupts->mode = mode;
	bars_direct(device, !intx_traps(device));
}

void interrupts_update(struct tenon_device *device)
{
	struct interrupts *interrupts = &device->interrupts;
	enum interrupt_mode mode = wanted_mode(device);
	if (mode != interrupts->mode)
		change_mode(device, mode);
	if (mode == INTERRUPT_MSIX) {
		vectors_sync(device, VFIO_PCI_MSIX_IRQ_INDEX, 0, interrupts->msix.count, msix_message);
	} else if (mode == INTERRUPT_MSI) {
		if (interrupts->allocated && msi_enabled_count(device) > interrupts->asked)
			vectors_release(device, VFIO_PCI_MSI_IRQ_INDEX); /* MSI cannot grow while it is on */
		vectors_sync(device, VFIO_PCI_MSI_IRQ_INDEX, 0, interrupts->msi_count, msi_message);
	} else if (mode == INTERRUPT_INTX) {
		intx_gate(device);
	}
}

void interrupts_repeat(struct tenon_device *device)
{
	static const unsigned kinds[] = {VFIO_PCI_INTX_IRQ_INDEX, VFIO_PCI_MSI_IRQ_INDEX, VFIO_PCI_MSIX_IRQ_INDEX};
	struct interrupts *interrupts = &device->interrupts;
	const bool present[] = {interrupts->intx_pin, interrupts->msi_count, interrupts->msix.count};
	switch_off(device);
	for (unsigned i = 0; i < 3 && device->transport->health == TRANSPORT_WELL; i++) {
		if (present[i])
			device->transport->ops->irq_disable(device->transport, kinds[i], NULL);
	}
	interrupts->intx_failed = false;
	interrupts_update(device);
}

void interrupts_settle(struct tenon_device *device)
{
	if (device->interrupts.mode == INTERRUPT_MSIX)
		vectors_collect(device, msix_message);
	else if (device->interrupts.mode == INTERRUPT_MSI)
		vectors_collect(device, msi_message);
}

void interrupts_run(struct tenon_device *device)
{
	interrupts_settle(device);
	intx_run(device);
}
