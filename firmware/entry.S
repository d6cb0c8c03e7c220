/* SPDX-License-Identifier: MIT */
/*
 * Ways into C from interrupts and exceptions, a call that survives exceptions, and the way out of long mode to a PVH kernel.
 */
#define SELECTOR_CODE32 0x08
#define SELECTOR_DATA 0x18
#define CR0_PG 0x80000000
#define CR4_PAE 0x20
#define MSR_EFER 0xc0000080
#define EFER_LME 0x100

	.text
	.code64

/* One stub for each vector, 16 bytes apart: the CPU pushes an error code for some, zero goes in its place for the others. */
	.globl interrupt_stubs
	.balign 16
interrupt_stubs:
	vector = 0
	.rept 256
	.balign 16
	.if !((vector == 8) || (vector >= 10 && vector <= 14) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30))
	pushq $0
	.endif
	pushq $vector
	jmp interrupt_common
	vector = vector + 1
	.endr

interrupt_common:
	pushq %rax
	pushq %rcx
	pushq %rdx
	pushq %rbx
	pushq %rbp
	pushq %rsi
	pushq %rdi
	pushq %r8
	pushq %r9
	pushq %r10
	pushq %r11
	pushq %r12
	pushq %r13
	pushq %r14
	pushq %r15
	cld
	movq %rsp, %rdi
	movq %rsp, %rbp
	andq $~15, %rsp
	call interrupts_dispatch
	movq %rbp, %rsp
	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %r11
	popq %r10
	popq %r9
	popq %r8
	popq %rdi
	popq %rsi
	popq %rbp
	popq %rbx
	popq %rdx
	popq %rcx
	popq %rax
	addq $16, %rsp
	iretq

/* bool guarded_call(void (*function)(void *), void *argument): true when it came back, false when an exception ended it. */
	.globl guarded_call, guarded_fault
guarded_call:
	pushq %rbx
	pushq %rbp
	pushq %r12
	pushq %r13
	pushq %r14
	pushq %r15
	subq $8, %rsp
	movq %rsp, guard_stack
	movq %rdi, %rax
	movq %rsi, %rdi
	call *%rax
	movl $1, %eax
1:	movq $0, guard_stack
	addq $8, %rsp
	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %rbp
	popq %rbx
	ret
guarded_fault: /* here the handler goes on, with the stack of guard_stack */
	xorl %eax, %eax
	jmp 1b

/* void enter_linux64(uint64_t entry, uint64_t boot_params): Linux's 64-bit protocol. */
	.globl enter_linux64
enter_linux64:
	cli
	movq %rdi, %rax
	xorl %ebx, %ebx
	xorl %ebp, %ebp
	xorl %edi, %edi
	jmp *%rax

/* void enter_pvh(uint64_t entry, uint64_t start_info): 32-bit protected mode without paging. */
	.globl enter_pvh
enter_pvh:
	cli
	movl %esi, %ebx
	pushq $SELECTOR_CODE32
	leaq 1f(%rip), %rax
	pushq %rax
	lretq
	.code32
1:	movl %cr0, %eax
	andl $~CR0_PG, %eax
	movl %eax, %cr0
	movl $MSR_EFER, %ecx
	rdmsr
	andl $~EFER_LME, %eax
	wrmsr
	xorl %eax, %eax
	movl %eax, %cr4
	movl $SELECTOR_DATA, %eax
	movw %ax, %ds
	movw %ax, %es
	movw %ax, %ss
	movw %ax, %fs
	movw %ax, %gs
	jmp *%edi
