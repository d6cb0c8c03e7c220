// SPDX-License-Identifier: MIT
/*
 * mode=load seconds=N rate=PAGES size=KIB hot=KIB skip=N peer=1 tell=MS: dirties memory and lets devices do so, and says at once when a byte is not what it
 * was. For watching a VM that is migrated: whoever loses or keeps back a page is found out.
 *
 * A page holds a header of four words, at its start and, complemented, at its end: magic, address, sequence number, their exclusive or.
 * What the number should be is kept apart, in one word for each page. A page is verified before it is written again, and all are at
 * the end. Only the first `hot` of them (0: all) are written more than once. Test devices, but for the first `skip`, write to a window of
 * their own (their load engine) and copy memory with checksums; with `peer=1`, and at least two of them, into the next one's BAR.
 *
 * Once a second, or each `tell` ms, a line tells how far it is. It ends after `seconds` (0: never), or when a 'q' comes by the serial port.
 */
#include <stddef.h>
#include <string.h>

#include "../tests/testdev/registers.h"
#include "console.h"
#include "cpu.h"
#include "driver.h"
#include "interrupts.h"
#include "modes.h"
#include "testdev.h"

#define PAGE_BYTES      4096ul
#define PAGE_MAGIC      0x67702d6e6f6e6574ull
#define TAIL            (PAGE_BYTES - 32)
#define AREA            0x800000ul /* after what devices copy (DMA_MEMORY), and the numbers */
#define NUMBERS         0x200000ul
#define PAGES_MAX       ((AREA - NUMBERS) / 8)
#define NS_PER_SECOND   1000000000ul
#define NS_PER_MS       1000000ul
#define RATE_DEFAULT    1000
#define KIB_DEFAULT     8192
#define DEVICES_MAX     3
#define WINDOW_PAGES    64u
#define WINDOW          (DMA_MEMORY + 0x40000) /* of devices' load engines: so many fit into DMA_MEMORY */
#define WINDOW_STRIDE   (WINDOW_PAGES * PAGE_BYTES)
#define COPY_FROM       DMA_MEMORY
#define COPY_TO         (DMA_MEMORY + 0x8000)
#define COPY_LIST       (DMA_MEMORY + 0x10000)
#define COPY_BYTES      0x1000u
#define PEER_OFFSET     0x8000u /* in the memory BAR of the device that is copied into */
#define DEVICE_EVERY_MS 100
#define TELL_EVERY_MS   1000

_Static_assert(WINDOW + DEVICES_MAX * WINDOW_STRIDE <= DMA_MEMORY + DMA_MEMORY_BYTES, "the windows fit");

static uint64_t *const numbers = (uint64_t *)NUMBERS;
static uint64_t pages, written, verified, copies, device_pages;
static unsigned errors;
static const struct function *testdevs[DEVICES_MAX];
static unsigned testdev_count;
static bool peers; /* devices copy into each other's BAR */

static void corrupted(const char *what, uint64_t address, uint64_t found, uint64_t expected)
{
	errors++;
	print("# load corruption: %s at %lx: %lx where %lx should be\n", what, address, found, expected);
}

/* ---- The guest's own pages ---- */

static uint64_t page_at(uint64_t index)
{
	return AREA + index * PAGE_BYTES;
}

static void write_page(uint64_t index)
{
	uint64_t at = page_at(index), number = ++numbers[index];
	const uint64_t words[4] = {PAGE_MAGIC, at, number, PAGE_MAGIC ^ at ^ number};
	for (unsigned i = 0; i < 4; i++) {
		write64(at + i * 8, words[i]);
		write64(at + TAIL + i * 8, ~words[i]);
	}
	written++;
}

static void verify_page(uint64_t index)
{
	uint64_t at = page_at(index), number = numbers[index];
	const uint64_t words[4] = {PAGE_MAGIC, at, number, PAGE_MAGIC ^ at ^ number};
	for (unsigned i = 0; i < 4; i++) {
		if (read64(at + i * 8) != words[i])
			corrupted("the start of a page", at + i * 8, read64(at + i * 8), words[i]);
		else if (read64(at + TAIL + i * 8) != ~words[i])
			corrupted("the end of a page", at + TAIL + i * 8, read64(at + TAIL + i * 8), ~words[i]);
		else
			continue;
		return;
	}
	verified++;
}

/* ---- Devices ---- */

static uint64_t window_of(unsigned device)
{
	return WINDOW + device * WINDOW_STRIDE;
}

static void start_devices(uint32_t rate, uint64_t skipped)
{
	for (unsigned i = 0; i < function_count && testdev_count < DEVICES_MAX; i++) {
		if (functions[i].vendor != TD_VENDOR_ID || functions[i].id != TD_DEVICE_ID)
			continue;
		if (skipped) {
			skipped--;
			continue;
		}
		const struct function *function = testdevs[testdev_count] = &functions[i];
		set_command(function, COMMAND_MEMORY | COMMAND_MASTER | COMMAND_INTX_OFF, 0);
		memset((void *)window_of(testdev_count), 0, WINDOW_STRIDE);
		testdev_write64(function, TD_LOAD_ADDRESS, window_of(testdev_count));
		testdev_write(function, TD_LOAD_PAGES, WINDOW_PAGES);
		testdev_write(function, TD_LOAD_RATE, rate);
		testdev_count++;
	}
}

