// SPDX-License-Identifier: MIT
/* The raw client of the test device's tests. */
#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "../fakes/descriptors.h"
#include "server.h"
#include "testdev_client.h"

struct answer answer;

static unsigned fds_before;

static void *serve(void *context)
{
	struct client *client = context;
	client->result = server_serve(client->device, client->server_fd, client->stop);
	return NULL;
}

static void connect_client(struct client *client)
{
	const struct timeval patience = {.tv_sec = PATIENCE_S};
	int pair[2];
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(pair[0], SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	client->fd = pair[0];
	client->twin = -1;
	client->server_fd = pair[1];
	cr_assert_eq(pthread_create(&client->thread, NULL, serve, client), 0);
	client->running = true;
}

void client_start(struct client *client, const struct testdev_options *options)
{
	struct tenon_error error = {0};
	fds_before = descriptors_open();
	*client = (struct client){.fd = -1, .twin = -1, .next_id = 1};
	if (options)
		client->options = *options;
	client->options.quiet = true;
	client->ram_fd = memfd_create("ram", MFD_CLOEXEC);
	cr_assert_eq(ftruncate(client->ram_fd, RAM_BYTES), 0);
	client->ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, client->ram_fd, 0);
	cr_assert_neq(client->ram, MAP_FAILED);
	client->stop = eventfd_new();
	cr_assert_eq(testdev_create(&client->options, &client->device, &error), 0, "%s", error.message);
	connect_client(client);
}

void client_open(struct client *client, const struct testdev_options *options)
{
	client_start(client, options);
	cr_assert_eq(client_greet(client, "{\"capabilities\":{\"max_msg_fds\":8}}"), 0);
}

static void close_answer(void)
{
	for (unsigned i = 0; i < answer.fd_count; i++) {
		if (answer.fds[i] >= 0)
			close(answer.fds[i]);
	}
	answer.fd_count = 0;
}

int client_leave(struct client *client)
{
	close_answer();
	if (client->fd >= 0)
		close(client->fd);
	if (client->twin >= 0)
		close(client->twin);
	client->fd = client->twin = -1;
	if (client->running)
		pthread_join(client->thread, NULL);
	client->running = false;
	return client->result;
}

void client_return(struct client *client)
{
	connect_client(client);
	cr_assert_eq(client_greet(client, "{\"capabilities\":{\"max_msg_fds\":8}}"), 0);
}

void client_close(struct client *client)
{
	client_leave(client);
	testdev_destroy(client->device);
	munmap(client->ram, RAM_BYTES);
	close(client->ram_fd);
	close(client->stop);
	cr_expect_eq(descriptors_open(), fds_before, "file descriptors are left open");
}

void client_send(struct client *client, const void *bytes, size_t count, const int *fds, unsigned fd_count)
{
	static union descriptors room;
	for (size_t sent = 0; sent < count;) {
		struct iovec part = {.iov_base = (uint8_t *)bytes + sent, .iov_len = count - sent};
		struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
		if (sent == 0)
			descriptors_attach(&header, &room, fds, fd_count);
		ssize_t done = sendmsg(client->fd, &header, MSG_NOSIGNAL);
		if (done < 0 && errno == EPIPE)
			return; /* the test sees it when it waits for the reply */
		cr_assert_gt(done, 0, "the server does not take what is sent: %s", strerror(errno));
		sent += (size_t)done;
	}
}

uint16_t client_post(struct client *client, uint16_t command, uint32_t flags, const void *payload, size_t bytes,
		     const int *fds, unsigned fd_count)
{
	static uint8_t message[REPLY_BYTES_MAX];
	const struct vu_header header = {.id = client->next_id++,
					 .command = command,
					 .bytes = (uint32_t)(sizeof(header) + bytes),
					 .flags = flags};
	cr_assert(sizeof(header) + bytes <= sizeof(message));
	memcpy(message, &header, sizeof(header));
	if (bytes)
		memcpy(message + sizeof(header), payload, bytes);
	client_send(client, message, sizeof(header) + bytes, fds, fd_count);
	return header.id;
}

