// SPDX-License-Identifier: MIT
/*
 * The fake kernel's file descriptors, and the functions of kernel.h that are about them. What a file does is in
 * vfio_cdev.c and vfio_iommufd.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include "kernel.h"
#include "uapi.h"
#include "vfio_model.h"

/* How the kernel would number a new descriptor of nothing in particular. */
int model_files_real_fd(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (fd < 0 || fd >= MODEL_FDS)
		abort();
	return fd;
}

struct fake_file *model_files_add(enum file_kind kind, int real)
{
	for (unsigned i = 0; i < MODEL_FILES; i++) {
		struct fake_file *file = &world.files[i];
		if (file->kind != FILE_FREE)
			continue;
		*file = (struct fake_file){.kind = kind, .real = real, .fds = 1};
		world.by_fd[real] = file;
		return file;
	}
	abort();
}

struct fake_file *model_files_of(int fd)
{
	return fd >= 0 && fd < MODEL_FDS ? world.by_fd[fd] : NULL;
}

static void drop_if_unused(struct fake_file *file)
{
	if (file->fds || file->holds)
		return;
	if (file->kind == FILE_CDEV || file->kind == FILE_DEVICE)
		model_cdev_closed(file);
	if (file->kind == FILE_GROUP)
		model_group_closed(file);
	if (file->kind == FILE_IOMMUFD)
		model_iommufd_closed(file);
	if (file->kind == FILE_MIGRATION)
		model_migration_closed(file);
	close(file->real);
	*file = (struct fake_file){0};
}

void model_files_hold(struct fake_file *file)
{
	file->holds++;
}

void model_files_release(struct fake_file *file)
{
	if (!file)
		return;
	file->holds--;
	drop_if_unused(file);
}

void model_files_signal(const struct fake_file *file)
{
	uint64_t one = 1;
	if (write(file->real, &one, sizeof(one)) != sizeof(one))
		fake_report_misuse("eventfd %d overflowed", file->real);
}

bool fake_file_hold(int fd)
{
	struct fake_file *file = model_files_of(fd);
	if (file)
		model_files_hold(file);
	return file != NULL;
}

bool fake_file_release(int fd)
{
	struct fake_file *file = model_files_of(fd);
	if (file)
		model_files_release(file);
	return file != NULL;
}

void fake_on_close(void (*hook)(void *context, int fd), void *context)
{
	if (world.close_hook_count == MODEL_HOOKS)
		abort();
	world.close_hooks[world.close_hook_count].hook = hook;
	world.close_hooks[world.close_hook_count++].context = context;
}

int kernel_open(const char *path, int flags)
{
	int code = model_calls_enter(FAKE_OPEN);
	if (code < 0)
		return code;
	if (strcmp(path, "/dev/iommu") == 0) {
		if (world.no_iommufd)
			return -ENOENT;
		return model_files_add(FILE_IOMMUFD, model_files_real_fd())->real;
	}
	if (strcmp(path, "/dev/vfio/vfio") == 0)
		return world.no_container ? -ENOENT : model_files_add(FILE_CONTAINER, model_files_real_fd())->real;
	int group, used = 0;
	if (sscanf(path, "/dev/vfio/%d%n", &group, &used) == 1 && !path[used]) {
		code = model_group_open(group);
		if (code < 0)
			return code;
		struct fake_file *file = model_files_add(FILE_GROUP, model_files_real_fd());
		file->group = group;
		return file->real;
	}
	if (world.file.path && strcmp(path, world.file.path) == 0)
		return model_files_add(FILE_REGULAR, model_files_real_fd())->real;
	struct fake_device *device = model_sysfs_device_of_node(path);
	if (!device || world.no_cdevs)
		return -ENOENT;
	if (device->open_error)
		return -device->open_error;
	struct fake_file *file = model_files_add(FILE_CDEV, model_files_real_fd());
	file->device = device;
	fake_journal("open %s", path);
	return file->real;
}

