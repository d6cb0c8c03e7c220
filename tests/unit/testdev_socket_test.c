// SPDX-License-Identifier: MIT
/*
 * The client's end of vfio-user (passthrough/vfio_user_socket.c): against the test device's server, with and without faults,
 * and against a peer that is the test itself, which writes its replies before they are asked for, so that nothing depends on
 * time. Each kernel call fails once.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "../fakes/descriptors.h"
#include "kernel.h"
#include "server.h"
#include "testdev.h"
#include "vfio_user_socket.h"

TestSuite(testdev_socket, .timeout = 60);

/* ---- Kernel calls that fail ---- */

enum failing { NONE, CONNECT, SEND, RECEIVE, WAIT };

static struct {
	enum failing call;
	unsigned nth; /* 0: never */
	int error;
} failure;

static bool fails(enum failing call)
{
	return failure.call == call && failure.nth && --failure.nth == 0;
}

int __real_kernel_connect(const char *path, unsigned timeout_ms);
ssize_t __real_kernel_send(int fd, const struct iovec *parts, unsigned part_count, const int *fds, unsigned fd_count);
ssize_t __real_kernel_receive(int fd, void *buffer, size_t size, int *fds, unsigned *fd_count);
int __real_kernel_wait(struct pollfd *polls, unsigned count, int timeout_ms);

int __wrap_kernel_connect(const char *path, unsigned timeout_ms)
{
	return fails(CONNECT) ? -failure.error : __real_kernel_connect(path, timeout_ms);
}

ssize_t __wrap_kernel_send(int fd, const struct iovec *parts, unsigned part_count, const int *fds, unsigned fd_count)
{
	return fails(SEND) ? -failure.error : __real_kernel_send(fd, parts, part_count, fds, fd_count);
}

ssize_t __wrap_kernel_receive(int fd, void *buffer, size_t size, int *fds, unsigned *fd_count)
{
	if (!fails(RECEIVE))
		return __real_kernel_receive(fd, buffer, size, fds, fd_count);
	*fd_count = 0;
	return -failure.error;
}

/* How often the client waited for the server asleep, and how often it looked again awake. */
static struct {
	bool awake; /* the client may stay awake; else a look takes longer than it would */
	unsigned sleeps, looks;
} waits;

void __wrap_kernel_relax(void)
{
	waits.looks++;
	if (!waits.awake)
		usleep(100);
}

int __wrap_kernel_wait(struct pollfd *polls, unsigned count, int timeout_ms)
{
	waits.sleeps++;
	return fails(WAIT) ? -failure.error : __real_kernel_wait(polls, count, timeout_ms);
}

/* ---- Memory ---- */

#define RAM_ADDRESS 0x100000ull
#define RAM_BYTES   0x200000ull
#define TARGET      0x100000ull /* in it */

static struct {
	uint8_t bytes[RAM_BYTES];
	unsigned reads, writes;
	int error;
} ram;

static int ram_access(uint64_t address, size_t bytes)
{
	if (ram.error)
		return -ram.error;
	return address >= RAM_ADDRESS && address - RAM_ADDRESS <= RAM_BYTES &&
			       bytes <= RAM_BYTES - (address - RAM_ADDRESS)
		       ? 0
		       : -EFAULT;
}

static int ram_read(void *context, uint64_t address, void *data, size_t bytes)
{
	int code = ram_access(address, bytes);
	ram.reads++;
	if (code == 0)
		memcpy(data, ram.bytes + (address - RAM_ADDRESS), bytes);
	return code;
}

static int ram_write(void *context, uint64_t address, const void *data, size_t bytes)
{
	int code = ram_access(address, bytes);
	ram.writes++;
	if (code == 0)
		memcpy(ram.bytes + (address - RAM_ADDRESS), data, bytes);
	return code;
}

static const struct vu_memory memory = {.read = ram_read, .write = ram_write};

static struct tenon_error error;

static void expect_message(int code)
{
	cr_expect_eq(error.code, code, "%d, %s", error.code, error.message);
	cr_expect(error.message[0] && !strchr(error.message, '\n'), "%s", error.message);
	cr_expect(strstr(error.message, "; "), "what to do is missing: %s", error.message);
}

/* ---- A server ---- */

static struct {
	struct testdev *device;
	pthread_t thread;
	int fd;
	struct vu_socket *socket;
	unsigned fds_before;
} server;

static void *serve(void *context)
{
	server_serve(server.device, server.fd, -1);
	return NULL;
}

/* A device, its server in a thread, and a connection. @return as vu_socket_adopt */
static int start(const struct testdev_options *options)
{
	struct testdev_options copy = *options;
	int pair[2];
	copy.quiet = true;
	server.fds_before = descriptors_open();
	server.socket = NULL;
	cr_assert_eq(testdev_create(&copy, &server.device, NULL), 0);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	server.fd = pair[1];
	cr_assert_eq(pthread_create(&server.thread, NULL, serve, NULL), 0);
	return vu_socket_adopt(pair[0], "dev.sock", 0, &memory, &server.socket, &error);
}

static void finish(void)
{
	vu_socket_destroy(server.socket);
	pthread_join(server.thread, NULL);
	testdev_destroy(server.device);
	cr_expect_eq(descriptors_open(), server.fds_before, "file descriptors are left open");
}

static void start_default(void)
{
	cr_assert_eq(start(&(struct testdev_options){0}), 0, "%s", error.message);
}

static void start_with_fault(const char *text)
{
	struct testdev_options options = {.fault_count = 1};
	cr_assert_eq(fault_parse(text, &options.faults[0], NULL), 0);
	cr_assert_eq(start(&options), 0, "%s", error.message);
}

static int ask_info(struct vu_socket *socket, struct vu_info *info, unsigned timeout_ms)
{
	*info = (struct vu_info){.argsz = sizeof(*info)};
	struct vu_call call = {.command = VU_GET_INFO,
			       .timeout_ms = timeout_ms,
			       .request = {.head = info, .head_bytes = sizeof(*info)},
			       .reply = info,
			       .reply_room = sizeof(*info),
			       .reply_least = sizeof(*info)};
	error = (struct tenon_error){0};
	return vu_socket_call(socket, &call, &error);
}

static uint64_t read_region(struct vu_socket *socket, uint32_t region, uint64_t offset, uint32_t count)
{
	struct {
		struct vu_region_access access;
		uint64_t value;
	} data = {.access = {.offset = offset, .region = region, .count = count}};
	struct vu_call call = {.command = VU_REGION_READ,
			       .request = {.head = &data.access, .head_bytes = sizeof(data.access)},
			       .reply = &data,
			       .reply_room = sizeof(data.access) + count,
			       .reply_least = sizeof(data.access) + count};
	cr_assert_eq(vu_socket_call(socket, &call, &error), 0, "%s", error.message);
	return data.value;
}

static int write_region(struct vu_socket *socket, uint32_t region, uint64_t offset, uint64_t value, uint32_t count,
			bool posted)
{
	struct vu_region_access access = {.offset = offset, .region = region, .count = count};
	struct vu_call call = {
		.command = VU_REGION_WRITE,
		.request = {.head = &access, .head_bytes = sizeof(access), .data = &value, .data_bytes = count},
		.reply = &access,
		.reply_room = sizeof(access),
		.reply_least = sizeof(access)};
	return posted ? vu_socket_post(socket, &call, &error) : vu_socket_call(socket, &call, &error);
}

