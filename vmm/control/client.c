// SPDX-License-Identifier: MIT
/* Reading from and writing to one client of the control socket, without ever waiting for it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client.h"
#include "describe.h"

void client_open(struct client *client, int fd)
{
	unsigned generation = client->generation;
	*client = (struct client){.fd = fd, .passed = -1, .generation = generation};
}

static void close_passed(struct client *client)
{
	if (client->passed >= 0)
		close(client->passed);
	client->passed = -1;
}

void client_close(struct client *client)
{
	close(client->fd);
	close_passed(client);
	free(client->answer);
	free(client->last);
	client->answer = client->last = NULL;
	client->fd = -1;
	client->watching = false;
	client->generation++;
}

static void take_passed(struct client *client, struct msghdr *message)
{
	for (struct cmsghdr *head = CMSG_FIRSTHDR(message); head; head = CMSG_NXTHDR(message, head)) {
		if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS ||
		    head->cmsg_len != CMSG_LEN(sizeof(int)))
			continue;
		close_passed(client);
		memcpy(&client->passed, CMSG_DATA(head), sizeof(int));
	}
}

void client_receive(struct client *client)
{
	/* Room for one descriptor: the kernel closes what does not fit. */
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
	struct iovec part = {.iov_base = client->line + client->used, .iov_len = sizeof(client->line) - client->used};
	struct msghdr message = {
		.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	if (part.iov_len == 0)
		return;
	ssize_t count = recvmsg(client->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (count >= 0)
		take_passed(client, &message);
	if (count > 0)
		client->used += (size_t)count;
	else if (count == 0 || (errno != EAGAIN && errno != EINTR))
		client->ended = true;
}

void client_send(struct client *client)
{
	size_t bytes = client->answer ? strlen(client->answer) : 0;
	while (client->sent < bytes) {
		ssize_t count = send(client->fd, client->answer + client->sent, bytes - client->sent,
				     MSG_DONTWAIT | MSG_NOSIGNAL);
		if (count < 0 && errno == EAGAIN)
			return;
		if (count < 0 && errno != EINTR) {
			client_close(client);
			return;
		}
		client->sent += count > 0 ? (size_t)count : 0;
	}
	free(client->answer);
	client->answer = NULL;
}

char *client_line(json_object *object)
{
	const int flags = JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE;
	const char *text = object ? json_object_to_json_string_ext(object, flags) : NULL;
	char *line = NULL;
	if (!text || asprintf(&line, "%s\n", text) < 0)
		line = NULL;
	json_object_put(object);
	return line;
}

void client_answer_text(struct client *client, char *lines)
{
	if (!lines) {
		client_close(client);
		return;
	}
	client->answer = lines;
	client->sent = 0;
	client_send(client);
}

void client_answer(struct client *client, json_object *object)
{
	client_answer_text(client, client_line(object));
}

void client_answer_error(struct client *client, const struct tenon_error *error)
{
	client_answer(client, describe_error(error));
}
