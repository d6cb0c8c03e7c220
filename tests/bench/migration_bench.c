// SPDX-License-Identifier: MIT
/*
 * What a migration's time goes into, each beside what no implementation can do without. Lines "NAME value..." on stdout.
 *
 * migration_bench bitmap               scan, merge and count, in GiB of guest RAM per second
 * migration_bench crc                  CRC-32C, alone and with a copy, beside memcpy, in GB/s
 * migration_bench ram LANES MIB ROUNDS a pass over all of a guest's RAM, none of it zero, to another process over loopback TCP; in turn
 *                                      with bare send() and recv() of the same bytes. Once a round "ram TENON BARE cpu ...": GB/s, and
 *                                      the CPU milliseconds a GiB of the sender, the bare sender, the receiver, the bare receiver
 *
 * The bare sender sends from the same memory, 256 KiB a call, and the bare receiver puts all of it into the same memory.
 */
#include <err.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <tenon-migration/channel.h>
#include <tenon-migration/migratable.h>
#include <tenon/error.h>

#include "../../migration/bitmap.h"
#include "../../migration/crc32c.h"
#include "../../migration/ram.h"

#define GIB        (1ull << 30)
#define BARE_BYTES (256u << 10)
#define BITMAP_GIB 1024u /* of guest RAM: 32 MiB of bitmap, more than a CPU's own cache */
#define REPEATS    7u

static struct tenon_error error;

static void require(int code)
{
	if (code < 0)
		errx(1, "%s", error.message);
}