static int map_ram(int fd)
{
	const struct vu_dma_map map = {.argsz = sizeof(map),
				       .flags = VU_DMA_READABLE | VU_DMA_WRITEABLE,
				       .address = RAM_ADDRESS,
				       .bytes = RAM_BYTES};
	struct vu_call call = {.command = VU_DMA_MAP,
			       .request = {.head = &map, .head_bytes = sizeof(map), .fds = &fd, .fd_count = fd >= 0}};
	return vu_socket_call(server.socket, &call, &error);
}

Test(testdev_socket, agrees_on_a_version_with_a_twin_socket)
{
	struct vu_info info;
	start_default();
	cr_expect_eq(vu_socket_data_bytes(server.socket), 1u << 20);
	cr_expect_eq(vu_socket_fds(server.socket), 64);
	cr_expect(vu_socket_takes_multi(server.socket));
	cr_expect_eq(ask_info(server.socket, &info, 0), 0);
	cr_expect_eq(info.regions, 9);
	cr_expect_null(vu_socket_ended(server.socket));
	finish();
}

Test(testdev_socket, connects_by_path)
{
	char folder[] = "/tmp/tenon-socket-XXXXXX", path[64];
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	cr_assert_not_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/s", folder);
	strcpy(address.sun_path, path);
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(listener, (const struct sockaddr *)&address, sizeof(address)), 0);
	struct vu_socket *socket = NULL;
	int code = vu_socket_connect(path, 0, &memory, &socket, &error);
	cr_expect_eq(code, -ECONNREFUSED, "nobody listens");
	expect_message(code);
	cr_assert_eq(listen(listener, 1), 0);

	cr_assert_eq(testdev_create(&(struct testdev_options){.quiet = true}, &server.device, NULL), 0);
	int client = __real_kernel_connect(path, 1000);
	server.fd = accept(listener, NULL, NULL);
	cr_assert_eq(pthread_create(&server.thread, NULL, serve, NULL), 0);
	cr_assert_eq(vu_socket_adopt(client, path, 0, &memory, &socket, &error), 0, "%s", error.message);
	vu_socket_destroy(socket);
	pthread_join(server.thread, NULL);
	testdev_destroy(server.device);
	close(listener);
	unlink(path);
	rmdir(folder);
	code = vu_socket_connect(path, 0, &memory, &socket, &error);
	cr_expect_eq(code, -ENOENT);
	expect_message(code);
}

Test(testdev_socket, path_that_is_too_long_is_refused)
{
	char path[200];
	struct vu_socket *socket;
	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	int code = vu_socket_connect(path, 0, &memory, &socket, &error);
	cr_expect_eq(code, -ENAMETOOLONG);
	expect_message(code);
}

Test(testdev_socket, refusal_of_the_server_is_its_error_and_the_connection_goes_on)
{
	struct vu_info info;
	start_default();
	struct vu_dma_unmap unmap = {.argsz = sizeof(unmap), .address = 5, .bytes = 5};
	struct vu_call call = {.command = VU_DMA_UNMAP,
			       .request = {.head = &unmap, .head_bytes = sizeof(unmap)},
			       .reply = &unmap,
			       .reply_room = sizeof(unmap),
			       .reply_least = sizeof(unmap)};
	int code = vu_socket_call(server.socket, &call, &error);
	cr_expect_eq(code, -ENOENT);
	expect_message(code);
	cr_expect_eq(ask_info(server.socket, &info, 0), 0);
	finish();
}

Test(testdev_socket, posted_writes_keep_their_order)
{
	start_default();
	write_region(server.socket, 7, PCI_COMMAND, 7, 2, true);
	for (unsigned i = 1; i <= 5000; i++)
		cr_assert_eq(write_region(server.socket, 0, TD_SCRATCH, i, 4, true), 0, "%s", error.message);
	cr_expect_eq(read_region(server.socket, 0, TD_SCRATCH, 4), 5000);
	finish();
}

Test(testdev_socket, file_descriptors_go_both_ways)
{
	struct vu_region_info info = {.argsz = sizeof(info), .index = TD_BAR_MEMORY};
	start_default();
	int fd = memfd_create("ram", MFD_CLOEXEC);
	cr_assert_eq(ftruncate(fd, RAM_BYTES), 0);
	cr_expect_eq(map_ram(fd), 0, "%s", error.message);
	close(fd);
	struct vu_call call = {.command = VU_GET_REGION_INFO,
			       .request = {.head = &info, .head_bytes = sizeof(info)},
			       .reply = &info,
			       .reply_room = sizeof(info),
			       .reply_least = sizeof(info)};
	cr_assert_eq(vu_socket_call(server.socket, &call, &error), 0, "%s", error.message);
	cr_assert_eq(call.reply_fd_count, 1);
	cr_expect_geq(fcntl(call.reply_fds[0], F_GETFD), 0);
	close(call.reply_fds[0]);
	finish();
}

/* ---- The server's requests ---- */

static void make_list(unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		const struct copy_descriptor fill = {.source = 0x5a5a5a5a5a5a5a5a,
						     .target = RAM_ADDRESS + TARGET + i * 0x10000,
						     .length = 0x10000,
						     .flags = TD_DESC_FILL};
		memcpy(ram.bytes + i * sizeof(fill), &fill, sizeof(fill));
	}
	write_region(server.socket, 7, PCI_COMMAND, 7, 2, false);
	write_region(server.socket, 0, TD_LIST_ADDRESS, RAM_ADDRESS, 8, false);
	write_region(server.socket, 0, TD_LIST_COUNT, count, 4, false);
}

static void copy_by_messages(const struct testdev_options *options)
{
	cr_assert_eq(start(options), 0, "%s", error.message);
	cr_assert_eq(map_ram(-1), 0);
	make_list(10);
	write_region(server.socket, 0, TD_CONTROL, TD_CONTROL_START, 4, false);
	while (read_region(server.socket, 0, TD_STATUS, 4) & TD_STATUS_BUSY)
		;
	cr_expect_eq(read_region(server.socket, 0, TD_STATUS, 4), TD_STATUS_DONE);
	cr_expect_eq(ram.bytes[TARGET + 10 * 0x10000 - 1], 0x5a);
	cr_expect_eq(ram.reads, 10);
	cr_expect_eq(server.device->journal.count, 0);
	finish();
}

Test(testdev_socket, requests_on_the_twin_socket_are_served_during_calls)
{
	copy_by_messages(&(struct testdev_options){0});
}

Test(testdev_socket, requests_on_the_one_socket_are_served_during_calls)
{
	copy_by_messages(&(struct testdev_options){.no_twin_socket = true});
}

static void copy_between_calls(const struct testdev_options *options)
{
	const struct vu_irq_set arm = {.argsz = sizeof(arm),
				       .flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
				       .index = VFIO_PCI_MSIX_IRQ_INDEX,
				       .count = 1};
	cr_assert_eq(start(options), 0, "%s", error.message);
	int irq = kernel_eventfd();
	struct vu_call call = {.command = VU_SET_IRQS,
			       .request = {.head = &arm, .head_bytes = sizeof(arm), .fds = &irq, .fd_count = 1}};
	cr_assert_eq(vu_socket_call(server.socket, &call, &error), 0, "%s", error.message);
	cr_assert_eq(map_ram(-1), 0);
	make_list(4);
	write_region(server.socket, 0, TD_COPY_IRQ, TD_IRQ(TD_IRQ_MSIX, 0), 4, false);
	write_region(server.socket, 0, TD_CONTROL, TD_CONTROL_START, 4, true);
	/* As an embedder's event loop does. */
	while (!kernel_eventfd_pending(irq)) {
		struct pollfd polls[] = {{.fd = vu_socket_poll_fd(server.socket), .events = POLLIN},
					 {.fd = irq, .events = POLLIN}};
		cr_assert_gt(poll(polls, 2, 20000), 0);
		cr_assert_eq(vu_socket_serve(server.socket), 0);
	}
	cr_expect_eq(ram.bytes[TARGET + 4 * 0x10000 - 1], 0x5a);
	close(irq);
	finish();
}

