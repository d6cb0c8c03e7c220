// SPDX-License-Identifier: MIT
/*
 * A device behind a VFIO file descriptor: region and interrupt ioctls (Linux include/uapi/linux/vfio.h). Owns the file
 * descriptor and the regions' offsets in it; knows nothing of PCI beyond VFIO's region numbers.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "info.h"
#include "kernel.h"
#include "patience.h"
#include "uapi.h"
#include "vfio_file.h"

#define REGIONS_MAX VFIO_PCI_NUM_REGIONS

struct vfio_file {
	struct transport transport;
	int fd;
	char name[64];
	uint64_t offsets[REGIONS_MAX];
};

static struct vfio_file *vfio_file(struct transport *transport)
{
	return (struct vfio_file *)transport; /* first member */
}

static void read_sparse_areas(const uint8_t *info, uint32_t bytes, struct transport_region *out)
{
	struct vfio_region_info head;
	struct vfio_region_info_cap_sparse_mmap sparse;
	memcpy(&head, info, sizeof(head));
	uint32_t at = info_capability(info, bytes, sizeof(head),
				      head.flags & VFIO_REGION_INFO_FLAG_CAPS ? head.cap_offset : 0,
				      VFIO_REGION_INFO_CAP_SPARSE_MMAP, sizeof(sparse));
	if (!at)
		return;
	memcpy(&sparse, info + at, sizeof(sparse));
	at += (uint32_t)sizeof(sparse);
	out->area_count = 0;
	for (uint32_t i = 0; i < sparse.nr_areas && out->area_count < TRANSPORT_AREAS_MAX; i++) {
		struct vfio_region_sparse_mmap_area area;
		if (at + sizeof(area) > bytes)
			break;
		memcpy(&area, info + at, sizeof(area));
		at += (uint32_t)sizeof(area);
		if (area.size && area.offset < out->size_bytes && area.size <= out->size_bytes - area.offset)
			out->areas[out->area_count++] =
				(struct transport_area){.offset = area.offset, .size_bytes = area.size};
	}
}

static int region_info(struct transport *transport, unsigned region, struct transport_region *out,
		       struct tenon_error *err)
{
	struct vfio_file *file = vfio_file(transport);
	struct vfio_region_info head = {.index = region};
	uint8_t *info;
	*out = (struct transport_region){0};
	if (region >= REGIONS_MAX || region >= transport->region_count)
		return 0;
	int bytes = info_query(file->fd, VFIO_DEVICE_GET_REGION_INFO, &head, sizeof(head), &info);
	/* An optional region (VGA) that the device lacks is refused, not reported with size 0. */
	if (bytes == -EINVAL && region >= VFIO_PCI_VGA_REGION_INDEX)
		return 0;
	if (bytes < 0)
		return tenon_fail(err, bytes,
				  "%s: VFIO_DEVICE_GET_REGION_INFO of region %u failed: %s; report this kernel",
				  file->name, region, strerror(-bytes));
	memcpy(&head, info, sizeof(head));
	file->offsets[region] = head.offset;
	out->size_bytes = head.flags & VFIO_REGION_INFO_FLAG_READ ? head.size : 0;
	if (head.flags & VFIO_REGION_INFO_FLAG_MMAP && out->size_bytes) {
		out->areas[0] = (struct transport_area){.offset = 0, .size_bytes = out->size_bytes};
		out->area_count = 1;
		read_sparse_areas(info, (uint32_t)bytes, out);
	}
	free(info);
	return 0;
}

static int irq_info(struct transport *transport, unsigned irq, struct transport_irq *out, struct tenon_error *err)
{
	struct vfio_file *file = vfio_file(transport);
	*out = (struct transport_irq){0};
	if (irq >= transport->irq_count)
		return 0;
	struct vfio_irq_info info = {.argsz = sizeof(info), .index = irq};
	int code = kernel_ioctl(file->fd, VFIO_DEVICE_GET_IRQ_INFO, &info);
	if (code == -EINVAL) /* a kind that this device lacks (the error interrupt of conventional PCI) */
		return 0;
	if (code < 0)
		return tenon_fail(err, code,
				  "%s: VFIO_DEVICE_GET_IRQ_INFO of interrupt kind %u failed: %s; report this kernel",
				  file->name, irq, strerror(-code));
	if (info.flags & VFIO_IRQ_INFO_EVENTFD)
		out->count = info.count;
	out->resizable = !(info.flags & VFIO_IRQ_INFO_NORESIZE);
	return 0;
}

