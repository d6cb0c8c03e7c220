// SPDX-License-Identifier: MIT
/*
 * NVMe controllers, by their admin queue only: Identify reads what the controller is and is real DMA both ways, and writes nothing to
 * any disk. NVM Express Base Specification 1.4, 3.1 (registers), 4.6 (completions), 5.15 (Identify).
 */
#include <string.h>

#include "check.h"
#include "cpu.h"
#include "driver.h"
#include "interrupts.h"

#define NVME_CAP  0x00 /* 64 bits */
#define NVME_VS   0x08
#define NVME_CC   0x14
#define NVME_CSTS 0x1c
#define NVME_AQA  0x24
#define NVME_ASQ  0x28
#define NVME_ACQ  0x30
#define NVME_BELL 0x1000

#define CAP_TIMEOUT_MS(cap) ((((cap) >> 24 & 0xff) + 1) * 500)
#define CAP_STRIDE(cap)     (4u << ((cap) >> 32 & 0xf))
#define CC_ENABLE           1u
#define CC_SIZES            (6u << 16 | 4u << 20) /* entries of 64 and 16 bytes */
#define CSTS_READY          1u
#define CSTS_FATAL          2u
#define IDENTIFY            0x06u
#define IDENTIFY_CONTROLLER 1u

#define SUBMISSIONS    DMA_MEMORY
#define COMPLETIONS    (DMA_MEMORY + 0x1000)
#define PAGE           (DMA_MEMORY + 0x2000)
#define PAGE_BYTES     4096
#define ENTRIES        16u
#define COMMAND_MS     2000
#define MODEL_AT       24
#define MODEL_BYTES    40
#define COMPLETION_DW3 12

static unsigned tail, head, phase;

static uint64_t registers(const struct function *function)
{
	return function->bars[0].address;
}

static uint64_t bell(const struct function *function, unsigned which)
{
	return registers(function) + NVME_BELL + which * CAP_STRIDE(read64(registers(function) + NVME_CAP));
}

static bool wait_ready(const struct function *function, uint32_t wanted)
{
	uint64_t end = now_ns() + CAP_TIMEOUT_MS(read64(registers(function) + NVME_CAP)) * 1000000;
	uint32_t status;
	while (((status = read32(registers(function) + NVME_CSTS)) & CSTS_READY) != wanted) {
		if (now_ns() > end || status == 0xffffffff || status & CSTS_FATAL)
			return false;
	}
	return true;
}

static const char *start(const struct function *function)
{
	uint64_t at = registers(function);
	write32(at + NVME_CC, 0);
	if (!wait_ready(function, 0))
		return "the controller does not stop";
	memset((void *)SUBMISSIONS, 0, 0x3000);
	tail = head = 0;
	phase = 1;
	write32(at + NVME_AQA, (ENTRIES - 1) << 16 | (ENTRIES - 1));
	write64(at + NVME_ASQ, SUBMISSIONS);
	write64(at + NVME_ACQ, COMPLETIONS);
	write32(at + NVME_CC, CC_ENABLE | CC_SIZES);
	return wait_ready(function, CSTS_READY) ? NULL : "the controller does not become ready";
}

static bool is_reset(const struct function *function)
{
	return !(read32(registers(function) + NVME_CC) & CC_ENABLE);
}

static void submit_identify(const struct function *function)
{
	uint64_t entry = SUBMISSIONS + tail * 64;
	memset((void *)entry, 0, 64);
	write32(entry, IDENTIFY | tail << 16);
	write64(entry + 24, PAGE);
	write32(entry + 40, IDENTIFY_CONTROLLER);
	tail = (tail + 1) % ENTRIES;
	write32(bell(function, 0), tail);
}

/* Takes completions, if there are any. @return the status of the last, or -1 */
static int take_completions(const struct function *function)
{
	int status = -1;
	for (;;) {
		uint32_t word = read32(COMPLETIONS + head * 16 + COMPLETION_DW3);
		if ((word >> 16 & 1) != phase)
			break;
		status = (int)(word >> 17);
		head = (head + 1) % ENTRIES;
		if (head == 0)
			phase ^= 1;
		write32(bell(function, 1), head);
	}
	return status;
}

/* The admin queue's interrupt is vector 0, always. */
static bool raise(const struct function *function, enum irq_kind kind, unsigned vector)
{
	if (vector != 0)
		return false;
	take_completions(function);
	submit_identify(function);
	return true;
}

/* The line falls when the completions have been taken. */
static void quiet(const struct function *function)
{
	take_completions(function);
}

static void check_identify(const struct function *function)
{
	char model[MODEL_BYTES + 1];
	check_begin(function, "dma identify");
	take_completions(function);
	memset((void *)PAGE, 0, PAGE_BYTES);
	uint64_t started = now_ns(), end = started + COMMAND_MS * 1000000ull;
	submit_identify(function);
	int status;
	while ((status = take_completions(function)) < 0 && now_ns() < end)
		relax();
	uint64_t took = now_ns() - started;
	memcpy(model, (const void *)(PAGE + MODEL_AT), MODEL_BYTES);
	unsigned length = MODEL_BYTES;
	while (length && (model[length - 1] == ' ' || model[length - 1] == '\0'))
		length--;
	model[length] = '\0';
	if (status < 0)
		check_fail("the command did not complete within %u ms", COMMAND_MS);
	else if (status)
		check_fail("the controller refused the command: status %x", (unsigned)status);
	else if (read16(PAGE) != function->vendor)
		check_fail("the data did not arrive: vendor %04x where %04x should be", read16(PAGE), function->vendor);
	else
		check_pass("\"%s\", %u bytes in %lu ns", model, PAGE_BYTES, took);
}

static void check(const struct function *function)
{
	const char *trouble = start(function);
	if (!trouble) {
		check_identify(function);
	} else {
		check_begin(function, "dma identify");
		check_fail("%s", trouble);
	}
}

const struct driver driver_nvme = {
	.name = "nvme",
	.class_code = CLASS_NVME,
	.register_bar = 0,
	.register_offset = NVME_VS,
	.start = start,
	.raise = raise,
	.quiet = quiet,
	.is_reset = is_reset,
	.check = check,
};
