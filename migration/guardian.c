// SPDX-License-Identifier: MIT
/*
 * Guardians, from their side: starting one and saying phases to it. What it does is guardian_main.c.
 */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guardian_letter.h"
#include "kernel_calls.h"

#define ARGUMENTS_MAX 16u /* of the command */

struct guardian {
	int socket;
	pid_t pid;
	_Atomic uint32_t *word; /* shared: it is there for the guardian whatever becomes of this process */
};

/* What is only needed until it is in place. -1: not there. */
struct start {
	int theirs, pidfd, word_fd;
	pid_t child;
};

static int put_text(const char *text, char *out, const char *what, struct tenon_error *err)
{
	size_t bytes = text ? strlen(text) + 1 : 0;
	if (bytes > GUARDIAN_TEXT_BYTES)
		return tenon_fail(err, -ENAMETOOLONG, "migration: the %s is too long for a guardian; use a shorter one",
				  what);
	if (text)
		memcpy(out, text, bytes);
	return 0;
}

static int write_letter(const struct guardian_options *options, struct guardian_letter *letter, struct tenon_error *err)
{
	const struct tenon_channel_options *channel = &options->channel;
	const char *const tls[GUARDIAN_TLS_STRINGS] = {channel->tls_ca, channel->tls_cert, channel->tls_key,
						       channel->tls_psk_file, channel->tls_peer_name};
	letter->magic = GUARDIAN_LETTER_MAGIC;
	letter->role = options->role;
	memcpy(letter->session, options->session, sizeof(letter->session));
	letter->retry_ms = options->retry_ms;
	letter->patience_ms = options->patience_ms;
	letter->timeout_ms = channel->timeout_ms;
	letter->insecure = channel->insecure;
	int code = put_text(options->address, letter->address, "address", err);
	for (unsigned i = 0; i < GUARDIAN_TLS_STRINGS && code == 0; i++)
		code = put_text(tls[i], letter->tls[i], "path of a TLS file", err);
	return code;
}

static int failed(struct tenon_error *err, int code, const char *what)
{
	return tenon_fail(err, code, "migration: cannot %s for its guardian: %s; raise this process's limits", what,
			  strerror(-code));
}

static int prepare(struct guardian *guardian, struct start *start, struct tenon_error *err)
{
	void *page;
	int pair[2];
	start->word_fd = mcall_memory_file("tenon-guardian", GUARDIAN_WORD_BYTES);
	if (start->word_fd < 0)
		return failed(err, start->word_fd, "make memory");
	int code = mcall_map_shared(start->word_fd, GUARDIAN_WORD_BYTES, &page);
	if (code < 0)
		return failed(err, code, "map memory");
	guardian->word = page;
	atomic_store(guardian->word, 0); /* now the page exists: saying a phase cannot fail for want of memory */
	start->pidfd = mcall_pidfd(getpid());
	if (start->pidfd < 0)
		return failed(err, start->pidfd, "open a pidfd");
	code = mcall_socket_pair(pair);
	if (code < 0)
		return failed(err, code, "make a socket");
	guardian->socket = pair[0];
	start->theirs = pair[1];
	return 0;
}

static int await_reply(struct guardian *guardian, const char *program, struct tenon_error *err)
{
	struct guardian_reply reply;
	struct pollfd wait = {.fd = guardian->socket, .events = POLLIN};
	int code;
	do {
		code = mcall_poll(&wait, 1, GUARDIAN_START_MS);
	} while (code == -EINTR);
	if (code == 0)
		return tenon_fail(err, -ETIMEDOUT, "%s: no guardian after %d s; look at the machine's load", program,
				  GUARDIAN_START_MS / 1000);
	if (code > 0)
		code = (int)mcall_receive(guardian->socket, &reply, sizeof(reply));
	if (code < 0 && code != -ECONNRESET)
		return failed(err, code, "wait");
	if (code != sizeof(reply) || reply.magic != GUARDIAN_LETTER_MAGIC)
		return tenon_fail(err, -ENODATA,
				  "%s: did not become a guardian; guardian_command must lead to "
				  "tenon_migration_guardian_main",
				  program);
	guardian->pid = reply.pid;
	return 0;
}