/* A page that the device writes now may be newer in memory than its number was when it was asked for: never older. */
static void verify_window(unsigned device)
{
	const struct function *function = testdevs[device];
	static unsigned page;
	page = (page + 1) % WINDOW_PAGES;
	uint64_t at = window_of(device) + page * PAGE_BYTES;
	testdev_write(function, TD_LOAD_PAGE, page);
	uint32_t number = testdev_read(function, TD_LOAD_SEQUENCE);
	if (number == 0 || number == 0xffffffff)
		return;
	uint64_t words[4];
	for (unsigned i = 0; i < 4; i++)
		words[i] = read64(at + i * 8);
	uint32_t after = testdev_read(function, TD_LOAD_SEQUENCE);
	if (after != number)
		return; /* it was written meanwhile */
	if (words[0] != TD_LOAD_MAGIC)
		corrupted("a device's page", at, words[0], TD_LOAD_MAGIC);
	else if (words[1] != at)
		corrupted("a device's page", at + 8, words[1], at);
	else if (words[2] != number)
		corrupted("a device's page", at + 16, words[2], number);
	else if (words[3] != (words[0] ^ words[1] ^ words[2]))
		corrupted("a device's page", at + 24, words[3], words[0] ^ words[1] ^ words[2]);
	else
		device_pages++;
}

static void copy(unsigned device)
{
	const struct function *function = testdevs[device], *peer = testdevs[(device + 1) % testdev_count];
	uint64_t to = peers ? peer->bars[TD_BAR_MEMORY].address + PEER_OFFSET : COPY_TO;
	const struct testdev_copy what = {COPY_FROM, to, COPY_BYTES, 0};
	for (uint64_t i = 0; i < COPY_BYTES; i += 8)
		write64(COPY_FROM + i, read_tsc() * 6364136223846793005ull + i);
	testdev_describe(COPY_LIST, 0, &what);
	const char *trouble = testdev_run(function, COPY_LIST, 1, false);
	uint32_t expected = testdev_crc(0, (const void *)COPY_FROM, COPY_BYTES);
	if (trouble) {
		errors++;
		print("# load trouble: %s\n", trouble);
	} else if (testdev_read(function, TD_CHECKSUM) != expected) {
		corrupted("what the device read", COPY_FROM, testdev_read(function, TD_CHECKSUM), expected);
	} else if (testdev_crc(0, (const void *)to, COPY_BYTES) != expected) {
		corrupted("what the device wrote", to, testdev_crc(0, (const void *)to, COPY_BYTES), expected);
	}
	copies++;
}

static void use_devices(void)
{
	for (unsigned i = 0; i < testdev_count; i++) {
		verify_window(i);
		copy(i);
	}
}

/* ---- The loop ---- */

static uint64_t choose_size(void)
{
	uint64_t wanted = word_number("size", KIB_DEFAULT) * 1024 / PAGE_BYTES;
	uint64_t end = machine.ram[0].first + machine.ram[0].bytes, room = end > AREA ? (end - AREA) / PAGE_BYTES : 0;
	room = room < PAGES_MAX ? room : PAGES_MAX;
	return wanted < room ? wanted : room;
}

static void tell(uint64_t elapsed_ns)
{
	print("# load ms=%lu written=%lu verified=%lu copies=%lu device-pages=%lu errors=%u\n", elapsed_ns / NS_PER_MS,
	      written, verified, copies, device_pages, errors);
}

unsigned mode_load(void)
{
	uint64_t seconds = word_number("seconds", 0), rate = word_number("rate", RATE_DEFAULT), at = 0, due = 0;
	uint64_t hot = word_number("hot", 0) * 1024 / PAGE_BYTES, tell_ms = word_number("tell", TELL_EVERY_MS);
	console_listen();
	pages = choose_size();
	hot = hot && hot < pages ? hot : pages;
	if (!pages) {
		print("# firmware: mode=load: too little memory; give the VM 16M\n");
		return LAYOUT_FIRMWARE_USAGE;
	}
	memset(numbers, 0, pages * 8);
	for (uint64_t i = 0; i < pages; i++)
		write_page(i);
	start_devices((uint32_t)word_number("device-rate", rate), word_number("skip", 0));
	peers = word_number("peer", 0) && testdev_count > 1;
	print("# load pages=%lu rate=%lu devices=%u hot=%lu%s\n", pages, rate, testdev_count, hot,
	      peers ? " peers" : "");
	uint64_t started = now_ns(), told = 0, used = 0, elapsed;
	written = 0;
	while ((elapsed = now_ns() - started) < seconds * NS_PER_SECOND || !seconds) {
		for (due = elapsed / 1000 * rate / 1000000; written < due; at = (at + 1) % hot) {
			verify_page(at);
			write_page(at);
			if (now_ns() - started - elapsed > DEVICE_EVERY_MS * NS_PER_MS)
				break; /* this CPU cannot keep up: the rate is what it can do */
		}
		if (elapsed - used >= DEVICE_EVERY_MS * NS_PER_MS) {
			use_devices();
			used = elapsed;
		}
		if (elapsed - told >= tell_ms * NS_PER_MS) {
			tell(elapsed);
			told = elapsed;
		}
		if (errors || console_take() == 'q')
			break;
	}
	for (unsigned i = 0; i < testdev_count; i++)
		testdev_write(testdevs[i], TD_LOAD_RATE, 0);
	for (uint64_t i = 0; i < pages; i++)
		verify_page(i);
	tell(now_ns() - started);
	print("%s 1 - load: %lu pages written, %lu verified, %u errors # time_ns=%lu\n1..1\n", errors ? "not ok" : "ok",
	      written, verified, errors, now_ns() - started);
	return errors ? LAYOUT_FIRMWARE_FAILED : LAYOUT_FIRMWARE_PASSED;
}
