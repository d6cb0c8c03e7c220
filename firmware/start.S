/* SPDX-License-Identifier: MIT */
/*
 * From the reset vector to C: real mode, protected mode, the image's copy to RAM, page tables, long mode. Intel SDM volume 3A,
 * 9.1.4 (first instruction) and 9.8.5 (entering IA-32e mode).
 */
#include "../vmm/layout.h"

#define CR0_PE 0x1
#define CR0_NW_CD 0x60000000
#define CR0_PG 0x80000000
#define CR4_PAE 0x20
#define MSR_EFER 0xc0000080
#define EFER_LME 0x100

#define PTE_TABLE 0x03 /* present, writable */
#define PTE_LARGE 0x83 /* and of 2 MiB */
#define PTE_UNCACHED 0x18
#define TABLE_BYTES 0x1000

#define SELECTOR_CODE32 0x08
#define SELECTOR_DATA 0x18
#define SELECTOR_CODE64 0x10

	.section .reset, "ax"
	.code16
	.globl reset
reset:
	jmp start16
	.balign 16, 0xff

	.section .start, "ax"
rom_page: /* at 0xfffff000: offset 0xf000 of the code segment that the CPU starts with */
start16:
	cli
	cld
	lgdtl %cs:0xf000 + (gdt_pointer - rom_page)
	movl %cr0, %eax
	andl $~CR0_NW_CD, %eax /* a reset leaves the caches off */
	orl $CR0_PE, %eax
	movl %eax, %cr0
	ljmpl $SELECTOR_CODE32, $start32

	.code32
start32:
	movw $SELECTOR_DATA, %ax
	movw %ax, %ds
	movw %ax, %es
	movw %ax, %ss
	movw %ax, %fs
	movw %ax, %gs

	movl $image_in_rom, %esi
	movl $image_start, %edi
	movl $image_end, %ecx
	subl %edi, %ecx
	shrl $2, %ecx
	rep movsl
	movl $bss_start, %edi
	movl $bss_end, %ecx
	subl %edi, %ecx
	shrl $2, %ecx
	xorl %eax, %eax
	rep stosl

	/* Identity map of 4 GiB: one top table, one of gigabytes, four of 2 MiB. Where there is no RAM it is uncached. */
	movl $LAYOUT_PAGE_TABLES, %edi
	movl $2 * TABLE_BYTES / 4, %ecx
	rep stosl
	movl $LAYOUT_PAGE_TABLES + TABLE_BYTES + PTE_TABLE, LAYOUT_PAGE_TABLES
	movl $LAYOUT_PAGE_TABLES + 2 * TABLE_BYTES + PTE_TABLE, LAYOUT_PAGE_TABLES + TABLE_BYTES
	movl $LAYOUT_PAGE_TABLES + 3 * TABLE_BYTES + PTE_TABLE, LAYOUT_PAGE_TABLES + TABLE_BYTES + 8
	movl $LAYOUT_PAGE_TABLES + 4 * TABLE_BYTES + PTE_TABLE, LAYOUT_PAGE_TABLES + TABLE_BYTES + 16
	movl $LAYOUT_PAGE_TABLES + 5 * TABLE_BYTES + PTE_TABLE, LAYOUT_PAGE_TABLES + TABLE_BYTES + 24
	movl $LAYOUT_PAGE_TABLES + 2 * TABLE_BYTES, %edi
	movl $PTE_LARGE, %eax
1:	movl %eax, (%edi)
	movl $0, 4(%edi)
	addl $8, %edi
	addl $0x200000, %eax
	cmpl $LAYOUT_PCI32 + PTE_LARGE, %eax
	jne 2f
	orl $PTE_UNCACHED, %eax
2:	cmpl $LAYOUT_PAGE_TABLES + 6 * TABLE_BYTES, %edi
	jne 1b

	movl $LAYOUT_PAGE_TABLES, %eax
	movl %eax, %cr3
	movl $CR4_PAE, %eax
	movl %eax, %cr4
	movl $MSR_EFER, %ecx
	rdmsr
	orl $EFER_LME, %eax
	wrmsr
	movl %cr0, %eax
	orl $CR0_PG, %eax
	movl %eax, %cr0
	ljmpl $SELECTOR_CODE64, $start64

	.code64
start64:
	movl $stack_top, %esp
	xorl %ebp, %ebp
	movl $firmware_main, %eax
	call *%rax
1:	hlt
	jmp 1b

	.balign 8
gdt:
	.quad 0
	.quad 0x00cf9b000000ffff /* code, 32 bits, flat */
	.quad 0x00af9b000000ffff /* code, 64 bits */
	.quad 0x00cf93000000ffff /* data, flat */
gdt_pointer:
	.word gdt_pointer - gdt - 1
	.long gdt