Test(testdev_socket, requests_on_the_twin_socket_are_served_between_calls)
{
	copy_between_calls(&(struct testdev_options){0});
}

Test(testdev_socket, requests_on_the_one_socket_are_served_between_calls)
{
	copy_between_calls(&(struct testdev_options){.no_twin_socket = true});
}

Test(testdev_socket, memory_that_refuses_is_the_device_s_fault)
{
	start_default();
	cr_assert_eq(map_ram(-1), 0);
	make_list(1);
	ram.error = EFAULT;
	write_region(server.socket, 0, TD_CONTROL, TD_CONTROL_START, 4, false);
	while (read_region(server.socket, 0, TD_STATUS, 4) & TD_STATUS_BUSY)
		;
	cr_expect_eq(TD_STATUS_REASON(read_region(server.socket, 0, TD_STATUS, 4)), TD_REASON_FAULT);
	finish();
}

/* ---- Servers that misbehave ---- */

/* The fault meets the first info; what the client says then, and that it says it again at once. */
static void expect_end(const char *fault, const char *reason)
{
	struct vu_info info;
	start_with_fault(fault);
	int code = ask_info(server.socket, &info, 0);
	cr_expect_eq(code, -ENOTCONN, "%s: %d", fault, code);
	expect_message(code);
	cr_expect(strstr(error.message, reason), "%s: %s", fault, error.message);
	cr_expect(strstr(vu_socket_ended(server.socket), reason));
	cr_expect_eq(ask_info(server.socket, &info, 0), -ENOTCONN);
	cr_expect_eq(write_region(server.socket, 0, 0, 0, 4, true), -ENOTCONN);
	cr_expect_eq(vu_socket_serve(server.socket), -ENOTCONN);
	finish();
}

Test(testdev_socket, servers_that_lie_or_leave_end_the_connection_with_the_reason)
{
	expect_end("disconnect@info", "closed the connection");
	expect_end("vanish@info", "closed the connection");
	expect_end("short=5@info", "closed the connection");
	expect_end("wrong-size=-1@info", "wrong size");
	expect_end("wrong-size=1@info", "wrong size");
	expect_end("wrong-size=5000@info", "wrong size");
	expect_end("wrong-id@info", "replied to nothing");
	expect_end("wrong-command@info", "another command");
}

Test(testdev_socket, error_on_demand_is_the_call_s)
{
	struct vu_info info;
	start_with_fault("error=12@info");
	cr_expect_eq(ask_info(server.socket, &info, 0), -ENOMEM);
	cr_expect_eq(ask_info(server.socket, &info, 0), 0);
	finish();
}

Test(testdev_socket, server_that_hangs_fails_the_first_call_in_time_and_the_others_at_once)
{
	struct vu_info info;
	start_with_fault("silence@info");
	cr_expect_eq(ask_info(server.socket, &info, 20), -ETIMEDOUT);
	expect_message(-ETIMEDOUT);
	uint64_t before = kernel_now_ns();
	for (unsigned i = 0; i < 10; i++) {
		cr_expect_eq(ask_info(server.socket, &info, 0), -ETIMEDOUT);
		cr_expect_eq(write_region(server.socket, 0, 0, 0, 4, true), -ETIMEDOUT);
	}
	cr_expect_lt(kernel_now_ns() - before, 30000000000u, "at once, not after a minute each");
	cr_expect_null(vu_socket_ended(server.socket));
	finish();
}

Test(testdev_socket, reply_that_comes_twice_ends_the_connection_when_it_is_seen)
{
	struct vu_info info;
	start_with_fault("twice@info");
	cr_expect_eq(ask_info(server.socket, &info, 0), 0);
	cr_expect_eq(ask_info(server.socket, &info, 0), -ENOTCONN);
	finish();
}

Test(testdev_socket, version_that_is_refused_is_an_error)
{
	struct testdev_options options = {.fault_count = 1, .faults = {{.kind = FAULT_ERROR, .value = EPERM}}};
	int code = start(&options);
	cr_expect_eq(code, -EPERM);
	expect_message(code);
	finish();
}

/* ---- A peer that is the test ---- */

static struct {
	int fd;   /* the peer's end */
	int twin; /* of the server's own socket; -1 */
	struct vu_socket *socket;
	unsigned fds_before;
} peer;

static void peer_send(int fd, uint16_t id, uint16_t command, uint32_t flags, const void *payload, size_t bytes,
		      const int *fds, unsigned fd_count)
{
	const struct vu_header header = {
		.id = id, .command = command, .bytes = (uint32_t)(sizeof(header) + bytes), .flags = flags};
	const struct iovec parts[] = {{.iov_base = (void *)&header, .iov_len = sizeof(header)},
				      {.iov_base = (void *)payload, .iov_len = bytes}};
	cr_assert_eq(__real_kernel_send(fd, parts, 2, fds, fd_count), (ssize_t)header.bytes);
}

static void peer_info(uint16_t id)
{
	const struct vu_info info = {.argsz = sizeof(info), .regions = 9};
	peer_send(peer.fd, id, VU_GET_INFO, VU_TYPE_REPLY, &info, sizeof(info), NULL, 0);
}

