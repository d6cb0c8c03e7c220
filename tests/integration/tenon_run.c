// SPDX-License-Identifier: MIT
/* Starts and watches the program. It inherits the standard streams that the test chose, and the files of its guests. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "tenon_run.h"

#define WORDS_MAX 64

static long now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- Start ---- */

/* @return the program's end; *ours the test's */
static int make_stream(int wish, int number, int *ours)
{
	int ends[2];
	*ours = -1;
	if (wish != STREAM_PIPE)
		return wish;
	cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
	*ours = number == STDIN_FILENO ? ends[1] : ends[0];
	return number == STDIN_FILENO ? ends[0] : ends[1];
}

static void become_program(const char *program, const char *const *args, const int theirs[3],
			   const struct run_streams *streams, pid_t parent)
{
	static char name[] = "tenon";
	char *argv[WORDS_MAX] = {name};
	for (unsigned i = 0; args[i] && i + 2 < WORDS_MAX; i++)
		argv[i + 1] = strdup(args[i]);

	/* What the test's own process ignores or blocks is not the program's business. */
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	for (int number = 1; number < NSIG; number++)
		signal(number, SIG_DFL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(125);
	if (streams->terminal) {
		setsid();
		ioctl(theirs[0], TIOCSCTTY, 0);
	}
	int copies[3];
	for (int i = 0; i < 3; i++)
		copies[i] = theirs[i] < 0 ? -1 : fcntl(theirs[i], F_DUPFD_CLOEXEC, 100);
	for (int i = 0; i < 3; i++) {
		close(i);
		if (copies[i] >= 0)
			dup2(copies[i], i);
	}
	execv(program, argv);
	_exit(126);
}

static unsigned unfinished; /* programs between run_start and run_finish */

void run_start(struct run *run, const char *const *args, const struct run_streams *streams)
{
	run_start_program(run, TENON_PROGRAM, args, streams);
}

void run_start_program(struct run *run, const char *program, const char *const *args, const struct run_streams *streams)
{
	static const struct run_streams pipes = {STREAM_PIPE, STREAM_PIPE, STREAM_PIPE, false};
	if (!streams)
		streams = &pipes;
	signal(SIGPIPE, SIG_IGN);
	unfinished++;
	prctl(PR_SET_CHILD_SUBREAPER, 1); /* what the program may leave behind becomes our child */
	*run = (struct run){0};
	const int theirs[3] = {make_stream(streams->in, STDIN_FILENO, &run->in),
			       make_stream(streams->out, STDOUT_FILENO, &run->out),
			       make_stream(streams->err, STDERR_FILENO, &run->err)};
	run->said.bytes = calloc(1, 1);
	run->complained.bytes = calloc(1, 1);
	pid_t parent = getpid();
	run->pid = fork();
	cr_assert_geq(run->pid, 0);
	if (run->pid == 0)
		become_program(program, args, theirs, streams, parent);
	if (streams->in == STREAM_PIPE)
		close(theirs[0]);
	if (streams->out == STREAM_PIPE)
		close(theirs[1]);
	if (streams->err == STREAM_PIPE)
		close(theirs[2]);
}

void run_send(struct run *run, const char *text)
{
	size_t left = strlen(text);
	while (left) {
		ssize_t count = write(run->in, text, left);
		cr_assert_gt(count, 0, "its standard input: %s", strerror(errno));
		text += count;
		left -= (size_t)count;
	}
}

void run_close_input(struct run *run)
{
	close(run->in);
	run->in = -1;
}

/* ---- Watching ---- */

/* @return false at its end */
static bool take(int fd, struct run_text *text)
{
	char bytes[65536];
	ssize_t count = read(fd, bytes, sizeof(bytes));
	if (count <= 0)
		return false;
	text->bytes = realloc(text->bytes, text->count + (size_t)count + 1);
	cr_assert_not_null(text->bytes);
	memcpy(text->bytes + text->count, bytes, (size_t)count);
	text->count += (size_t)count;
	text->bytes[text->count] = 0;
	return true;
}

static void take_or_close(int *fd, struct run_text *text)
{
	if (!take(*fd, text)) {
		close(*fd);
		*fd = -1;
	}
}

/* Waits up to 20 ms for output, which is then taken. */
static void watch(struct run *run, bool read_out)
{
	struct pollfd polled[2] = {{.fd = read_out ? run->out : -1, .events = POLLIN},
				   {.fd = run->err, .events = POLLIN}};
	if (poll(polled, 2, 20) <= 0)
		return;
	if (polled[0].revents)
		take_or_close(&run->out, &run->said);
	if (polled[1].revents)
		take_or_close(&run->err, &run->complained);
}

unsigned run_count(const struct run_text *text, const char *what)
{
	unsigned count = 0;
	size_t length = strlen(what);
	const char *at = text->bytes, *end = text->bytes + text->count;
	while ((at = memmem(at, (size_t)(end - at), what, length))) {
		count++;
		at += length;
	}
	return count;
}

static void expect(struct run *run, const struct run_text *text, const char *what, unsigned times, unsigned timeout_ms)
{
	for (long end = now_ms() + timeout_ms; run_count(text, what) < times; watch(run, true))
		cr_assert_lt(now_ms(), end, "waited for %u times '%s'; it said '%s' and complained '%s'", times, what,
			     run->said.bytes, run->complained.bytes);
}

void run_expect(struct run *run, const char *text, unsigned times)
{
	expect(run, &run->said, text, times, PATIENCE_MS);
}

void run_expect_within(struct run *run, const char *text, unsigned times, unsigned timeout_ms)
{
	expect(run, &run->said, text, times, timeout_ms);
}

void run_expect_complaint(struct run *run, const char *text)
{
	expect(run, &run->complained, text, 1, PATIENCE_MS);
}

void run_expect_complaint_times(struct run *run, const char *text, unsigned times)
{
	expect(run, &run->complained, text, times, PATIENCE_MS);
}

bool run_expect_or_end(struct run *run, const char *text, unsigned timeout_ms)
{
	for (long end = now_ms() + timeout_ms; run->out >= 0 || run->err >= 0; watch(run, true)) {
		if (run_count(&run->said, text) || run_count(&run->complained, text))
			return true;
		cr_assert_lt(now_ms(), end, "waited for '%s'; it said '%s' and complained '%s'", text, run->said.bytes,
			     run->complained.bytes);
	}
	return run_count(&run->said, text) || run_count(&run->complained, text);
}

void run_expect_bytes(struct run *run, size_t count)
{
	for (long end = now_ms() + PATIENCE_MS; run->said.count < count; watch(run, true))
		cr_assert_lt(now_ms(), end, "%zu of %zu bytes came; it complained '%s'", run->said.count, count,
			     run->complained.bytes);
}

void run_signal(const struct run *run, int number)
{
	cr_assert_eq(kill(run->pid, number), 0);
}

/* ---- The end ---- */

static int wait_for_end(struct run *run, unsigned timeout_ms, bool read_out)
{
	int status;
	pid_t ended;
	for (long end = now_ms() + timeout_ms; (ended = waitpid(run->pid, &status, WNOHANG)) == 0; watch(run, read_out))
		cr_assert_lt(now_ms(), end, "it runs on after %u ms; it complained '%s'", timeout_ms,
			     run->complained.bytes);
	cr_assert_eq(ended, run->pid);
	run->pid = 0;
	while (read_out && run->out >= 0)
		take_or_close(&run->out, &run->said);
	while (run->err >= 0)
		take_or_close(&run->err, &run->complained);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

int run_wait(struct run *run, unsigned timeout_ms)
{
	return wait_for_end(run, timeout_ms, true);
}

int run_wait_unread(struct run *run, unsigned timeout_ms)
{
	return wait_for_end(run, timeout_ms, false);
}

void run_finish(struct run *run)
{
	if (run->pid) {
		kill(run->pid, SIGKILL);
		waitpid(run->pid, NULL, 0);
	}
	if (--unfinished == 0)
		cr_expect(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD, "it left a process behind");
	if (run->in >= 0)
		close(run->in);
	if (run->out >= 0)
		close(run->out);
	if (run->err >= 0)
		close(run->err);
	free(run->said.bytes);
	free(run->complained.bytes);
	*run = (struct run){.in = -1, .out = -1, .err = -1};
}

int run_to_end(const char *const *args)
{
	struct run run;
	run_start(&run, args, NULL);
	int status = run_wait(&run, PATIENCE_MS);
	run_finish(&run);
	return status;
}

unsigned run_count_entries(const struct run *run, const char *folder)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/%s", (int)run->pid, folder);
	DIR *entries = opendir(path);
	cr_assert_not_null(entries, "%s: %s", path, strerror(errno));
	unsigned count = 0;
	for (const struct dirent *entry; (entry = readdir(entries));)
		count += entry->d_name[0] != '.';
	closedir(entries);
	return count;
}

bool run_until(bool (*condition)(void *context), void *context)
{
	for (long end = now_ms() + PATIENCE_MS; now_ms() < end; usleep(10000)) {
		if (condition(context))
			return true;
	}
	return condition(context);
}
