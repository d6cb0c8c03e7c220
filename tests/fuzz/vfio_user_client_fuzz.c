/* SPDX-License-Identifier: MIT */
/*
 * The library's vfio-user client against a server whose every answer the input may spoil: a device is opened, used in every way,
 * lost, reconnected and closed. Nothing may crash, wait, or be left open, whatever the server says; and memory that it may not reach
 * stays as it is.
 *
 * The server runs inside the client's own sends, so nothing depends on time, and the clock skips what would be waited for.
 * Input: for each request one byte of choices (below), then what they take. After its end all answers are sound. With CHOICE_MOVES in
 * the first the device does not lose its server, but migrates.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <tenon/tenon.h>

#include "../fakes/descriptors.h"
#include "vfio_user_protocol.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
	CHOICE_ANSWER = 0x07, /* one of ANSWER_*; any other: sound */
	CHOICE_FDS = 0x08,    /* one file descriptor more; with a version: a twin socket */
	CHOICE_ASK = 0x10,    /* the server asks for memory first: address (3 bytes), count (2), write (1) */
	CHOICE_NOISE = 0x20,  /* some bytes go before the answer: count (1) */
	CHOICE_TWICE = 0x40,
	CHOICE_MOVES = 0x80, /* in the first byte */
};

enum {
	ANSWER_PATCHED = 4, /* count, and so often: offset (1), value (1) */
	ANSWER_ERROR = 5,
	ANSWER_OTHER = 6, /* size (1), bytes */
	ANSWER_NONE = 7,  /* a byte: 0 silence, else the end */
};

#define RAM_GPA      0x100000u
#define RAM_BYTES    0x10000u
#define CLOSED_GPA   0x200000u /* devices may only read it */
#define BAR_BYTES    0x4000u
#define MESSAGE_MAX  70000u
#define REGION_COUNT 9
#define NS_PER_MS    UINT64_C(1000000)

static struct {
	const uint8_t *data;
	size_t left;
} input;

static struct {
	int fd, twin; /* the server's ends; -1 */
	uint8_t in[MESSAGE_MAX];
	size_t in_bytes;
	uint8_t config[PCI_CFG_SPACE_EXP_SIZE];
	uint64_t skipped_ns;
	unsigned requests;
} server = {.fd = -1, .twin = -1};

static uint8_t *ram, *closed;
static int ram_file, bar_file, bell;

static void require(bool holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "broken: %s\n", what);
	abort();
}

static uint8_t take(void)
{
	if (input.left == 0)
		return 0;
	input.left--;
	return *input.data++;
}

/* ---- The server ---- */

struct answer {
	struct vu_header header;
	uint8_t payload[8192];
	size_t bytes;
	int fds[9];
	unsigned fd_count;
};

