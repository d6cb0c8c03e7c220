/* SPDX-License-Identifier: MIT */
/*
 * Kernels of a few hundred bytes, as ELF files with a PVH entry that exist in memory only. Code is 32-bit, starts at GUEST_LOAD
 * in flat protected mode with interrupts off, and must not depend on where the assembler thinks it lies: GUEST_AT gives addresses.
 */
#ifndef TENON_GUEST_H
#define TENON_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GUEST_LOAD      0x100000
#define GUEST_LOAD_TEXT "0x100000"

/* Code as bytes guest_<name> to guest_<name>_end. */
#define GUEST_CODE(name, ...)                                                                                          \
	extern const uint8_t guest_##name[], guest_##name##_end[];                                                     \
	__asm__(".pushsection .rodata\n.code32\nguest_" #name ":\n" __VA_ARGS__ "\nguest_" #name "_end:\n"             \
		".code64\n.popsection")
#define GUEST_AT(guest, label) GUEST_LOAD_TEXT " + (" label " - guest_" #guest ")"

/* ---- Pieces of code ---- */

#define GUEST_STACK "movl $0x90000, %esp\n"
/* Writes the exit device. */
#define GUEST_EXIT(status) "movb $" #status ", %al\nmovw $0x500, %dx\noutb %al, %dx\n98: hlt\njmp 98b\n"
/*
 * Procedures, after the code that calls them. Their labels are numbers, so that several guests of a file can have them.
 * PUT sends %al once the serial port has room.
 */
#define GUEST_CALL_PUT "call 90f\n"
#define GUEST_PUT                                                                                                      \
	"90: movb %al, %ah\n"                                                                                          \
	"movw $0x3fd, %dx\n"                                                                                           \
	"1: inb %dx, %al\n"                                                                                            \
	"testb $0x20, %al\n"                                                                                           \
	"jz 1b\n"                                                                                                      \
	"movb %ah, %al\n"                                                                                              \
	"movw $0x3f8, %dx\n"                                                                                           \
	"outb %al, %dx\n"                                                                                              \
	"ret\n"

/* ---- Files ---- */

/** An ELF file of `code` to give the program: a path that it can open. The file lives as long as the test. */
const char *guest_file(const uint8_t *code, const uint8_t *code_end);

#define GUEST_FILE(name) guest_file(guest_##name, guest_##name##_end)

/**
 * A kernel that does what its command line says, byte by byte, and then what comes by its serial port:
 *
 *   b     print 'B', and the number of boots that its data counts: "B1", unless it was not loaded anew
 *   pC    print C
 *   d     print the page at the hvm_start_info that it was given
 *   e     echo what comes, forever
 *   f     flood the serial port, forever
 *   h     halt with interrupts off
 *   o     power off       r  reset       t  triple fault
 *   s     spin with interrupts off
 *   xHL   write (H - 'a') * 16 + (L - 'a') to the exit device
 */
const char *guest_interpreter(void);

/** Skips the test, saying why, where the program cannot run. */
void guest_skip_without_kvm(void);

#endif
