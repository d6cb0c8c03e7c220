// SPDX-License-Identifier: MIT
/*
 * The guardian's own process: watches over its side, and speaks for it when its duty says so. Decides nothing: commit.def does.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <tenon-migration/migrate.h>

#include "channel.h"
#include "guardian_letter.h"
#include "kernel_calls.h"
#include "listener.h"
#include "resolve.h"

#define RETRY_MS_DEFAULT    1000u
#define PATIENCE_MS_DEFAULT (10u * 60 * 1000)
#define VISITOR_MS_MAX      5000u /* nobody keeps the guardian from others for longer */
#define ACCEPT_MS           1000
/*
 * Nobody at the address, so often in a row, means that there is nobody to be told. A destination that may run has more to lose, so
 * that a firewall that was just reloaded gets some time.
 */
#define NOBODY_ABORTED   10u
#define NOBODY_COMMITTED 60u

struct guard {
	int socket; /* rings when the side has said something; -1: the side has let go of it */
	int fds[LETTER_FDS];
	struct guardian_letter letter;
	struct tenon_channel_options options;
	const _Atomic uint32_t *word;
	struct tenon_listener *listener;
	struct stat path; /* of a destination's Unix socket, to remove it and nothing else; st_ino 0: none */
	int64_t deadline; /* -1: it has not had to speak yet */
	unsigned nobody;  /* so often in a row */
};

/* ---- Becoming a guardian ---- */

static int receive(struct guard *guard)
{
	struct pollfd wait = {.fd = guard->socket, .events = POLLIN};
	int ready = mcall_poll(&wait, 1, GUARDIAN_START_MS);
	if (ready <= 0)
		return ready < 0 ? ready : -ETIMEDOUT;
	ssize_t got = mcall_receive_fds(guard->socket, &guard->letter, sizeof(guard->letter), guard->fds, LETTER_FDS);
	if (got != sizeof(guard->letter) || guard->letter.magic != GUARDIAN_LETTER_MAGIC)
		return got < 0 ? (int)got : -EBADMSG;
	bool destination = guard->letter.role == GUARDIAN_OF_DESTINATION;
	for (unsigned i = 0; i < LETTER_FDS; i++)
		if ((guard->fds[i] >= 0) != (i < LETTER_LISTENER || destination))
			return -EBADMSG;
	return 0;
}

static const char *text(const char *stored)
{
	return stored[0] ? stored : NULL;
}

static void take_options(struct guard *guard)
{
	struct guardian_letter *letter = &guard->letter;
	if (letter->retry_ms == 0)
		letter->retry_ms = RETRY_MS_DEFAULT;
	if (letter->patience_ms == 0)
		letter->patience_ms = PATIENCE_MS_DEFAULT;
	guard->options = (struct tenon_channel_options){
		.size = sizeof(guard->options),
		.insecure = letter->insecure,
		.timeout_ms = letter->timeout_ms,
		.tls_ca = text(letter->tls[0]),
		.tls_cert = text(letter->tls[1]),
		.tls_key = text(letter->tls[2]),
		.tls_psk_file = text(letter->tls[3]),
		.tls_peer_name = text(letter->tls[4]),
	};
	if (letter->role == GUARDIAN_OF_DESTINATION && (letter->timeout_ms == 0 || letter->timeout_ms > VISITOR_MS_MAX))
		guard->options.timeout_ms = VISITOR_MS_MAX;
}

/* A destination's Unix socket has a path, which nobody else removes once the destination is killed or has left it to its guardian. */
static void note_path(struct guard *guard)
{
	struct channel_address address;
	if (channel_address_parse(guard->letter.address, &address, NULL) < 0 || address.kind != ADDRESS_UNIX ||
	    mcall_stat_path(address.path, &guard->path) < 0)
		guard->path = (struct stat){0};
}

static void remove_path(const struct guard *guard)
{
	struct channel_address address;
	struct stat now;
	if (guard->path.st_ino && channel_address_parse(guard->letter.address, &address, NULL) == 0 &&
	    mcall_stat_path(address.path, &now) == 0 && now.st_ino == guard->path.st_ino &&
	    now.st_dev == guard->path.st_dev)
		mcall_unlink(AT_FDCWD, address.path);
}

