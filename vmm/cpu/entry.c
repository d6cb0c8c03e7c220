/* SPDX-License-Identifier: MIT */
/*
 * The boot processor's state at a kernel's first instruction. Linux's 64-bit protocol (Documentation/arch/x86/boot.rst, "64-bit
 * Boot Protocol") and PVH (Xen docs/misc/pvh.pandoc; the same list heads Linux arch/x86/platform/pvh/head.S).
 */
#include <errno.h>
#include <string.h>

#include "../layout.h"
#include "cpu.h"

#define CR0_PE          (1ull << 0)
#define CR0_ET          (1ull << 4) /* reads as one on every x86-64 */
#define CR0_PG          (1ull << 31)
#define CR4_PAE         (1ull << 5)
#define EFER_LME        (1ull << 8)
#define EFER_LMA        (1ull << 10)
#define RFLAGS_RESERVED 2ull /* bit 1 is always one; interrupts off */

/* Descriptor types (SDM volume 3A, 3.4.5.1 and 3.5) */
#define TYPE_CODE     0xbu /* execute, read, accessed */
#define TYPE_DATA     0x3u /* read, write, accessed */
#define TYPE_TSS_BUSY 0xbu

#define SELECTOR_CODE 0x10u /* __BOOT_CS */
#define SELECTOR_DATA 0x18u /* __BOOT_DS */
#define SELECTOR_TASK 0x20u
#define GDT_ENTRIES   6u /* null, unused, code, data, task (16 bytes in long mode) */
#define TSS_LIMIT     0x67u

#define PTE_PRESENT    (1ull << 0)
#define PTE_WRITE      (1ull << 1)
#define PTE_ACCESSED   (1ull << 5)
#define PTE_DIRTY      (1ull << 6)
#define PTE_LARGE      (1ull << 7)
#define PTE_TABLE      (PTE_PRESENT | PTE_WRITE | PTE_ACCESSED)
#define PTE_LARGE_PAGE (PTE_TABLE | PTE_DIRTY | PTE_LARGE)

#define TABLE_BYTES       UINT64_C(4096)
#define TABLE_ENTRIES     UINT64_C(512)
#define MAPPED_GIB        4u
#define PAGE_TABLES_BYTES ((2u + MAPPED_GIB) * TABLE_BYTES)

_Static_assert(LAYOUT_GDT + GDT_ENTRIES * 8 <= LAYOUT_PVH_INFO, "the GDT has room");
_Static_assert(LAYOUT_PAGE_TABLES + PAGE_TABLES_BYTES <= LAYOUT_CMDLINE, "the page tables have room");

static struct kvm_segment flat_segment(uint8_t type, uint16_t selector, bool long_mode)
{
	bool code = type == TYPE_CODE;
	return (struct kvm_segment){
		.limit = 0xffffffff,
		.selector = selector,
		.type = type,
		.present = 1,
		.db = !(code && long_mode),
		.s = 1,
		.l = code && long_mode,
		.g = 1,
	};
}

static uint64_t descriptor(const struct kvm_segment *segment)
{
	uint64_t limit = segment->g ? segment->limit >> 12 : segment->limit;
	uint64_t access = segment->type | segment->s << 4 | segment->dpl << 5 | segment->present << 7;
	uint64_t flags = segment->avl | segment->l << 1 | segment->db << 2 | segment->g << 3;

	return (limit & 0xffff) | (segment->base & 0xffffff) << 16 | access << 40 | (limit >> 16 & 0xf) << 48 |
	       flags << 52 | (segment->base >> 24 & 0xff) << 56;
}