static double now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* Of all threads of this process: says more than the time where other programs have the CPUs, too. */
static double cpu_time(void)
{
	struct timespec time;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static double best_of(void (*work)(void *context), void *context, void (*prepare)(void *context))
{
	double best = 1e9;
	for (unsigned i = 0; i < REPEATS; i++) {
		if (prepare)
			prepare(context);
		double begin = now();
		work(context);
		double took = now() - begin;
		best = took < best ? took : best;
	}
	return best;
}

/* ---- Bitmaps ---- */

struct bitmaps {
	struct bitmap one, other;
	uint64_t every; /* one page of so many is dirty; 0: none */
	volatile uint64_t found;
};

static void set_pages(void *context)
{
	struct bitmaps *bitmaps = context;
	bitmap_clear(&bitmaps->one);
	for (uint64_t page = 0; bitmaps->every && page < bitmaps->one.pages; page += bitmaps->every)
		bitmaps->one.words[page / 64] |= 1ull << page % 64;
	memcpy(bitmaps->other.words, bitmaps->one.words, bitmap_words(&bitmaps->one) * sizeof(uint64_t));
}

static void scan(void *context)
{
	struct bitmaps *bitmaps = context;
	uint64_t first = 0, run, found = 0;
	for (uint64_t at = 0; (run = bitmap_next(&bitmaps->one, at, UINT64_MAX, UINT64_MAX, &first)); at = first + run)
		found += run;
	bitmaps->found = found;
}

static void merge(void *context)
{
	struct bitmaps *bitmaps = context;
	bitmap_merge(&bitmaps->one, &bitmaps->other);
}

static void count(void *context)
{
	struct bitmaps *bitmaps = context;
	bitmaps->found = bitmap_count(&bitmaps->one);
}

static void touch(void *context)
{
	struct bitmaps *bitmaps = context;
	memcpy(bitmaps->one.words, bitmaps->other.words, bitmap_words(&bitmaps->one) * sizeof(uint64_t));
}

static void measure_bitmaps(void)
{
	static const struct {
		const char *name;
		uint64_t every;
	} densities[] = {{"none", 0}, {"1/10000", 10000}, {"1/100", 100}, {"1/2", 2}};
	struct bitmaps bitmaps;
	require(bitmap_create(&bitmaps.one, BITMAP_GIB * GIB / 4096, &error));
	require(bitmap_create(&bitmaps.other, BITMAP_GIB * GIB / 4096, &error));
	for (size_t i = 0; i < sizeof(densities) / sizeof(densities[0]); i++) {
		bitmaps.every = densities[i].every;
		printf("dirty %-8s scan %.0f merge %.0f count %.0f memcpy %.0f GiB of guest RAM/s\n", densities[i].name,
		       BITMAP_GIB / best_of(scan, &bitmaps, set_pages),
		       BITMAP_GIB / best_of(merge, &bitmaps, set_pages),
		       BITMAP_GIB / best_of(count, &bitmaps, set_pages),
		       BITMAP_GIB / best_of(touch, &bitmaps, set_pages));
	}
	bitmap_destroy(&bitmaps.one);
	bitmap_destroy(&bitmaps.other);
}

/* ---- Sums ---- */

struct sums {
	uint8_t *from, *to;
	size_t size;
	volatile uint32_t crc;
};

static void sum_warm(void *context)
{
	struct sums *sums = context;
	for (size_t at = 0; at < sums->size; at += BARE_BYTES)
		sums->crc = crc32c(0, sums->from, BARE_BYTES);
}

static void sum_memory(void *context)
{
	struct sums *sums = context;
	for (size_t at = 0; at < sums->size; at += BARE_BYTES)
		sums->crc = crc32c(0, sums->from + at, BARE_BYTES);
}

static void sum_and_copy(void *context)
{
	struct sums *sums = context;
	for (size_t at = 0; at < sums->size; at += BARE_BYTES)
		sums->crc = crc32c_copy(0, sums->to, sums->from + at, BARE_BYTES);
}

static void copy_then_sum(void *context)
{
	struct sums *sums = context;
	for (size_t at = 0; at < sums->size; at += BARE_BYTES) {
		memcpy(sums->to, sums->from + at, BARE_BYTES);
		sums->crc = crc32c(0, sums->to, BARE_BYTES);
	}
}

static void only_copy(void *context)
{
	struct sums *sums = context;
	for (size_t at = 0; at < sums->size; at += BARE_BYTES) {
		memcpy(sums->to, sums->from + at, BARE_BYTES);
		sums->crc += sums->to[at % BARE_BYTES];
	}
}

static uint8_t *map_memory(size_t size)
{
	uint8_t *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (memory == MAP_FAILED)
		err(1, "memory");
	return memory;
}

static void fill(uint8_t *memory, size_t size)
{
	for (size_t at = 0; at < size; at += 8)
		memcpy(memory + at, &(uint64_t){at * 0x9e3779b97f4a7c15u | 1}, 8);
}

static void measure_sums(void)
{
	struct sums sums = {.size = 512u << 20};
	sums.from = map_memory(sums.size);
	sums.to = map_memory(BARE_BYTES);
	fill(sums.from, sums.size);
	const struct {
		const char *name;
		void (*work)(void *context);
	} works[] = {{"crc of what is in the cache", sum_warm},
		     {"crc of memory", sum_memory},
		     {"crc with copy", sum_and_copy},
		     {"memcpy, then crc", copy_then_sum},
		     {"memcpy alone", only_copy}};
	for (size_t i = 0; i < sizeof(works) / sizeof(works[0]); i++)
		printf("%-28s %.1f GB/s\n", works[i].name,
		       (double)sums.size / best_of(works[i].work, &sums, NULL) / 1e9);
	munmap(sums.from, sums.size);
	munmap(sums.to, BARE_BYTES);
}

/* ---- RAM over loopback ---- */

struct pass {
	struct tenon_migration_ram ram;
	unsigned lanes;
	struct tenon_channel *channels[RAM_LANES_MAX];
	struct stream_reader readers[RAM_LANES_MAX];
	struct ram_receiver *receiver;
	_Atomic size_t claimed; /* by the bare lanes, of the memory */
};

struct lane {
	struct pass *pass;
	unsigned index;
	pthread_t thread;
};

/* Until a ROUND. */
static void *receive_lane(void *argument)
{
	struct lane *lane = argument;
	struct stream_reader *reader = &lane->pass->readers[lane->index];
	struct section section;
	for (;;) {
		require(stream_read(reader, &section, &error));
		if (section.type == SECTION_ROUND)
			break;
		require(ram_receiver_section(lane->pass->receiver, lane->index, reader, &section, &error));
	}
	require(ram_receiver_round(lane->pass->receiver, lane->index, &error));
	return NULL;
}

static void *receive_bare(void *argument)
{
	struct lane *lane = argument;
	struct pass *pass = lane->pass;
	int fd = tenon_channel_fd(pass->channels[lane->index]);
	size_t share = pass->ram.size_bytes / pass->lanes;
	uint8_t *to = (uint8_t *)pass->ram.hva + share * lane->index;
	for (size_t at = 0; at < share;) {
		ssize_t got = recv(fd, to + at, share - at < BARE_BYTES ? share - at : BARE_BYTES, 0);
		if (got <= 0)
			err(1, "recv");
		at += (size_t)got;
	}
	return NULL;
}

static void *send_bare(void *argument)
{
	struct lane *lane = argument;
	struct pass *pass = lane->pass;
	int fd = tenon_channel_fd(pass->channels[lane->index]);
	size_t share = pass->ram.size_bytes / pass->lanes;
	const uint8_t *from = (const uint8_t *)pass->ram.hva + share * lane->index;
	for (size_t at = 0; at < share;) {
		ssize_t sent = send(fd, from + at, share - at < BARE_BYTES ? share - at : BARE_BYTES, MSG_NOSIGNAL);
		if (sent <= 0)
			err(1, "send");
		at += (size_t)sent;
	}
	return NULL;
}

static void run_lanes(struct pass *pass, void *(*entry)(void *))
{
	struct lane lanes[RAM_LANES_MAX];
	for (unsigned i = 0; i < pass->lanes; i++) {
		lanes[i] = (struct lane){.pass = pass, .index = i};
		pthread_create(&lanes[i].thread, NULL, entry, &lanes[i]);
	}
	for (unsigned i = 0; i < pass->lanes; i++)
		pthread_join(lanes[i].thread, NULL);
}

/* After each pass the receiver says that it has all, and what CPU time that took. */
static void say(struct pass *pass, double seconds)
{
	require(tenon_channel_write(pass->channels[0], &(struct iovec){&seconds, sizeof(seconds)}, 1, &error));
}

static double hear(struct pass *pass)
{
	double seconds;
	require(tenon_channel_read(pass->channels[0], &seconds, sizeof(seconds), &error));
	return seconds;
}

static void set_blocking(struct pass *pass)
{
	for (unsigned i = 0; i < pass->lanes; i++)
		fcntl(tenon_channel_fd(pass->channels[i]), F_SETFL,
		      fcntl(tenon_channel_fd(pass->channels[i]), F_GETFL) & ~O_NONBLOCK);
}

static void receive(struct pass *pass, struct tenon_listener *listener, unsigned rounds)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (unsigned i = 0; i < pass->lanes; i++) {
		require(tenon_listener_accept(listener, 5000, &pass->channels[i], &error));
		require(stream_reader_init(&pass->readers[i], pass->channels[i], &error));
	}
	set_blocking(pass);
	require(ram_receiver_create(&pass->ram, 1, pass->lanes, &pass->receiver, &error));
	for (unsigned i = 0; i < pass->lanes; i++)
		ram_receiver_attach(pass->receiver, &pass->readers[i]);
	for (unsigned i = 0; i <= rounds; i++) {
		double begin = cpu_time();
		run_lanes(pass, receive_lane);
		say(pass, cpu_time() - begin);
		begin = cpu_time();
		run_lanes(pass, receive_bare);
		say(pass, cpu_time() - begin);
	}
	_exit(0);
}

