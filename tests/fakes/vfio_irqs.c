// SPDX-License-Identifier: MIT
/*
 * The fake kernel's interrupts: VFIO_DEVICE_GET_IRQ_INFO and SET_IRQS, and what happens when the device interrupts. After
 * drivers/vfio/pci/vfio_pci_intrs.c: one kind at a time; vectors hold references of eventfds; INTx masks itself when it
 * fires, and a vector beyond those allocated at enable needs dynamic MSI-X.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include <linux/pci_regs.h>
#include <linux/vfio.h>

#include "vfio_model.h"

static unsigned irq_count(const struct fake_device *device, unsigned kind)
{
	switch (kind) {
	case VFIO_PCI_INTX_IRQ_INDEX:
		return device->vconfig[PCI_INTERRUPT_PIN] != 0;
	case VFIO_PCI_MSI_IRQ_INDEX:
		if (!device->msi)
			return 0;
		return 1u << ((fake_config_get(device, device->msi + PCI_MSI_FLAGS, 2) & PCI_MSI_FLAGS_QMASK) >> 1);
	case VFIO_PCI_MSIX_IRQ_INDEX:
		if (!device->msix)
			return 0;
		return (fake_config_get(device, device->msix + PCI_MSIX_FLAGS, 2) & PCI_MSIX_FLAGS_QSIZE) + 1;
	case VFIO_PCI_ERR_IRQ_INDEX:
		return device->pcie != 0;
	default:
		return 1;
	}
}

int model_irqs_info(const struct fake_device *device, void *argument)
{
	struct vfio_irq_info *info = argument;
	if (info->argsz < sizeof(*info) || info->index >= VFIO_PCI_NUM_IRQS ||
	    (info->index == VFIO_PCI_ERR_IRQ_INDEX && !device->pcie))
		return -EINVAL;
	info->flags = VFIO_IRQ_INFO_EVENTFD;
	info->count = irq_count(device, info->index);
	if (info->index == VFIO_PCI_MSIX_IRQ_INDEX && device->irq_count_lie)
		info->count = device->irq_count_lie;
	if (info->index == VFIO_PCI_INTX_IRQ_INDEX)
		info->flags |= VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED;
	else if (info->index != VFIO_PCI_MSIX_IRQ_INDEX || device->static_msix)
		info->flags |= VFIO_IRQ_INFO_NORESIZE;
	return 0;
}

static void replace(struct fake_file **slot, struct fake_file *file)
{
	struct fake_file *old = *slot;
	if (file)
		model_files_hold(file);
	*slot = file;
	model_files_release(old);
}

/* As eventfd_ctx_fdget(). */
static int eventfd_get(int fd, struct fake_file **file)
{
	*file = model_files_of(fd);
	if (!*file)
		return -EBADF;
	return (*file)->kind == FILE_EVENTFD ? 0 : -EINVAL;
}

/* ---- MSI and MSI-X ---- */

static int set_vector(struct fake_device *device, unsigned index, int fd)
{
	struct fake_vector *vector = &device->vectors[index];
	replace(&vector->trigger, NULL);
	if (fd < 0)
		return 0;
	if (!vector->allocated) {
		if (device->irq_kind != VFIO_PCI_MSIX_IRQ_INDEX || device->static_msix)
			return -EINVAL;
		if (device->host_vectors && index >= device->host_vectors)
			return -ENOSPC;
		vector->allocated = true;
	}
	struct fake_file *file;
	int code = eventfd_get(fd, &file);
	if (code < 0)
		return code;
	replace(&vector->trigger, file);
	if (vector->pending) {
		vector->pending = false;
		model_files_signal(file);
	}
	return 0;
}

static int set_block(struct fake_device *device, unsigned start, unsigned count, const int32_t *fds)
{
	for (unsigned i = 0; i < count; i++) {
		int code = set_vector(device, start + i, fds[i]);
		if (code == 0)
			continue;
		for (unsigned undo = 0; undo <= i; undo++)
			set_vector(device, start + undo, -1);
		return code;
	}
	return 0;
}

static void set_message_enable(struct fake_device *device, bool enable)
{
	if (device->irq_kind == VFIO_PCI_MSIX_IRQ_INDEX) {
		uint8_t *high = &device->config[device->msix + PCI_MSIX_FLAGS + 1];
		*high = (uint8_t)((*high & 0x7f) | (enable ? 0x80 : 0));
	} else {
		uint8_t *low = &device->config[device->msi + PCI_MSI_FLAGS];
		*low = (uint8_t)((*low & 0xfe) | enable);
	}
}

static void disable_messages(struct fake_device *device)
{
	for (unsigned i = 0; i < FAKE_VECTORS_MAX; i++) {
		replace(&device->vectors[i].trigger, NULL);
		device->vectors[i] = (struct fake_vector){0};
	}
	set_message_enable(device, false);
	fake_journal("irq off %d", device->irq_kind);
	device->irq_kind = -1;
}