/* What the peer has received is thrown away. */
static void peer_drain(void)
{
	uint8_t bytes[65536];
	while (recv(peer.fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		;
}

/* Everything that is in a connection to a peer whose version message is this. @return as vu_socket_adopt */
static int peer_open(uint16_t major, uint16_t minor, const char *text, size_t bytes, const int *fds, unsigned fd_count)
{
	uint8_t payload[5000];
	const struct vu_version version = {.major = major, .minor = minor};
	int pair[2];
	peer.fds_before = descriptors_open();
	peer.socket = NULL;
	peer.twin = -1;
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	peer.fd = pair[1];
	memcpy(payload, &version, sizeof(version));
	memcpy(payload + sizeof(version), text, bytes);
	peer_send(peer.fd, 0, VU_VERSION, VU_TYPE_REPLY, payload, sizeof(version) + bytes, fds, fd_count);
	error = (struct tenon_error){0};
	int code = vu_socket_adopt(pair[0], "peer", 0, &memory, &peer.socket, &error);
	peer_drain();
	return code;
}

static void peer_close(void)
{
	vu_socket_destroy(peer.socket);
	close(peer.fd);
	if (peer.twin >= 0)
		close(peer.twin);
	cr_expect_eq(descriptors_open(), peer.fds_before, "file descriptors are left open");
}

static void peer_default(void)
{
	cr_assert_eq(peer_open(0, 1, "", 0, NULL, 0), 0, "%s", error.message);
}

/* With a twin socket, of which the test keeps the server's end. */
static void peer_with_twin(void)
{
	static const char text[] = "{\"capabilities\":{\"twin_socket\":{\"supported\":true,\"fd_index\":0}}}";
	unsigned before = descriptors_open();
	int pair[2];
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	cr_assert_eq(peer_open(0, 1, text, sizeof(text), &pair[1], 1), 0, "%s", error.message);
	close(pair[1]);
	peer.twin = pair[0];
	peer.fds_before = before;
}

Test(testdev_socket, older_minor_version_and_no_capabilities_are_taken)
{
	struct vu_info info;
	peer_default();
	cr_expect_eq(vu_socket_fds(peer.socket), 1);
	cr_expect_not(vu_socket_takes_multi(peer.socket));
	peer_info(1);
	cr_expect_eq(ask_info(peer.socket, &info, 0), 0);
	cr_expect_eq(info.regions, 9);
	peer_close();
}

Test(testdev_socket, versions_that_do_not_fit_are_refused_with_the_reason)
{
	static const struct {
		uint16_t major, minor;
		const char *text, *reason;
		int code;
	} cases[] = {
		{1, 0, "", "1.0", -EPROTO},
		{0, VU_MINOR + 1, "", "update the older", -EPROTO},
		{0, 1, "{", "not JSON", -EINVAL},
		{0, 1, "{\"capabilities\":{\"max_msg_fds\":true}}", "max_msg_fds", -EINVAL},
		{0, 1, "{\"capabilities\":{\"max_data_xfer_size\":7}}", "7 bytes", -EPROTO},
		{0, 1, "{\"capabilities\":{\"twin_socket\":{\"supported\":true}}}", "sends none", -EPROTO},
		{0, 1, "{\"capabilities\":{\"twin_socket\":{\"supported\":true,\"fd_index\":0}}}", "sends none",
		 -EPROTO},
	};
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int code = peer_open(cases[i].major, cases[i].minor, cases[i].text, strlen(cases[i].text), NULL, 0);
		cr_expect_eq(code, cases[i].code, "case %u: %d", i, code);
		expect_message(code);
		cr_expect(strstr(error.message, cases[i].reason), "case %u: %s", i, error.message);
		peer_close();
	}
}

/* Another file would be polled, which may ask a process that does not answer. */
Test(testdev_socket, twin_that_is_no_stream_socket_is_refused)
{
	static const char text[] = "{\"capabilities\":{\"twin_socket\":{\"supported\":true,\"fd_index\":0}}}";
	int fds[] = {kernel_eventfd(), socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0),
		     socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
	for (unsigned i = 0; i < 3; i++) {
		int code = peer_open(0, 1, text, sizeof(text), &fds[i], 1);
		cr_expect_eq(code, -EPROTO);
		expect_message(code);
		peer_close();
		close(fds[i]);
	}
}

Test(testdev_socket, version_reply_of_a_wrong_size_is_refused)
{
	char text[4990] = {0};
	memset(text, ' ', sizeof(text));
	int code = peer_open(0, 1, text, sizeof(text), NULL, 0);
	cr_expect_eq(code, -ENOTCONN);
	expect_message(code);
	peer_close();
}

Test(testdev_socket, file_descriptors_of_a_version_reply_that_nobody_wants_are_closed)
{
	int fds[3];
	for (unsigned i = 0; i < 3; i++)
		fds[i] = kernel_eventfd();
	cr_expect_eq(peer_open(0, 1, "", 0, fds, 3), 0);
	peer_close();
	for (unsigned i = 0; i < 3; i++)
		close(fds[i]);
}

Test(testdev_socket, late_reply_brings_the_server_back)
{
	struct vu_info info;
	peer_default();
	cr_expect_eq(ask_info(peer.socket, &info, 1), -ETIMEDOUT);
	cr_expect_eq(ask_info(peer.socket, &info, 1), -ETIMEDOUT);
	peer_info(1);
	cr_expect_eq(ask_info(peer.socket, &info, 1), -ETIMEDOUT, "it is sent, and is the next to take too long");
	peer_info(2); /* ids count the commands that were sent */
	cr_expect_eq(vu_socket_serve(peer.socket), 0);
	peer_info(3);
	cr_expect_eq(ask_info(peer.socket, &info, 0), 0, "%s", error.message);
	peer_close();
}

Test(testdev_socket, late_reply_with_a_file_descriptor_leaves_none_open)
{
	struct vu_info info;
	int fd = kernel_eventfd();
	peer_default();
	cr_expect_eq(ask_info(peer.socket, &info, 1), -ETIMEDOUT);
	peer_send(peer.fd, 1, VU_GET_INFO, VU_TYPE_REPLY, &info, sizeof(info), &fd, 1);
	cr_expect_eq(vu_socket_serve(peer.socket), 0);
	peer_info(2);
	cr_expect_eq(ask_info(peer.socket, &info, 0), 0);
	peer_close();
	close(fd);
}

Test(testdev_socket, late_reply_that_comes_twice_ends_the_connection)
{
	struct vu_info info;
	peer_default();
	cr_expect_eq(ask_info(peer.socket, &info, 1), -ETIMEDOUT);
	peer_info(1);
	peer_info(1);
	cr_expect_eq(ask_info(peer.socket, &info, 0), -ENOTCONN);
	peer_close();
}

Test(testdev_socket, reply_to_nothing_ends_the_connection)
{
	peer_default();
	peer_info(1);
	cr_expect_eq(vu_socket_serve(peer.socket), -ENOTCONN);
	peer_close();
}

Test(testdev_socket, reply_to_a_posted_write_ends_the_connection)
{
	const struct vu_region_access access = {.count = 4};
	peer_default();
	cr_assert_eq(write_region(peer.socket, 0, 0, 0, 4, true), 0);
	peer_send(peer.fd, 1, VU_REGION_WRITE, VU_TYPE_REPLY, &access, sizeof(access), NULL, 0);
	cr_expect_eq(vu_socket_serve(peer.socket), -ENOTCONN);
	peer_close();
}

Test(testdev_socket, messages_that_cannot_be_end_the_connection)
{
	static const struct vu_header bad[] = {
		{.id = 1, .command = VU_GET_INFO, .bytes = 0, .flags = VU_TYPE_REPLY},
		{.id = 1, .command = VU_GET_INFO, .bytes = 15, .flags = VU_TYPE_REPLY},
		{.id = 1, .command = VU_GET_INFO, .bytes = UINT32_MAX, .flags = VU_TYPE_REPLY},
		{.id = 1, .command = VU_GET_INFO, .bytes = 16, .flags = 2},
		{.id = 1, .command = VU_GET_INFO, .bytes = 16, .flags = VU_TYPE_REPLY},
		{.id = 2, .command = VU_GET_INFO, .bytes = 16, .flags = VU_TYPE_REPLY},
	};
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct vu_info info;
		peer_default();
		cr_assert_eq(write(peer.fd, &bad[i], sizeof(bad[i])), sizeof(bad[i]));
		int code = ask_info(peer.socket, &info, 0);
		cr_expect_eq(code, -ENOTCONN, "case %u", i);
		expect_message(code);
		peer_close();
	}
}

Test(testdev_socket, errors_of_the_server_that_are_none_are_eio)
{
	static const uint32_t values[] = {0, VU_ERROR_MAX + 1, UINT32_MAX, 0x80000000};
	for (unsigned i = 0; i < 4; i++) {
		struct vu_info info;
		const struct vu_header header = {.id = 1,
						 .command = VU_GET_INFO,
						 .bytes = sizeof(header),
						 .flags = VU_TYPE_REPLY | VU_FLAG_ERROR,
						 .error = values[i]};
		peer_default();
		cr_assert_eq(write(peer.fd, &header, sizeof(header)), sizeof(header));
		cr_expect_eq(ask_info(peer.socket, &info, 0), -EIO);
		peer_close();
	}
}

