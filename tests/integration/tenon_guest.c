// SPDX-License-Identifier: MIT
/* The interpreter, and ELF files around code. PVH: Xen docs/misc/pvh.pandoc; the note's type is XEN_ELFNOTE_PHYS32_ENTRY. */
#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "tenon_guest.h"

#define NOTE_PHYS32_ENTRY 18
#define FILES_MAX         16

GUEST_CODE(script, GUEST_STACK
	   "movl 24(%ebx), %esi\n" /* hvm_start_info.cmdline_paddr */
	   "incb " GUEST_AT(script,
			    "boots") "\n"
				     "next: call fetch\n"
				     "cmpb $'b', %al\n"
				     "je boot\n"
				     "cmpb $'p', %al\n"
				     "je print\n"
				     "cmpb $'d', %al\n"
				     "je dump\n"
				     "cmpb $'e', %al\n"
				     "je echo\n"
				     "cmpb $'f', %al\n"
				     "je flood\n"
				     "cmpb $'h', %al\n"
				     "je halt\n"
				     "cmpb $'o', %al\n"
				     "je power_off\n"
				     "cmpb $'r', %al\n"
				     "je reset\n"
				     "cmpb $'t', %al\n"
				     "je triple_fault\n"
				     "cmpb $'s', %al\n"
				     "je spin\n"
				     "cmpb $'x', %al\n"
				     "je leave\n"
				     "jmp next\n"

				     "boot: movb $'B', %al\n" GUEST_CALL_PUT "movb " GUEST_AT(
					     script,
					     "boots") ", %al\n" GUEST_CALL_PUT "jmp next\n"

						      "print: call fetch\n" GUEST_CALL_PUT "jmp next\n"

						      "dump: movl $4096, %ecx\n"
						      "movl %ebx, %edi\n"
						      "1: movb (%edi), %al\n" GUEST_CALL_PUT "incl %edi\n"
						      "decl %ecx\n"
						      "jnz 1b\n"
						      "jmp next\n"

						      "echo: call fetch\n" GUEST_CALL_PUT "jmp echo\n"

						      "flood: movw $0x3f8, %dx\n"
						      "movb $'f', %al\n"
						      "1: outb %al, %dx\n"
						      "jmp 1b\n"

						      "power_off: movw $0x600, %dx\n"
						      "movb $0x34, %al\n"
						      "outb %al, %dx\n"
						      "jmp halt\n"

						      "reset: movw $0x602, %dx\n"
						      "movb $1, %al\n"
						      "outb %al, %dx\n"
						      "halt: cli\n"
						      "hlt\n"
						      "jmp halt\n"

						      "triple_fault: pushl $0\n"
						      "pushl $0\n"
						      "lidt (%esp)\n"
						      "ud2\n" /* a KVM that interprets kernel code may not know INT */

						      "spin: jmp spin\n"

						      "leave: call fetch\n"
						      "subb $'a', %al\n"
						      "shlb $4, %al\n"
						      "movb %al, %cl\n"
						      "call fetch\n"
						      "subb $'a', %al\n"
						      "orb %cl, %al\n"
						      "movw $0x500, %dx\n"
						      "outb %al, %dx\n"
						      "jmp next\n"

						      /* The next command in %al. */
						      "fetch: movb (%esi), %al\n"
						      "testb %al, %al\n"
						      "jz 1f\n"
						      "incl %esi\n"
						      "ret\n"
						      "1: movw $0x3fd, %dx\n"
						      "2: inb %dx, %al\n"
						      "testb $1, %al\n"
						      "jz 2b\n"
						      "movw $0x3f8, %dx\n"
						      "inb %dx, %al\n"
						      "ret\n" GUEST_PUT "boots: .byte '0'\n");

struct guest_note {
	Elf64_Nhdr header;
	char name[4];
	uint32_t entry;
};

struct guest_headers {
	Elf64_Ehdr elf;
	Elf64_Phdr segments[2];
	struct guest_note note;
};

static struct guest_headers make_headers(size_t code_bytes)
{
	return (struct guest_headers){
		.elf = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
			.e_type = ET_EXEC,
			.e_machine = EM_X86_64,
			.e_version = EV_CURRENT,
			.e_entry = GUEST_LOAD,
			.e_phoff = offsetof(struct guest_headers, segments),
			.e_ehsize = sizeof(Elf64_Ehdr),
			.e_phentsize = sizeof(Elf64_Phdr),
			.e_phnum = 2},
		.segments = {{.p_type = PT_LOAD,
			      .p_flags = PF_R | PF_W | PF_X,
			      .p_offset = sizeof(struct guest_headers),
			      .p_vaddr = GUEST_LOAD,
			      .p_paddr = GUEST_LOAD,
			      .p_filesz = code_bytes,
			      .p_memsz = code_bytes},
			     {.p_type = PT_NOTE,
			      .p_offset = offsetof(struct guest_headers, note),
			      .p_filesz = sizeof(struct guest_note),
			      .p_align = 4}},
		.note = {.header = {.n_namesz = 4, .n_descsz = 4, .n_type = NOTE_PHYS32_ENTRY},
			 .name = "Xen",
			 .entry = GUEST_LOAD},
	};
}

const char *guest_file(const uint8_t *code, const uint8_t *code_end)
{
	static char paths[FILES_MAX][24];
	static unsigned count;
	size_t code_bytes = (size_t)(code_end - code);
	const struct guest_headers headers = make_headers(code_bytes);
	cr_assert_lt(count, FILES_MAX);
	int made = memfd_create("test-kernel", 0);
	/* Inherited by the program, and out of the way of its standard streams. */
	int fd = fcntl(made, F_DUPFD, 200);
	close(made);
	cr_assert_geq(fd, 0);
	cr_assert_eq(write(fd, &headers, sizeof(headers)), (ssize_t)sizeof(headers));
	cr_assert_eq(write(fd, code, code_bytes), (ssize_t)code_bytes);
	snprintf(paths[count], sizeof(paths[count]), "/proc/self/fd/%d", fd);
	return paths[count++];
}

const char *guest_interpreter(void)
{
	return GUEST_FILE(script);
}

void guest_skip_without_kvm(void)
{
	if (access("/dev/kvm", R_OK | W_OK) != 0)
		cr_skip_test("no access to /dev/kvm");
}