void kernel_close(int fd)
{
	struct fake_file *file = model_files_of(fd);
	if (!file) {
		fake_report_misuse("fd %d closed, which is not open", fd);
		return;
	}
	for (unsigned i = 0; i < world.close_hook_count; i++)
		world.close_hooks[i].hook(world.close_hooks[i].context, fd);
	if (file->kind == FILE_CDEV)
		fake_journal("close cdev");
	world.by_fd[fd] = NULL;
	file->fds--;
	if (fd != file->real)
		close(fd);
	drop_if_unused(file);
}

int kernel_dup(int fd)
{
	int code = model_calls_enter(FAKE_DUP);
	if (code < 0)
		return code;
	struct fake_file *file = model_files_of(fd);
	if (!file)
		return -EBADF;
	int copy = fcntl(file->real, F_DUPFD_CLOEXEC, 3);
	if (copy < 0 || copy >= MODEL_FDS)
		abort();
	world.by_fd[copy] = file;
	file->fds++;
	return copy;
}

void fake_set_file(const char *path, const void *content, size_t size_bytes)
{
	world.file.path = path;
	world.file.content = content;
	world.file.size_bytes = size_bytes;
}

/* In pieces, as a file system may do it. */
static ssize_t read_regular(void *buffer, size_t size, uint64_t offset)
{
	if (offset >= world.file.size_bytes)
		return 0;
	size_t left = world.file.size_bytes - offset, piece = left > 65536 ? 65536 : left;
	if (piece > size)
		piece = size;
	memcpy(buffer, world.file.content + offset, piece);
	return (ssize_t)piece;
}

static struct fake_file *cdev_of(int fd)
{
	struct fake_file *file = model_files_of(fd);
	return file && (file->kind == FILE_CDEV || file->kind == FILE_DEVICE) ? file : NULL;
}

ssize_t kernel_pread(int fd, void *buffer, size_t size, uint64_t offset)
{
	int code = model_calls_enter(FAKE_PREAD);
	if (code < 0)
		return code;
	const struct fake_file *any = model_files_of(fd);
	if (any && any->kind == FILE_REGULAR)
		return read_regular(buffer, size, offset);
	struct fake_file *file = cdev_of(fd);
	return file ? model_cdev_read(file, buffer, size, offset) : -EBADF;
}

ssize_t kernel_pwrite(int fd, const void *buffer, size_t size, uint64_t offset)
{
	int code = model_calls_enter(FAKE_PWRITE);
	if (code < 0)
		return code;
	struct fake_file *file = cdev_of(fd);
	return file ? model_cdev_write(file, buffer, size, offset) : -EBADF;
}

static struct fake_file *data_of(int fd)
{
	struct fake_file *file = model_files_of(fd);
	if (file && file->kind == FILE_MIGRATION)
		return file;
	fake_report_misuse("fd %d used as a device's data, which it is not", fd);
	return NULL;
}

ssize_t kernel_read(int fd, void *buffer, size_t size)
{
	int code = model_calls_enter(FAKE_READ);
	struct fake_file *file = code < 0 ? NULL : data_of(fd);
	if (code < 0)
		return code;
	return file ? model_migration_read(file, buffer, size) : -EBADF;
}

ssize_t kernel_write(int fd, const void *buffer, size_t size)
{
	int code = model_calls_enter(FAKE_WRITE);
	struct fake_file *file = code < 0 ? NULL : data_of(fd);
	if (code < 0)
		return code;
	return file ? model_migration_write(file, buffer, size) : -EBADF;
}

int kernel_eventfd(void)
{
	return kernel_eventfd_at(0);
}

int kernel_eventfd_at(unsigned count)
{
	int code = model_calls_enter(FAKE_EVENTFD);
	if (code < 0)
		return code;
	int fd = eventfd(count, EFD_NONBLOCK | EFD_CLOEXEC);
	if (fd < 0 || fd >= MODEL_FDS)
		abort();
	return model_files_add(FILE_EVENTFD, fd)->real;
}

