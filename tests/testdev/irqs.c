// SPDX-License-Identifier: MIT
/*
 * Interrupts. What a message may set follows the kernel's vfio_pci_intrs.c, so that a client which works here works there.
 */
#include <errno.h>
#include <linux/vfio.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <vfio_user_protocol.h>

#include "testdev.h"

#define DATA_FLAGS   (VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_DATA_BOOL | VFIO_IRQ_SET_DATA_EVENTFD)
#define ACTION_FLAGS (VFIO_IRQ_SET_ACTION_MASK | VFIO_IRQ_SET_ACTION_UNMASK | VFIO_IRQ_SET_ACTION_TRIGGER)

static const unsigned counts[IRQ_KINDS] = {1, TD_MSI_VECTORS, TD_MSIX_VECTORS, 1, 1};

void irqs_init(struct testdev *device)
{
	memset(device->irqs.trigger, -1, sizeof(device->irqs.trigger));
	device->irqs.intx_unmask = -1;
}

static void drop(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void disable(struct testdev *device, unsigned kind)
{
	struct irqs *irqs = &device->irqs;
	for (unsigned i = 0; i < IRQ_VECTORS_MAX; i++)
		drop(&irqs->trigger[kind][i]);
	irqs->enabled[kind] = 0;
	irqs->pending[kind] = 0;
	if (kind == VFIO_PCI_INTX_IRQ_INDEX) {
		drop(&irqs->intx_unmask);
		irqs->intx_masked = false;
	}
}

void irqs_release(struct testdev *device)
{
	for (unsigned kind = 0; kind < IRQ_KINDS; kind++)
		disable(device, kind);
}

void irqs_reset(struct testdev *device)
{
	struct irqs *irqs = &device->irqs;
	memset(irqs->pending, 0, sizeof(irqs->pending));
	irqs->line = irqs->intx_masked = false;
	irqs->raised = irqs->delivered = 0;
}

unsigned irqs_count(unsigned kind)
{
	return kind < IRQ_KINDS ? counts[kind] : 0;
}

uint32_t irqs_flags(const struct testdev *device, unsigned kind)
{
	switch (kind) {
	case VFIO_PCI_INTX_IRQ_INDEX:
		return VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED;
	case VFIO_PCI_MSIX_IRQ_INDEX:
		return VFIO_IRQ_INFO_EVENTFD | (device->options.fixed_msix ? VFIO_IRQ_INFO_NORESIZE : 0);
	default:
		return VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE;
	}
}

/* Never blocks, whatever the client passed: an eventfd that is full has been signalled. */
static bool signal_fd(int fd)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};
	const uint64_t one = 1;
	return fd >= 0 && poll(&poll_fd, 1, 0) == 1 && poll_fd.revents & POLLOUT &&
	       write(fd, &one, sizeof(one)) == sizeof(one);
}

static void deliver(struct testdev *device, unsigned kind, unsigned vector)
{
	struct irqs *irqs = &device->irqs;
	if (irqs->trigger[kind][vector] < 0 || !migration_runs(device->migration.state)) {
		irqs->pending[kind] |= UINT64_C(1) << vector;
	} else if (signal_fd(irqs->trigger[kind][vector])) {
		irqs->pending[kind] &= ~(UINT64_C(1) << vector);
		irqs->delivered++;
	}
}

void irqs_update_line(struct testdev *device)
{
	struct irqs *irqs = &device->irqs;
	config_space_show_line(device, irqs->line);
	if (!irqs->line || irqs->intx_masked || config_space_intx_disabled(device) ||
	    !migration_runs(device->migration.state) || irqs->trigger[VFIO_PCI_INTX_IRQ_INDEX][0] < 0)
		return;
	irqs->intx_masked = true; /* VFIO_IRQ_INFO_AUTOMASKED */
	deliver(device, VFIO_PCI_INTX_IRQ_INDEX, 0);
}

void irqs_set_line(struct testdev *device, bool asserted)
{
	device->irqs.line = asserted;
	irqs_update_line(device);
}

void irqs_unmask(struct testdev *device)
{
	device->irqs.intx_masked = false;
	irqs_update_line(device);
}

void irqs_resume(struct testdev *device)
{
	struct irqs *irqs = &device->irqs;
	for (unsigned kind = VFIO_PCI_MSI_IRQ_INDEX; kind < IRQ_KINDS; kind++) {
		for (unsigned vector = 0; vector < counts[kind]; vector++) {
			if (irqs->pending[kind] >> vector & 1)
				deliver(device, kind, vector);
		}
	}
	irqs_update_line(device);
}

static unsigned best_kind(const struct irqs *irqs)
{
	if (irqs->enabled[VFIO_PCI_MSIX_IRQ_INDEX])
		return TD_IRQ_MSIX;
	return irqs->enabled[VFIO_PCI_MSI_IRQ_INDEX] ? TD_IRQ_MSI : TD_IRQ_INTX;
}

void irqs_raise(struct testdev *device, uint32_t what)
{
	static const unsigned index_of[] = {
		[TD_IRQ_INTX] = VFIO_PCI_INTX_IRQ_INDEX, [TD_IRQ_MSI] = VFIO_PCI_MSI_IRQ_INDEX,
		[TD_IRQ_MSIX] = VFIO_PCI_MSIX_IRQ_INDEX, [TD_IRQ_ERR] = VFIO_PCI_ERR_IRQ_INDEX,
		[TD_IRQ_REQ] = VFIO_PCI_REQ_IRQ_INDEX,
	};
	struct irqs *irqs = &device->irqs;
	unsigned kind = what >> 16, vector = what & 0xffff;
	if (kind == TD_IRQ_NONE)
		return;
	if (kind == TD_IRQ_BEST)
		kind = best_kind(irqs);
	if (kind > TD_IRQ_REQ || vector >= counts[index_of[kind]]) {
		journal_add(device, TD_BAD_ACCESS, what, "no interrupt 0x%x", what);
		return;
	}
	irqs->raised++;
	if (kind == TD_IRQ_INTX)
		irqs_set_line(device, true);
	else
		deliver(device, index_of[kind], vector);
}

