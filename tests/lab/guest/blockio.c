// SPDX-License-Identifier: MIT
/*
 * Moves data between a block device and memory past the page cache, so that each byte is the device's DMA.
 *
 * blockio read DEVICE OFFSET BYTES         the device's content on stdout
 * blockio high DEVICE OFFSET BYTES GIB     the same, through a buffer that lies above GIB in guest physical memory;
 *                                          its lowest address on stderr
 * blockio write DEVICE OFFSET BYTES SEED   a pattern: each 8 byte word is its own offset in the device, XOR seed
 * blockio random DEVICE COUNT              COUNT reads of 4 KiB, spread over the first 64 MiB
 * blockio serve DEVICE OFFSET BYTES FOLDER writes that pattern, reads it back and compares, with a new seed each time, until there
 *                                          is FOLDER/stop; FOLDER/rounds says how often that went well
 * blockio everywhere DEVICE MIB            takes nearly all free memory, reads one page into each MIB of guest physical
 *                                          memory, checks it, and prints the addresses that took part
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "guest.h"

#define CHUNK_BYTES (2u << 20)

static void die(const char *what)
{
	fprintf(stderr, "blockio: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t lowest_page(const uint8_t *chunk)
{
	uint64_t lowest = UINT64_MAX;
	for (unsigned offset = 0; offset < CHUNK_BYTES; offset += PAGE_BYTES) {
		uint64_t address = physical(chunk + offset);
		lowest = address < lowest ? address : lowest;
	}
	return lowest;
}

/* A chunk of memory that lies above `above_gib` entirely. Chunks that do not are kept, so that others are found. */
static uint8_t *chunk_above(unsigned above_gib, uint64_t *lowest)
{
	for (unsigned tries = 0; tries < 4096; tries++) {
		uint8_t *chunk = mmap(NULL, CHUNK_BYTES, PROT_READ | PROT_WRITE,
				      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE | MAP_LOCKED, -1, 0);
		if (chunk == MAP_FAILED)
			die("memory");
		*lowest = lowest_page(chunk);
		if (*lowest >= (uint64_t)above_gib << 30)
			return chunk;
	}
	errno = ENOMEM;
	die("no memory that high");
	return NULL;
}

static void transfer_out(int device, uint64_t offset, uint64_t bytes, uint8_t *chunk)
{
	while (bytes) {
		size_t wanted = bytes < CHUNK_BYTES ? bytes : CHUNK_BYTES;
		ssize_t got = pread(device, chunk, wanted, offset);
		if (got <= 0)
			die("read");
		if (write(STDOUT_FILENO, chunk, got) != got)
			die("stdout");
		offset += got;
		bytes -= got;
	}
}

static void write_pattern(int device, uint64_t offset, uint64_t bytes, uint64_t seed, uint8_t *chunk)
{
	for (uint64_t end = offset + bytes; offset < end; offset += CHUNK_BYTES) {
		uint64_t *words = (uint64_t *)chunk;
		for (unsigned i = 0; i < CHUNK_BYTES / 8; i++)
			words[i] = (offset + i * 8) ^ seed;
		size_t wanted = end - offset < CHUNK_BYTES ? end - offset : CHUNK_BYTES;
		if (pwrite(device, chunk, wanted, offset) != (ssize_t)wanted)
			die("write");
	}
	if (fsync(device))
		die("flush");
}

static void check_pattern(int device, uint64_t offset, uint64_t bytes, uint64_t seed, uint8_t *chunk)
{
	for (uint64_t end = offset + bytes; offset < end; offset += CHUNK_BYTES) {
		size_t wanted = end - offset < CHUNK_BYTES ? end - offset : CHUNK_BYTES;
		if (pread(device, chunk, wanted, offset) != (ssize_t)wanted)
			die("read");
		for (unsigned i = 0; i < wanted / 8; i++) {
			if (((uint64_t *)chunk)[i] == ((offset + i * 8) ^ seed))
				continue;
			fprintf(stderr, "blockio: what was written at %#llx is not what is read\n",
				(unsigned long long)offset + i * 8);
			exit(1);
		}
	}
}