static void send_bytes(int fd, const void *bytes, size_t count, const int *fds, unsigned fd_count)
{
	union descriptors room;
	struct iovec part = {.iov_base = (void *)bytes, .iov_len = count};
	struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
	descriptors_attach(&header, &room, fds, fd_count);
	if (count && fd >= 0)
		sendmsg(fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void send_answer(const struct answer *answer)
{
	static uint8_t message[sizeof(struct vu_header) + sizeof(answer->payload)];
	memcpy(message, &answer->header, sizeof(answer->header));
	memcpy(message + sizeof(answer->header), answer->payload, answer->bytes);
	send_bytes(server.fd, message, sizeof(answer->header) + answer->bytes, answer->fds, answer->fd_count);
}

static void put(struct answer *answer, const void *bytes, size_t count)
{
	if (answer->bytes + count > sizeof(answer->payload))
		return;
	memcpy(answer->payload + answer->bytes, bytes, count);
	answer->bytes += count;
}

static void answer_version(struct answer *answer, bool with_twin)
{
	static const char plain[] = "{\"capabilities\":{\"max_msg_fds\":8,\"max_data_xfer_size\":4096}}";
	static const char twin[] =
		"{\"capabilities\":{\"max_msg_fds\":8,\"twin_socket\":{\"supported\":true,\"fd_index\":0}}}";
	const struct vu_version version = {.major = VU_MAJOR, .minor = VU_MINOR};
	int pair[2];
	put(answer, &version, sizeof(version));
	put(answer, with_twin ? twin : plain, with_twin ? sizeof(twin) : sizeof(plain));
	if (!with_twin || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return;
	if (server.twin >= 0)
		close(server.twin);
	server.twin = pair[0];
	answer->fds[answer->fd_count++] = pair[1];
}

static void answer_region_info(struct answer *answer, const uint8_t *request)
{
	struct vu_region_info info;
	memcpy(&info, request, sizeof(info));
	const struct vu_sparse sparse = {.header = {.id = VFIO_REGION_INFO_CAP_SPARSE_MMAP, .version = 1}, .areas = 1};
	const struct vu_sparse_area area = {.offset = 0x1000, .bytes = 0x2000};
	bool mapped = info.index == 2;
	info.flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE |
		     (mapped ? VFIO_REGION_INFO_FLAG_MMAP | VFIO_REGION_INFO_FLAG_CAPS : 0);
	info.bytes = info.index == VFIO_PCI_CONFIG_REGION_INDEX ? sizeof(server.config)
		     : info.index == 0 || mapped                ? BAR_BYTES
		     : info.index == 4                          ? 16
								: 0;
	info.offset = 0;
	info.cap_offset = mapped ? sizeof(info) : 0;
	info.argsz = (uint32_t)(sizeof(info) + (mapped ? sizeof(sparse) + sizeof(area) : 0));
	put(answer, &info, sizeof(info));
	if (!mapped)
		return;
	put(answer, &sparse, sizeof(sparse));
	put(answer, &area, sizeof(area));
	answer->fds[answer->fd_count++] = bar_file;
}

static void answer_io_fds(struct answer *answer, const uint8_t *request)
{
	struct vu_region_io_fds head;
	memcpy(&head, request, sizeof(head));
	const struct vu_sub_region bells[2] = {{.offset = 0x100, .bytes = 4},
					       {.offset = 0x104, .bytes = 4, .flags = VU_IOEVENTFD_MATCH, .match = 3}};
	head.count = head.index == 0 ? 2 : 0;
	head.argsz = (uint32_t)(sizeof(head) + head.count * sizeof(bells[0]));
	put(answer, &head, sizeof(head));
	put(answer, bells, head.count * sizeof(bells[0]));
	if (head.count)
		answer->fds[answer->fd_count++] = bell;
}

static void answer_access(struct answer *answer, const uint8_t *request, bool read)
{
	struct vu_region_access access;
	memcpy(&access, request, sizeof(access));
	put(answer, &access, sizeof(access));
	for (uint32_t i = 0; read && i < access.count && i < 4096; i++) {
		uint64_t at = access.offset + i;
		bool config = access.region == VFIO_PCI_CONFIG_REGION_INDEX && at < sizeof(server.config);
		put(answer, config ? &server.config[at] : (const uint8_t *)"U", 1);
	}
}

#define FEATURE_ECHOED 64u

static void answer_feature(struct answer *answer, const uint8_t *request)
{
	static const uint8_t zeros[1024];
	struct vu_feature head;
	memcpy(&head, request, sizeof(head));
	put(answer, request, head.argsz < FEATURE_ECHOED ? head.argsz : FEATURE_ECHOED);
	if (head.argsz > FEATURE_ECHOED && head.argsz - FEATURE_ECHOED <= sizeof(zeros))
		put(answer, zeros, head.argsz - FEATURE_ECHOED);
	if (head.flags == (VU_FEATURE_GET | VU_FEATURE_MIGRATION))
		answer->payload[sizeof(head)] = VU_MIGRATION_STOP_COPY | VU_MIGRATION_P2P | VU_MIGRATION_PRE_COPY;
}

static void answer_data(struct answer *answer)
{
	const struct vu_mig_data head = {.argsz = sizeof(head) + 16, .bytes = 16};
	put(answer, &head, sizeof(head));
	put(answer, "sixteen  octets", 16);
}

static void answer_soundly(struct answer *answer, const uint8_t *request, uint8_t choices)
{
	const struct vu_info info = {.argsz = sizeof(info),
				     .flags = VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET,
				     .regions = REGION_COUNT,
				     .irqs = VFIO_PCI_NUM_IRQS};
	struct vu_irq_info irq;
	switch (answer->header.command) {
	case VU_VERSION:
		answer_version(answer, choices & CHOICE_FDS);
		break;
	case VU_GET_INFO:
		put(answer, &info, sizeof(info));
		break;
	case VU_GET_REGION_INFO:
		answer_region_info(answer, request);
		break;
	case VU_GET_REGION_IO_FDS:
		answer_io_fds(answer, request);
		break;
	case VU_GET_IRQ_INFO:
		memcpy(&irq, request, sizeof(irq));
		irq.flags = VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED;
		irq.count = irq.index == VFIO_PCI_MSIX_IRQ_INDEX ? 20 : 1;
		put(answer, &irq, sizeof(irq));
		break;
	case VU_REGION_READ:
	case VU_REGION_WRITE:
		answer_access(answer, request, answer->header.command == VU_REGION_READ);
		break;
	case VU_DMA_UNMAP:
		put(answer, request, sizeof(struct vu_dma_unmap));
		break;
	case VU_FEATURE:
		answer_feature(answer, request);
		break;
	case VU_MIG_DATA_READ:
		answer_data(answer);
		break;
	default:
		break;
	}
}

static void ask_for_memory(void)
{
	struct {
		struct vu_header header;
		struct vu_dma_access access;
		uint8_t data[4096];
	} message = {.header = {.id = server.requests & 0xff}};
	message.access.address = (uint64_t)take() << 16;
	message.access.address |= (uint64_t)take() << 8;
	message.access.address |= take();
	message.access.count = (uint64_t)take() << 8;
	message.access.count |= take();
	uint8_t kind = take();
	bool write = kind & 1;
	if (kind & 2)
		message.access.address <<= 40;
	message.header.command = write ? VU_DMA_WRITE : VU_DMA_READ;
	memset(message.data, 0xee, sizeof(message.data));
	size_t bytes = write && message.access.count < sizeof(message.data) ? message.access.count : 0;
	message.header.bytes = (uint32_t)(sizeof(message.header) + sizeof(message.access) + bytes);
	send_bytes(server.twin >= 0 && !(kind & 4) ? server.twin : server.fd, &message, message.header.bytes, NULL, 0);
}

static void spoil(struct answer *answer, uint8_t choices)
{
	unsigned count;
	switch (choices & CHOICE_ANSWER) {
	case ANSWER_PATCHED:
		count = take() & 15;
		for (unsigned i = 0; i < count; i++) {
			uint8_t offset = take(), value = take();
			uint8_t *at = offset < sizeof(answer->header)
					      ? (uint8_t *)&answer->header + offset
					      : answer->payload + (offset - sizeof(answer->header));
			*at = value;
		}
		break;
	case ANSWER_ERROR:
		answer->header.flags |= VU_FLAG_ERROR;
		answer->header.error = take();
		answer->bytes = 0;
		answer->header.bytes = sizeof(answer->header);
		break;
	case ANSWER_OTHER:
		answer->bytes = take();
		for (size_t i = 0; i < answer->bytes; i++)
			answer->payload[i] = take();
		answer->header.bytes = (uint32_t)(sizeof(answer->header) + answer->bytes);
		break;
	default:
		break;
	}
}

static void close_server(void)
{
	if (server.fd >= 0)
		close(server.fd);
	if (server.twin >= 0)
		close(server.twin);
	server.fd = server.twin = -1;
	server.in_bytes = 0;
}

static void answer_request(const struct vu_header *header, const uint8_t *request)
{
	static struct answer answer;
	uint8_t choices = take();
	server.requests++;
	answer.bytes = answer.fd_count = 0;
	answer.header = (struct vu_header){.id = header->id, .command = header->command, .flags = VU_TYPE_REPLY};
	answer_soundly(&answer, request, choices);
	int passed = header->command == VU_VERSION && answer.fd_count ? answer.fds[0] : -1;
	answer.header.bytes = (uint32_t)(sizeof(answer.header) + answer.bytes);
	if (choices & CHOICE_FDS && answer.fd_count < 9)
		answer.fds[answer.fd_count++] = choices & CHOICE_ASK ? bell : ram_file;
	if (choices & CHOICE_ASK)
		ask_for_memory();
	if (choices & CHOICE_NOISE) {
		uint8_t noise[255], count = take();
		for (unsigned i = 0; i < count; i++)
			noise[i] = take();
		send_bytes(server.fd, noise, count, NULL, 0);
	}
	bool silent = (choices & CHOICE_ANSWER) == ANSWER_NONE;
	spoil(&answer, choices);
	for (unsigned i = 0; !silent && !(header->flags & VU_FLAG_NO_REPLY) && i < (choices & CHOICE_TWICE ? 2 : 1);
	     i++)
		send_answer(&answer);
	if (passed >= 0)
		close(passed);
	if (silent && take())
		close_server();
}

/* What the client has sent until now; what it sends as an answer is not looked at. */
static void run_server(void)
{
	uint8_t ignored[4096];
	while (server.twin >= 0 && recv(server.twin, ignored, sizeof(ignored), MSG_DONTWAIT) > 0)
		;
	for (;;) {
		struct vu_header header;
		ssize_t got = server.fd < 0 ? -1
					    : recv(server.fd, server.in + server.in_bytes,
						   sizeof(server.in) - server.in_bytes, MSG_DONTWAIT);
		if (got > 0)
			server.in_bytes += (size_t)got;
		if (server.in_bytes < sizeof(header))
			return;
		memcpy(&header, server.in, sizeof(header));
		if (header.bytes < sizeof(header) || header.bytes > sizeof(server.in)) {
			close_server();
			return;
		}
		if (server.in_bytes < header.bytes)
			return;
		static uint8_t request[MESSAGE_MAX];
		memcpy(request, server.in, header.bytes);
		memset(request + header.bytes, 0, 64);
		server.in_bytes -= header.bytes;
		memmove(server.in, server.in + header.bytes, server.in_bytes);
		if ((header.flags & VU_TYPE_MASK) == VU_TYPE_COMMAND)
			answer_request(&header, request + sizeof(header));
		if (server.fd < 0)
			return;
	}
}

/* ---- The kernel ---- */

ssize_t __real_kernel_send(int fd, const struct iovec *parts, unsigned part_count, const int *fds, unsigned fd_count);
uint64_t __real_kernel_now_ns(void);
int __wrap_kernel_connect(const char *path, unsigned timeout_ms);
ssize_t __wrap_kernel_send(int fd, const struct iovec *parts, unsigned part_count, const int *fds, unsigned fd_count);
int __wrap_kernel_wait(struct pollfd *polls, unsigned count, int timeout_ms);
uint64_t __wrap_kernel_now_ns(void);
void __wrap_kernel_timer_start(int fd, unsigned milliseconds);
void __real_kernel_timer_start(int fd, unsigned milliseconds);

int __wrap_kernel_connect(const char *path, unsigned timeout_ms)
{
	int pair[2];
	close_server();
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	server.fd = pair[0];
	return pair[1];
}

ssize_t __wrap_kernel_send(int fd, const struct iovec *parts, unsigned part_count, const int *fds, unsigned fd_count)
{
	ssize_t sent = __real_kernel_send(fd, parts, part_count, fds, fd_count);
	run_server();
	return sent;
}

int __wrap_kernel_wait(struct pollfd *polls, unsigned count, int timeout_ms)
{
	run_server();
	int ready = poll(polls, count, 0);
	if (ready == 0 && timeout_ms > 0)
		server.skipped_ns += (uint64_t)timeout_ms * NS_PER_MS;
	return ready < 0 ? -errno : ready;
}

uint64_t __wrap_kernel_now_ns(void)
{
	return __real_kernel_now_ns() + server.skipped_ns;
}

/* At once. */
void __wrap_kernel_timer_start(int fd, unsigned milliseconds)
{
	__real_kernel_timer_start(fd, milliseconds ? 1 : 0);
	if (milliseconds) {
		struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
		poll(&poll_fd, 1, 10);
	}
}

/* ---- The VMM ---- */

static int memory_map(void *host, uint64_t gpa, uint64_t size_bytes, void *hva, struct tenon_error *err)
{
	memset(hva, 0x11, size_bytes); /* as a guest would; it may never fault */
	return 0;
}

static int memory_unmap(void *host, uint64_t gpa, uint64_t size_bytes, struct tenon_error *err)
{
	return 0;
}

static void bar_placed(void *host, const struct tenon_bar_placement *placement)
{
}

static int route_set(void *host, int *route, uint64_t address, uint32_t data, struct tenon_error *err)
{
	if (*route < 0)
		*route = 1;
	return 0;
}

static int route_commit(void *host, struct tenon_error *err)
{
	return 0;
}

static void route_free(void *host, int route)
{
}

static int irqfd_attach(void *host, int route, int eventfd, struct tenon_error *err)
{
	return 0;
}

static void irqfd_detach(void *host, int route, int eventfd)
{
}

static int intx_level(void *host, unsigned pin, bool asserted, struct tenon_error *err)
{
	return 0;
}

static int ioeventfd_attach(void *host, const struct tenon_ioeventfd *ioeventfd, struct tenon_error *err)
{
	return fcntl(ioeventfd->eventfd, F_GETFD) < 0 ? tenon_fail(err, -EBADF, "host: not open; ask the test") : 0;
}

static void ioeventfd_detach(void *host, const struct tenon_ioeventfd *ioeventfd)
{
	require(fcntl(ioeventfd->eventfd, F_GETFD) >= 0, "an eventfd is open until it is detached");
}

static void log_line(void *host, enum tenon_log_level level, const char *message)
{
	require(message[0] && !strchr(message, '\n'), "a line of the log is one line");
}

static const struct tenon_host_ops ops = {
	.size = sizeof(ops),
	.memory_map = memory_map,
	.memory_unmap = memory_unmap,
	.bar_placed = bar_placed,
	.route_set = route_set,
	.route_commit = route_commit,
	.route_free = route_free,
	.irqfd_attach = irqfd_attach,
	.irqfd_detach = irqfd_detach,
	.intx_level = intx_level,
	.log = log_line,
	.ioeventfd_attach = ioeventfd_attach,
	.ioeventfd_detach = ioeventfd_detach,
};

static void place(struct tenon_device *device)
{
	tenon_device_config_write(device, PCI_BASE_ADDRESS_0, 4, 0xe0000000);
	tenon_device_config_write(device, PCI_BASE_ADDRESS_2, 4, 0xe1000000);
	tenon_device_config_write(device, PCI_BASE_ADDRESS_4, 4, 0x1000);
	tenon_device_config_write(device, PCI_COMMAND, 2, 7);
}

static void use(struct tenon_device *device)
{
	uint64_t value = 0;
	place(device);
	for (unsigned bar = 0; bar < 3; bar++) {
		tenon_device_bar_read(device, 2 * bar, 8, &value, 4);
		tenon_device_bar_write(device, 2 * bar, 8, &value, 4);
	}
	for (unsigned vector = 0; vector < 20; vector++) {
		value = 0xfee00000;
		tenon_device_bar_write(device, 0, 0x2000 + 16 * vector, &value, 8);
		value = vector;
		tenon_device_bar_write(device, 0, 0x2000 + 16 * vector + 8, &value, 8);
	}
	tenon_device_config_write(device, 0x40 + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	tenon_device_config_write(device, 0x40 + PCI_MSIX_FLAGS, 2, 0);
	for (unsigned at = 0; at < 0x80; at += 4)
		tenon_device_config_read(device, at, 4);
	tenon_device_next_event(device);
}

/* @return whether it is no failure, which says why */
static bool done(int64_t code, const struct tenon_error *err)
{
	require(code >= 0 || (err->code == code && strchr(err->message, ';')), "a migration's failure says why");
	return code >= 0;
}

static void move(struct tenon_space *space, struct tenon_device *device)
{
	struct tenon_error err = {0};
	struct tenon_migration_info info = {.size = sizeof(info)};
	uint8_t data[64];
	uint64_t first, second, bitmap = 0; /* of 16 pages */
	void *state = NULL;
	size_t bytes;
	const struct tenon_space_region shared = {
		.size = sizeof(shared), .gpa = 0x400000, .size_bytes = RAM_BYTES, .hva = ram, .fd = ram_file};
	bool added = done(tenon_space_add(space, &shared, &err), &err);
	place(device);
	done(tenon_device_migration_info(device, &info, &err), &err);
	bool logs = done(tenon_space_dirty_start(space, &err), &err);
	if (done(tenon_device_migration_set(device, TENON_MIGRATION_PRE_COPY, &err), &err)) {
		done(tenon_device_migration_pre_copy(device, &first, &second, &err), &err);
		done(tenon_device_migration_size(device, &first, &err), &err);
	}
	done(tenon_device_migration_set(device, TENON_MIGRATION_STOP_COPY, &err), &err);
	int64_t got = tenon_device_migration_read(device, data, sizeof(data), &err);
	require(!done(got, &err) || got <= (int64_t)sizeof(data), "no more is read than there is room for");
	if (logs)
		done(tenon_space_dirty_fetch(space, RAM_GPA, RAM_BYTES, &bitmap, &err), &err);
	if (logs && added)
		done(tenon_space_dirty_fetch(space, shared.gpa, RAM_BYTES, &bitmap, &err), &err);
	require(bitmap >> RAM_BYTES / 4096 == 0, "no bit is set beyond the range");
	if (done(tenon_device_state_save(device, &state, &bytes, &err), &err))
		free(state);
	done(tenon_device_migration_set(device, TENON_MIGRATION_RESUMING, &err), &err);
	done(tenon_device_migration_write(device, data, sizeof(data), &err), &err);
	done(tenon_device_migration_set(device, TENON_MIGRATION_RUNNING, &err), &err);
	tenon_space_dirty_stop(space);
	use(device);
	if (added)
		tenon_space_remove(space, shared.gpa, RAM_BYTES, &err);
}

static void live(struct tenon_space *space, bool sound, bool moves)
{
	struct tenon_device *device;
	struct tenon_error error = {0};
	const struct tenon_device_options options = {
		.size = sizeof(options), .address = "vfio-user:/fuzz", .space = space, .ops = &ops, .reconnect = true};
	const struct tenon_space_region more = {
		.size = sizeof(more), .gpa = 0x400000, .size_bytes = RAM_BYTES, .hva = ram, .fd = ram_file};
	int code = tenon_device_open(&options, &device, &error);
	require(code == 0 || !sound, "a device whose server does what it should is opened");
	if (code < 0) {
		require(error.code == code && strchr(error.message, ';'), "an open that fails says why");
		return;
	}
	if (moves) { /* at once, so that the input goes as far */
		move(space, device);
		tenon_device_close(device);
		return;
	}
	use(device);
	bool added = tenon_space_add(space, &more, &error) == 0;
	tenon_space_reset(space, &error);
	use(device);
	if (added)
		tenon_space_remove(space, more.gpa, more.size_bytes, &error);
	close_server();
	for (unsigned i = 0; i < 4; i++)
		tenon_device_next_event(device);
	use(device);
	tenon_device_close(device);
}

static void make_config(void)
{
	static const uint8_t header[] = {
		[PCI_VENDOR_ID] = 0x4e,
		0x7e,
		[PCI_DEVICE_ID] = 1,
		0,
		[PCI_STATUS] = PCI_STATUS_CAP_LIST,
		[PCI_BASE_ADDRESS_4] = 1,
		[PCI_CAPABILITY_LIST] = 0x40,
		[PCI_INTERRUPT_PIN] = 1,
		[0x40] = PCI_CAP_ID_MSIX,
		0,
		[0x42] = 19,
		0,
		[0x44] = 0,
		0x20, /* table: BAR 0, 0x2000 */
		[0x48] = 0,
		0x30, /* pending bits: 0x3000 */
	};
	memcpy(server.config, header, sizeof(header));
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	ram_file = memfd_create("ram", MFD_CLOEXEC);
	bar_file = memfd_create("bar", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	require(ftruncate(ram_file, RAM_BYTES) == 0 && ftruncate(bar_file, BAR_BYTES) == 0, "memory");
	ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, ram_file, 0);
	closed = mmap(NULL, 0x1000, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	require(ram != MAP_FAILED && closed != MAP_FAILED, "memory");
	memset(closed, 0x42, 0x1000);
	make_config();
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tenon_space *space;
	const struct tenon_space_region regions[] = {
		{.size = sizeof(regions[0]), .gpa = RAM_GPA, .size_bytes = RAM_BYTES, .hva = ram},
		{.size = sizeof(regions[0]),
		 .gpa = CLOSED_GPA,
		 .size_bytes = 0x1000,
		 .hva = closed,
		 .read_only = true}};
	unsigned fds_before = descriptors_open();
	input.data = data;
	input.left = size;
	server.requests = 0;
	require(tenon_space_create(NULL, &space, NULL) == 0, "space");
	for (unsigned i = 0; i < 2; i++)
		require(tenon_space_add(space, &regions[i], NULL) == 0, "memory is added");
	live(space, size == 0, size && data[0] & CHOICE_MOVES);
	tenon_space_destroy(space);
	close_server();
	require(descriptors_open() == fds_before, "no file descriptor is left open");
	for (unsigned i = 0; i < 0x1000; i++)
		require(closed[i] == 0x42, "memory that devices may only read is not written");
	return 0;
}