Test(testdev_socket, reply_in_single_bytes_is_one_reply)
{
	const struct {
		struct vu_header header;
		struct vu_info info;
	} reply = {{.id = 1, .command = VU_GET_INFO, .bytes = sizeof(reply), .flags = VU_TYPE_REPLY}, {.regions = 3}};
	struct vu_info info;
	peer_default();
	for (size_t i = 0; i < sizeof(reply); i++) /* each in a buffer of the kernel's of its own */
		cr_assert_eq(write(peer.fd, (const uint8_t *)&reply + i, 1), 1);
	cr_expect_eq(ask_info(peer.socket, &info, 0), 0);
	cr_expect_eq(info.regions, 3);
	peer_close();
}

Test(testdev_socket, file_descriptors_belong_to_the_message_that_they_were_sent_with)
{
	struct vu_channel channel;
	int pair[2], fd = kernel_eventfd();
	unsigned before = descriptors_open();
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	cr_assert_eq(vu_channel_init(&channel, pair[0], 4096), 0);
	for (uint16_t i = 0; i < 6; i++)
		peer_send(pair[1], i, VU_GET_INFO, VU_TYPE_REPLY, "x", 1, &fd, i % 2);
	for (unsigned i = 0; i < 6;) {
		struct vu_message message;
		int code = vu_channel_next(&channel, &message);
		if (code == 0) {
			cr_assert_eq(vu_channel_fill(&channel), 0);
			continue;
		}
		cr_assert_eq(code, 1);
		cr_expect_eq(message.header.id, i);
		cr_expect_eq(message.fds.count, i % 2, "message %u has %u", i, message.fds.count);
		vu_fds_close(&message.fds);
		i++;
	}
	vu_channel_finish(&channel);
	close(pair[1]);
	cr_expect_eq(descriptors_open(), before);
	close(fd);
}

Test(testdev_socket, more_file_descriptors_than_announced_end_the_connection)
{
	int fds[VU_CHANNEL_FDS + 1];
	const unsigned counts[] = {VU_FDS_ANNOUNCED + 1, VU_CHANNEL_FDS + 1};
	struct vu_info info = {0};
	for (unsigned i = 0; i < VU_CHANNEL_FDS + 1; i++)
		fds[i] = kernel_eventfd();
	for (unsigned i = 0; i < 2; i++) {
		peer_default();
		peer_send(peer.fd, 1, VU_GET_INFO, VU_TYPE_REPLY, &info, sizeof(info), fds, counts[i]);
		int code = ask_info(peer.socket, &info, 0);
		cr_expect_eq(code, -ENOTCONN);
		cr_expect(strstr(error.message, "file descriptors"), "%s", error.message);
		peer_close();
	}
	for (unsigned i = 0; i < VU_CHANNEL_FDS + 1; i++)
		close(fds[i]);
}

/* ---- Requests of a peer ---- */

/* The peer asks, then there is the reply to a call; what the peer is answered. @return bytes of the answer's payload */
static size_t answered(int fd, uint16_t command, uint32_t flags, const void *payload, size_t bytes,
		       struct vu_header *header, uint8_t *answer_to)
{
	struct vu_info info;
	static uint16_t call_id;
	call_id = 1;
	peer_send(fd, 700, command, flags, payload, bytes, NULL, 0);
	peer_info(call_id);
	cr_assert_eq(ask_info(peer.socket, &info, 0), 0, "%s", error.message);
	if (fd == peer.fd) { /* behind the call itself */
		uint8_t call[sizeof(struct vu_header) + sizeof(struct vu_info)];
		cr_assert_eq(recv(fd, call, sizeof(call), MSG_WAITALL), sizeof(call));
	}
	ssize_t got = recv(fd, header, sizeof(*header), MSG_DONTWAIT);
	if (got != sizeof(*header))
		return SIZE_MAX;
	cr_expect_eq(header->id, 700);
	cr_expect_eq(header->command, command);
	size_t rest = header->bytes - sizeof(*header);
	if (rest)
		cr_assert_eq(recv(fd, answer_to, rest, MSG_DONTWAIT), (ssize_t)rest);
	return rest;
}

Test(testdev_socket, requests_are_answered_where_they_came_from)
{
	for (unsigned twin = 0; twin < 2; twin++) {
		struct {
			struct vu_dma_access access;
			uint8_t data[16];
		} request = {{.address = RAM_ADDRESS + 64, .count = 16}, {1, 2, 3}}, reply;
		struct vu_header header;
		if (twin)
			peer_with_twin();
		else
			peer_default();
		cr_expect_eq(answered(twin ? peer.twin : peer.fd, VU_DMA_WRITE, 0, &request, sizeof(request), &header,
				      (uint8_t *)&reply),
			     sizeof(request.access));
		cr_expect_eq(header.flags, VU_TYPE_REPLY);
		cr_expect_eq(ram.bytes[66], 3);
		peer_close();
	}
}

Test(testdev_socket, read_brings_the_memory)
{
	const struct vu_dma_access access = {.address = RAM_ADDRESS + 128, .count = 8};
	struct {
		struct vu_dma_access access;
		uint8_t data[8];
	} reply;
	struct vu_header header;
	peer_default();
	memcpy(ram.bytes + 128, "sentence", 8);
	cr_expect_eq(answered(peer.fd, VU_DMA_READ, 0, &access, sizeof(access), &header, (uint8_t *)&reply),
		     sizeof(reply));
	cr_expect_eq(memcmp(reply.data, "sentence", 8), 0);
	cr_expect_eq(reply.access.address, access.address);
	peer_close();
}

Test(testdev_socket, requests_that_make_no_sense_are_refused_and_the_connection_goes_on)
{
	static const struct {
		uint16_t command;
		struct vu_dma_access access;
		size_t bytes;
		uint32_t error;
	} cases[] = {
		{VU_DMA_READ, {.address = RAM_ADDRESS, .count = 8}, 0, EINVAL},
		{VU_DMA_READ, {.address = RAM_ADDRESS, .count = 8}, 15, EINVAL},
		{VU_DMA_READ, {.address = RAM_ADDRESS, .count = 8}, 17, EINVAL},
		{VU_DMA_READ, {.address = RAM_ADDRESS, .count = (1u << 20) + 1}, 16, EINVAL},
		{VU_DMA_READ, {.address = RAM_ADDRESS, .count = UINT64_MAX}, 16, EINVAL},
		{VU_DMA_READ, {.address = 0, .count = 8}, 16, EFAULT},
		{VU_DMA_READ, {.address = RAM_ADDRESS + RAM_BYTES - 4, .count = 8}, 16, EFAULT},
		{VU_DMA_WRITE, {.address = RAM_ADDRESS, .count = 8}, 16, EINVAL},
		{VU_DMA_WRITE, {.address = RAM_ADDRESS, .count = 8}, 23, EINVAL},
		{VU_DMA_WRITE, {.address = RAM_ADDRESS, .count = 8}, 25, EINVAL},
		{VU_DMA_WRITE, {.address = UINT64_MAX - 3, .count = 8}, 24, EFAULT},
		{VU_RESET, {0}, 0, ENOTSUP},
		{VU_COMMANDS, {0}, 16, ENOTSUP},
	};
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint8_t payload[64] = {0}, reply[64];
		struct vu_header header;
		peer_default();
		memcpy(payload, &cases[i].access, sizeof(cases[i].access));
		cr_expect_eq(answered(peer.fd, cases[i].command, 0, payload, cases[i].bytes, &header, reply), 0,
			     "case %u", i);
		cr_expect_eq(header.flags, VU_TYPE_REPLY | VU_FLAG_ERROR, "case %u", i);
		cr_expect_eq(header.error, cases[i].error, "case %u: %u", i, header.error);
		peer_close();
	}
}

