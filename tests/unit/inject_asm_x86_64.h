/* SPDX-License-Identifier: MIT */
/* What test_inject_registers.c needs in the language of the processor. */
#ifndef MOLT_TESTS_INJECT_ASM_H
#define MOLT_TESTS_INJECT_ASM_H

#include <elf.h>

/*
 * A loop that keeps a value of its own in every register, in the carry flag, in the vector
 * registers and in the red zone, and looks at all of them all the time. rdi: what to count up; rsi:
 * to be set to stop. Returns the failures.
 */
__asm__(".pushsection .text\n"
	".globl inject_test_spin\n"
	"inject_test_spin:\n"
	"	push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
	"	mov $0x101, %rax; mov $0x102, %rbx; mov $0x103, %rcx; mov $0x104, %rdx\n"
	"	mov $0x105, %rbp; mov $0x108, %r8; mov $0x109, %r9; mov $0x10a, %r10\n"
	"	mov $0x10b, %r11; mov $0x10c, %r12; mov $0x10d, %r13; mov $0x10e, %r14\n"
	"	mov $0x10f, %r15\n"
	"	movq %rax, %xmm0; movq %rbx, %xmm7; movq %r15, %xmm15\n"
	"	movq $0x1111, -8(%rsp); movq $0x2222, -128(%rsp)\n"
	"1:	stc\n"
	"	nop; nop; nop; nop; nop; nop; nop; nop; nop; nop; nop; nop; nop; nop\n"
	"	jnc 9f\n"
	"	cmp $0x101, %rax; jne 9f; cmp $0x102, %rbx; jne 9f; cmp $0x103, %rcx; jne 9f\n"
	"	cmp $0x104, %rdx; jne 9f; cmp $0x105, %rbp; jne 9f; cmp $0x108, %r8; jne 9f\n"
	"	cmp $0x109, %r9; jne 9f; cmp $0x10a, %r10; jne 9f; cmp $0x10b, %r11; jne 9f\n"
	"	cmp $0x10c, %r12; jne 9f; cmp $0x10d, %r13; jne 9f; cmp $0x10e, %r14; jne 9f\n"
	"	cmp $0x10f, %r15; jne 9f\n"
	"	cmpq $0x1111, -8(%rsp); jne 9f; cmpq $0x2222, -128(%rsp); jne 9f\n"
	"	movq %xmm0, %rax; cmp $0x101, %rax; jne 9f\n"
	"	movq %xmm7, %rax; cmp $0x102, %rax; jne 9f\n"
	"	movq %xmm15, %rax; cmp $0x10f, %rax; jne 9f\n"
	"	mov $0x101, %rax\n"
	"	incq (%rdi)\n"
	"	cmpl $0, (%rsi); je 1b\n"
	"	xor %eax, %eax; jmp 8f\n"
	"9:	mov $1, %eax\n"
	"8:	pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
	"	ret\n"
	".popsection\n");

/*
 * A hand-made critical section, rseq(2), that counts up inside until it is told to stop; each abort
 * counts in `aborts`. rdi: the struct rseq of the thread; rsi: counter; rdx: aborts; rcx: stop.
 */
__asm__(".pushsection .data.rel.local, \"aw\"\n"
	".balign 32\n"
	"3:	.long 0, 0; .quad 1f, 2f - 1f, 4f\n"
	".popsection\n"
	".pushsection .text\n"
	".long 0x53053053\n" /* RSEQ_SIG, which must stand before an abort handler */
	"4:	lock incl (%rdx)\n"
	".globl inject_test_rseq\n"
	"inject_test_rseq:\n"
	"	lea 3b(%rip), %rax\n"
	"	mov %rax, 8(%rdi)\n"
	"1:	incq (%rsi)\n"
	"	cmpl $0, (%rcx)\n"
	"	je 1b\n"
	"2:	movq $0, 8(%rdi)\n"
	"	ret\n"
	".popsection\n");

/* pause() in a loop, in 32 bit: mov $29, %eax; int $0x80; jmp back */
#define CODE_32_BIT                                       \
	{                                                 \
		0xb8, 29, 0, 0, 0, 0xcd, 0x80, 0xeb, 0xf7 \
	}
#define MACHINE_32_BIT EM_386
#define FLAGS_32_BIT 0

#endif