static void measure_ram(unsigned lanes, size_t mib, unsigned rounds)
{
	struct pass pass = {.ram = {.size_bytes = mib << 20}, .lanes = lanes};
	struct stream_writer writers[RAM_LANES_MAX], *pointers[RAM_LANES_MAX];
	struct tenon_listener *listener;
	struct ram_sender *sender;
	pass.ram.hva = map_memory(pass.ram.size_bytes);
	require(tenon_listener_open("tcp:127.0.0.1:0", NULL, &listener, &error));
	pid_t child = fork();
	if (child == 0) {
		pass.ram.hva = map_memory(pass.ram.size_bytes);
		receive(&pass, listener, rounds);
	}
	fill(pass.ram.hva, pass.ram.size_bytes);
	for (unsigned i = 0; i < lanes; i++) {
		require(tenon_channel_connect(tenon_listener_address(listener), NULL, &pass.channels[i], &error));
		stream_writer_init(&writers[i], pass.channels[i]);
		pointers[i] = &writers[i];
	}
	set_blocking(&pass);
	require(ram_sender_create(&pass.ram, 1, pointers, lanes, 0, &sender, &error));
	for (unsigned i = 0; i <= rounds; i++) {
		bitmap_fill(ram_sender_bitmap(sender, 0));
		double begin = now(), cpu_begin = cpu_time();
		require(ram_sender_pass(sender, false, NULL, NULL, &error));
		double cpu = cpu_time() - cpu_begin, receiver_cpu = hear(&pass), between = now();
		cpu_begin = cpu_time();
		run_lanes(&pass, send_bare);
		double bare_cpu = cpu_time() - cpu_begin, bare_receiver_cpu = hear(&pass), end = now();
		double gib = (double)pass.ram.size_bytes / (double)GIB;
		if (i) /* the first is for warming up */
			printf("ram %.3f %.3f cpu %.0f %.0f %.0f %.0f\n", gib * 1.073741824 / (between - begin),
			       gib * 1.073741824 / (end - between), cpu / gib * 1000, bare_cpu / gib * 1000,
			       receiver_cpu / gib * 1000, bare_receiver_cpu / gib * 1000);
		fflush(stdout);
	}
	waitpid(child, NULL, 0);
	ram_sender_destroy(sender);
	for (unsigned i = 0; i < lanes; i++)
		tenon_channel_close(pass.channels[i]);
	tenon_listener_close(listener);
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "bitmap") == 0)
		measure_bitmaps();
	else if (argc == 2 && strcmp(argv[1], "crc") == 0)
		measure_sums();
	else if (argc == 5 && strcmp(argv[1], "ram") == 0 && atoi(argv[2]) >= 1 && atoi(argv[2]) <= (int)RAM_LANES_MAX)
		measure_ram((unsigned)atoi(argv[2]), (size_t)atoi(argv[3]) % 65536, (unsigned)atoi(argv[4]));
	else
		errx(2, "usage: migration_bench bitmap | crc | ram LANES MIB ROUNDS");
	return 0;
}
