/* SPDX-License-Identifier: MIT */
/*
 * Feeds the test device's server a client's bytes over a real socket: after the version, which the input may choose, whatever
 * it holds. The server must neither crash nor hang nor leave a file descriptor open, and must serve the next client.
 *
 * Input: a byte of choices (below), then bytes for the main socket. A byte 0xf? before a message's header sends file
 * descriptors with it.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <vfio_user_protocol.h>

#include "../fakes/descriptors.h"
#include "server.h"
#include "testdev.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
	CHOICE_GREET = 0x01,  /* a sound version comes first */
	CHOICE_TWIN = 0x02,   /* with a twin socket */
	CHOICE_MAP = 0x04,    /* memory is mapped, bus mastering is on */
	CHOICE_SHARED = 0x08, /* that memory is shared */
	CHOICE_RESUME = 0x10, /* the device is in RESUMING, and the bytes are its stream in one message */
	CHOICE_FAULT = 0x20,  /* every third message meets a fault */
};

#define RAM_ADDRESS 0x10000u
#define RAM_BYTES   0x10000u
#define BYTES_MAX   60000u /* less than a socket takes without a reader */

static struct testdev *device;
static int ram;

static void require(bool holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "broken: %s\n", what);
	abort();
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const struct testdev_options options = {
		.quiet = true, .dma_timeout_ms = 1, .block_bytes = 8192, .data_bytes = 65536};
	require(testdev_create(&options, &device, NULL) == 0, "device");
	ram = memfd_create("ram", MFD_CLOEXEC);
	require(ftruncate(ram, RAM_BYTES) == 0, "memory");
	return 0;
}

