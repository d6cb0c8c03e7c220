// SPDX-License-Identifier: MIT
/* See vfio_user_liar.h. The thread relays whole messages; what it cannot relay ends both connections. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "../fakes/descriptors.h"
#include "vfio_user_liar.h"

#define GARBAGE_BYTES 64u

struct message {
	struct vu_header *header; /* of `bytes` */
	uint8_t *content;
	uint32_t bytes;
	int fds[LIAR_FDS];
	unsigned fd_count;
};

static void close_fds(struct message *message)
{
	for (unsigned i = 0; i < message->fd_count; i++)
		close(message->fds[i]);
	message->fd_count = 0;
}

/* ---- Sockets ---- */

static bool receive_part(int fd, uint8_t *at, size_t bytes, struct message *message)
{
	while (bytes) {
		union {
			struct cmsghdr header;
			uint8_t room[CMSG_SPACE(sizeof(int) * LIAR_FDS)];
		} control;
		struct iovec part = {.iov_base = at, .iov_len = bytes};
		struct msghdr head = {
			.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
		ssize_t got = recvmsg(fd, &head, MSG_CMSG_CLOEXEC);
		if (got <= 0)
			return false;
		const struct cmsghdr *rights = CMSG_FIRSTHDR(&head);
		if (rights && rights->cmsg_type == SCM_RIGHTS) {
			message->fd_count = (unsigned)((rights->cmsg_len - CMSG_LEN(0)) / sizeof(int));
			memcpy(message->fds, CMSG_DATA(rights), message->fd_count * sizeof(int));
		}
		at += got;
		bytes -= (size_t)got;
	}
	return true;
}

/* @return false: it ended */
static bool receive(int fd, uint8_t *content, struct message *out)
{
	*out = (struct message){.header = (struct vu_header *)content, .content = content};
	if (!receive_part(fd, content, sizeof(struct vu_header), out))
		return false;
	out->bytes = out->header->bytes;
	return out->bytes >= sizeof(struct vu_header) && out->bytes <= LIAR_MESSAGE_BYTES &&
	       receive_part(fd, content + sizeof(struct vu_header), out->bytes - sizeof(struct vu_header), out);
}

static void send_bytes(int fd, const uint8_t *content, uint32_t bytes, const int *fds, unsigned fd_count)
{
	union descriptors room;
	struct iovec part = {.iov_base = (void *)content, .iov_len = bytes};
	struct msghdr head = {.msg_iov = &part, .msg_iovlen = 1};
	descriptors_attach(&head, &room, fds, fd_count);
	while (part.iov_len) {
		ssize_t sent = sendmsg(fd, &head, MSG_NOSIGNAL);
		if (sent <= 0)
			return; /* whoever reads finds out */
		part.iov_base = (uint8_t *)part.iov_base + sent;
		part.iov_len -= (size_t)sent;
		head.msg_control = NULL;
		head.msg_controllen = 0;
	}
}

static void relay(int fd, const struct message *message)
{
	send_bytes(fd, message->content, message->bytes, message->fds, message->fd_count);
}

/* ---- Lies ---- */

static int make_file(enum lie_file kind)
{
	int ends[2] = {-1, -1};
	int fd = -1;
	switch (kind) {
	case FILE_SHORT:
	case FILE_EMPTY:
		fd = memfd_create("lie", MFD_CLOEXEC | MFD_ALLOW_SEALING);
		if (kind == FILE_SHORT && ftruncate(fd, 4096) < 0)
			abort();
		return fd;
	case FILE_UNSEALABLE: /* its owner can truncate it at any time */
		fd = memfd_create("lie", MFD_CLOEXEC);
		if (ftruncate(fd, 64 << 20) < 0)
			abort();
		return fd;
	case FILE_READ_ONLY:
		fd = memfd_create("lie", MFD_CLOEXEC | MFD_ALLOW_SEALING);
		if (ftruncate(fd, 64 << 20) < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) < 0)
			abort();
		return fd;
	case FILE_DEVICE:
		return open("/dev/zero", O_RDWR | O_CLOEXEC);
	case FILE_PIPE:
		if (pipe2(ends, O_CLOEXEC) < 0)
			abort();
		break;
	case FILE_SOCKET:
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
			abort();
		break;
	case FILE_FOLDER:
		return open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	close(ends[1]);
	return ends[0];
}

static void resize(struct liar *liar, struct message *message, int64_t by)
{
	uint32_t least = sizeof(struct vu_header);
	int64_t bytes = (int64_t)message->bytes + by;
	if (bytes < least)
		bytes = least;
	if (by > 0)
		memset(message->content + message->bytes, 0x5a, (size_t)by);
	message->bytes = message->header->bytes = (uint32_t)bytes;
	relay(liar->down, message);
}

static void patch(struct liar *liar, struct message *message)
{
	uint32_t bytes = message->bytes;
	for (const struct patch *at = liar->lie.patches; at < liar->lie.patches + LIE_PATCHES && at->width; at++) {
		if (at->at + at->width <= bytes)
			memcpy(message->content + at->at, &at->value, at->width);
		else
			atomic_fetch_sub(&liar->told, 1); /* nothing to change: not the message that the test means */
	}
	relay(liar->down, message);
}

static void change_fds(struct liar *liar, struct message *message)
{
	struct message changed = *message;
	int extra[2 * LIAR_FDS];
	unsigned count = 0;
	if (liar->lie.kind != LIE_NO_FDS)
		for (; count < message->fd_count; count++)
			extra[count] = message->fds[count];
	if (liar->lie.kind == LIE_MANY_FDS)
		for (int64_t i = 0; i < liar->lie.value; i++)
			extra[count++] = liar->stop;
	int file = -1;
	if (liar->lie.kind == LIE_FILE) {
		file = make_file(liar->lie.file);
		extra[0] = file;
		count = count ? count : 1;
	}
	send_bytes(liar->down, changed.content, changed.bytes, extra, count);
	if (file >= 0)
		close(file);
}

static void insert(struct liar *liar, const struct message *message)
{
	struct inserted *inserted = &liar->lie.inserted;
	uint8_t bytes[sizeof(inserted->header) + sizeof(inserted->payload)];
	inserted->header.id = LIE_ID;
	if (!inserted->header.bytes)
		inserted->header.bytes = (uint32_t)sizeof(inserted->header) + inserted->bytes;
	memcpy(bytes, &inserted->header, sizeof(inserted->header));
	memcpy(bytes + sizeof(inserted->header), inserted->payload, sizeof(inserted->payload));
	send_bytes(liar->down, bytes, (uint32_t)sizeof(inserted->header) + inserted->bytes, NULL, 0);
	relay(liar->down, message);
}

static void fail(struct liar *liar, struct message *message)
{
	message->header->flags |= VU_FLAG_ERROR;
	message->header->error = (uint32_t)liar->lie.value;
	message->bytes = message->header->bytes = sizeof(struct vu_header);
	close_fds(message);
	relay(liar->down, message);
}

static void repeat_last(struct liar *liar)
{
	send_bytes(liar->down, liar->last, liar->last_bytes, NULL, 0);
}

static void lie(struct liar *liar, struct message *message)
{
	uint8_t garbage[GARBAGE_BYTES];
	atomic_fetch_add(&liar->told, 1);
	switch (liar->lie.kind) {
	case LIE_NONE:
	case LIE_NEVER:
		break;
	case LIE_LATE:
		usleep((useconds_t)liar->lie.value * 1000);
		relay(liar->down, message);
		break;
	case LIE_TWICE:
		relay(liar->down, message);
		relay(liar->down, message);
		break;
	case LIE_STALE:
		repeat_last(liar);
		break;
	case LIE_EARLY:
		repeat_last(liar);
		relay(liar->down, message);
		break;
	case LIE_ECHO:
		send_bytes(liar->down, liar->request, liar->request_bytes, NULL, 0);
		break;
	case LIE_FAILURE:
		fail(liar, message);
		break;
	case LIE_KILL:
		kill(liar->device.pid, SIGKILL);
		liar->ended = true;
		break;
	case LIE_HANG_UP:
		liar->ended = true;
		break;
	case LIE_GARBAGE:
		memset(garbage, (int)liar->lie.value, sizeof(garbage));
		send_bytes(liar->down, garbage, sizeof(garbage), NULL, 0);
		break;
	case LIE_SHRINK:
		resize(liar, message, -liar->lie.value);
		break;
	case LIE_GROW:
		resize(liar, message, liar->lie.value);
		break;
	case LIE_CUT_OFF:
		message->bytes -= (uint32_t)liar->lie.value;
		relay(liar->down, message);
		liar->ended = true;
		break;
	case LIE_PIECES:
		for (uint32_t i = 0; i < message->bytes; i++)
			send_bytes(liar->down, message->content + i, 1, message->fds, i == 0 ? message->fd_count : 0);
		break;
	case LIE_PATCH:
		patch(liar, message);
		break;
	case LIE_NO_FDS:
	case LIE_MANY_FDS:
	case LIE_FILE:
		change_fds(liar, message);
		break;
	case LIE_INSERT:
		insert(liar, message);
		break;
	}
}

/* ---- The thread ---- */

/* Which region or kind of interrupts a request is about; -1: none. */
static int index_of(const struct message *message)
{
	static const int at[VU_COMMANDS] = {
		[VU_GET_REGION_INFO] = 8, [VU_GET_REGION_IO_FDS] = 8, [VU_GET_IRQ_INFO] = 8,
		[VU_SET_IRQS] = 8,        [VU_REGION_READ] = 8,       [VU_REGION_WRITE] = 8,
	};
	uint32_t value;
	uint16_t command = message->header->command;
	if (command >= VU_COMMANDS || !at[command] ||
	    message->bytes < AT_PAYLOAD((unsigned)at[command]) + sizeof(value))
		return -1;
	memcpy(&value, message->content + AT_PAYLOAD((unsigned)at[command]), sizeof(value));
	return (int)value;
}

static void on_program(struct liar *liar, struct message *message)
{
	const struct lie *lie_told = &liar->lie;
	bool reply = message->header->flags & VU_TYPE_MASK;
	if (reply && message->header->id == LIE_ID) {
		liar->answer = *message->header;
		atomic_fetch_add(&liar->answers, 1);
		return;
	}
	if (!reply) {
		liar->asked = *message->header;
		liar->request_bytes = message->bytes < sizeof(liar->request) ? message->bytes : 0;
		memcpy(liar->request, message->content, liar->request_bytes);
		bool alike = (!lie_told->command || message->header->command == lie_told->command) &&
			     (lie_told->index < 0 || index_of(message) == lie_told->index);
		liar->matched += alike;
		liar->matches = alike && (!lie_told->nth || liar->matched == lie_told->nth);
		/* A request without a reply: the lie is a message that nobody awaits. */
		if (liar->matches && message->header->flags & VU_FLAG_NO_REPLY) {
			struct vu_header unasked = *message->header;
			unasked.flags = VU_TYPE_REPLY;
			unasked.bytes = sizeof(unasked);
			struct message answer = {
				.header = &unasked, .content = (uint8_t *)&unasked, .bytes = sizeof(unasked)};
			lie(liar, &answer);
		}
	}
	relay(liar->up, message);
}

static void on_device(struct liar *liar, struct message *message)
{
	bool reply = message->header->flags & VU_TYPE_MASK;
	if (!reply || !liar->matches || message->header->id != liar->asked.id) {
		relay(liar->down, message);
	} else {
		liar->matches = false;
		lie(liar, message);
	}
	if (reply) {
		liar->last_bytes = message->bytes < sizeof(liar->last) ? message->bytes : 0;
		memcpy(liar->last, message->content, liar->last_bytes);
	}
}

static int connect_up(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* One program, until either end goes. @return false: the test wants the thread to end */
static bool serve(struct liar *liar, uint8_t *content)
{
	struct pollfd polls[] = {{.fd = liar->stop, .events = POLLIN},
				 {.fd = liar->down, .events = POLLIN},
				 {.fd = liar->up, .events = POLLIN}};
	while (!liar->ended && poll(polls, 3, -1) > 0) {
		struct message message;
		if (polls[0].revents)
			return false;
		for (unsigned i = 1; i < 3 && !liar->ended; i++) {
			if (!polls[i].revents)
				continue;
			bool whole = receive(polls[i].fd, content, &message);
			liar->ended = !whole;
			if (whole && i == 1)
				on_program(liar, &message);
			else if (whole)
				on_device(liar, &message);
			close_fds(&message);
		}
	}
	return true;
}

static void *run_thread(void *context)
{
	struct liar *liar = context;
	uint8_t *content = malloc(LIAR_MESSAGE_BYTES + 4096);
	bool more = true;
	while (more) {
		struct pollfd polls[] = {{.fd = liar->stop, .events = POLLIN},
					 {.fd = liar->listener, .events = POLLIN}};
		poll(polls, 2, -1);
		if (polls[0].revents)
			break;
		liar->down = accept4(liar->listener, NULL, NULL, SOCK_CLOEXEC);
		liar->up = connect_up(liar->device_path);
		liar->ended = liar->up < 0;
		more = serve(liar, content);
		close(liar->down);
		if (liar->up >= 0)
			close(liar->up);
	}
	free(content);
	return NULL;
}

/* ---- Beginning and end ---- */

void liar_start(struct liar *liar, const struct lie *told, const char *const *options)
{
	const char *args[16] = {"--quiet", liar->device_path};
	unsigned count = 2;
	*liar = (struct liar){.lie = *told};
	if (getenv("TENON_TEST_TELLS"))
		args[0] = "--strict";
	snprintf(liar->folder, sizeof(liar->folder), "/tmp/tenon-liar-XXXXXX");
	cr_assert(mkdtemp(liar->folder));
	snprintf(liar->path, sizeof(liar->path), "%s/socket", liar->folder);
	snprintf(liar->device_path, sizeof(liar->device_path), "%s/device", liar->folder);
	for (unsigned i = 0; options && options[i]; i++)
		args[count++] = options[i];
	run_start_program(&liar->device, TENON_TESTDEV, args, NULL);
	run_expect(&liar->device, "listening on", 1);

	struct sockaddr_un address = {.sun_family = AF_UNIX};
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", liar->path);
	liar->stop = eventfd(0, EFD_CLOEXEC);
	liar->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(liar->listener, (struct sockaddr *)&address, sizeof(address)), 0);
	cr_assert_eq(listen(liar->listener, 4), 0);
	cr_assert_eq(pthread_create(&liar->thread, NULL, run_thread, liar), 0);
}

int liar_stop(struct liar *liar)
{
	eventfd_write(liar->stop, 1);
	pthread_join(liar->thread, NULL);
	close(liar->listener);
	close(liar->stop);
	kill(liar->device.pid, SIGTERM);
	return run_wait(&liar->device, ENDING_MS);
}

void liar_finish(struct liar *liar)
{
	run_finish(&liar->device);
	unlink(liar->path);
	unlink(liar->device_path);
	rmdir(liar->folder);
}
