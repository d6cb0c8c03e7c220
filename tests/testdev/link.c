// SPDX-License-Identifier: MIT
/*
 * Framing. Whose the file descriptors are: a read that brings some ends with the last byte that was sent beside them
 * (net/unix/af_unix.c, unix_stream_read_generic), so they belong to the message that holds the last byte of the read.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "link.h"

struct packet {
	struct packet *next;
	size_t bytes;
	size_t sent;
	unsigned fd_count;
	int fds[LINK_SEND_FDS]; /* duplicates */
	uint8_t data[];
};

int link_init(struct link *link, int fd, size_t message_max)
{
	*link = (struct link){.fd = fd, .message_max = message_max, .in = malloc(message_max)};
	link->out_end = &link->out;
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	return link->in ? 0 : -ENOMEM;
}

static void close_all(int *fds, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
	}
}

static void drop_packet(struct link *link)
{
	struct packet *packet = link->out;
	link->out = packet->next;
	if (!link->out)
		link->out_end = &link->out;
	link->out_bytes -= packet->bytes;
	close_all(packet->fds, packet->fd_count);
	free(packet);
}

void link_finish(struct link *link)
{
	while (link->out)
		drop_packet(link);
	for (unsigned i = 0; i < 2; i++)
		close_all(link->groups[i].fds, link->groups[i].count);
	free(link->in);
	if (link->fd >= 0)
		close(link->fd);
	*link = (struct link){.fd = -1};
}

void message_free(struct message *message)
{
	if (!message)
		return;
	close_all(message->fds, message->fd_count);
	free(message->fds);
	free(message);
}

static int keep_group(struct link *link, const int *fds, unsigned count)
{
	for (unsigned i = 0; i < 2; i++) {
		struct fd_group *group = &link->groups[i];
		if (group->count)
			continue;
		group->count = count;
		group->at = link->in_end - 1;
		memcpy(group->fds, fds, count * sizeof(fds[0]));
		return 0;
	}
	return -EPROTO;
}