Test(testdev_socket, request_that_wants_no_reply_gets_none)
{
	struct {
		struct vu_dma_access access;
		uint8_t data[8];
	} request = {{.address = RAM_ADDRESS, .count = 8}, {9}};
	uint8_t reply[64];
	struct vu_header header;
	peer_default();
	cr_expect_eq(answered(peer.fd, VU_DMA_WRITE, VU_FLAG_NO_REPLY, &request, sizeof(request), &header, reply),
		     SIZE_MAX);
	cr_expect_eq(ram.bytes[0], 9);
	peer_close();
}

Test(testdev_socket, replies_on_the_server_s_socket_end_the_connection)
{
	peer_with_twin();
	peer_send(peer.twin, 1, VU_GET_INFO, VU_TYPE_REPLY, NULL, 0, NULL, 0);
	cr_expect_eq(vu_socket_serve(peer.socket), -ENOTCONN);
	peer_close();
}

Test(testdev_socket, server_that_asks_for_much_and_takes_no_answers_cannot_hold_a_call_up)
{
	const struct vu_dma_access access = {.address = RAM_ADDRESS, .count = 1u << 20};
	struct vu_info info;
	peer_with_twin();
	for (unsigned i = 0; i < 50; i++)
		peer_send(peer.twin, (uint16_t)i, VU_DMA_READ, 0, &access, sizeof(access), NULL, 0);
	ram.reads = 0;
	peer_info(1);
	cr_expect_eq(ask_info(peer.socket, &info, 0), 0, "%s", error.message);
	cr_expect_eq(vu_socket_serve(peer.socket), 0);
	cr_expect_leq(ram.reads, 1, "no more is read than can be sent");
	peer_close();
}

Test(testdev_socket, answers_that_did_not_fit_follow_as_the_server_reads)
{
	const struct vu_dma_access access = {.address = RAM_ADDRESS, .count = 1u << 20};
	static uint8_t bytes[16 + 16 + (1u << 20)];
	peer_with_twin();
	memset(ram.bytes, 0x77, RAM_BYTES);
	for (unsigned i = 0; i < 3; i++)
		peer_send(peer.twin, (uint16_t)i, VU_DMA_READ, 0, &access, sizeof(access), NULL, 0);
	for (unsigned i = 0; i < 3; i++) {
		for (size_t got = 0; got < sizeof(bytes);) {
			/* As an event loop does: only when it is woken. */
			struct pollfd loop = {.fd = vu_socket_poll_fd(peer.socket), .events = POLLIN};
			if (poll(&loop, 1, 0) == 1)
				cr_assert_eq(vu_socket_serve(peer.socket), 0);
			ssize_t done = recv(peer.twin, bytes + got, sizeof(bytes) - got, MSG_DONTWAIT);
			cr_assert_gt(done, 0);
			got += (size_t)done;
		}
		struct vu_header header;
		memcpy(&header, bytes, sizeof(header));
		cr_expect_eq(header.id, i);
		cr_expect_eq(header.bytes, sizeof(bytes));
		cr_expect_eq(bytes[sizeof(bytes) - 1], 0x77);
	}
	struct pollfd loop = {.fd = vu_socket_poll_fd(peer.socket), .events = POLLIN};
	cr_expect_eq(poll(&loop, 1, 0), 0, "it is woken for nothing");
	peer_close();
}

Test(testdev_socket, server_that_takes_no_answers_and_asks_on_does_not_wake_the_event_loop)
{
	const struct vu_dma_access access = {.address = RAM_ADDRESS, .count = 1u << 20};
	peer_with_twin();
	for (unsigned i = 0; i < 3; i++)
		peer_send(peer.twin, (uint16_t)i, VU_DMA_READ, 0, &access, sizeof(access), NULL, 0);
	cr_assert_eq(vu_socket_serve(peer.socket), 0);
	peer_send(peer.twin, 3, VU_DMA_READ, 0, &access, sizeof(access), NULL, 0);
	struct pollfd loop = {.fd = vu_socket_poll_fd(peer.socket), .events = POLLIN};
	cr_expect_eq(poll(&loop, 1, 0), 0, "it would spin");
	peer_close();
}

Test(testdev_socket, server_that_asks_for_much_is_served_in_turns)
{
	enum { REQUESTS = 3000 };
	struct __attribute__((packed)) {
		struct vu_header header;
		struct vu_dma_access access;
		uint8_t data[1];
	} *requests = calloc(REQUESTS, sizeof(*requests));
	for (unsigned i = 0; i < REQUESTS; i++) {
		requests[i].header = (struct vu_header){.command = VU_DMA_WRITE,
							.bytes = sizeof(*requests),
							.flags = VU_TYPE_COMMAND | VU_FLAG_NO_REPLY};
		requests[i].access = (struct vu_dma_access){.address = RAM_ADDRESS, .count = 1};
	}
	for (unsigned twin = 0; twin < 2; twin++) {
		if (twin)
			peer_with_twin();
		else
			peer_default();
		ram.writes = 0;
		ssize_t bytes = (ssize_t)(REQUESTS * sizeof(*requests));
		cr_assert_eq(send(twin ? peer.twin : peer.fd, requests, (size_t)bytes, MSG_DONTWAIT), bytes);
		unsigned turns = 0;
		struct pollfd loop = {.fd = vu_socket_poll_fd(peer.socket), .events = POLLIN};
		while (poll(&loop, 1, 0) == 1 && turns < REQUESTS) {
			unsigned before = ram.writes;
			cr_assert_eq(vu_socket_serve(peer.socket), 0);
			cr_expect_lt(ram.writes - before, REQUESTS);
			turns++;
		}
		cr_expect_eq(ram.writes, REQUESTS, "%u are left, and nothing wakes the event loop",
			     REQUESTS - ram.writes);
		cr_expect_gt(turns, 1);
		peer_close();
	}
	free(requests);
}

Test(testdev_socket, read_that_wants_no_answer_ends_the_connection)
{
	const struct vu_dma_access access = {.address = RAM_ADDRESS, .count = 1u << 20};
	peer_with_twin();
	peer_send(peer.twin, 1, VU_DMA_READ, VU_FLAG_NO_REPLY, &access, sizeof(access), NULL, 0);
	ram.reads = 0;
	cr_expect_eq(vu_socket_serve(peer.socket), -ENOTCONN);
	cr_expect_eq(ram.reads, 0);
	peer_close();
}