/* In order, and all other descriptors are closed. @param fds  -1 where there is none; where they are then */
static int keep_only(int *const *fds, unsigned count)
{
	int kept[1 + LETTER_FDS];
	unsigned used = 0, next = 0;
	for (unsigned i = 0; i < count; i++) {
		if (*fds[i] < 0)
			continue;
		int copy = mcall_duplicate(*fds[i]); /* above those of input and output, which are for /dev/null */
		if (copy < 0)
			return copy;
		*fds[i] = copy;
		unsigned at = used++;
		for (; at > 0 && kept[at - 1] > copy; at--)
			kept[at] = kept[at - 1];
		kept[at] = copy;
	}
	for (unsigned i = 0; i < used; i++) {
		if ((unsigned)kept[i] > next)
			mcall_close_range(next, (unsigned)kept[i] - 1);
		next = (unsigned)kept[i] + 1;
	}
	mcall_close_range(next, ~0u);
	for (int i = 0; i < 3; i++)
		if (mcall_open(AT_FDCWD, "/dev/null", O_RDWR) != i)
			return -ENODEV;
	return 0;
}

static int set_up(struct guard *guard)
{
	void *page;
	int code = receive(guard);
	if (code < 0)
		return code;
	take_options(guard);
	code = mcall_map_shared(guard->fds[LETTER_WORD], GUARDIAN_WORD_BYTES, &page);
	if (code < 0)
		return code;
	guard->word = page;
	/* Nothing of the side is held: not its guest, not its output, which somebody may be reading to the end. */
	int *const keep[] = {&guard->socket, &guard->fds[0], &guard->fds[1], &guard->fds[2]};
	code = keep_only(keep, sizeof(keep) / sizeof(keep[0]));
	if (code < 0 || guard->letter.role != GUARDIAN_OF_DESTINATION)
		return code;
	note_path(guard);
	code = listener_adopt(guard->fds[LETTER_LISTENER], &guard->listener, NULL);
	if (code < 0)
		return code;
	guard->fds[LETTER_LISTENER] = -1;
	return listener_secure(guard->listener, &guard->options, NULL);
}

static void detach(void)
{
	static const int ordinary[] = {SIGINT, SIGHUP, SIGTERM, SIGQUIT, SIGPIPE, SIGUSR1, SIGUSR2, SIGALRM};
	for (unsigned i = 0; i < sizeof(ordinary) / sizeof(ordinary[0]); i++)
		signal(ordinary[i], SIG_IGN);
	setsid();
	mcall_name_process("tenon-guardian");
}

/* ---- Watching ---- */

static bool side_is_dead(const struct guard *guard)
{
	struct pollfd proof = {.fd = guard->fds[LETTER_PIDFD], .events = POLLIN};
	return mcall_poll(&proof, 1, 0) > 0;
}

/* Until the side says something or dies, or the time is over. @param timeout_ms  -1: for ever */
static void wait_for_side(struct guard *guard, int timeout_ms)
{
	uint32_t said;
	struct pollfd fds[] = {
		{.fd = side_is_dead(guard) ? -1 : guard->fds[LETTER_PIDFD], .events = POLLIN},
		{.fd = guard->socket, .events = POLLIN},
	};
	if (mcall_poll(fds, 2, timeout_ms) <= 0 || !fds[1].revents)
		return;
	ssize_t got = mcall_receive(guard->socket, &said, sizeof(said));
	if (got == 0 || (got < 0 && got != -EAGAIN && got != -EINTR)) {
		close(guard->socket);
		guard->socket = -1;
	}
}

/* ---- Speaking ---- */

/* @return true: told, or there is nobody to be told */
static bool tell(struct guard *guard, enum commit_verdict verdict)
{
	enum commit_answer answer;
	bool aborted = verdict == COMMIT_VERDICT_ABORTED;
	int code = resolve_ask(guard->letter.address, &guard->options, guard->letter.session, verdict, &answer, NULL);
	if (code == 0)
		return true;
	bool nobody = code == -ECONNREFUSED || code == -ENOENT;
	/* Somebody who listens there and has nothing to say to this session is not the one who waits for `aborted`. */
	bool stranger = code == -ENODATA || code == -ECONNRESET || code == -EPIPE || code == -ECONNABORTED;
	guard->nobody = nobody || (aborted && stranger) ? guard->nobody + 1 : 0;
	if (guard->nobody >= (aborted ? NOBODY_ABORTED : NOBODY_COMMITTED))
		return true;
	wait_for_side(guard, (int)guard->letter.retry_ms);
	return false;
}