static int region_read(struct transport *transport, unsigned region, uint64_t offset, void *data, unsigned size_bytes)
{
	struct vfio_file *file = vfio_file(transport);
	ssize_t done = kernel_pread(file->fd, data, size_bytes, file->offsets[region] + offset);
	if (done < 0)
		return (int)done;
	return done == (ssize_t)size_bytes ? 0 : -EIO;
}

static int region_write(struct transport *transport, unsigned region, uint64_t offset, const void *data,
			unsigned size_bytes)
{
	struct vfio_file *file = vfio_file(transport);
	ssize_t done = kernel_pwrite(file->fd, data, size_bytes, file->offsets[region] + offset);
	if (done < 0)
		return (int)done;
	return done == (ssize_t)size_bytes ? 0 : -EIO;
}

static int region_map(struct transport *transport, unsigned region, const struct transport_area *area, void *address,
		      struct tenon_error *err)
{
	struct vfio_file *file = vfio_file(transport);
	void *mapped;
	int code = kernel_map(address, area->size_bytes, PROT_READ | PROT_WRITE, file->fd,
			      file->offsets[region] + area->offset, &mapped);
	if (code < 0)
		return tenon_fail(err, code, "%s: cannot map BAR %u at 0x%llx: %s; the BAR works trapped, but slowly",
				  file->name, region, (unsigned long long)area->offset, strerror(-code));
	return 0;
}

/* One VFIO_DEVICE_SET_IRQS with `count` file descriptors as its data. */
static int set_irqs(struct vfio_file *file, unsigned irq, uint32_t action, unsigned first, unsigned count,
		    const int *fds)
{
	size_t bytes = sizeof(struct vfio_irq_set) + count * sizeof(int32_t);
	struct vfio_irq_set *set = calloc(1, bytes);
	if (!set)
		return -ENOMEM;
	set->argsz = (uint32_t)bytes;
	set->flags = action | (fds ? VFIO_IRQ_SET_DATA_EVENTFD : VFIO_IRQ_SET_DATA_NONE);
	set->index = irq;
	set->start = first;
	set->count = count;
	if (fds)
		memcpy(set->data, fds, count * sizeof(int32_t));
	int code = kernel_ioctl(file->fd, VFIO_DEVICE_SET_IRQS, set);
	free(set);
	return code;
}

static int irq_arm(struct transport *transport, unsigned irq, unsigned first, unsigned count, const int *eventfds,
		   struct tenon_error *err)
{
	struct vfio_file *file = vfio_file(transport);
	int code = set_irqs(file, irq, VFIO_IRQ_SET_ACTION_TRIGGER, first, count, eventfds);
	if (code < 0)
		return tenon_fail(err, code,
				  "%s: cannot enable interrupt vectors %u-%u of kind %u: %s; the host may have run out "
				  "of vectors",
				  file->name, first, first + count - 1, irq, strerror(-code));
	return code;
}

static int irq_disable(struct transport *transport, unsigned irq, struct tenon_error *err)
{
	struct vfio_file *file = vfio_file(transport);
	int code = set_irqs(file, irq, VFIO_IRQ_SET_ACTION_TRIGGER, 0, 0, NULL);
	if (code < 0)
		return tenon_fail(err, code, "%s: cannot disable interrupts of kind %u: %s; close the device",
				  file->name, irq, strerror(-code));
	return 0;
}

static int irq_unmask_on(struct transport *transport, unsigned irq, int eventfd, struct tenon_error *err)
{
	struct vfio_file *file = vfio_file(transport);
	int code = set_irqs(file, irq, VFIO_IRQ_SET_ACTION_UNMASK, 0, 1, &eventfd);
	if (code < 0)
		return tenon_fail(err, code,
				  "%s: the kernel cannot unmask its INTx by eventfd: %s; use a device with MSI",
				  file->name, strerror(-code));
	return 0;
}

static int irq_unmask(struct transport *transport, unsigned irq, struct tenon_error *err)
{
	struct vfio_file *file = vfio_file(transport);
	int code = set_irqs(file, irq, VFIO_IRQ_SET_ACTION_UNMASK, 0, 1, NULL);
	if (code < 0)
		return tenon_fail(err, code, "%s: cannot unmask its INTx: %s; the device may be gone", file->name,
				  strerror(-code));
	return 0;
}