static void send_bytes(int fd, const void *bytes, size_t count, const int *fds, unsigned fd_count)
{
	union descriptors room;
	struct iovec part = {.iov_base = (void *)bytes, .iov_len = count};
	struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
	descriptors_attach(&header, &room, fds, fd_count);
	if (count)
		sendmsg(fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void send_message(int fd, uint16_t command, const void *payload, size_t bytes, const int *fds, unsigned fd_count)
{
	static uint8_t message[sizeof(struct vu_header) + BYTES_MAX + 64];
	const struct vu_header header = {.command = command, .bytes = (uint32_t)(sizeof(header) + bytes)};
	memcpy(message, &header, sizeof(header));
	if (bytes)
		memcpy(message + sizeof(header), payload, bytes);
	send_bytes(fd, message, header.bytes, fds, fd_count);
}

static void send_version(int fd, bool twin)
{
	static const char with[] =
		"\0\0\2\0{\"capabilities\":{\"max_msg_fds\":8,\"twin_socket\":{\"supported\":true}}}";
	static const char without[] = "\0\0\2\0{\"capabilities\":{\"max_msg_fds\":8,\"max_data_xfer_size\":4096}}";
	if (twin)
		send_message(fd, VU_VERSION, with, sizeof(with), NULL, 0);
	else
		send_message(fd, VU_VERSION, without, sizeof(without), NULL, 0);
}

static void send_map(int fd, bool shared)
{
	const struct vu_dma_map map = {.argsz = sizeof(map),
				       .flags = VU_DMA_READABLE | VU_DMA_WRITEABLE,
				       .address = RAM_ADDRESS,
				       .bytes = RAM_BYTES};
	const struct {
		struct vu_region_access access;
		uint16_t value;
	} enable = {{.offset = 4, .region = 7, .count = 2}, 7};
	send_message(fd, VU_DMA_MAP, &map, sizeof(map), &ram, shared);
	send_message(fd, VU_REGION_WRITE, &enable, sizeof(enable.access) + 2, NULL, 0);
}

static void send_stream(int fd, const uint8_t *data, size_t size)
{
	static uint8_t payload[BYTES_MAX + 16];
	const struct {
		struct vu_feature feature;
		struct vu_state state;
	} resume = {{.argsz = 16, .flags = VU_FEATURE_SET | VU_FEATURE_STATE}, {.state = VU_STATE_RESUMING}},
	  run = {{.argsz = 16, .flags = VU_FEATURE_SET | VU_FEATURE_STATE}, {.state = VU_STATE_RUNNING}};
	const struct vu_mig_data head = {.argsz = (uint32_t)(sizeof(head) + size), .bytes = (uint32_t)size};
	memcpy(payload, &head, sizeof(head));
	memcpy(payload + sizeof(head), data, size);
	send_message(fd, VU_FEATURE, &resume, sizeof(resume), NULL, 0);
	send_message(fd, VU_MIG_DATA_WRITE, payload, sizeof(head) + size, NULL, 0);
	send_message(fd, VU_FEATURE, &run, sizeof(run), NULL, 0);
}

/* In pieces: after a byte 0xf0 to 0xf7, the next piece brings that many eventfds or the memory's file. */
static void send_pieces(int fd, const uint8_t *data, size_t size)
{
	int eventfds[3];
	for (unsigned i = 0; i < 3; i++)
		eventfds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	for (size_t at = 0; at < size;) {
		unsigned kind = data[at] >= 0xf0 && data[at] <= 0xf7 ? data[at] - 0xf0u : 0;
		at += data[at] >= 0xf0 && data[at] <= 0xf7;
		size_t end = at;
		while (end < size && (data[end] < 0xf0 || data[end] > 0xf7))
			end++;
		if (kind >= 4)
			send_bytes(fd, data + at, end - at, &ram, 1);
		else
			send_bytes(fd, data + at, end - at, eventfds, kind);
		at = end;
	}
	for (unsigned i = 0; i < 3; i++)
		close(eventfds[i]);
}

/* Everything is in the socket before the server starts, and then its end: no thread is needed. */
static void serve(uint8_t choices, const uint8_t *data, size_t size)
{
	int pair[2];
	require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0, "socket");
	if (choices & CHOICE_GREET)
		send_version(pair[0], choices & CHOICE_TWIN);
	if (choices & CHOICE_MAP)
		send_map(pair[0], choices & CHOICE_SHARED);
	if (choices & CHOICE_RESUME)
		send_stream(pair[0], data, size);
	else
		send_pieces(pair[0], data, size);
	shutdown(pair[0], SHUT_WR);
	int code = server_serve(device, pair[1], -1);
	require(code <= 0, "the server says how it ended");
	close(pair[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct fault faults[] = {{.kind = FAULT_WRONG_SIZE, .value = -5, .nth = 3},
					      {.kind = FAULT_SHORT, .value = 3, .nth = 6},
					      {.kind = FAULT_TWICE, .nth = 4}};
	if (size < 1 || size > BYTES_MAX)
		return 0;
	unsigned fds_before = descriptors_open();
	device->options.fault_count = data[0] & CHOICE_FAULT ? 3 : 0;
	memcpy(device->options.faults, faults, sizeof(faults));
	serve(data[0], data + 1, size - 1);

	/* A sound client afterwards. */
	const struct vu_info info = {.argsz = sizeof(info)};
	uint8_t reply[4096];
	int pair[2];
	device->options.fault_count = 0;
	require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0, "socket");
	send_version(pair[0], false);
	send_message(pair[0], VU_RESET, NULL, 0, NULL, 0);
	send_message(pair[0], VU_GET_INFO, &info, sizeof(info), NULL, 0);
	shutdown(pair[0], SHUT_WR);
	require(server_serve(device, pair[1], -1) == 0, "the next client is served");
	ssize_t got = recv(pair[0], reply, sizeof(reply), 0);
	struct vu_header last;
	require(got > 32, "the next client has replies");
	memcpy(&last, reply + got - 32, sizeof(last));
	require(last.command == VU_GET_INFO && last.flags == VU_TYPE_REPLY, "the next client has its reply");
	close(pair[0]);
	require(device->migration.state == VU_STATE_RUNNING, "a reset leads back to running");
	require(descriptors_open() == fds_before, "no file descriptor is left open");
	return 0;
}