/* The command, and the number of the descriptor that the program gets. */
static pid_t spawn(const char *const *command, int fd)
{
	const char *arguments[ARGUMENTS_MAX + 2];
	char number[12];
	unsigned count = 0;
	for (; command[count]; count++) {
		if (count == ARGUMENTS_MAX)
			return -E2BIG;
		arguments[count] = command[count];
	}
	snprintf(number, sizeof(number), "%d", fd);
	arguments[count] = number;
	arguments[count + 1] = NULL;
	return mcall_spawn(arguments, fd);
}

static int launch(struct guardian *guardian, struct start *start, const struct guardian_options *options,
		  struct tenon_error *err)
{
	struct guardian_letter *letter = calloc(1, sizeof(*letter));
	if (!letter)
		return tenon_fail(err, -ENOMEM, "migration: out of memory");
	int fds[LETTER_FDS] = {start->pidfd, start->word_fd, options->listener_fd};
	unsigned count = options->role == GUARDIAN_OF_DESTINATION ? LETTER_FDS : LETTER_LISTENER;
	int code = write_letter(options, letter, err);
	if (code == 0) {
		start->child = spawn(options->command, start->theirs);
		if (start->child < 0)
			code = tenon_fail(err, start->child, "%s: cannot start a guardian: %s; check guardian_command",
					  options->command[0], strerror(-start->child));
	}
	close(start->theirs);
	start->theirs = -1;
	if (code == 0) {
		code = mcall_send_fds(guardian->socket, letter, sizeof(*letter), fds, count);
		/* A program that ended already is told as what it is: no guardian. */
		if (code < 0 && code != -EPIPE && code != -ECONNRESET)
			failed(err, code, "send");
		else
			code = await_reply(guardian, options->command[0], err);
	}
	free(letter);
	return code;
}

static bool usable(const struct guardian_options *options)
{
	bool destination = options->role == GUARDIAN_OF_DESTINATION;
	return options->command[0] && options->address && (destination == (options->listener_fd >= 0));
}

int guardian_start(const struct guardian_options *options, struct guardian **out, struct tenon_error *err)
{
	struct start start = {.theirs = -1, .pidfd = -1, .word_fd = -1, .child = -1};
	*out = NULL;
	if (!options->command)
		return 0;
	if (!usable(options))
		return tenon_fail(err, -EINVAL,
				  "migration: a guardian needs a program, an address and a destination's listener");
	struct guardian *guardian = calloc(1, sizeof(*guardian));
	if (!guardian)
		return tenon_fail(err, -ENOMEM, "migration: out of memory");
	guardian->socket = -1;
	int code = prepare(guardian, &start, err);
	if (code == 0)
		code = launch(guardian, &start, options, err);
	/* The program is a guardian's parent: it ends once its child is in place. */
	if (start.child > 0 && code < 0)
		kill(start.child, SIGKILL);
	if (start.child > 0)
		mcall_reap(start.child);
	const int temporary[] = {start.theirs, start.pidfd, start.word_fd};
	for (unsigned i = 0; i < sizeof(temporary) / sizeof(temporary[0]); i++)
		if (temporary[i] >= 0)
			close(temporary[i]);
	if (code < 0) {
		guardian_destroy(guardian);
		return code;
	}
	*out = guardian;
	return 0;
}

void guardian_say(struct guardian *guardian, uint32_t phase)
{
	if (!guardian)
		return;
	atomic_store(guardian->word, phase);
	/* Only so that it looks at once; it also looks when this process is dead. */
	struct iovec bell = {.iov_base = &phase, .iov_len = sizeof(phase)};
	mcall_send(guardian->socket, &bell, 1);
}

pid_t guardian_pid(const struct guardian *guardian)
{
	return guardian ? guardian->pid : 0;
}

void guardian_destroy(struct guardian *guardian)
{
	if (!guardian)
		return;
	if (guardian->word)
		mcall_unmap((void *)guardian->word, GUARDIAN_WORD_BYTES);
	if (guardian->socket >= 0)
		close(guardian->socket);
	free(guardian);
}