static struct fake_file *eventfd_of(int fd)
{
	struct fake_file *file = model_files_of(fd);
	if (file && (file->kind == FILE_EVENTFD || file->kind == FILE_TIMER))
		return file;
	fake_report_misuse("fd %d used as an eventfd, which it is not", fd);
	return NULL;
}

int kernel_eventfd_pending(int fd)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
	return eventfd_of(fd) && poll(&poll_fd, 1, 0) == 1 && (poll_fd.revents & POLLIN);
}

int kernel_eventfd_take(int fd)
{
	uint64_t count;
	const struct iovec part = {.iov_base = &count, .iov_len = sizeof(count)};
	return eventfd_of(fd) && preadv2(fd, &part, 1, -1, RWF_NOWAIT) == sizeof(count);
}

void fake_eventfd_signal(int fd)
{
	const struct fake_file *file = eventfd_of(fd);
	if (file)
		model_files_signal(file);
}

int kernel_poll_create(void)
{
	int code = model_calls_enter(FAKE_POLL_CREATE);
	if (code < 0)
		return code;
	int poll = epoll_create1(EPOLL_CLOEXEC);
	if (poll < 0 || poll >= MODEL_FDS)
		abort();
	return model_files_add(FILE_EPOLL, poll)->real;
}

static bool is_poll(int poll)
{
	const struct fake_file *file = model_files_of(poll);
	if (file && file->kind == FILE_EPOLL)
		return true;
	fake_report_misuse("fd %d used as a poll set, which it is not", poll);
	return false;
}

int kernel_poll_add(int poll, int fd, uint32_t id, bool edge)
{
	int code = model_calls_enter(FAKE_POLL_ADD);
	if (code < 0)
		return code;
	struct epoll_event event = {.events = EPOLLIN | (edge ? (uint32_t)EPOLLET : 0), .data.u32 = id};
	if (!is_poll(poll) || !model_files_of(fd) || epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event) < 0) {
		fake_report_misuse("fd %d cannot be added to poll set %d", fd, poll);
		return -EBADF;
	}
	return 0;
}

void kernel_poll_remove(int poll, int fd)
{
	if (!is_poll(poll) || epoll_ctl(poll, EPOLL_CTL_DEL, fd, NULL) < 0)
		fake_report_misuse("fd %d removed from poll set %d, where it is not", fd, poll);
}

unsigned kernel_poll_take(int poll, uint32_t *ids, unsigned capacity)
{
	struct epoll_event events[32];
	int count = is_poll(poll) ? epoll_wait(poll, events, capacity < 32 ? (int)capacity : 32, 0) : 0;
	for (int i = 0; i < count; i++)
		ids[i] = events[i].data.u32;
	return count < 0 ? 0 : (unsigned)count;
}

int kernel_fd_path(int fd, char *path, size_t capacity)
{
	int code = model_calls_enter(FAKE_FD_PATH);
	if (code < 0)
		return code;
	struct fake_file *file = model_files_of(fd);
	if (!file)
		return -ENOENT;
	if (file->kind == FILE_CDEV)
		snprintf(path, capacity, "/dev/vfio/devices/vfio%d", file->device->node);
	else
		snprintf(path, capacity, "%s", file->kind == FILE_IOMMUFD ? "/dev/iommu" : "anon_inode:[eventfd]");
	return 0;
}

