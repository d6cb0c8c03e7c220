// SPDX-License-Identifier: MIT
/* Guests that read and write whatever there is: the monitor answers as hardware would, lives on, and ends when it is told to. */
#include <stdio.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "tenon_guest.h"
#include "tenon_run.h"

TestSuite(tenon_hostile, .init = guest_skip_without_kvm, .timeout = 300);

/* Procedure 91: the next number in %eax. %ebx is its state. */
#define GUEST_RANDOM                                                                                                   \
	"91: imull $1664525, %ebx, %ebx\n"                                                                             \
	"addl $1013904223, %ebx\n"                                                                                     \
	"movl %ebx, %eax\n"                                                                                            \
	"roll $13, %eax\n"                                                                                             \
	"ret\n"

/* Procedure 92: the serial port as it was at power-on, but for its divisor, after it was written at random. */
#define GUEST_CALM                                                                                                     \
	"92: movw $0x3fb, %dx\n"                                                                                       \
	"movb $3, %al\n"                                                                                               \
	"outb %al, %dx\n"                                                                                              \
	"movw $0x3f9, %dx\n"                                                                                           \
	"movb $0, %al\n"                                                                                               \
	"outb %al, %dx\n"                                                                                              \
	"movw $0x3fc, %dx\n"                                                                                           \
	"movb $3, %al\n"                                                                                               \
	"outb %al, %dx\n"                                                                                              \
	"ret\n"

/* Goes to 94 when %edx is a port that ends or restarts the machine. */
#define GUEST_SKIP_POWER_PORTS                                                                                         \
	"cmpl $0x600, %edx\n"                                                                                          \
	"jb 7f\n"                                                                                                      \
	"cmpl $0x602, %edx\n"                                                                                          \
	"jbe 94f\n"                                                                                                    \
	"7:\n"

#define GUEST_TOUCH_PORT                                                                                               \
	"call 91f\n"                                                                                                   \
	"outb %al, %dx\n"                                                                                              \
	"inb %dx, %al\n"

#define GUEST_TOUCH_PORT_WIDE                                                                                          \
	"outw %ax, %dx\n"                                                                                              \
	"inw %dx, %ax\n"                                                                                               \
	"outl %eax, %dx\n"                                                                                             \
	"inl %dx, %eax\n"

GUEST_CODE(every_port, GUEST_STACK "xorl %edi, %edi\n"
				   "movl $1, %ebx\n"
				   "93: movl %edi, %edx\n" GUEST_SKIP_POWER_PORTS GUEST_TOUCH_PORT "testb $7, %dl\n"
				   "jnz 94f\n" GUEST_TOUCH_PORT_WIDE "94: incl %edi\n"
				   "testl $0xfff, %edi\n"
				   "jnz 93b\n"
				   "call 92f\n"
				   "movb $'!', %al\n" GUEST_CALL_PUT "cmpl $0x10000, %edi\n"
				   "jb 93b\n"
				   "95: hlt\n"
				   "jmp 95b\n" GUEST_RANDOM GUEST_CALM GUEST_PUT);

Test(tenon_hostile, every_port_can_be_written_and_read)
{
	struct run run;
	run_start(&run, ARGS("run", "--kernel", GUEST_FILE(every_port), "--memory", "64M", "--cpus", "2"), NULL);
	for (unsigned parts = 1; parts <= 16; parts++)
		run_expect(&run, "!", parts);
	run_signal(&run, SIGTERM);
	cr_expect_eq(run_wait(&run, ENDING_MS), 143);
	cr_expect_str_empty(run.complained.bytes);
	run_finish(&run);
}