/* Segment registers, and the same segments as descriptors in RAM, for a kernel that reloads a selector before its own GDT. */
static int set_segments(struct memory *memory, struct kvm_sregs *sregs, bool long_mode)
{
	uint64_t *gdt = memory_at(memory, LAYOUT_GDT, GDT_ENTRIES * sizeof(*gdt));
	if (!gdt)
		return -EFAULT;

	struct kvm_segment data = flat_segment(TYPE_DATA, SELECTOR_DATA, long_mode);
	sregs->cs = flat_segment(TYPE_CODE, SELECTOR_CODE, long_mode);
	sregs->ds = sregs->es = sregs->ss = sregs->fs = sregs->gs = data;
	sregs->tr = (struct kvm_segment){
		.limit = TSS_LIMIT, .selector = SELECTOR_TASK, .type = TYPE_TSS_BUSY, .present = 1};

	memset(gdt, 0, GDT_ENTRIES * sizeof(*gdt));
	gdt[SELECTOR_CODE / 8] = descriptor(&sregs->cs);
	gdt[SELECTOR_DATA / 8] = descriptor(&sregs->ds);
	gdt[SELECTOR_TASK / 8] = descriptor(&sregs->tr);
	sregs->gdt = (struct kvm_dtable){.base = LAYOUT_GDT, .limit = GDT_ENTRIES * sizeof(*gdt) - 1};
	sregs->idt =
		(struct kvm_dtable){0}; /* an exception before the kernel's own IDT shuts down rather than runs wild */
	return 0;
}

/* One top table, one of 4 gigabytes, four of 512 pages of 2 MiB. */
static int write_page_tables(struct memory *memory)
{
	uint64_t *tables = memory_at(memory, LAYOUT_PAGE_TABLES, PAGE_TABLES_BYTES);
	if (!tables)
		return -EFAULT;

	memset(tables, 0, 2 * TABLE_BYTES);
	tables[0] = (LAYOUT_PAGE_TABLES + TABLE_BYTES) | PTE_TABLE;
	for (uint64_t gib = 0; gib < MAPPED_GIB; gib++)
		tables[TABLE_ENTRIES + gib] = (LAYOUT_PAGE_TABLES + (2 + gib) * TABLE_BYTES) | PTE_TABLE;
	for (uint64_t page = 0; page < MAPPED_GIB * TABLE_ENTRIES; page++)
		tables[2 * TABLE_ENTRIES + page] = page << 21 | PTE_LARGE_PAGE;
	return 0;
}

/* Starts from what KVM has, for what no protocol speaks of (the APIC base); CR0's cache disable bits must go. */
static int set_system_registers(struct memory *memory, enum loader_protocol protocol, struct kvm_sregs *sregs)
{
	bool long_mode = protocol == LOADER_LINUX64;
	int result = set_segments(memory, sregs, long_mode);

	sregs->cr0 = CR0_PE | CR0_ET;
	sregs->cr2 = sregs->cr3 = sregs->cr4 = sregs->cr8 = sregs->efer = 0;
	memset(sregs->interrupt_bitmap, 0, sizeof(sregs->interrupt_bitmap));
	if (result == 0 && long_mode) {
		result = write_page_tables(memory);
		sregs->cr0 |= CR0_PG;
		sregs->cr3 = LAYOUT_PAGE_TABLES;
		sregs->cr4 = CR4_PAE;
		sregs->efer = EFER_LME | EFER_LMA;
	}
	return result;
}

int cpu_enter(struct tenon_vcpu *vcpu, struct memory *memory, const struct loader_entry *entry, struct tenon_error *err)
{
	struct kvm_sregs sregs;
	int result = tenon_vcpu_get_sregs(vcpu, &sregs, err);
	if (result < 0)
		return result;
	result = set_system_registers(memory, entry->protocol, &sregs);
	if (result < 0)
		return tenon_fail(err, result, "vCPU %u: no RAM for its page tables below 1 MiB",
				  tenon_vcpu_index(vcpu));
	result = tenon_vcpu_set_sregs(vcpu, &sregs, err);
	if (result < 0)
		return result;

	struct kvm_regs regs = {.rip = entry->entry_gpa, .rflags = RFLAGS_RESERVED};
	if (entry->protocol == LOADER_PVH)
		regs.rbx = entry->info_gpa;
	else
		regs.rsi = entry->info_gpa;
	return tenon_vcpu_set_regs(vcpu, &regs, err);
}
