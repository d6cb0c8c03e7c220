// SPDX-License-Identifier: MIT
/*
 * The part that all kinds of chardev share: input and output buffers, readiness, and the terminal's escapes.
 *
 * Every descriptor is watched edge-triggered. A terminal or pty whose other end is gone reports a hang-up for as long
 * as that lasts, which would keep a level-triggered loop spinning; and an input that waits for the guest needs no
 * change of the watch. The price: whoever stops before -EAGAIN must ask for another look (EPOLL_CTL_MOD) once it can go
 * on.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "chardev.h"
#include "chardev_backend.h"
#include "chardev_terminal.h"

#define CTRL_A      0x01
#define CHUNK_BYTES 256

static const char help[] = "\r\nCtrl-A X ends the VM; Ctrl-A Ctrl-A sends a Ctrl-A; Ctrl-A H says this\r\n";

/* ---- Watching ---- */

static int watch(struct chardev *chardev, int operation, int fd, uint32_t events)
{
	struct epoll_event event = {.events = events | EPOLLET, .data.fd = fd};
	return epoll_ctl(chardev->epoll_fd, operation, fd, &event) < 0 ? -errno : 0;
}

int chardev_watch(struct chardev *chardev, int fd)
{
	int result = watch(chardev, EPOLL_CTL_ADD, fd, EPOLLIN);
	return result == -EEXIST ? watch(chardev, EPOLL_CTL_MOD, fd, EPOLLIN) : result;
}