static int set_messages(struct fake_device *device, const struct vfio_irq_set *set)
{
	if (device->irq_kind == (int)set->index && set->count == 0 && set->flags & VFIO_IRQ_SET_DATA_NONE) {
		disable_messages(device);
		return 0;
	}
	if (device->irq_kind >= 0 && device->irq_kind != (int)set->index)
		return -EINVAL;
	if (!(set->flags & VFIO_IRQ_SET_DATA_EVENTFD))
		return -ENOTTY; /* loopback triggers are not modelled */

	const int32_t *fds = (const int32_t *)(const void *)set->data;
	fake_journal("irq arm %u: %u+%u", set->index, set->start, set->count);
	if (device->irq_kind == (int)set->index)
		return set_block(device, set->start, set->count, fds);

	unsigned vectors = set->start + set->count;
	if (device->power != 0) /* pci_alloc_irq_vectors() */
		return -EINVAL;
	if (device->host_vectors && vectors > device->host_vectors)
		return (int)device
			->host_vectors; /* as pci_alloc_irq_vectors() says: so many there are, and nothing is on */
	device->irq_kind = (int)set->index;
	for (unsigned i = 0; i < vectors; i++)
		device->vectors[i].allocated = true;
	set_message_enable(device, true);
	int code = set_block(device, set->start, set->count, fds);
	if (code < 0)
		disable_messages(device);
	return code;
}

/* ---- INTx ---- */

void model_irqs_intx_mask(struct fake_device *device)
{
	if (device->irq_kind == VFIO_PCI_INTX_IRQ_INDEX)
		device->intx_masked = true;
}

/* The line fires when nothing holds it: it masks itself and tells the eventfd. */
static void intx_check(struct fake_device *device)
{
	if (device->irq_kind != VFIO_PCI_INTX_IRQ_INDEX || device->intx_masked || device->intx_disabled ||
	    !device->intx_line)
		return;
	device->intx_masked = true;
	if (device->vectors[0].trigger)
		model_files_signal(device->vectors[0].trigger);
}

void model_irqs_intx_unmask(struct fake_device *device)
{
	if (device->irq_kind != VFIO_PCI_INTX_IRQ_INDEX || !device->intx_masked || device->intx_disabled)
		return;
	device->intx_masked = false;
	intx_check(device);
}

static void intx_off(struct fake_device *device)
{
	replace(&device->vectors[0].trigger, NULL);
	replace(&device->intx_unmask, NULL);
	fake_journal("irq off %d", device->irq_kind);
	device->irq_kind = -1;
}

static int intx_trigger(struct fake_device *device, const struct vfio_irq_set *set, int32_t fd)
{
	bool on = device->irq_kind == VFIO_PCI_INTX_IRQ_INDEX;
	if (on && set->count == 0 && set->flags & VFIO_IRQ_SET_DATA_NONE) {
		intx_off(device);
		return 0;
	}
	if ((device->irq_kind >= 0 && !on) || set->start != 0 || set->count != 1)
		return -EINVAL;
	if (!(set->flags & VFIO_IRQ_SET_DATA_EVENTFD))
		return -ENOTTY; /* loopback triggers are not modelled */
	struct fake_file *file = NULL;
	int code = fd >= 0 ? eventfd_get(fd, &file) : 0;
	if (code < 0)
		return code;
	if (!on) {
		fake_journal("irq arm 0");
		device->irq_kind = VFIO_PCI_INTX_IRQ_INDEX;
		device->intx_masked = device->intx_disabled;
	}
	replace(&device->vectors[0].trigger, file);
	intx_check(device);
	return 0;
}

static int intx_unmask(struct fake_device *device, const struct vfio_irq_set *set, int32_t fd)
{
	if (device->irq_kind != VFIO_PCI_INTX_IRQ_INDEX || set->start != 0 || set->count != 1)
		return -EINVAL;
	if (!(set->flags & VFIO_IRQ_SET_DATA_EVENTFD)) {
		model_irqs_intx_unmask(device);
		return 0;
	}
	struct fake_file *file = NULL;
	int code = fd >= 0 ? eventfd_get(fd, &file) : 0;
	if (code == 0 && fd >= 0 && device->intx_unmask)
		code = -EBUSY;
	if (code == 0)
		replace(&device->intx_unmask, file);
	return code;
}

static int set_intx(struct fake_device *device, const struct vfio_irq_set *set)
{
	int32_t fd = -1;
	if (set->flags & VFIO_IRQ_SET_DATA_EVENTFD)
		memcpy(&fd, set->data, sizeof(fd));
	switch (set->flags & VFIO_IRQ_SET_ACTION_TYPE_MASK) {
	case VFIO_IRQ_SET_ACTION_TRIGGER:
		return intx_trigger(device, set, fd);
	case VFIO_IRQ_SET_ACTION_UNMASK:
		return intx_unmask(device, set, fd);
	case VFIO_IRQ_SET_ACTION_MASK:
		if (device->irq_kind != VFIO_PCI_INTX_IRQ_INDEX)
			return -EINVAL;
		model_irqs_intx_mask(device);
		return 0;
	default:
		return -ENOTTY;
	}
}

