/* SPDX-License-Identifier: MIT */
/*
 * The real program in a process of its own: its arguments, what it prints, how it ends. Every wait has an end, after which the test
 * fails with what the program said; a program that a failing test leaves behind dies with the test.
 */
#ifndef TENON_RUN_H
#define TENON_RUN_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* For what should happen at once, on a machine that is busy with other things. */
#define PATIENCE_MS 30000
/* For the end of the program once a signal asked for it. */
#define ENDING_MS 10000

/* Where a standard stream of the program goes; other values are file descriptors that it gets. */
enum { STREAM_PIPE = 0, STREAM_CLOSED = -1 };

struct run_streams {
	int in, out, err;
	bool terminal; /* `in` is a terminal, which becomes the program's controlling one */
};

struct run_text {
	char *bytes; /* terminated, but may hold zeros */
	size_t count;
};

struct run {
	pid_t pid;                  /* 0: ended */
	int in, out, err;           /* our ends of the pipes; -1 */
	struct run_text said;       /* on standard output */
	struct run_text complained; /* on standard error */
};

/* Words after "tenon". */
#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

/** Starts the program. @param streams NULL: pipes for all three */
void run_start(struct run *run, const char *const *args, const struct run_streams *streams);

/** The same for another program, of this path. */
void run_start_program(struct run *run, const char *program, const char *const *args,
		       const struct run_streams *streams);

/** Writes to its standard input. */
void run_send(struct run *run, const char *text);

/** Closes its standard input. */
void run_close_input(struct run *run);

/** Waits until it has printed `text` at least `times` times on standard output. */
void run_expect(struct run *run, const char *text, unsigned times);
/** The same with a limit of its own. */
void run_expect_within(struct run *run, const char *text, unsigned times, unsigned timeout_ms);
/** The same on standard error. */
void run_expect_complaint(struct run *run, const char *text);
void run_expect_complaint_times(struct run *run, const char *text, unsigned times);
/** Waits until it has printed `text` on standard output or, failing that, standard error, or ends. @return whether it has */
bool run_expect_or_end(struct run *run, const char *text, unsigned timeout_ms);
/** Waits until it has printed so many bytes on standard output. */
void run_expect_bytes(struct run *run, size_t count);

void run_signal(const struct run *run, int number);

/** Waits for its end within `timeout_ms`, while its output is read. @return its exit status; 1000 + the signal that killed it */
int run_wait(struct run *run, unsigned timeout_ms);

/** run_wait without reading standard output. */
int run_wait_unread(struct run *run, unsigned timeout_ms);

/** Closes and frees what is ours; kills the program if it still runs. The last of several: fails if a process was left behind. */
void run_finish(struct run *run);

/** Starts, waits, finishes. @return exit status */
int run_to_end(const char *const *args);

/** How often `text` occurs. */
unsigned run_count(const struct run_text *text, const char *what);

/** Entries of /proc/<pid>/<folder>: "fd", "task". */
unsigned run_count_entries(const struct run *run, const char *folder);

/** Polls until `condition` is true. @return false after PATIENCE_MS */
bool run_until(bool (*condition)(void *context), void *context);

#endif