static int feature(struct transport *transport, struct vfio_device_feature *argument, struct tenon_error *err)
{
	struct vfio_file *file = vfio_file(transport);
	int code = kernel_ioctl(file->fd, VFIO_DEVICE_FEATURE, argument);
	if (code < 0)
		return tenon_fail(err, code, "%s: VFIO_DEVICE_FEATURE %u failed: %s; see the host's kernel log",
				  file->name, argument->flags & VFIO_DEVICE_FEATURE_MASK, strerror(-code));
	return 0;
}

static int64_t migration_read(struct transport *transport, int data_fd, void *data, size_t capacity,
			      struct tenon_error *err)
{
	ssize_t done = kernel_read(data_fd, data, capacity);
	if (done >= 0 || done == -EAGAIN || done == -ENOMSG)
		return done;
	return tenon_fail(err, (int)done, "%s: cannot read its migration data: %s; see the host's kernel log",
			  vfio_file(transport)->name, strerror((int)-done));
}

static int64_t migration_write(struct transport *transport, int data_fd, const void *data, size_t bytes,
			       struct tenon_error *err)
{
	ssize_t done = kernel_write(data_fd, data, bytes);
	if (done >= 0 || done == -EAGAIN)
		return done;
	return tenon_fail(err, (int)done,
			  "%s: does not take the migration data: %s; both hosts need the same device and driver",
			  vfio_file(transport)->name, strerror((int)-done));
}

static int migration_pre_copy(struct transport *transport, int data_fd, uint64_t *initial_bytes, uint64_t *dirty_bytes,
			      struct tenon_error *err)
{
	struct vfio_precopy_info info = {.argsz = sizeof(info)};
	int code = kernel_ioctl(data_fd, VFIO_MIG_GET_PRECOPY_INFO, &info);
	if (code < 0)
		return tenon_fail(err, code, "%s: VFIO_MIG_GET_PRECOPY_INFO failed: %s; see the host's kernel log",
				  vfio_file(transport)->name, strerror(-code));
	*initial_bytes = info.initial_bytes;
	*dirty_bytes = info.dirty_bytes;
	return 0;
}

static int reset(struct transport *transport, struct tenon_error *err)
{
	struct vfio_file *file = vfio_file(transport);
	int code = patient_ioctl(file->fd, VFIO_DEVICE_RESET, NULL, PATIENT_WITH_NEIGHBOURS);
	if (code < 0)
		return tenon_fail(err, code, "%s: VFIO_DEVICE_RESET failed: %s; see the host's kernel log", file->name,
				  strerror(-code));
	return 0;
}

static int read_affected(const struct vfio_file *file, const struct vfio_pci_hot_reset_info *info,
			 struct transport_hot_reset *out, struct tenon_error *err)
{
	if (info->count == 0 || info->count > TRANSPORT_AFFECTED_MAX)
		return tenon_fail(err, -EPROTO,
				  "%s: VFIO_DEVICE_GET_PCI_HOT_RESET_INFO tells of %u devices in room for %d; report "
				  "this kernel",
				  file->name, info->count, TRANSPORT_AFFECTED_MAX);
	out->by_device_id = info->flags & VFIO_PCI_HOT_RESET_FLAG_DEV_ID;
	out->owned = info->flags & VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED;
	out->count = info->count;
	for (unsigned i = 0; i < info->count; i++)
		out->affected[i] = (struct transport_affected){
			.segment = info->devices[i].segment,
			.bus = info->devices[i].bus,
			.devfn = info->devices[i].devfn,
			.id = (int32_t)info->devices[i].group_id, /* a device id where the flag says so */
		};
	return 0;
}