/* Random ports and random addresses without RAM, but for the interrupt controllers: they could crash the guest itself. */
GUEST_CODE(random_places, GUEST_STACK "movl $0x12345, %ebx\n"
				      "93: call 91f\n"
				      "movzwl %ax, %edx\n" GUEST_SKIP_POWER_PORTS GUEST_TOUCH_PORT GUEST_TOUCH_PORT_WIDE
				      "94: call 91f\n"
				      "orl $0xc0000000, %eax\n"
				      "movl %eax, %ecx\n"
				      "shrl $22, %eax\n"
				      "cmpl $0x3fb, %eax\n"
				      "je 93b\n"
				      "cmpl $0x3ff, %eax\n" /* the last 4 MiB: an access must not wrap around */
				      "je 93b\n"
				      "call 91f\n"
				      "movl %eax, (%ecx)\n"
				      "movb %al, 1(%ecx)\n"
				      "movw %ax, 3(%ecx)\n"
				      "movl (%ecx), %eax\n"
				      "movb 3(%ecx), %al\n"
				      "movw 1(%ecx), %ax\n"
				      "andl $0xe0ffffff, %ecx\n" /* ECAM is one part in 512 of it: more often there */
				      "movl %eax, (%ecx)\n"
				      "movl (%ecx), %eax\n"
				      "movw 2(%ecx), %ax\n"
				      "incl %edi\n"
				      "testl $0xff, %edi\n"
				      "jnz 93b\n"
				      "call 92f\n"
				      "movb $'!', %al\n" GUEST_CALL_PUT "jmp 93b\n" GUEST_RANDOM GUEST_CALM GUEST_PUT);

Test(tenon_hostile, random_ports_and_addresses_do_not_stall_it)
{
	struct run run;
	run_start(&run,
		  ARGS("run", "--kernel", GUEST_FILE(random_places), "--memory", "64M", "--cpus", "2", "--no-reboot"),
		  NULL);
	for (unsigned parts = 1; parts <= 20; parts++)
		run_expect(&run, "!", parts);
	run_signal(&run, SIGTERM);
	cr_expect_eq(run_wait(&run, ENDING_MS), 143);
	cr_expect_str_empty(run.complained.bytes);
	run_finish(&run);
}

/* Everything, power registers and interrupt controllers more often than the rest. The guest may well end itself so. */
GUEST_CODE(anything, GUEST_STACK "movl 24(%ebx), %esi\n"
				 "movl (%esi), %ebx\n" /* the command line is the seed */
				 "93: call 91f\n"
				 "movzwl %ax, %edx\n"
				 "testl $0x10000, %eax\n"
				 "jz 1f\n"
				 "andl $7, %edx\n"
				 "orl $0x3f8, %edx\n"
				 "testl $0x20000, %eax\n"
				 "jz 1f\n"
				 "andl $0x67, %edx\n" /* PICs, PIT, speaker port */
				 "1:\n" GUEST_TOUCH_PORT GUEST_TOUCH_PORT_WIDE "call 91f\n"
				 "movl %eax, %ecx\n"
				 "andl $0x2003fc, %ecx\n"
				 "orl $0xfec00000, %ecx\n" /* IOAPIC or LAPIC */
				 "call 91f\n"
				 "movl %eax, (%ecx)\n"
				 "movl (%ecx), %eax\n"
				 "movb %al, 1(%ecx)\n"
				 "call 91f\n"
				 "testl $0xff00000, %eax\n"
				 "jnz 1f\n"
				 "movw $0x602, %dx\n"
				 "outb %al, %dx\n"
				 "movw $0x600, %dx\n"
				 "outb %al, %dx\n"
				 "1: orl $0xc0000000, %eax\n"
				 "movl %eax, (%eax)\n"
				 "jmp 93b\n" GUEST_RANDOM);

Test(tenon_hostile, whatever_a_guest_does_ends_in_a_documented_way)
{
	for (unsigned seed = 0; seed < 8; seed++) {
		char text[8];
		snprintf(text, sizeof(text), "se%02u", seed);
		struct run run;
		run_start(&run,
			  ARGS("run", "--kernel", GUEST_FILE(anything), "--append", text, "--memory", "64M", "--cpus",
			       "4", "--quiet"),
			  NULL);
		sleep(1);
		run_signal(&run, SIGTERM);
		int status = run_wait(&run, ENDING_MS);
		cr_expect(status == 0 || status == 4 || status == 5 || status == 143, "seed %u: %d, %s", seed, status,
			  run.complained.bytes);
		run_finish(&run);
	}
}