/* @return 0, or -EPROTO: more than there is room for, or several groups for one message */
static int collect_fds(struct link *link, struct msghdr *received)
{
	int code = received->msg_flags & MSG_CTRUNC ? -EPROTO : 0;
	for (struct cmsghdr *control = CMSG_FIRSTHDR(received); control; control = CMSG_NXTHDR(received, control)) {
		if (control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS)
			continue;
		int fds[VU_FDS_MAX];
		unsigned count = (unsigned)((control->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		if (count > VU_FDS_MAX)
			count = VU_FDS_MAX;
		memcpy(fds, CMSG_DATA(control), count * sizeof(int));
		if (count && keep_group(link, fds, count) < 0) {
			close_all(fds, count);
			code = -EPROTO;
		}
	}
	return code;
}

/* Makes room for the message that starts at in_first, whole. */
static void compact(struct link *link)
{
	memmove(link->in, link->in + link->in_first, link->in_end - link->in_first);
	for (unsigned i = 0; i < 2; i++)
		link->groups[i].at -= link->in_first;
	link->in_end -= link->in_first;
	link->in_first = 0;
}

int link_fill(struct link *link)
{
	union {
		char bytes[CMSG_SPACE(VU_FDS_MAX * sizeof(int))];
		struct cmsghdr aligned;
	} control;
	compact(link);
	struct iovec part = {.iov_base = link->in + link->in_end, .iov_len = link->message_max - link->in_end};
	struct msghdr header = {.msg_iov = &part,
				.msg_iovlen = 1,
				.msg_control = control.bytes,
				.msg_controllen = sizeof(control.bytes)};
	ssize_t got;
	do
		got = recvmsg(link->fd, &header, MSG_CMSG_CLOEXEC);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return errno == EAGAIN ? 0 : -ECONNRESET;
	if (got == 0)
		return -ECONNRESET;
	link->in_end += (size_t)got;
	return collect_fds(link, &header);
}

/* The fds of the message that ends before `end`; two groups for one message are more than the protocol has. */
static int take_fds(struct link *link, size_t end, struct message *message)
{
	for (unsigned i = 0; i < 2; i++) {
		struct fd_group *group = &link->groups[i];
		if (group->count == 0 || group->at >= end)
			continue;
		if (message->fds)
			return -EPROTO;
		message->fds = malloc(group->count * sizeof(int));
		if (!message->fds)
			return -ENOMEM;
		memcpy(message->fds, group->fds, group->count * sizeof(int));
		message->fd_count = group->count;
		group->count = 0;
	}
	return 1;
}

/* The message at in_first, which is whole. @return 1, -EPROTO or -ENOMEM */
static int take(struct link *link, const struct vu_header *header, struct message **out)
{
	size_t bytes = header->bytes - sizeof(*header);
	struct message *message = malloc(sizeof(*message) + bytes);
	if (!message)
		return -ENOMEM;
	*message = (struct message){.header = *header, .bytes = bytes};
	memcpy(message->payload, link->in + link->in_first + sizeof(*header), bytes);
	link->in_first += header->bytes;
	int code = take_fds(link, link->in_first, message);
	if (code < 0)
		message_free(message);
	else
		*out = message;
	return code;
}

bool link_has_message(const struct link *link)
{
	struct vu_header header;
	size_t bytes = link->in_end - link->in_first;
	if (bytes < sizeof(header))
		return false;
	memcpy(&header, link->in + link->in_first, sizeof(header));
	return bytes >= header.bytes || header.bytes > link->message_max;
}

int link_next(struct link *link, struct message **out, struct vu_header *bad)
{
	size_t there = link->in_end - link->in_first;
	if (there < sizeof(*bad))
		return 0;
	memcpy(bad, link->in + link->in_first, sizeof(*bad));
	if (bad->bytes < sizeof(*bad) || bad->bytes > link->message_max)
		return -EPROTO;
	return there < bad->bytes ? 0 : take(link, bad, out);
}

static int append(struct link *link, const struct vu_header *header, const void *payload, size_t bytes, const int *fds,
		  unsigned fd_count)
{
	struct packet *packet = malloc(sizeof(*packet) + sizeof(*header) + bytes);
	if (!packet)
		return -ENOMEM;
	*packet = (struct packet){.bytes = sizeof(*header) + bytes, .fd_count = fd_count};
	for (unsigned i = 0; i < fd_count; i++)
		packet->fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
	memcpy(packet->data, header, sizeof(*header));
	if (bytes)
		memcpy(packet->data + sizeof(*header), payload, bytes);
	*link->out_end = packet;
	link->out_end = &packet->next;
	link->out_bytes += packet->bytes;
	return 0;
}

/* @return bytes, or -errno */
static ssize_t send_some(int fd, const struct packet *packet)
{
	union {
		char bytes[CMSG_SPACE(LINK_SEND_FDS * sizeof(int))];
		struct cmsghdr aligned;
	} control;
	struct iovec part = {.iov_base = (void *)(packet->data + packet->sent),
			     .iov_len = packet->bytes - packet->sent};
	struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
	if (packet->fd_count && packet->sent == 0) {
		memset(&control, 0, sizeof(control));
		header.msg_control = control.bytes;
		header.msg_controllen = CMSG_SPACE(packet->fd_count * sizeof(int));
		struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
		rights->cmsg_level = SOL_SOCKET;
		rights->cmsg_type = SCM_RIGHTS;
		rights->cmsg_len = CMSG_LEN(packet->fd_count * sizeof(int));
		memcpy(CMSG_DATA(rights), packet->fds, packet->fd_count * sizeof(int));
	}
	ssize_t sent;
	do
		sent = sendmsg(fd, &header, MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	return sent < 0 ? -errno : sent;
}

int link_flush(struct link *link)
{
	while (link->out) {
		struct packet *packet = link->out;
		ssize_t sent = send_some(link->fd, packet);
		if (sent == -EAGAIN)
			return 0;
		if (sent < 0)
			return -ECONNRESET;
		packet->sent += (size_t)sent;
		if (packet->sent == packet->bytes)
			drop_packet(link);
	}
	return 0;
}

int link_send(struct link *link, const struct vu_header *header, const void *payload, size_t bytes, const int *fds,
	      unsigned fd_count)
{
	int code = append(link, header, payload, bytes, fds, fd_count);
	return code < 0 ? code : link_flush(link);
}