/* The answer does not fit before the poll set exists. */
Test(testdev_socket, server_may_ask_before_it_has_agreed_on_a_version)
{
	const struct vu_version version = {.minor = 1};
	const struct vu_dma_access access = {.address = RAM_ADDRESS, .count = 1u << 20};
	struct vu_socket *socket = NULL;
	int pair[2];
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	peer_send(pair[1], 0, VU_VERSION, VU_TYPE_REPLY, &version, sizeof(version), NULL, 0);
	peer_send(pair[1], 1, VU_DMA_READ, 0, &access, sizeof(access), NULL, 0);
	cr_expect_eq(vu_socket_adopt(pair[0], "peer", 0, &memory, &socket, &error), 0, "%s", error.message);
	static uint8_t bytes[1u << 16];
	size_t got = 0;
	for (ssize_t done; got < 1u << 20; got += (size_t)done) {
		struct pollfd loop = {.fd = vu_socket_poll_fd(socket), .events = POLLIN};
		if (poll(&loop, 1, 0) == 1)
			cr_assert_eq(vu_socket_serve(socket), 0);
		done = recv(pair[1], bytes, sizeof(bytes), MSG_DONTWAIT);
		cr_assert_gt(done, 0);
	}
	vu_socket_destroy(socket);
	close(pair[1]);
}

static void *reply_later(void *context)
{
	uint8_t calls[2 * (sizeof(struct vu_header) + sizeof(struct vu_info))];
	usleep(50000);
	peer_info(1);
	cr_assert_eq(recv(peer.fd, calls, sizeof(calls), MSG_WAITALL), sizeof(calls));
	peer_info(2);
	return context;
}

Test(testdev_socket, call_with_a_time_of_its_own_waits_for_the_late_reply)
{
	struct vu_info info;
	pthread_t thread;
	peer_default();
	cr_expect_eq(ask_info(peer.socket, &info, 1), -ETIMEDOUT);
	cr_assert_eq(pthread_create(&thread, NULL, reply_later, NULL), 0);
	cr_expect_eq(ask_info(peer.socket, &info, 30000), 0, "%s", error.message);
	pthread_join(thread, NULL);
	peer_close();
}

Test(testdev_socket, replies_to_a_call_do_not_wake_the_event_loop_of_a_twin)
{
	struct vu_info info;
	peer_with_twin();
	peer_send(peer.fd, 1, VU_GET_INFO, VU_TYPE_REPLY, &info, sizeof(info), NULL, 0);
	struct pollfd loop = {.fd = vu_socket_poll_fd(peer.socket), .events = POLLIN};
	cr_expect_eq(poll(&loop, 1, 0), 0);
	cr_expect_eq(ask_info(peer.socket, &info, 0), 0, "%s", error.message);
	shutdown(peer.fd, SHUT_RDWR);
	cr_expect_eq(poll(&loop, 1, 0), 1, "the end of the first socket goes unnoticed");
	cr_expect_eq(vu_socket_serve(peer.socket), -ENOTCONN);
	peer_close();
}

Test(testdev_socket, errors_that_mean_something_else_are_not_taken_from_a_server)
{
	static const uint32_t errors[] = {ENOTCONN, ETIMEDOUT, EMSGSIZE};
	struct vu_info info;
	for (unsigned i = 0; i < 3; i++) {
		peer_default();
		const struct vu_header header = {.id = 1,
						 .command = VU_GET_INFO,
						 .bytes = sizeof(header),
						 .flags = VU_TYPE_REPLY | VU_FLAG_ERROR,
						 .error = errors[i]};
		cr_assert_eq(write(peer.fd, &header, sizeof(header)), sizeof(header));
		cr_expect_eq(ask_info(peer.socket, &info, 0), -EIO);
		cr_expect_null(vu_socket_ended(peer.socket));
		peer_close();
	}
}

Test(testdev_socket, a_budget_is_used_up_by_waiting)
{
	struct vu_info info = {.argsz = sizeof(info)};
	uint64_t budget = 30 * UINT64_C(1000000);
	start_with_fault("silence@info");
	struct vu_call call = {.command = VU_GET_INFO,
			       .budget_ns = &budget,
			       .request = {.head = &info, .head_bytes = sizeof(info)},
			       .reply = &info,
			       .reply_room = sizeof(info),
			       .reply_least = sizeof(info)};
	cr_expect_eq(vu_socket_call(server.socket, &call, &error), -ETIMEDOUT);
	cr_expect_eq(budget, 0);
	finish();
}

static void *ask_patiently(void *context)
{
	struct vu_info info = {.argsz = sizeof(info)};
	struct vu_call call = {.command = VU_GET_INFO,
			       .timeout_ms = 50000,
			       .request = {.head = &info, .head_bytes = sizeof(info)},
			       .reply = &info,
			       .reply_room = sizeof(info),
			       .reply_least = sizeof(info)};
	*(int *)context = vu_socket_call(peer.socket, &call, NULL);
	return NULL;
}

/* The other's call would take 50 s, and this test fails after 60. */
Test(testdev_socket, a_budget_holds_while_another_thread_waits_for_the_server)
{
	struct vu_info info = {.argsz = sizeof(info)};
	uint8_t command[sizeof(struct vu_header) + sizeof(info)];
	pthread_t thread;
	int result = 0;
	peer_default();
	cr_assert_eq(pthread_create(&thread, NULL, ask_patiently, &result), 0);
	cr_assert_eq(recv(peer.fd, command, sizeof(command), MSG_WAITALL), sizeof(command));
	uint64_t before = kernel_now_ns();
	for (unsigned i = 0; i < 20; i++) {
		uint64_t budget = (i ? 5000 : 20) * UINT64_C(1000000);
		struct vu_call call = {.command = VU_GET_INFO,
				       .budget_ns = &budget,
				       .request = {.head = &info, .head_bytes = sizeof(info)}};
		int code = vu_socket_call(peer.socket, &call, &error);
		cr_expect_eq(code, -ETIMEDOUT);
		expect_message(code);
		cr_expect(i || budget == 0);
	}
	vu_socket_end(peer.socket, "it is enough");
	cr_expect_lt(kernel_now_ns() - before, 25000000000u, "only the first waits");
	pthread_join(thread, NULL);
	cr_expect_eq(result, -ENOTCONN);
	cr_expect_str_eq(vu_socket_ended(peer.socket), "it is enough");
	peer_close();
}

/* ---- Files that come by the socket ---- */