static void write_number(const char *path, unsigned long number)
{
	char text[24], unfinished[128];
	snprintf(unfinished, sizeof(unfinished), "%s.new", path);
	int file = open(unfinished, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	int length = snprintf(text, sizeof(text), "%lu\n", number);
	if (file < 0 || write(file, text, length) != length || rename(unfinished, path))
		die(path);
	close(file);
}

static void serve(int device, uint64_t offset, uint64_t bytes, const char *folder, uint8_t *chunk)
{
	char stop[96], rounds[96];
	snprintf(stop, sizeof(stop), "%s/stop", folder);
	snprintf(rounds, sizeof(rounds), "%s/rounds", folder);
	for (unsigned long round = 0; access(stop, F_OK); round++) {
		write_pattern(device, offset, bytes, round, chunk);
		check_pattern(device, offset, bytes, round, chunk);
		write_number(rounds, round + 1);
	}
}

static void read_randomly(int device, unsigned count, uint8_t *chunk)
{
	uint32_t state = 1;
	while (count--) {
		state = state * 1664525u + 1013904223u;
		if (pread(device, chunk, PAGE_BYTES, (uint64_t)(state >> 18) * PAGE_BYTES) != PAGE_BYTES)
			die("read");
	}
}

/* All free memory but a reserve, populated, in huge pages where the kernel has them. */
static uint8_t *most_memory(uint64_t *bytes)
{
	const uint64_t reserve = 192ull << 20;
	struct sysinfo info;
	sysinfo(&info);
	*bytes = ((uint64_t)info.freeram * info.mem_unit - reserve) / CHUNK_BYTES * CHUNK_BYTES;
	uint8_t *memory = mmap(NULL, *bytes + CHUNK_BYTES, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED)
		die("memory");
	memory = (uint8_t *)(((uintptr_t)memory + CHUNK_BYTES - 1) / CHUNK_BYTES * CHUNK_BYTES);
	madvise(memory, *bytes, MADV_HUGEPAGE);
	for (uint64_t at = 0; at < *bytes; at += PAGE_BYTES)
		memory[at] = 1;
	return memory;
}

/* Reads page `number` of the device into `target` by DMA and compares it with the same page read into `chunk`. */
static void read_and_compare(int device, unsigned number, uint8_t *target, uint8_t *chunk)
{
	off_t offset = (off_t)number * PAGE_BYTES;
	if (pread(device, target, PAGE_BYTES, offset) != PAGE_BYTES ||
	    pread(device, chunk, PAGE_BYTES, offset) != PAGE_BYTES)
		die("read");
	if (!memcmp(target, chunk, PAGE_BYTES))
		return;
	fprintf(stderr, "blockio: the page read to %#llx differs\n", (unsigned long long)physical(target));
	exit(1);
}

static void read_everywhere(int device, uint64_t area_mib, uint8_t *chunk)
{
	static bool seen[4096];
	uint64_t bytes;
	uint8_t *memory = most_memory(&bytes);
	for (uint64_t at = 0; at < bytes; at += CHUNK_BYTES) {
		uint64_t address = physical(memory + at);
		uint64_t area = address / (area_mib << 20);
		if (area >= 4096 || seen[area])
			continue;
		seen[area] = true;
		read_and_compare(device, area, memory + at, chunk);
		printf("%#llx ", (unsigned long long)address);
	}
	printf("\n");
}

int main(int argc, char **argv)
{
	if (argc < 4) {
		fprintf(stderr, "usage: blockio read|high|write|serve|random|everywhere DEVICE ...\n");
		return 2;
	}
	uint64_t number[3] = {0};
	for (int i = 3; i < argc && i < 6; i++)
		number[i - 3] = strtoull(argv[i], NULL, 0);
	int device = open(argv[2], O_RDWR | O_DIRECT | O_CLOEXEC);
	if (device < 0)
		die(argv[2]);

	bool high = !strcmp(argv[1], "high");
	uint64_t lowest;
	uint8_t *chunk = chunk_above(high ? number[2] : 0, &lowest);
	if (high)
		fprintf(stderr, "%#llx\n", (unsigned long long)lowest);
	if (high || !strcmp(argv[1], "read"))
		transfer_out(device, number[0], number[1], chunk);
	else if (!strcmp(argv[1], "write"))
		write_pattern(device, number[0], number[1], number[2], chunk);
	else if (!strcmp(argv[1], "serve") && argc == 6)
		serve(device, number[0], number[1], argv[5], chunk);
	else if (!strcmp(argv[1], "random"))
		read_randomly(device, number[0], chunk);
	else if (!strcmp(argv[1], "everywhere"))
		read_everywhere(device, number[0], chunk);
	return 0;
}
