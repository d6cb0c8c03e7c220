/* SPDX-License-Identifier: MIT */
/*
 * A guest to be moved, the same for every VMM: entered by PVH, it makes every page from 2 MiB to RAM_END one that is not zero, and then
 * writes the first HOT_PAGES of them in turn, one each TSC_PER_PAGE ticks. It says '.' on the serial port when it begins, and once for each 64
 * pages (about 4 ms) from then on: the longest silence is how long it stood, seen from outside.
 * gcc -DRAM_END=... -DHOT_PAGES=... -DTSC_PER_PAGE=... -nostdlib -static -no-pie -Wl,--build-id=none -Wl,-T,payload.ld
 */
#define FIRST 0x200000

	.section .note.pvh, "a", @note
	.align 4
	.long 4, 4, 18			/* XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.long _start

	.text
	.code32
	.globl _start
_start:
	movl $FIRST, %ebx
1:	movl %ebx, (%ebx)
	addl $0x1000, %ebx
	cmpl $RAM_END, %ebx
	jb 1b

	rdtsc
	movl %eax, %edi			/* when the next page is due, modulo 2^32 */
	xorl %esi, %esi			/* pages so far */
next:
	movl $FIRST, %ebx
page:
	rdtsc
	movl %eax, %ecx
	subl %edi, %ecx
	js page				/* not yet */
	leal TSC_PER_PAGE(%eax), %edi	/* what is late does not pile up */
	incl (%ebx)
	testl $63, %esi
	jnz 2f
	movw $0x3f8, %dx
	movb $'.', %al
	outb %al, (%dx)
2:	incl %esi
	addl $0x1000, %ebx
	cmpl $(FIRST + HOT_PAGES * 0x1000), %ebx
	jb page
	jmp next

	.section .note.GNU-stack, "", @progbits