/* @return true: whoever asked knows */
static bool answer_visitor(struct guard *guard, struct resolve_visitor *visitor, enum commit_answer answer)
{
	enum commit_destination_event event;
	while (resolve_visitor_hear(visitor, guard->letter.session, &event, NULL) == 0) {
		if (event == COMMIT_DESTINATION_EVENT_VERDICT_FINISHED)
			return true;
		if (resolve_visitor_answer(visitor, answer, NULL) < 0)
			return false;
		if (event == COMMIT_DESTINATION_EVENT_VERDICT_ABORTED)
			return true;
	}
	return false;
}

/* @return true: whoever asked knows */
static bool serve(struct guard *guard, enum commit_answer answer)
{
	struct tenon_channel *channel;
	struct resolve_visitor visitor;
	int code = tenon_listener_accept(guard->listener, ACCEPT_MS, &channel, NULL);
	if (code < 0) {
		if (code != -ETIMEDOUT)
			wait_for_side(guard, (int)guard->letter.retry_ms);
		return false;
	}
	if (resolve_visitor_init(&visitor, channel, NULL) < 0)
		return false;
	bool known = answer_visitor(guard, &visitor, answer);
	resolve_visitor_finish(&visitor);
	return known;
}

/* @return true: the duty is done */
static bool do_duty(struct guard *guard, enum commit_duty duty)
{
	switch (duty) {
	case COMMIT_DUTY_WATCH:
		wait_for_side(guard, -1);
		return false;
	case COMMIT_DUTY_TELL_COMMITTED:
		return tell(guard, COMMIT_VERDICT_COMMITTED);
	case COMMIT_DUTY_TELL_ABORTED:
		return tell(guard, COMMIT_VERDICT_ABORTED);
	case COMMIT_DUTY_ANSWER_GONE:
		return serve(guard, COMMIT_ANSWER_GONE);
	case COMMIT_DUTY_ANSWER_ENDED:
		return serve(guard, COMMIT_ANSWER_ENDED);
	default:
		return true;
	}
}

static void watch_over(struct guard *guard)
{
	bool destination = guard->letter.role == GUARDIAN_OF_DESTINATION;
	enum commit_duty duty;
	do {
		/* In this order: what a dead process said is its last word. */
		bool dead = side_is_dead(guard);
		uint32_t word = atomic_load(guard->word);
		duty = destination ? commit_destination_guardian(word, dead) : commit_source_guardian(word, dead);
		if (duty != COMMIT_DUTY_WATCH && duty != COMMIT_DUTY_LEAVE && guard->deadline < 0)
			guard->deadline = deadline_after(guard->letter.patience_ms);
	} while (!(guard->deadline >= 0 && deadline_left_ms(guard->deadline) == 0) && !do_duty(guard, duty));
	/* It is the side's while the side lives, unless the guardian answers in its place. */
	if (side_is_dead(guard) || guard->deadline >= 0)
		remove_path(guard);
}

static void release(struct guard *guard)
{
	tenon_listener_close(guard->listener);
	for (unsigned i = 0; i < LETTER_FDS; i++)
		if (guard->fds[i] >= 0)
			close(guard->fds[i]);
	if (guard->socket >= 0)
		close(guard->socket);
	if (guard->word)
		mcall_unmap((void *)guard->word, GUARDIAN_WORD_BYTES);
	free(guard);
}

int tenon_migration_guardian_main(int fd)
{
	struct guard *guard = calloc(1, sizeof(*guard));
	if (!guard)
		return 1;
	*guard = (struct guard){.socket = fd, .fds = {-1, -1, -1}, .deadline = -1};
	int code = set_up(guard);
	/* As nobody's child it needs nobody to wait for it, and its side's program never sees one that it does not know. */
	pid_t child = code < 0 ? code : mcall_fork();
	if (child == 0) {
		struct guardian_reply reply = {.magic = GUARDIAN_LETTER_MAGIC, .pid = getpid()};
		struct iovec part = {.iov_base = &reply, .iov_len = sizeof(reply)};
		detach();
		if (mcall_send(guard->socket, &part, 1) == sizeof(reply))
			watch_over(guard);
	}
	release(guard);
	return child < 0;
}
