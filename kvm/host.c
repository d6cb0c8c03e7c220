// SPDX-License-Identifier: MIT
/* struct tenon_host_ops on a VM: what the library asks of its VMM, answered by KVM. Owns nothing. */
#include <errno.h>
#include <inttypes.h>

#include <tenon-kvm/host.h>

static void host_log(void *host, enum tenon_log_level level, const char *message)
{
	const struct tenon_vm_host *self = host;
	if (self->log)
		self->log(self->context, level, message);
}

/* For operations that cannot refuse. */
static void log_failure(void *host, int result, const struct tenon_error *error)
{
	if (result < 0)
		host_log(host, TENON_LOG_ERROR, error->message);
}

static int host_file_add(void *host, int fd, struct tenon_error *err)
{
	const struct tenon_vm_host *self = host;
	return tenon_vm_file_add(self->vm, fd, err);
}

static void host_file_remove(void *host, int fd)
{
	const struct tenon_vm_host *self = host;
	struct tenon_error error;
	log_failure(host, tenon_vm_file_remove(self->vm, fd, &error), &error);
}

static int host_memory_map(void *host, uint64_t gpa, uint64_t size_bytes, void *hva, struct tenon_error *err)
{
	const struct tenon_vm_host *self = host;
	const struct tenon_vm_memory memory = {
		.size = sizeof(memory),
		.gpa = gpa,
		.size_bytes = size_bytes,
		.hva = hva,
		.device = true,
	};
	if (self->answers && !self->answers(self->context, gpa, size_bytes))
		return tenon_fail(err, -EEXIST, "memory at 0x%" PRIx64 ": another device answers there; move the BAR",
				  gpa);
	return tenon_vm_memory_add(self->vm, &memory, err);
}

static int host_memory_unmap(void *host, uint64_t gpa, uint64_t size_bytes, struct tenon_error *err)
{
	const struct tenon_vm_host *self = host;
	return tenon_vm_memory_remove(self->vm, gpa, size_bytes, err);
}

static void host_bar_placed(void *host, const struct tenon_bar_placement *placement)
{
	const struct tenon_vm_host *self = host;
	if (self->bar_placed)
		self->bar_placed(self->context, placement);
}

static int host_route_set(void *host, int *route, uint64_t address, uint32_t data, struct tenon_error *err)
{
	const struct tenon_vm_host *self = host;
	return tenon_vm_route_set(self->vm, route, address, data, err);
}

static int host_route_commit(void *host, struct tenon_error *err)
{
	const struct tenon_vm_host *self = host;
	return tenon_vm_route_commit(self->vm, err);
}

static void host_route_free(void *host, int route)
{
	const struct tenon_vm_host *self = host;
	tenon_vm_route_free(self->vm, route);
}

static int host_irqfd_attach(void *host, int route, int eventfd, struct tenon_error *err)
{
	const struct tenon_vm_host *self = host;
	return tenon_vm_irqfd_attach(self->vm, route, eventfd, -1, err);
}

static void host_irqfd_detach(void *host, int route, int eventfd)
{
	const struct tenon_vm_host *self = host;
	struct tenon_error error;
	log_failure(host, tenon_vm_irqfd_detach(self->vm, route, eventfd, &error), &error);
}

/* GSI of INTx pin 1-4, or -1. */
static int intx_gsi(const struct tenon_vm_host *self, unsigned pin)
{
	return pin >= 1 && pin <= 4 ? self->intx_gsi[pin - 1] : -1;
}

static int refuse_pin(unsigned pin, struct tenon_error *err)
{
	return tenon_fail(err, -ENXIO, "INTx pin %u is not wired at this slot; use MSI or MSI-X", pin);
}

static int host_intx_attach(void *host, unsigned pin, int trigger, int resample, struct tenon_error *err)
{
	const struct tenon_vm_host *self = host;
	int gsi = intx_gsi(self, pin);
	if (gsi < 0) /* not -ENOTSUP: driving the line by hand would reach nobody either */
		return refuse_pin(pin, err);
	return tenon_vm_irqfd_attach(self->vm, gsi, trigger, resample, err);
}

static void host_intx_detach(void *host, unsigned pin, int trigger, int resample)
{
	const struct tenon_vm_host *self = host;
	int gsi = intx_gsi(self, pin);
	struct tenon_error error;
	if (gsi >= 0)
		log_failure(host, tenon_vm_irqfd_detach(self->vm, gsi, trigger, &error), &error);
}

static int host_intx_level(void *host, unsigned pin, bool asserted, struct tenon_error *err)
{
	const struct tenon_vm_host *self = host;
	int gsi = intx_gsi(self, pin);
	if (gsi < 0)
		return refuse_pin(pin, err);
	return tenon_vm_irq_line_hold(self->vm, (uint32_t)gsi, asserted, err);
}

static struct tenon_vm_ioeventfd vm_ioeventfd(const struct tenon_ioeventfd *ioeventfd)
{
	return (struct tenon_vm_ioeventfd){
		.size = sizeof(struct tenon_vm_ioeventfd),
		.address = ioeventfd->gpa,
		.width_bytes = ioeventfd->width_bytes,
		.match = ioeventfd->match,
		.value = ioeventfd->value,
		.eventfd = ioeventfd->eventfd,
	};
}

static int host_ioeventfd_attach(void *host, const struct tenon_ioeventfd *ioeventfd, struct tenon_error *err)
{
	const struct tenon_vm_host *self = host;
	const struct tenon_vm_ioeventfd what = vm_ioeventfd(ioeventfd);
	if (self->answers && !self->answers(self->context, ioeventfd->gpa, 1))
		return tenon_fail(err, -EEXIST,
				  "ioeventfd at 0x%" PRIx64 ": another device answers there; move the BAR",
				  ioeventfd->gpa);
	return tenon_vm_ioeventfd_attach(self->vm, &what, err);
}

static void host_ioeventfd_detach(void *host, const struct tenon_ioeventfd *ioeventfd)
{
	const struct tenon_vm_host *self = host;
	const struct tenon_vm_ioeventfd what = vm_ioeventfd(ioeventfd);
	struct tenon_error error;
	log_failure(host, tenon_vm_ioeventfd_detach(self->vm, &what, &error), &error);
}

const struct tenon_host_ops tenon_vm_host_ops = {
	.size = sizeof(struct tenon_host_ops),
	.file_add = host_file_add,
	.file_remove = host_file_remove,
	.memory_map = host_memory_map,
	.memory_unmap = host_memory_unmap,
	.bar_placed = host_bar_placed,
	.route_set = host_route_set,
	.route_commit = host_route_commit,
	.route_free = host_route_free,
	.irqfd_attach = host_irqfd_attach,
	.irqfd_detach = host_irqfd_detach,
	.intx_attach = host_intx_attach,
	.intx_detach = host_intx_detach,
	.intx_level = host_intx_level,
	.ioeventfd_attach = host_ioeventfd_attach,
	.ioeventfd_detach = host_ioeventfd_detach,
	.log = host_log,
};
