// SPDX-License-Identifier: MIT
/*
 * The life of a guest that is moved from host to host, and checks that it does not notice: on each CPU, a thread that keeps writing
 * patterns into memory and verifying them, and one that sleeps by a timer and checks that no clock ever steps back, on any CPU; a TCP
 * session that sends numbers round; a beat, numbered, on stdout four times a second.
 *
 * endure MIB RATE STOP    until the file STOP exists. MIB: memory of all threads; RATE: pages that they write per second.
 *                         Prints "@name=value" lines; exits 0 if all was well
 */
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>

#include "guest.h"

#define CPUS            2u
#define WORDS           (PAGE_BYTES / sizeof(uint64_t))
#define PAGE_COUNT(mib) ((uint64_t)(mib) << 20 >> 12)
#define BURST           32u /* pages between two sleeps */
#define NS              1000000000ull
#define CLOCKS          2u

struct worker {
	unsigned cpu;
	uint64_t *memory, pages, ns_per_page;
	_Atomic uint64_t passes, wakes;
	uint64_t longest_ns; /* between two looks at the clock that were meant to be 10 ms apart */
	pthread_t memory_thread, clock_thread;
};

static atomic_bool stop;
static _Atomic uint64_t latest[CLOCKS], echoes;

static void die(const char *what)
{
	printf("@failed=endure: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_ns(clockid_t clock)
{
	struct timespec now;
	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * NS + (uint64_t)now.tv_nsec;
}

static void sleep_ns(uint64_t ns)
{
	nanosleep(&(struct timespec){.tv_sec = ns / NS, .tv_nsec = ns % NS}, NULL);
}

static void stay_on(unsigned cpu)
{
	cpu_set_t set;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("CPU affinity");
}

/* ---- Memory ---- */

static uint64_t pattern(uint64_t page, uint64_t word, uint64_t pass)
{
	return (page * WORDS + word) * 0x9e3779b97f4a7c15ull + pass;
}

/* Verifies what the pass before wrote, and writes this one's. */
static void rewrite(const struct worker *worker, uint64_t page, uint64_t pass)
{
	volatile uint64_t *words = worker->memory + page * WORDS;
	for (uint64_t i = 0; i < WORDS; i++) {
		uint64_t found = words[i], wanted = pass ? pattern(page, i, pass) : 0;
		if (found != wanted) {
			printf("@failed=endure: page %lu of CPU %u's memory, word %lu, is %#lx, not %#lx, in pass "
			       "%lu\n",
			       page, worker->cpu, i, found, wanted, pass);
			exit(1);
		}
		words[i] = pattern(page, i, pass + 1);
	}
}

static void *fill_memory(void *argument)
{
	struct worker *worker = argument;
	stay_on(worker->cpu);
	for (uint64_t pass = 0; !stop; pass++, worker->passes++)
		for (uint64_t page = 0; page < worker->pages && !stop; page++) {
			rewrite(worker, page, pass);
			if (page % BURST == 0)
				sleep_ns(worker->ns_per_page * BURST);
		}
	return NULL;
}

/* ---- Clocks ---- */

/* Whatever any CPU has read before is not later than what this one reads now. */
static uint64_t look(unsigned index, const struct worker *worker)
{
	static const clockid_t CLOCK[CLOCKS] = {CLOCK_MONOTONIC, CLOCK_REALTIME};
	uint64_t before = latest[index], now = now_ns(CLOCK[index]);
	if (now < before) {
		printf("@failed=endure: %s on CPU %u went back by %lu ns\n",
		       index ? "CLOCK_REALTIME" : "CLOCK_MONOTONIC", worker->cpu, before - now);
		exit(1);
	}
	while (before < now && !atomic_compare_exchange_weak(&latest[index], &before, now))
		;
	return now;
}

static void *watch_clocks(void *argument)
{
	struct worker *worker = argument;
	stay_on(worker->cpu);
	for (uint64_t last = look(0, worker); !stop; worker->wakes++) {
		for (unsigned i = 0; i < 20; i++)
			look(i % CLOCKS, worker);
		sleep_ns(10000000);
		uint64_t now = look(0, worker);
		if (now - last > worker->longest_ns)
			worker->longest_ns = now - last;
		last = now;
	}
	return NULL;
}

/* ---- TCP ---- */

static void *echo(void *argument)
{
	int server = *(int *)argument, session = accept(server, NULL, NULL);
	uint64_t number;
	if (session < 0)
		die("accept");
	while (recv(session, &number, 8, MSG_WAITALL) == 8)
		if (send(session, &number, 8, MSG_NOSIGNAL) != 8)
			die("the server's send");
	close(session);
	return NULL;
}

static void *converse(void *argument)
{
	int server = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(address);
	pthread_t thread;
	if (bind(server, (void *)&address, length) || listen(server, 1) ||
	    getsockname(server, (void *)&address, &length) || pthread_create(&thread, NULL, echo, &server) ||
	    connect(client, (void *)&address, length))
		die("TCP");
	for (uint64_t number = 0, heard; !stop; number++, echoes++) {
		if (send(client, &number, 8, MSG_NOSIGNAL) != 8 || recv(client, &heard, 8, MSG_WAITALL) != 8)
			die("the TCP session");
		if (heard != number) {
			printf("@failed=endure: the TCP session answered %lu to %lu\n", heard, number);
			exit(1);
		}
		sleep_ns(10000000);
	}
	close(client);
	pthread_join(thread, NULL);
	return NULL;
}

/* ---- All of it ---- */

static void start(struct worker *worker, unsigned cpu, uint64_t mib, uint64_t rate)
{
	*worker = (struct worker){.cpu = cpu, .pages = PAGE_COUNT(mib) / CPUS, .ns_per_page = CPUS * NS / rate};
	worker->memory =
		mmap(NULL, worker->pages * PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (worker->memory == MAP_FAILED)
		die("memory");
	if (pthread_create(&worker->memory_thread, NULL, fill_memory, worker) ||
	    pthread_create(&worker->clock_thread, NULL, watch_clocks, worker))
		die("threads");
}

int main(int count, char **words)
{
	static struct worker workers[CPUS];
	pthread_t tcp;
	if (count != 4 || !atoi(words[1]) || !atoi(words[2])) {
		errno = EINVAL;
		die("usage");
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (unsigned i = 0; i < CPUS; i++)
		start(&workers[i], i, strtoul(words[1], NULL, 0), strtoul(words[2], NULL, 0));
	if (pthread_create(&tcp, NULL, converse, NULL))
		die("threads");
	for (unsigned beat = 1; access(words[3], F_OK); beat++) {
		printf("@beat=%u\n", beat);
		sleep_ns(NS / 4);
	}
	stop = true;
	pthread_join(tcp, NULL);
	for (unsigned i = 0; i < CPUS; i++) {
		pthread_join(workers[i].memory_thread, NULL);
		pthread_join(workers[i].clock_thread, NULL);
	}
	printf("@passes=%lu %lu\n", workers[0].passes, workers[1].passes);
	printf("@wakes=%lu %lu\n", workers[0].wakes, workers[1].wakes);
	printf("@longest_ms=%lu %lu\n", workers[0].longest_ns / 1000000, workers[1].longest_ns / 1000000);
	printf("@echoes=%lu\n", echoes);
	return 0;
}
