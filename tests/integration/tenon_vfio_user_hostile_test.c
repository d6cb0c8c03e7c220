// SPDX-License-Identifier: MIT
/*
 * A guest that attacks two devices of other processes while somebody outside asks the monitor for its status: no answer may take long,
 * or the guest has stalled it; nor may any of the guest's attacks. Measured is the whole way, from the request on the control socket to
 * its answer's arrival, by a process that shares the machine: it is an upper bound of the monitor's share. How late that process itself
 * wakes up from its pauses is the machine's share.
 *
 * TENON_TEST_SECONDS=120 makes it longer.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "tenon_guest.h"
#include "vfio_user_liar.h"

TestSuite(tenon_vfio_user_hostile, .init = guest_skip_without_kvm, .timeout = 600);

#define SECONDS_DEFAULT "5"
#define STALL_MS        100
#define PAUSE_US        2000

static uint64_t now_us(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static int connect_to(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	for (unsigned i = 0; i < 1000; i++, usleep(10000)) {
		int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
			return fd;
		close(fd);
	}
	cr_assert_fail("no control socket");
	return -1;
}

struct answers {
	unsigned count, late; /* later than STALL_MS */
	uint64_t longest_us;
	uint64_t asleep_us; /* the longest that a pause took longer than it should */
};

/* One request, and its answer to the end of the line. @return false: the VM has ended */
static bool ask(int fd, const char *request, struct answers *answers)
{
	char byte = 0;
	uint64_t started = now_us();
	if (send(fd, request, strlen(request), MSG_NOSIGNAL) < 0)
		return false;
	while (byte != '\n') {
		if (read(fd, &byte, 1) <= 0)
			return false;
	}
	uint64_t took = now_us() - started;
	answers->count++;
	answers->late += took > STALL_MS * 1000;
	answers->longest_us = took > answers->longest_us ? took : answers->longest_us;
	return true;
}

static void pause_between(struct answers *answers)
{
	uint64_t started = now_us();
	usleep(PAUSE_US);
	uint64_t late = now_us() - started - PAUSE_US;
	answers->asleep_us = late > answers->asleep_us ? late : answers->asleep_us;
}

/* Asks for as long as the VM lives. */
static void ask_on(const char *path, struct answers *answers)
{
	int fd = connect_to(path);
	while (ask(fd, "{\"command\": \"status\"}\n", answers) && ask(fd, "{\"command\": \"devices\"}\n", answers))
		pause_between(answers);
	close(fd);
}

/* What the guest itself waited for the longest of its attacks. */
static unsigned long longest_attack_us(const char *said)
{
	unsigned long longest = 0;
	for (const char *at = said; (at = strstr(at, " longest_us=")); at++) {
		unsigned long value = strtoul(at + strlen(" longest_us="), NULL, 10);
		longest = value > longest ? value : longest;
	}
	return longest;
}

Test(tenon_vfio_user_hostile, guest_with_two_devices_keeps_nobody_waiting)
{
	const char *seconds = getenv("TENON_TEST_SECONDS");
	char folder[] = "/tmp/tenon-hostile-XXXXXX", control[64], words[64], first[128], second[128];
	struct testdev_run devices[2];
	struct answers answers = {0};
	struct run run;
	cr_assert(mkdtemp(folder));
	snprintf(control, sizeof(control), "%s/control", folder);
	snprintf(words, sizeof(words), "mode=hostile seconds=%s seed=20261121", seconds ? seconds : SECONDS_DEFAULT);
	testdev_start(&devices[0], ARGS("--quiet"));
	testdev_start(&devices[1], ARGS("--quiet"));
	snprintf(first, sizeof(first), "vfio-user:%s", devices[0].path);
	snprintf(second, sizeof(second), "vfio-user:%s,root-port", devices[1].path);
	run_start(&run,
		  ARGS("run", "--firmware", "default", "--memory", "32M", "--append", words, "--control", control,
		       "--device", first, "--device", second),
		  NULL);
	ask_on(control, &answers);
	cr_expect_eq(run_wait(&run, PATIENCE_MS), 0, "'%s', '%s'", run.said.bytes, run.complained.bytes);
	cr_expect(strstr(run.said.bytes, "\nok 1 - hostile: "), "%s", run.said.bytes);
	cr_expect_not(strstr(run.complained.bytes, "is gone"), "%s", run.complained.bytes);
	cr_expect_not(strstr(run.complained.bytes, "Sanitizer"), "%s", run.complained.bytes);
	cr_expect_not(strstr(run.complained.bytes, "runtime error"), "%s", run.complained.bytes);
	cr_expect_gt(answers.count, 100);
	/* A machine with other work may keep anybody waiting once; a monitor that is stalled is late more often. */
	cr_expect_leq(answers.late, seconds ? 0 : 2, "%u of %u answers took more than %d ms, the longest %llu us",
		      answers.late, answers.count, STALL_MS, (unsigned long long)answers.longest_us);
	if (seconds)
		cr_expect_leq(longest_attack_us(run.said.bytes), STALL_MS * 1000, "%s", run.said.bytes);
	if (getenv("TENON_TEST_TELLS"))
		fprintf(stderr,
			"%u answers, the longest after %llu us, %u after more than %d ms; we overslept by %llu us at "
			"most\n%s%s",
			answers.count, (unsigned long long)answers.longest_us, answers.late, STALL_MS,
			(unsigned long long)answers.asleep_us, run.said.bytes, run.complained.bytes);
	for (unsigned i = 0; i < 2; i++)
		cr_expect_lt(testdev_stop(&devices[i]), 1000, "%s", devices[i].run.complained.bytes);
	run_finish(&run);
	for (unsigned i = 0; i < 2; i++)
		testdev_finish(&devices[i]);
	rmdir(folder);
}
