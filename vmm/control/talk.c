// SPDX-License-Identifier: MIT
/* Sending requests to a VM's control socket and taking what it answers. */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "listener.h"
#include "talk.h"

#define LINE_BYTES_MAX (1u << 20)
#define STEP_BYTES     16384u

int talk_open(struct talk *talk, const char *path, struct tenon_error *err)
{
	*talk = (struct talk){.fd = control_connect(path, err)};
	return talk->fd < 0 ? talk->fd : 0;
}

void talk_close(struct talk *talk)
{
	close(talk->fd);
	free(talk->text);
	*talk = (struct talk){.fd = -1};
}

static ssize_t send_part(int fd, const char *text, size_t bytes, int passed)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec part = {.iov_base = (char *)text, .iov_len = bytes};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	if (passed >= 0) {
		message.msg_control = control;
		message.msg_controllen = sizeof(control);
		struct cmsghdr *head = CMSG_FIRSTHDR(&message);
		head->cmsg_level = SOL_SOCKET;
		head->cmsg_type = SCM_RIGHTS;
		head->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(head), &passed, sizeof(int));
	}
	return sendmsg(fd, &message, MSG_NOSIGNAL);
}

static int send_all(int fd, const char *text, size_t bytes, int passed, struct tenon_error *err)
{
	for (size_t sent = 0; sent < bytes;) {
		ssize_t count = send_part(fd, text + sent, bytes - sent, sent == 0 ? passed : -1);
		if (count < 0 && errno == EINTR)
			continue;
		/* A VM that has too many clients answers without having read. */
		if (count < 0 && (errno == EPIPE || errno == ECONNRESET))
			return 0;
		if (count < 0)
			return tenon_fail(err, -errno, "control socket: cannot write: %s; see whether the VM runs",
					  strerror(errno));
		sent += (size_t)count;
	}
	return 0;
}

int talk_send(struct talk *talk, json_object *request, int passed, struct tenon_error *err)
{
	size_t bytes = 0;
	const char *text = json_object_to_json_string_length(
		request, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &bytes);
	/* A copy with the newline, so that the line goes in one piece, with what is passed. */
	char *line = text ? malloc(bytes + 1) : NULL;
	int code;
	if (line) {
		memcpy(line, text, bytes);
		line[bytes] = '\n';
		code = send_all(talk->fd, line, bytes + 1, passed, err);
	} else {
		code = tenon_fail(err, -ENOMEM, "control socket: out of memory; free some memory");
	}
	free(line);
	json_object_put(request);
	return code;
}

static int parse_line(const char *line, size_t bytes, json_object **out, struct tenon_error *err)
{
	struct json_tokener *tokener = json_tokener_new();
	*out = NULL;
	if (tokener) {
		json_tokener_set_flags(tokener, JSON_TOKENER_VALIDATE_UTF8);
		*out = json_tokener_parse_ex(tokener, line, (int)bytes);
		json_tokener_free(tokener);
	}
	if (json_object_is_type(*out, json_type_object))
		return 0;
	json_object_put(*out);
	*out = NULL;
	return tenon_fail(err, -EPROTO, "control socket: no JSON comes from it; see whether it is that of a VM");
}

/* Reads once, into room that grows up to a line's greatest length. @return bytes, 0: closed */
static ssize_t read_more(struct talk *talk, struct tenon_error *err)
{
	if (talk->capacity - talk->used < STEP_BYTES && talk->capacity < LINE_BYTES_MAX) {
		char *text = realloc(talk->text, talk->capacity + 2 * STEP_BYTES);
		if (!text)
			return tenon_fail(err, -ENOMEM, "control socket: out of memory; free some memory");
		talk->text = text;
		talk->capacity += 2 * STEP_BYTES;
	}
	ssize_t count = recv(talk->fd, talk->text + talk->used, talk->capacity - talk->used, 0);
	if (count < 0 && errno == EINTR)
		return -EINTR;
	if (count <= 0)
		return tenon_fail(err, -EPROTO,
				  "control socket: it was closed without an answer; see whether the VM runs");
	talk->used += (size_t)count;
	return count;
}

int talk_receive(struct talk *talk, const sigset_t *sleeping, json_object **out, struct tenon_error *err)
{
	for (;;) {
		char *end = talk->used ? memchr(talk->text, '\n', talk->used) : NULL;
		if (end) {
			size_t bytes = (size_t)(end - talk->text);
			int code = parse_line(talk->text, bytes, out, err);
			talk->used -= bytes + 1;
			memmove(talk->text, end + 1, talk->used);
			return code;
		}
		struct pollfd ready = {.fd = talk->fd, .events = POLLIN};
		if (ppoll(&ready, 1, NULL, sleeping) < 0)
			return -errno;
		ssize_t count = read_more(talk, err);
		if (count < 0)
			return (int)count;
	}
}

int talk_once(const char *path, json_object *request, json_object **answer, struct tenon_error *err)
{
	struct talk talk;
	json_object *object = NULL;
	int code = talk_open(&talk, path, err);
	if (code < 0) {
		json_object_put(request);
		return code;
	}
	code = talk_send(&talk, request, -1, err);
	while (code == 0 && (code = talk_receive(&talk, NULL, &object, err)) == -EINTR)
		code = 0;
	talk_close(&talk);
	if (code == 0 && !json_object_get_boolean(json_object_object_get(object, "ok")))
		code = tenon_fail(err, -EREMOTEIO, "%s", talk_text(object, "error"));
	if (code == 0 && answer)
		*answer = object;
	else
		json_object_put(object);
	return code;
}

const char *talk_text(json_object *object, const char *key)
{
	json_object *value = json_object_object_get(object, key);
	return value ? json_object_get_string(value) : "-";
}