/* Before close: a watch lives as long as the open file description, which others may share. */
static void unwatch(struct chardev *chardev, int fd)
{
	if (chardev->epoll_fd >= 0 && fd >= 0)
		epoll_ctl(chardev->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

/* Regular files and /dev/null cannot be watched (EPERM). They are always ready, and so is what stands in for them. */
int chardev_set_in(struct chardev *chardev, struct stream in)
{
	chardev->in = in;
	int result = chardev_watch(chardev, in.fd);
	if (result != -EPERM)
		return result;
	chardev->in_stand_in = eventfd(1, EFD_CLOEXEC);
	return chardev->in_stand_in < 0 ? -errno : chardev_watch(chardev, chardev->in_stand_in);
}

/* Watched for a hang-up only, until there is something to write. */
int chardev_set_out(struct chardev *chardev, struct stream out)
{
	chardev->out = out;
	if (chardev->epoll_fd < 0)
		return 0;
	int result = watch(chardev, EPOLL_CTL_ADD, out.fd, 0);
	chardev->out_pollable = result == 0;
	return result == -EPERM ? 0 : result;
}

void chardev_close_in(struct chardev *chardev)
{
	unwatch(chardev, chardev->in.fd);
	stream_close(&chardev->in);
	if (chardev->in_stand_in >= 0)
		close(chardev->in_stand_in);
	chardev->in_stand_in = -1;
}

void chardev_close_out(struct chardev *chardev)
{
	unwatch(chardev, chardev->out.fd);
	stream_close(&chardev->out);
	chardev_discard_output(chardev);
}

/* ---- Output ---- */

void chardev_discard_output(struct chardev *chardev)
{
	chardev->output_count = 0;
}

static bool has_reader(struct chardev *chardev)
{
	return chardev->out.fd >= 0 && (!chardev->backend->has_reader || chardev->backend->has_reader(chardev));
}

static void output_failed(struct chardev *chardev, int error)
{
	chardev_discard_output(chardev);
	if (chardev->backend->output_failed)
		chardev->backend->output_failed(chardev, error);
	else
		chardev_close_out(chardev);
}

/* @return false when it is full */
static bool buffer_output(struct chardev *chardev, uint8_t byte)
{
	if (!chardev->output)
		chardev->output = malloc(CHARDEV_OUTPUT_BYTES);
	if (!chardev->output)
		return true; /* no memory: a byte is lost, the guest goes on */
	if (chardev->output_count == CHARDEV_OUTPUT_BYTES)
		return false;
	chardev->output[(chardev->output_first + chardev->output_count++) % CHARDEV_OUTPUT_BYTES] = byte;
	if (chardev->output_count == 1 && chardev->out_pollable)
		watch(chardev, EPOLL_CTL_MOD, chardev->out.fd, EPOLLOUT);
	return true;
}

static bool put_output(struct chardev *chardev, uint8_t byte)
{
	if (!has_reader(chardev))
		return true;
	if (chardev->output_count == 0) {
		ssize_t count = stream_write(&chardev->out, &byte, 1);
		if (count == 1)
			return true;
		if (count != -EAGAIN) {
			output_failed(chardev, (int)count);
			return true;
		}
	}
	return buffer_output(chardev, byte);
}

static void drain_output(struct chardev *chardev)
{
	bool pending = chardev->output_count;
	while (chardev->output_count) {
		unsigned contiguous = CHARDEV_OUTPUT_BYTES - chardev->output_first;
		if (contiguous > chardev->output_count)
			contiguous = chardev->output_count;
		ssize_t count = stream_write(&chardev->out, chardev->output + chardev->output_first, contiguous);
		if (count == -EAGAIN)
			break;
		if (count < 0) {
			output_failed(chardev, (int)count);
			break;
		}
		chardev->output_first = (chardev->output_first + (unsigned)count) % CHARDEV_OUTPUT_BYTES;
		chardev->output_count -= (unsigned)count;
	}
	if (pending && chardev->output_count == 0 && chardev->out.fd >= 0 && chardev->out_pollable)
		watch(chardev, EPOLL_CTL_MOD, chardev->out.fd, 0);
	/* Half, so that a slow reader does not make guest and event loop take turns byte by byte. */
	if (chardev->refused && chardev->output_count <= CHARDEV_OUTPUT_BYTES / 2) {
		chardev->refused = false;
		chardev->events |= CHARDEV_DRAINED;
	}
}

/* ---- Input ---- */

static void put_input(struct chardev *chardev, uint8_t byte)
{
	if (chardev->input_count == CHARDEV_INPUT_BYTES)
		return; /* typed ahead too far */
	chardev->input[(chardev->input_first + chardev->input_count++) % CHARDEV_INPUT_BYTES] = byte;
}

static void say_help(struct chardev *chardev)
{
	for (const char *c = help; *c; c++)
		put_output(chardev, (uint8_t)*c);
}

static void put_typed(struct chardev *chardev, uint8_t byte)
{
	if (!chardev->escape) {
		if (byte == CTRL_A)
			chardev->escape = true;
		else
			put_input(chardev, byte);
		return;
	}
	chardev->escape = false;
	switch (byte) {
	case 'x':
	case 'X':
		chardev->left = true;
		chardev->events |= CHARDEV_LEAVE;
		break;
	case 'h':
	case 'H':
		say_help(chardev);
		break;
	case CTRL_A:
		put_input(chardev, CTRL_A);
		break;
	default: /* not for us: as if nobody had looked */
		put_input(chardev, CTRL_A);
		put_input(chardev, byte);
		break;
	}
}

static void input_ended(struct chardev *chardev)
{
	if (chardev->backend->input_ended) {
		chardev->backend->input_ended(chardev);
	} else {
		chardev_close_in(chardev);
		chardev->events |= CHARDEV_CLOSED;
	}
}

/* How much to ask for: a terminal is read even if the buffer is full, as an escape may be among it. */
static size_t input_room(const struct chardev *chardev)
{
	size_t room = CHARDEV_INPUT_BYTES - chardev->input_count;
	return chardev->is_terminal || room > CHUNK_BYTES ? CHUNK_BYTES : room;
}

static void fill_input(struct chardev *chardev)
{
	while (chardev->in.fd >= 0 && !chardev->left) {
		if (chardev->is_terminal && !terminal_ready())
			return; /* in the background; the next key that is meant for us wakes us again */
		size_t room = input_room(chardev);
		if (room == 0) {
			chardev->in_paused = true;
			return;
		}
		uint8_t bytes[CHUNK_BYTES];
		ssize_t count = stream_read(&chardev->in, bytes, room);
		if (count == -EAGAIN)
			return;
		if (count <= 0) {
			input_ended(chardev);
			return;
		}
		for (ssize_t i = 0; i < count && !chardev->left; i++) {
			if (chardev->is_terminal)
				put_typed(chardev, bytes[i]);
			else
				put_input(chardev, bytes[i]);
		}
	}
}

static void resume_input(struct chardev *chardev)
{
	if (!chardev->in_paused || chardev->input_count > CHARDEV_INPUT_BYTES / 2)
		return;
	chardev->in_paused = false;
	if (chardev->in.fd >= 0)
		chardev_watch(chardev, chardev->in_stand_in >= 0 ? chardev->in_stand_in : chardev->in.fd);
}

/* ---- Interface ---- */

unsigned chardev_dispatch(struct chardev *chardev)
{
	pthread_mutex_lock(&chardev->lock);
	/* Which of the few descriptors it was does not matter; all are looked at, after their edges were taken. */
	struct epoll_event taken[8];
	while (chardev->epoll_fd >= 0 && epoll_wait(chardev->epoll_fd, taken, 8, 0) == 8)
		;
	if (chardev->backend->attend)
		chardev->backend->attend(chardev);
	fill_input(chardev);
	drain_output(chardev);

	unsigned events = chardev->events | (chardev->input_count ? CHARDEV_READABLE : 0);
	chardev->events = 0;
	pthread_mutex_unlock(&chardev->lock);
	return events;
}

size_t chardev_read(struct chardev *chardev, uint8_t *bytes, size_t capacity)
{
	pthread_mutex_lock(&chardev->lock);
	size_t count = 0;
	for (; count < capacity && chardev->input_count; count++) {
		bytes[count] = chardev->input[chardev->input_first];
		chardev->input_first = (chardev->input_first + 1) % CHARDEV_INPUT_BYTES;
		chardev->input_count--;
	}
	resume_input(chardev);
	pthread_mutex_unlock(&chardev->lock);
	return count;
}

bool chardev_write(struct chardev *chardev, uint8_t byte)
{
	pthread_mutex_lock(&chardev->lock);
	bool taken = put_output(chardev, byte);
	if (!taken)
		chardev->refused = true;
	pthread_mutex_unlock(&chardev->lock);
	return taken;
}

static int64_t now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void chardev_flush(struct chardev *chardev, unsigned timeout_ms)
{
	int64_t end = now_ms() + timeout_ms;
	for (;;) {
		pthread_mutex_lock(&chardev->lock);
		drain_output(chardev);
		struct pollfd writable = {.fd = chardev->out.fd, .events = POLLOUT};
		bool done = chardev->output_count == 0;
		pthread_mutex_unlock(&chardev->lock);
		int64_t left = end - now_ms();
		if (done || left <= 0 || (poll(&writable, 1, (int)left) < 0 && errno != EINTR))
			return;
	}
}

const char *chardev_name(const struct chardev *chardev)
{
	return chardev->name;
}

int chardev_poll_fd(const struct chardev *chardev)
{
	return chardev->epoll_fd;
}

void chardev_close(struct chardev *chardev)
{
	if (!chardev)
		return;
	if (chardev->backend->close)
		chardev->backend->close(chardev);
	chardev_close_in(chardev);
	chardev_close_out(chardev);
	if (chardev->epoll_fd >= 0)
		close(chardev->epoll_fd);
	free(chardev->output);
	pthread_mutex_destroy(&chardev->lock);
	free(chardev);
}

/* @return the backend that `spec` names, with what follows the colon in *argument; NULL if none does */
static const struct chardev_backend *find_backend(const char *spec, const char **argument)
{
	size_t length = strcspn(spec, ":");
	bool has_argument = spec[length] == ':';
	*argument = has_argument ? spec + length + 1 : "";
	for (const struct chardev_backend *const *backend = chardev_backends; *backend; backend++) {
		if (strlen((*backend)->kind) == length && !strncmp((*backend)->kind, spec, length) &&
		    (*backend)->has_argument == has_argument && (!has_argument || **argument))
			return *backend;
	}
	return NULL;
}

int chardev_open(const char *spec, struct chardev **out, struct tenon_error *err)
{
	const char *argument;
	const struct chardev_backend *backend = find_backend(spec, &argument);
	if (!backend)
		return tenon_fail(err, -EINVAL,
				  "%s: no such kind of console; use stdio, none, file:PATH, socket:PATH or pty", spec);

	struct chardev *chardev = calloc(1, sizeof(*chardev));
	if (!chardev)
		return tenon_fail(err, -ENOMEM, "%s: cannot open: out of memory", spec);
	chardev->backend = backend;
	pthread_mutex_init(&chardev->lock, NULL);
	chardev->epoll_fd = chardev->in_stand_in = chardev->listen_fd = -1;
	chardev->in = chardev->out = STREAM_CLOSED;
	int result = backend->open(chardev, argument, err);
	if (result < 0) {
		chardev_close(chardev);
		return result;
	}
	*out = chardev;
	return 0;
}