Test(testdev_socket, only_memory_that_stays_is_mapped)
{
	uint64_t bytes = 0;
	int sealed = memfd_create("memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	cr_assert_eq(ftruncate(sealed, 8192), 0);
	cr_expect_eq(kernel_seal(sealed, &bytes), 0);
	cr_expect_eq(bytes, 8192);
	cr_expect_lt(ftruncate(sealed, 4096), 0, "it can still shrink");
	cr_expect_eq(kernel_seal(sealed, &bytes), 0, "one that is sealed already");
	close(sealed);
	int open_ended = memfd_create("memory", MFD_CLOEXEC);
	cr_expect_eq(kernel_seal(open_ended, &bytes), -EPERM);
	close(open_ended);
	char path[] = "/tmp/tenon-seal-XXXXXX";
	int file = mkstemp(path);
	unlink(path);
	cr_expect_lt(kernel_seal(file, &bytes), 0);
	close(file);
	int event = kernel_eventfd();
	cr_expect_eq(kernel_seal(event, &bytes), -EINVAL);
	close(event);
	int huge = memfd_create("memory", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB);
	if (huge >= 0) { /* a hole in it may not be filled again */
		cr_expect_eq(kernel_seal(huge, &bytes), -EINVAL);
		close(huge);
	}
}

/* ---- Room ---- */

Test(testdev_socket, server_that_reads_nothing_fails_the_first_post_in_time_and_the_others_at_once)
{
	uint8_t data[4096] = {0};
	const struct vu_region_access access = {.count = sizeof(data)};
	struct vu_call call = {
		.command = VU_REGION_WRITE,
		.timeout_ms = 10,
		.request = {.head = &access, .head_bytes = sizeof(access), .data = data, .data_bytes = sizeof(data)}};
	struct vu_info info;
	unsigned posted = 0;
	int code;
	peer_default();
	while ((code = vu_socket_post(peer.socket, &call, &error)) == 0)
		cr_assert_lt(++posted, 100000);
	cr_expect_eq(code, -ETIMEDOUT);
	expect_message(code);
	cr_expect_eq(ask_info(peer.socket, &info, 0), -ETIMEDOUT);
	for (unsigned i = 0; i < posted + 2; i++)
		peer_drain();
	peer_info((uint16_t)(posted + 2)); /* those, one that was given up, and the version */
	cr_expect_eq(ask_info(peer.socket, &info, 0), 0, "it reads again: %s", error.message);
	peer_close();
}

Test(testdev_socket, more_than_the_server_takes_is_not_sent)
{
	static uint8_t data[(1u << 20) + 1];
	const int fds[2] = {0, 0};
	struct vu_call large = {.command = VU_REGION_WRITE, .request = {.data = data, .data_bytes = sizeof(data)}};
	struct vu_call many = {.command = VU_SET_IRQS, .request = {.fds = fds, .fd_count = 2}};
	peer_default();
	int code = vu_socket_call(peer.socket, &large, &error);
	cr_expect_eq(code, -EMSGSIZE);
	expect_message(code);
	cr_expect_eq(vu_socket_call(peer.socket, &many, &error), -EMSGSIZE, "one is the default");
	uint8_t byte;
	cr_expect_lt(recv(peer.fd, &byte, 1, MSG_DONTWAIT), 0);
	peer_close();
}

Test(testdev_socket, connection_can_be_ended_with_a_reason)
{
	struct vu_info info;
	peer_default();
	vu_socket_end(peer.socket, "an unmap was not answered");
	vu_socket_end(peer.socket, "another reason");
	int code = ask_info(peer.socket, &info, 0);
	cr_expect_eq(code, -ENOTCONN);
	cr_expect(strstr(error.message, "an unmap was not answered"), "%s", error.message);
	struct pollfd poll_fd = {.fd = peer.fd, .events = POLLIN};
	cr_expect_eq(poll(&poll_fd, 1, 0), 1, "the server sees the end");
	peer_close();
}

/* ---- Waiting awake ---- */

Test(testdev_socket, answer_that_comes_soon_is_waited_for_awake)
{
	struct vu_info info;
	waits.awake = true;
	cr_assert_eq(peer_open(0, 1, "", 0, NULL, 0), 0);
	peer_info(1);
	waits.sleeps = 0;
	cr_expect_eq(ask_info(peer.socket, &info, 0), 0, "%s", error.message);
	cr_expect_eq(waits.sleeps, 0);
	peer_close();
}

Test(testdev_socket, server_that_was_slow_is_waited_for_asleep_by_the_next_128_calls)
{
	struct vu_info info;
	cr_assert_eq(peer_open(0, 1, "", 0, NULL, 0), 0);
	cr_expect_eq(waits.looks, 1, "the version's answer was slow");
	for (uint16_t id = 1; id <= 129; id++) {
		cr_expect_eq(waits.looks, 1, "call %u", id);
		peer_info(id);
		cr_expect_eq(ask_info(peer.socket, &info, 0), 0, "%s", error.message);
	}
	cr_expect_eq(waits.looks, 2);
	peer_close();
}

/* ---- Kernel calls ---- */

Test(testdev_socket, each_kernel_call_that_fails_is_an_error_without_a_leak)
{
	static const struct {
		enum failing call;
		int error;
	} cases[] = {{SEND, ECONNRESET}, {SEND, ENOBUFS}, {RECEIVE, ECONNRESET}, {RECEIVE, ENOMEM}, {WAIT, ENOMEM}};
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (unsigned nth = 1; nth <= 2; nth++) { /* in the version, and in the first call */
			struct vu_info info;
			failure.call = cases[i].call;
			failure.nth = nth;
			failure.error = cases[i].error;
			int code = peer_open(0, 1, "", 0, NULL, 0);
			cr_expect_eq(code, nth == 1 ? -ENOTCONN : 0, "case %u", i);
			if (nth == 2) {
				peer_info(1);
				code = ask_info(peer.socket, &info, 0);
				cr_expect_eq(code, -ENOTCONN, "case %u: %d", i, code);
			}
			expect_message(-ENOTCONN);
			failure.nth = 0;
			peer_close();
		}
	}
}

Test(testdev_socket, connect_that_fails_says_what_to_do)
{
	static const int errors[] = {EACCES, EAGAIN, EMFILE, ENOENT};
	for (unsigned i = 0; i < 4; i++) {
		struct vu_socket *socket = NULL;
		failure.call = CONNECT;
		failure.nth = 1;
		failure.error = errors[i];
		int code = vu_socket_connect("/nowhere", 0, &memory, &socket, &error);
		cr_expect_eq(code, -errors[i]);
		expect_message(code);
		cr_expect_null(socket);
	}
}

/* ---- Several threads ---- */

static void *call_often(void *context)
{
	const unsigned *offset = context;
	for (uint64_t i = 1; i <= 300; i++) {
		struct tenon_error ignored;
		struct {
			struct vu_region_access access;
			uint64_t value;
		} data = {.access = {.offset = *offset, .count = 8}, .value = i << 32 | *offset};
		struct vu_call write = {.command = VU_REGION_WRITE,
					.request = {.head = &data.access,
						    .head_bytes = sizeof(data.access),
						    .data = &data.value,
						    .data_bytes = 8}};
		if (vu_socket_post(server.socket, &write, &ignored) < 0)
			return context;
		data.value = 0;
		struct vu_call read = {.command = VU_REGION_READ,
				       .request = {.head = &data.access, .head_bytes = sizeof(data.access)},
				       .reply = &data,
				       .reply_room = sizeof(data),
				       .reply_least = sizeof(data)};
		if (vu_socket_call(server.socket, &read, &ignored) < 0 || data.value != (i << 32 | *offset))
			return context;
		vu_socket_serve(server.socket);
	}
	return NULL;
}

/* Servers hold eventfds that are read here, and O_NONBLOCK is the open file's. This test hangs where it is relied on. */
Test(testdev_socket, eventfd_that_a_server_made_blocking_is_not_waited_for)
{
	int fd = kernel_eventfd();
	cr_assert_geq(fd, 0);
	cr_assert_eq(fcntl(fd, F_SETFL, 0), 0);
	cr_expect_eq(kernel_eventfd_take(fd), 0);
	eventfd_write(fd, 3);
	cr_expect_eq(kernel_eventfd_take(fd), 1);
	cr_expect_eq(kernel_eventfd_take(fd), 0);
	kernel_close(fd);
}

Test(testdev_socket, threads_take_turns)
{
	static unsigned offsets[2] = {TD_SCRATCH, TD_SCRATCH2};
	pthread_t threads[2];
	start_default();
	write_region(server.socket, 7, PCI_COMMAND, 7, 2, false);
	for (unsigned i = 0; i < 2; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, call_often, &offsets[i]), 0);
	for (unsigned i = 0; i < 2; i++) {
		void *wrong = NULL;
		pthread_join(threads[i], &wrong);
		cr_expect_null(wrong, "thread %u", i);
	}
	finish();
}
