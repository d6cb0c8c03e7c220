// SPDX-License-Identifier: MIT
/*
 * IDT, local APIC and I/O APIC (Intel SDM volume 3A, chapters 6 and 11; 82093AA datasheet), and what becomes of exceptions: pages
 * above 4 GiB are mapped, guarded calls end, anything else is reported and ends the VM.
 */
#include "console.h"
#include "cpu.h"
#include "interrupts.h"
#include "machine.h"
#include "paging.h"

#define LAPIC_EOI       0xb0
#define LAPIC_SPURIOUS  0xf0
#define LAPIC_ENABLE    0x100
#define VECTOR_SPURIOUS 0xff
#define VECTOR_PAGE     14
#define VECTORS_CPU     32

#define IOAPIC_SELECT 0x00
#define IOAPIC_WINDOW 0x10
#define IOAPIC_ENTRY  0x10 /* two registers for each pin */
#define ENTRY_LEVEL   0x8000u
#define ENTRY_MASKED  0x10000u

#define SELECTOR_CODE64 0x10
#define GATE_INTERRUPT  0x8e00u /* present, 64-bit interrupt gate */

struct frame {
	uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
	uint64_t vector, error, rip, cs, flags, rsp, ss;
};

struct gate {
	uint16_t offset_low, selector, type, offset_middle;
	uint32_t offset_high, unused;
};

extern const uint8_t interrupt_stubs[]; /* entry.S: 16 bytes for each vector */
extern const uint8_t guarded_fault[];
uint64_t guard_stack;
uint64_t interrupts_survived;
void interrupts_dispatch(struct frame *frame);

static struct gate idt[256];
static volatile uint32_t counts[256], total;
static volatile uint64_t times[256];
static void (*line_quiet)(void);

void interrupts_init(void)
{
	const struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) pointer = {sizeof(idt) - 1, (uint64_t)idt};
	for (unsigned i = 0; i < 256; i++) {
		uint64_t stub = (uint64_t)interrupt_stubs + 16 * i;
		idt[i] = (struct gate){.offset_low = (uint16_t)stub,
				       .selector = SELECTOR_CODE64,
				       .type = GATE_INTERRUPT,
				       .offset_middle = (uint16_t)(stub >> 16)};
	}
	__asm__ volatile("lidt %0" : : "m"(pointer));
	write32(LAYOUT_LAPIC + LAPIC_SPURIOUS, LAPIC_ENABLE | VECTOR_SPURIOUS);
	__asm__ volatile("sti");
}

void interrupts_finish(void)
{
	__asm__ volatile("cli");
	write32(LAYOUT_LAPIC + LAPIC_SPURIOUS, VECTOR_SPURIOUS);
}

static const char *exception_name(unsigned vector)
{
	static const char *const names[VECTORS_CPU] = {
		[0] = "divide error",
		[1] = "debug",
		[2] = "NMI",
		[3] = "breakpoint",
		[6] = "invalid opcode",
		[8] = "double fault",
		[10] = "invalid TSS",
		[11] = "segment missing",
		[12] = "stack fault",
		[13] = "general protection",
		[14] = "page fault",
		[17] = "alignment check",
		[18] = "machine check",
	};
	return names[vector] ? names[vector] : "exception";
}

static void __attribute__((noreturn)) crash(const struct frame *frame)
{
	print("# exception %u (%s) error=%lx rip=%lx cr2=%lx rsp=%lx flags=%lx rax=%lx rbx=%lx rcx=%lx rdx=%lx rsi=%lx "
	      "rdi=%lx rbp=%lx\n",
	      (unsigned)frame->vector, exception_name((unsigned)frame->vector), frame->error, frame->rip, read_cr2(),
	      frame->rsp, frame->flags, frame->rax, frame->rbx, frame->rcx, frame->rdx, frame->rsi, frame->rdi,
	      frame->rbp);
	machine_end(LAYOUT_FIRMWARE_CRASHED);
}

static void on_exception(struct frame *frame)
{
	if (frame->vector == VECTOR_PAGE && paging_map(read_cr2()))
		return;
	if (!guard_stack)
		crash(frame);
	interrupts_survived++;
	frame->rip = (uint64_t)guarded_fault;
	frame->rsp = guard_stack;
}

void interrupts_dispatch(struct frame *frame)
{
	unsigned vector = (unsigned)frame->vector;
	if (vector < VECTORS_CPU) {
		on_exception(frame);
		return;
	}
	if (vector == VECTOR_SPURIOUS)
		return;
	times[vector] = read_tsc();
	counts[vector]++;
	total++;
	if (vector == VECTOR_LINE && line_quiet)
		line_quiet();
	write32(LAYOUT_LAPIC + LAPIC_EOI, 0);
}

uint32_t interrupts_count(unsigned vector)
{
	return counts[vector];
}

uint64_t interrupts_time(unsigned vector)
{
	return times[vector];
}

uint32_t interrupts_total(void)
{
	return total;
}

bool interrupts_wait(unsigned vector, uint32_t count, uint64_t timeout_us)
{
	uint64_t end = now_ns() + timeout_us * 1000;
	while (counts[vector] < count) {
		if (now_ns() > end)
			return false;
		relax();
	}
	return true;
}

static void ioapic_write(unsigned pin, uint32_t low, uint32_t high)
{
	write32(LAYOUT_IOAPIC + IOAPIC_SELECT, IOAPIC_ENTRY + 2 * pin + 1);
	write32(LAYOUT_IOAPIC + IOAPIC_WINDOW, high);
	write32(LAYOUT_IOAPIC + IOAPIC_SELECT, IOAPIC_ENTRY + 2 * pin);
	write32(LAYOUT_IOAPIC + IOAPIC_WINDOW, low);
}

/* To APIC 0, which is this CPU. */
void interrupts_route_line(unsigned gsi, void (*quiet)(void))
{
	line_quiet = quiet;
	ioapic_write(gsi, VECTOR_LINE | ENTRY_LEVEL, 0);
}

void interrupts_unroute_line(unsigned gsi)
{
	ioapic_write(gsi, VECTOR_LINE | ENTRY_LEVEL | ENTRY_MASKED, 0);
	line_quiet = NULL;
}