static int hot_reset_info(struct transport *transport, struct transport_hot_reset *out, struct tenon_error *err)
{
	struct vfio_file *file = vfio_file(transport);
	*out = (struct transport_hot_reset){0};
	size_t bytes = sizeof(struct vfio_pci_hot_reset_info) +
		       TRANSPORT_AFFECTED_MAX * sizeof(struct vfio_pci_dependent_device);
	struct vfio_pci_hot_reset_info *info = calloc(1, bytes);
	if (!info)
		return tenon_fail(err, -ENOMEM, "%s: cannot ask for its hot reset: out of memory; free some memory",
				  file->name);
	info->argsz = (uint32_t)bytes;
	/* EAGAIN: the topology changed */
	int code = patient_ioctl(file->fd, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, info, PATIENT_WITH_NEIGHBOURS);
	if (code == -ENODEV)
		code = 0; /* neither slot nor bus can be reset */
	else if (code == -ENOSPC) {
		out->count =
			TRANSPORT_AFFECTED_MAX + 1; /* what the kernel counts may change: only "too many" matters */
		code = 0;
	} else if (code < 0)
		code = tenon_fail(err, code,
				  "%s: VFIO_DEVICE_GET_PCI_HOT_RESET_INFO failed: %s; see the host's kernel log",
				  file->name, strerror(-code));
	else
		code = read_affected(file, info, out, err);
	free(info);
	return code;
}

static int hot_reset(struct transport *transport, const int *group_fds, unsigned count, struct tenon_error *err)
{
	struct vfio_file *file = vfio_file(transport);
	size_t bytes = sizeof(struct vfio_pci_hot_reset) + count * sizeof(int32_t);
	struct vfio_pci_hot_reset *request = calloc(1, bytes);
	if (!request)
		return tenon_fail(err, -ENOMEM, "%s: cannot hot reset: out of memory; free some memory", file->name);
	request->argsz = (uint32_t)bytes;
	request->count = count;
	if (count)
		memcpy(request->group_fds, group_fds, count * sizeof(int32_t));
	int code = patient_ioctl(file->fd, VFIO_DEVICE_PCI_HOT_RESET, request, PATIENT_WITH_NEIGHBOURS);
	free(request);
	if (code < 0)
		return tenon_fail(
			err, code, "%s: VFIO_DEVICE_PCI_HOT_RESET failed: %s; %s", file->name, strerror(-code),
			code == -EINVAL ? "a device of its bus changed hands meanwhile: see its reset plan again"
					: "see the host's kernel log");
	return 0;
}

static void close_file(struct transport *transport)
{
	struct vfio_file *file = vfio_file(transport);
	kernel_close(file->fd);
	free(file);
}

static const struct transport_ops vfio_file_ops = {
	.region_info = region_info,
	.irq_info = irq_info,
	.region_read = region_read,
	.region_write = region_write,
	.region_map = region_map,
	.irq_arm = irq_arm,
	.irq_disable = irq_disable,
	.irq_unmask_on = irq_unmask_on,
	.irq_unmask = irq_unmask,
	.feature = feature,
	.migration_read = migration_read,
	.migration_write = migration_write,
	.migration_pre_copy = migration_pre_copy,
	.reset = reset,
	.hot_reset_info = hot_reset_info,
	.hot_reset = hot_reset,
	.close = close_file,
};

int vfio_file_create(int fd, const char *name, struct transport **out, struct tenon_error *err)
{
	struct vfio_device_info info = {.argsz = sizeof(info)};
	int code = kernel_ioctl(fd, VFIO_DEVICE_GET_INFO, &info);
	if (code < 0)
		return tenon_fail(err, code, "%s: VFIO_DEVICE_GET_INFO failed: %s; give a VFIO device", name,
				  strerror(-code));
	if (!(info.flags & VFIO_DEVICE_FLAGS_PCI))
		return tenon_fail(err, -ENODEV, "%s: not a PCI device; only PCI devices can be assigned", name);
	if (info.num_regions <= VFIO_PCI_CONFIG_REGION_INDEX || info.num_irqs <= VFIO_PCI_MSIX_IRQ_INDEX)
		return tenon_fail(err, -ENODEV,
				  "%s: has %u regions and %u interrupt kinds, too few for PCI; report this kernel",
				  name, info.num_regions, info.num_irqs);

	struct vfio_file *file = calloc(1, sizeof(*file));
	if (!file)
		return tenon_fail(err, -ENOMEM, "%s: cannot open: out of memory; free some memory", name);
	file->transport = (struct transport){
		.ops = &vfio_file_ops,
		.can_reset = info.flags & VFIO_DEVICE_FLAGS_RESET,
		.region_count = info.num_regions,
		.irq_count = info.num_irqs,
	};
	file->fd = fd;
	strncpy(file->name, name, sizeof(file->name) - 1);
	*out = &file->transport;
	return 0;
}
