// SPDX-License-Identifier: MIT
/*
 * Starts a VMM and measures the time from before its process exists until its guest has written MARK to the VMM's stdout.
 * With a PROOF it then waits for that text too, and measures the memory which is the VMM's alone, guest RAM left out.
 *
 * boot_time MARK PROOF SECONDS COMMAND...   prints "SECONDS PRIVATE_KIB"; MARK "" is the first byte, PROOF "" is none
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* A mapping of this size is guest RAM: nothing else of a VMM comes near it. */
#define GUEST_RAM_KIB (128u << 10)

static uint64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

static pid_t spawn(char **command, int *output)
{
	int ends[2];
	if (pipe(ends))
		return -1;
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(ends[1], STDOUT_FILENO);
		close(ends[0]);
		close(ends[1]);
		execvp(command[0], command);
		_exit(127);
	}
	close(ends[1]);
	*output = ends[0];
	return pid;
}

/* All that the guest has written so far, as one string. */
struct heard {
	char text[65536];
	size_t length;
};

/* Reads until `wanted` has come. @return when that was, or 0 at the end of output, of time or of room */
static uint64_t wait_for(struct heard *heard, int output, const char *wanted, uint64_t deadline_ns)
{
	while (heard->length < sizeof(heard->text) - 1) {
		if (heard->length && strstr(heard->text, wanted))
			return now_ns();
		uint64_t now = now_ns();
		struct pollfd ready = {.fd = output, .events = POLLIN};
		if (now >= deadline_ns || poll(&ready, 1, (deadline_ns - now) / 1000000 + 1) != 1)
			return 0;
		ssize_t got = read(output, heard->text + heard->length, sizeof(heard->text) - 1 - heard->length);
		if (got <= 0)
			return 0;
		for (ssize_t i = 0; i < got; i++) /* a NUL from the guest would hide the rest */
			heard->text[heard->length + i] |= !heard->text[heard->length + i];
		heard->length += got;
		heard->text[heard->length] = 0;
	}
	return 0;
}

/* The sum of a process's Private_Clean, Private_Dirty and Private_Hugetlb over its mappings, guest RAM left out. */
static unsigned long private_kib(pid_t pid)
{
	char path[64], line[512];
	snprintf(path, sizeof(path), "/proc/%d/smaps", pid);
	FILE *maps = fopen(path, "r");
	if (!maps)
		return 0;
	unsigned long sum = 0, kib;
	bool ram = false;
	while (fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "Size: %lu kB", &kib) == 1)
			ram = kib >= GUEST_RAM_KIB;
		else if (!ram && sscanf(line, "Private_%*[A-Za-z]: %lu kB", &kib) == 1)
			sum += kib;
	}
	fclose(maps);
	return sum;
}

int main(int argc, char **argv)
{
	if (argc < 5) {
		fprintf(stderr, "usage: boot_time MARK PROOF SECONDS COMMAND...\n");
		return 2;
	}
	static struct heard heard;
	const char *mark = argv[1], *proof = argv[2];
	int output = -1;
	uint64_t started = now_ns(), deadline = started + strtoull(argv[3], NULL, 0) * 1000000000ull;
	pid_t pid = spawn(argv + 4, &output);
	uint64_t marked = wait_for(&heard, output, mark, deadline);
	bool proven = marked && (!*proof || wait_for(&heard, output, proof, deadline));
	unsigned long memory = *proof ? private_kib(pid) : 0;

	kill(pid, SIGTERM);
	for (int tries = 0; waitpid(pid, NULL, WNOHANG) == 0; tries++) {
		if (tries == 1000)
			kill(pid, SIGKILL);
		usleep(10000);
	}
	if (!proven) {
		fprintf(stderr, "boot_time: no \"%s\" from the guest; it said:\n%s\n", marked ? proof : mark,
			heard.text);
		return 1;
	}
	printf("%.6f %lu\n", (marked - started) / 1e9, memory);
	return 0;
}