/* @return 1, or 0 when the other side is gone */
static int receive_bytes(int fd, void *bytes, size_t count, struct answer *fds_to)
{
	union {
		char bytes[CMSG_SPACE(VU_FDS_MAX * sizeof(int))];
		struct cmsghdr aligned;
	} control;
	for (size_t got = 0; got < count;) {
		struct iovec part = {.iov_base = (uint8_t *)bytes + got, .iov_len = count - got};
		struct msghdr header = {.msg_iov = &part,
					.msg_iovlen = 1,
					.msg_control = control.bytes,
					.msg_controllen = sizeof(control.bytes)};
		ssize_t done = recvmsg(fd, &header, MSG_CMSG_CLOEXEC);
		cr_assert(done >= 0 || errno == ECONNRESET, "no reply within %d s: %s", PATIENCE_S, strerror(errno));
		if (done <= 0)
			return 0;
		struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
		if (rights && rights->cmsg_type == SCM_RIGHTS) {
			fds_to->fd_count = (unsigned)((rights->cmsg_len - CMSG_LEN(0)) / sizeof(int));
			memcpy(fds_to->fds, CMSG_DATA(rights), fds_to->fd_count * sizeof(int));
		}
		got += (size_t)done;
	}
	return 1;
}

static int receive_message(int fd)
{
	close_answer();
	if (!receive_bytes(fd, &answer.header, sizeof(answer.header), &answer))
		return 0;
	cr_assert(answer.header.bytes >= sizeof(answer.header) &&
			  answer.header.bytes <= sizeof(answer.header) + sizeof(answer.payload),
		  "message of %u bytes", answer.header.bytes);
	answer.bytes = answer.header.bytes - sizeof(answer.header);
	return receive_bytes(fd, answer.payload, answer.bytes, &answer);
}

/* The device asks for memory. */
static void answer_dma(struct client *client, int fd)
{
	static uint8_t message[sizeof(struct vu_header) + REPLY_BYTES_MAX];
	struct vu_dma_access access;
	struct vu_header header = answer.header;
	bool read = header.command == VU_DMA_READ;
	memcpy(&access, answer.payload, sizeof(access));
	cr_assert(access.address >= RAM_ADDRESS && access.address + access.count <= RAM_ADDRESS + RAM_BYTES);
	if (client->dma_ignore)
		return;
	header.flags = VU_TYPE_REPLY;
	header.bytes = sizeof(header) + sizeof(access) + (uint32_t)(read ? access.count : 0);
	if (client->dma_error) {
		header.flags |= VU_FLAG_ERROR;
		header.error = (uint32_t)client->dma_error;
		header.bytes = sizeof(header);
	} else if (read) {
		memcpy(message + sizeof(header) + sizeof(access), client->ram + (access.address - RAM_ADDRESS),
		       access.count);
		client->dma_reads++;
	} else {
		cr_assert_eq(answer.bytes, sizeof(access) + access.count);
		memcpy(client->ram + (access.address - RAM_ADDRESS), answer.payload + sizeof(access), access.count);
		client->dma_writes++;
	}
	memcpy(message, &header, sizeof(header));
	memcpy(message + sizeof(header), &access, sizeof(access));
	int main_fd = client->fd;
	client->fd = fd;
	client_send(client, message, header.bytes, NULL, 0);
	client->fd = main_fd;
}

int client_receive(struct client *client)
{
	for (;;) {
		struct pollfd polls[] = {{.fd = client->twin, .events = POLLIN}, {.fd = client->fd, .events = POLLIN}};
		cr_assert_gt(poll(polls, 2, PATIENCE_S * 1000), 0, "no reply within %d s", PATIENCE_S);
		int fd = polls[0].revents & POLLIN ? client->twin : client->fd;
		if (!receive_message(fd))
			return 0;
		if ((answer.header.flags & VU_TYPE_MASK) == VU_TYPE_REPLY)
			return 1;
		answer_dma(client, fd);
	}
}