static bool one_bit(uint32_t bits)
{
	return bits && !(bits & (bits - 1));
}

static int check_set(const struct vu_irq_set *set, unsigned flag_count, unsigned fd_count)
{
	uint32_t data = set->flags & DATA_FLAGS, action = set->flags & ACTION_FLAGS;
	if (set->argsz < sizeof(*set) || set->flags & ~(DATA_FLAGS | ACTION_FLAGS) || !one_bit(data) ||
	    !one_bit(action))
		return -EINVAL;
	unsigned count = irqs_count(set->index);
	if (set->start >= count || set->count > count - set->start)
		return -EINVAL;
	if (set->count == 0 && (set->start || data != VFIO_IRQ_SET_DATA_NONE || action != VFIO_IRQ_SET_ACTION_TRIGGER))
		return -EINVAL;
	if (data == VFIO_IRQ_SET_DATA_BOOL ? flag_count != set->count : flag_count != 0)
		return -EINVAL;
	if (fd_count && (data != VFIO_IRQ_SET_DATA_EVENTFD || fd_count != set->count))
		return -EINVAL;
	return 0;
}

/* Anything else might block or lose the count. Where /proc is missing, what the client says is taken. */
static bool are_eventfds(const int *fds, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		char link[32], name[32] = "";
		snprintf(link, sizeof(link), "/proc/self/fd/%d", fds[i]);
		ssize_t length = readlink(link, name, sizeof(name) - 1);
		if (length > 0 && strncmp(name, "anon_inode:[eventfd]", sizeof(name) - 1) != 0)
			return false;
	}
	return true;
}

static bool other_kind_is_on(const struct irqs *irqs, unsigned kind)
{
	for (unsigned other = VFIO_PCI_INTX_IRQ_INDEX; other <= VFIO_PCI_MSIX_IRQ_INDEX; other++) {
		if (other != kind && irqs->enabled[other])
			return true;
	}
	return false;
}

static int arm(struct testdev *device, const struct vu_irq_set *set, int *fds, unsigned fd_count)
{
	struct irqs *irqs = &device->irqs;
	unsigned kind = set->index, end = set->start + set->count;
	if (!are_eventfds(fds, fd_count))
		return -EINVAL;
	if (kind <= VFIO_PCI_MSIX_IRQ_INDEX && other_kind_is_on(irqs, kind)) {
		journal_add(device, TD_BAD_IRQ, kind, "arming kind %u beside another", kind);
		return -EINVAL;
	}
	if (irqs->enabled[kind] && end > irqs->enabled[kind] && irqs_flags(device, kind) & VFIO_IRQ_INFO_NORESIZE)
		return -EINVAL;
	if (end > irqs->enabled[kind])
		irqs->enabled[kind] = end;
	for (unsigned i = 0; i < set->count; i++) {
		unsigned vector = set->start + i;
		drop(&irqs->trigger[kind][vector]);
		if (fd_count == 0)
			continue;
		irqs->trigger[kind][vector] = fds[i];
		fds[i] = -1;
		if (irqs->pending[kind] >> vector & 1)
			deliver(device, kind, vector);
	}
	irqs_update_line(device);
	return 0;
}

static int mask(struct testdev *device, const struct vu_irq_set *set, bool chosen, int *fds, unsigned fd_count)
{
	struct irqs *irqs = &device->irqs;
	bool unmasks = set->flags & VFIO_IRQ_SET_ACTION_UNMASK;
	if (set->index != VFIO_PCI_INTX_IRQ_INDEX || !irqs->enabled[VFIO_PCI_INTX_IRQ_INDEX])
		return -EINVAL;
	if (set->flags & VFIO_IRQ_SET_DATA_EVENTFD) {
		if (!unmasks || !are_eventfds(fds, fd_count))
			return unmasks ? -EINVAL : -ENOTTY;
		drop(&irqs->intx_unmask);
		if (fd_count) {
			irqs->intx_unmask = fds[0];
			fds[0] = -1;
		}
	} else if (chosen && unmasks) {
		irqs_unmask(device);
	} else if (chosen) {
		irqs->intx_masked = true;
	}
	return 0;
}

int irqs_set(struct testdev *device, const struct vu_irq_set *set, const uint8_t *flags, unsigned flag_count, int *fds,
	     unsigned fd_count)
{
	int code = check_set(set, flag_count, fd_count);
	if (code < 0)
		return code;
	if (!(set->flags & VFIO_IRQ_SET_ACTION_TRIGGER))
		return mask(device, set, flag_count == 0 || flags[0], fds, fd_count);
	if (set->count == 0) {
		disable(device, set->index);
		return 0;
	}
	if (set->flags & VFIO_IRQ_SET_DATA_EVENTFD)
		return arm(device, set, fds, fd_count);
	/* As if the device had raised them. */
	for (unsigned i = 0; i < set->count; i++) {
		if (flag_count == 0 || flags[i])
			signal_fd(device->irqs.trigger[set->index][set->start + i]);
	}
	return 0;
}