/* ---- Errors and requests ---- */

static int set_single(struct fake_file **slot, const struct vfio_irq_set *set)
{
	if (set->start != 0 || set->count > 1)
		return -EINVAL;
	if (set->flags & VFIO_IRQ_SET_DATA_NONE && set->count == 0) {
		if (!*slot)
			return -EINVAL;
		replace(slot, NULL);
		return 0;
	}
	if (!(set->flags & VFIO_IRQ_SET_DATA_EVENTFD) || set->count != 1)
		return -EINVAL;
	int32_t fd;
	memcpy(&fd, set->data, sizeof(fd));
	struct fake_file *file = NULL;
	int code = fd == -1 ? 0 : eventfd_get(fd, &file);
	if (code == 0)
		replace(slot, file);
	return code;
}

int model_irqs_set(struct fake_device *device, void *argument)
{
	const struct vfio_irq_set *set = argument;
	const uint32_t known = VFIO_IRQ_SET_DATA_TYPE_MASK | VFIO_IRQ_SET_ACTION_TYPE_MASK;
	if (set->argsz < sizeof(*set) || set->index >= VFIO_PCI_NUM_IRQS || set->flags & ~known)
		return -EINVAL;
	unsigned count = irq_count(device, set->index);
	if (set->start >= count || set->count > count - set->start)
		return -EINVAL;
	if (set->flags & VFIO_IRQ_SET_DATA_EVENTFD && set->argsz - sizeof(*set) < set->count * sizeof(int32_t))
		return -EINVAL;
	if (set->index != VFIO_PCI_INTX_IRQ_INDEX &&
	    (set->flags & VFIO_IRQ_SET_ACTION_TYPE_MASK) != VFIO_IRQ_SET_ACTION_TRIGGER)
		return -ENOTTY;
	switch (set->index) {
	case VFIO_PCI_INTX_IRQ_INDEX:
		return set_intx(device, set);
	case VFIO_PCI_ERR_IRQ_INDEX:
		return set_single(&device->error_event, set);
	case VFIO_PCI_REQ_IRQ_INDEX:
		return set_single(&device->request_event, set);
	default:
		return set_messages(device, set);
	}
}

void model_irqs_closed(struct fake_device *device)
{
	if (device->irq_kind == VFIO_PCI_INTX_IRQ_INDEX)
		intx_off(device);
	else if (device->irq_kind >= 0)
		disable_messages(device);
	replace(&device->error_event, NULL);
	replace(&device->request_event, NULL);
	device->intx_disabled = false;
}

/* ---- The device's side ---- */

bool fake_fire(struct fake_device *device, unsigned index)
{
	struct fake_vector *vector = &device->vectors[index];
	bool on = device->irq_kind == VFIO_PCI_MSI_IRQ_INDEX || device->irq_kind == VFIO_PCI_MSIX_IRQ_INDEX;
	if (on && vector->trigger) {
		model_files_signal(vector->trigger);
		return true;
	}
	vector->pending = on && device->irq_kind == VFIO_PCI_MSIX_IRQ_INDEX;
	return false;
}

void fake_intx(struct fake_device *device, bool asserted)
{
	device->intx_line = asserted;
	device->config[PCI_STATUS] &= (uint8_t)~PCI_STATUS_INTERRUPT;
	device->config[PCI_STATUS] |= asserted ? PCI_STATUS_INTERRUPT : 0;
	intx_check(device);
}

void fake_on_bar_write(struct fake_device *device, void (*hook)(void *context, struct fake_device *device),
		       void *context)
{
	device->bar_written = hook;
	device->bar_written_context = context;
}

void fake_kernel_run(void)
{
	for (unsigned i = 0; i < world.device_count; i++) {
		struct fake_device *device = world.devices[i];
		uint64_t count;
		if (device->intx_unmask && read(device->intx_unmask->real, &count, sizeof(count)) == sizeof(count))
			model_irqs_intx_unmask(device);
	}
}

bool fake_aer_error(struct fake_device *device)
{
	if (device->error_event)
		model_files_signal(device->error_event);
	return device->error_event != NULL;
}

bool fake_device_request(struct fake_device *device)
{
	if (device->request_event)
		model_files_signal(device->request_event);
	return device->request_event != NULL;
}

unsigned fake_vectors_armed(const struct fake_device *device)
{
	unsigned count = 0;
	for (unsigned i = 0; i < FAKE_VECTORS_MAX; i++)
		count += device->vectors[i].trigger != NULL;
	return count;
}