int client_call_fds(struct client *client, uint16_t command, const void *payload, size_t bytes, const int *fds,
		    unsigned fd_count)
{
	uint16_t id = client_post(client, command, 0, payload, bytes, fds, fd_count);
	if (!client_receive(client))
		return -ECONNRESET;
	cr_assert_eq(answer.header.id, id);
	cr_assert_eq(answer.header.command, command);
	if (!(answer.header.flags & VU_FLAG_ERROR))
		return 0;
	cr_assert_eq(answer.bytes, 0, "an error has no payload");
	cr_assert_eq(answer.fd_count, 0, "an error has no fds");
	return -(int)answer.header.error;
}

int client_call(struct client *client, uint16_t command, const void *payload, size_t bytes)
{
	return client_call_fds(client, command, payload, bytes, NULL, 0);
}

int client_greet(struct client *client, const char *capabilities)
{
	uint8_t payload[1024];
	const struct vu_version version = {.major = VU_MAJOR, .minor = VU_MINOR};
	size_t bytes = sizeof(version);
	memcpy(payload, &version, sizeof(version));
	if (capabilities) {
		memcpy(payload + bytes, capabilities, strlen(capabilities) + 1);
		bytes += strlen(capabilities) + 1;
	}
	int code = client_call(client, VU_VERSION, payload, bytes);
	if (code == 0 && answer.fd_count == 1) {
		client->twin = answer.fds[0];
		answer.fds[0] = -1;
	}
	return code;
}

bool client_alive(struct client *client)
{
	const struct vu_info info = {.argsz = sizeof(info)};
	return client_call(client, VU_GET_INFO, &info, sizeof(info)) == 0;
}

bool client_dropped(struct client *client)
{
	while (client_receive(client))
		;
	return true;
}

int client_access(struct client *client, uint16_t command, unsigned region, uint64_t offset, uint32_t count)
{
	uint8_t payload[sizeof(struct vu_region_access) + 4096] = {0};
	const struct vu_region_access access = {.offset = offset, .region = region, .count = count};
	memcpy(payload, &access, sizeof(access));
	return client_call(client, command, payload, sizeof(access) + (command == VU_REGION_WRITE ? count : 0));
}

uint64_t client_read(struct client *client, unsigned region, uint64_t offset, unsigned bytes)
{
	uint64_t value = 0;
	cr_assert_eq(client_access(client, VU_REGION_READ, region, offset, bytes), 0);
	cr_assert_eq(answer.bytes, sizeof(struct vu_region_access) + bytes);
	memcpy(&value, answer.payload + sizeof(struct vu_region_access), bytes);
	return value;
}

void client_write(struct client *client, unsigned region, uint64_t offset, uint64_t value, unsigned bytes)
{
	struct {
		struct vu_region_access access;
		uint64_t value;
	} payload = {.access = {.offset = offset, .region = region, .count = bytes}, .value = value};
	cr_assert_eq(client_call(client, VU_REGION_WRITE, &payload, sizeof(payload.access) + bytes), 0);
	cr_assert_eq(answer.bytes, sizeof(struct vu_region_access));
}

uint32_t reg(struct client *client, unsigned offset)
{
	return (uint32_t)client_read(client, TD_BAR_REGISTERS, offset, 4);
}

uint64_t reg64(struct client *client, unsigned offset)
{
	return client_read(client, TD_BAR_REGISTERS, offset, 8);
}

void set_reg(struct client *client, unsigned offset, uint32_t value)
{
	client_write(client, TD_BAR_REGISTERS, offset, value, 4);
}

void set_reg64(struct client *client, unsigned offset, uint64_t value)
{
	client_write(client, TD_BAR_REGISTERS, offset, value, 8);
}

