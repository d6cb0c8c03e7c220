/* SPDX-License-Identifier: MIT */
/*
 * The smallest kernel there is: entered by PVH, it writes one byte to the serial port, then 0 to the exit device, and halts.
 * gcc -nostdlib -static -no-pie -Wl,--build-id=none -Wl,-T,payload.ld -o payload payload.S
 */
	.section .note.pvh, "a", @note
	.align 4
	.long 4, 4, 18			/* XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.long _start

	.text
	.code32
	.globl _start
_start:
	movw $0x3f8, %dx
	movb $'T', %al
	outb %al, (%dx)
	movw $0x500, %dx
	xorb %al, %al
	outb %al, (%dx)
1:	hlt
	jmp 1b

	.section .note.GNU-stack, "", @progbits