/* The same number means one thing to a container and another to a device. */
static enum fake_call kind_of_request(const struct fake_file *file, unsigned long request)
{
	static const struct {
		unsigned long request;
		enum fake_call kind;
	} container_kinds[] = {
		{VFIO_GET_API_VERSION, FAKE_API_VERSION},   {VFIO_CHECK_EXTENSION, FAKE_CHECK_EXTENSION},
		{VFIO_SET_IOMMU, FAKE_SET_IOMMU},           {VFIO_IOMMU_GET_INFO, FAKE_IOMMU_INFO},
		{VFIO_IOMMU_MAP_DMA, FAKE_DMA_MAP},         {VFIO_IOMMU_UNMAP_DMA, FAKE_DMA_UNMAP},
		{VFIO_IOMMU_DIRTY_PAGES, FAKE_DIRTY_PAGES},
	};
	static const struct {
		unsigned long request;
		enum fake_call kind;
	} kinds[] = {
		{VFIO_DEVICE_BIND_IOMMUFD, FAKE_BIND},
		{VFIO_DEVICE_ATTACH_IOMMUFD_PT, FAKE_ATTACH},
		{VFIO_DEVICE_DETACH_IOMMUFD_PT, FAKE_DETACH},
		{VFIO_DEVICE_FEATURE, FAKE_FEATURE},
		{VFIO_GROUP_GET_STATUS, FAKE_GROUP_STATUS},
		{VFIO_GROUP_SET_CONTAINER, FAKE_SET_CONTAINER},
		{VFIO_GROUP_GET_DEVICE_FD, FAKE_GET_DEVICE_FD},
		{VFIO_CHECK_EXTENSION, FAKE_CHECK_EXTENSION},
		{IOMMU_VFIO_IOAS, FAKE_VFIO_IOAS},
		{VFIO_DEVICE_GET_INFO, FAKE_GET_INFO},
		{VFIO_DEVICE_GET_REGION_INFO, FAKE_REGION_INFO},
		{VFIO_DEVICE_GET_IRQ_INFO, FAKE_IRQ_INFO},
		{VFIO_DEVICE_SET_IRQS, FAKE_SET_IRQS},
		{VFIO_DEVICE_RESET, FAKE_DEVICE_RESET},
		{VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, FAKE_HOT_RESET_INFO},
		{VFIO_DEVICE_PCI_HOT_RESET, FAKE_HOT_RESET},
		{IOMMU_IOAS_ALLOC, FAKE_IOAS_ALLOC},
		{IOMMU_IOAS_MAP, FAKE_IOAS_MAP},
		{IOMMU_IOAS_UNMAP, FAKE_IOAS_UNMAP},
		{IOMMU_IOAS_IOVA_RANGES, FAKE_IOVA_RANGES},
		{IOMMU_DESTROY, FAKE_IOMMU_DESTROY},
		{VFIO_MIG_GET_PRECOPY_INFO, FAKE_PRECOPY_INFO},
		{IOMMU_GET_HW_INFO, FAKE_HW_INFO},
		{IOMMU_HWPT_ALLOC, FAKE_HWPT_ALLOC},
		{IOMMU_HWPT_SET_DIRTY_TRACKING, FAKE_SET_TRACKING},
		{IOMMU_HWPT_GET_DIRTY_BITMAP, FAKE_GET_DIRTY},
	};
	bool is_container = file && file->kind == FILE_CONTAINER;
	for (unsigned i = 0; is_container && i < sizeof(container_kinds) / sizeof(container_kinds[0]); i++) {
		if (container_kinds[i].request == request)
			return container_kinds[i].kind;
	}
	for (unsigned i = 0; !is_container && i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (kinds[i].request == request)
			return kinds[i].kind;
	}
	return FAKE_OTHER_IOCTL;
}

int kernel_ioctl(int fd, unsigned long request, void *argument)
{
	struct fake_file *file = model_files_of(fd);
	enum fake_call kind = kind_of_request(file, request);
	int code = model_calls_enter(kind);
	if (code < 0)
		return code;
	if (!file)
		return -EBADF;
	switch (file->kind) {
	case FILE_CONTAINER:
		return model_container_ioctl(file, argument, kind);
	case FILE_GROUP:
		return model_group_ioctl(file, argument, kind);
	case FILE_CDEV:
	case FILE_DEVICE:
		return model_cdev_ioctl(file, request, argument, kind);
	case FILE_IOMMUFD:
		return model_iommufd_ioctl(file, request, argument, kind);
	case FILE_MIGRATION:
		return model_migration_ioctl(file, argument, kind);
	default:
		return -ENOTTY;
	}
}