void client_enable(struct client *client)
{
	client_write(client, VFIO_PCI_CONFIG_REGION_INDEX, 4, 7, 2);
}

int client_map(struct client *client, uint64_t address, uint64_t bytes, uint32_t flags, int fd, uint64_t offset)
{
	const struct vu_dma_map map = {
		.argsz = sizeof(map), .flags = flags, .offset = offset, .address = address, .bytes = bytes};
	return client_call_fds(client, VU_DMA_MAP, &map, sizeof(map), &fd, fd >= 0);
}

int client_unmap(struct client *client, uint64_t address, uint64_t bytes, uint32_t flags)
{
	const struct vu_dma_unmap unmap = {.argsz = sizeof(unmap), .flags = flags, .address = address, .bytes = bytes};
	return client_call(client, VU_DMA_UNMAP, &unmap, sizeof(unmap));
}

void client_map_ram(struct client *client, bool shared)
{
	cr_assert_eq(client_map(client, RAM_ADDRESS, RAM_BYTES, VU_DMA_READABLE | VU_DMA_WRITEABLE,
				shared ? client->ram_fd : -1, 0),
		     0);
}

void client_descriptor(struct client *client, unsigned index, uint64_t source, uint64_t target, uint32_t length,
		       uint32_t flags)
{
	const struct copy_descriptor descriptor = {
		.source = source, .target = target, .length = length, .flags = flags};
	memcpy(client->ram + index * sizeof(descriptor), &descriptor, sizeof(descriptor));
}

uint32_t client_run_list(struct client *client, unsigned count)
{
	uint32_t status;
	set_reg64(client, TD_LIST_ADDRESS, RAM_ADDRESS);
	set_reg(client, TD_LIST_COUNT, count);
	set_reg(client, TD_CONTROL, TD_CONTROL_START);
	while ((status = reg(client, TD_STATUS)) & TD_STATUS_BUSY)
		;
	return status;
}

uint64_t client_wait_eventfd(int fd)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
	cr_assert_eq(poll(&poll_fd, 1, PATIENCE_S * 1000), 1, "no interrupt");
	return eventfd_take(fd);
}

uint64_t eventfd_take(int fd)
{
	uint64_t count;
	return read(fd, &count, sizeof(count)) == sizeof(count) ? count : 0;
}

int eventfd_new(void)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	cr_assert_geq(fd, 0);
	return fd;
}

int client_arm(struct client *client, unsigned kind, unsigned first, const int *fds, unsigned count)
{
	const struct vu_irq_set set = {.argsz = sizeof(set),
				       .flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
				       .index = kind,
				       .start = first,
				       .count = count};
	return client_call_fds(client, VU_SET_IRQS, &set, sizeof(set), fds, fds ? count : 0);
}

int client_set_state(struct client *client, uint32_t state)
{
	const struct {
		struct vu_feature feature;
		struct vu_state state;
	} payload = {{.argsz = sizeof(payload), .flags = VU_FEATURE_SET | VU_FEATURE_STATE}, {.state = state}};
	return client_call(client, VU_FEATURE, &payload, sizeof(payload));
}

uint32_t client_state(struct client *client)
{
	struct vu_state state;
	const struct vu_feature feature = {.argsz = sizeof(feature) + sizeof(state),
					   .flags = VU_FEATURE_GET | VU_FEATURE_STATE};
	cr_assert_eq(client_call(client, VU_FEATURE, &feature, sizeof(feature)), 0);
	cr_assert_eq(answer.bytes, sizeof(feature) + sizeof(state));
	memcpy(&state, answer.payload + sizeof(feature), sizeof(state));
	return state.state;
}

unsigned client_violations(struct client *client, unsigned kind)
{
	/* The server has executed everything before this reply, and the next message is not sent yet: no race. */
	cr_assert(client_alive(client));
	return client->device->journal.counts[kind];
}
