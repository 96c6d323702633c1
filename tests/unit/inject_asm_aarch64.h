/* SPDX-License-Identifier: MIT */
/* What test_inject_registers.c needs in the language of the processor. */
#ifndef MOLT_TESTS_INJECT_ASM_H
#define MOLT_TESTS_INJECT_ASM_H

#include <elf.h>

#define EXPECT(register, value) "mov x2, #" #value "; cmp " #register ", x2; b.ne 9f\n"

/*
 * A loop that keeps a value of its own in every register, in the flags and in the vector registers,
 * and looks at all of them all the time. x0: what to count up; x1: to be set to stop. Returns the
 * failures.
 */
/* clang-format off */
__asm__(".pushsection .text\n"
	".globl inject_test_spin\n"
	"inject_test_spin:\n"
	"	stp x19, x20, [sp, #-96]!; stp x21, x22, [sp, #16]; stp x23, x24, [sp, #32]\n"
	"	stp x25, x26, [sp, #48]; stp x27, x28, [sp, #64]; stp x29, x30, [sp, #80]\n"
	"	mov x3, #0x103; mov x4, #0x104; mov x5, #0x105; mov x6, #0x106; mov x7, #0x107\n"
	"	mov x8, #0x108; mov x9, #0x109; mov x10, #0x10a; mov x11, #0x10b; mov x12, #0x10c\n"
	"	mov x13, #0x10d; mov x14, #0x10e; mov x15, #0x10f; mov x16, #0x110\n"
	"	mov x17, #0x111; mov x18, #0x112; mov x19, #0x113; mov x20, #0x114\n"
	"	mov x21, #0x115; mov x22, #0x116; mov x23, #0x117; mov x24, #0x118\n"
	"	mov x25, #0x119; mov x26, #0x11a; mov x27, #0x11b; mov x28, #0x11c\n"
	"	mov x29, #0x11d; mov x30, #0x11e\n"
	"	mov v0.d[0], x3; mov v0.d[1], x4; mov v16.d[0], x5; mov v31.d[1], x6\n"
	"1:	cmp xzr, xzr\n" /* Z and C */
	"	nop; nop; nop; nop; nop; nop; nop; nop; nop; nop; nop; nop; nop; nop\n"
	"	b.ne 9f; b.cc 9f\n"
	EXPECT(x3, 0x103) EXPECT(x4, 0x104) EXPECT(x5, 0x105) EXPECT(x6, 0x106)
	EXPECT(x7, 0x107) EXPECT(x8, 0x108) EXPECT(x9, 0x109) EXPECT(x10, 0x10a)
	EXPECT(x11, 0x10b) EXPECT(x12, 0x10c) EXPECT(x13, 0x10d) EXPECT(x14, 0x10e)
	EXPECT(x15, 0x10f) EXPECT(x16, 0x110) EXPECT(x17, 0x111) EXPECT(x18, 0x112)
	EXPECT(x19, 0x113) EXPECT(x20, 0x114) EXPECT(x21, 0x115) EXPECT(x22, 0x116)
	EXPECT(x23, 0x117) EXPECT(x24, 0x118) EXPECT(x25, 0x119) EXPECT(x26, 0x11a)
	EXPECT(x27, 0x11b) EXPECT(x28, 0x11c) EXPECT(x29, 0x11d) EXPECT(x30, 0x11e)
	"	mov x2, v0.d[0]; cmp x2, x3; b.ne 9f; mov x2, v0.d[1]; cmp x2, x4; b.ne 9f\n"
	"	mov x2, v16.d[0]; cmp x2, x5; b.ne 9f; mov x2, v31.d[1]; cmp x2, x6; b.ne 9f\n"
	"	ldr x2, [x0]; add x2, x2, #1; str x2, [x0]\n"
	"	ldr w2, [x1]; cbz w2, 1b\n"
	"	mov w0, #0; b 8f\n"
	"9:	mov w0, #1\n"
	"8:	ldp x21, x22, [sp, #16]; ldp x23, x24, [sp, #32]; ldp x25, x26, [sp, #48]\n"
	"	ldp x27, x28, [sp, #64]; ldp x29, x30, [sp, #80]; ldp x19, x20, [sp], #96\n"
	"	ret\n"
	".popsection\n");
/* clang-format on */

/*
 * The same for what SVE has and a system call drops: the upper parts of the vectors, predicates,
 * first-fault register.
 */
int inject_test_spin_sve(atomic_long *counter, atomic_int *stop);
__asm__(".pushsection .text\n"
	".arch armv8-a+sve\n"
	".globl inject_test_spin_sve\n"
	"inject_test_spin_sve:\n"
	"	ptrue p0.b; ptrue p1.d; setffr; index z3.d, #5, #3; index z31.b, #1, #1\n"
	"1:	cntb x3; cntd x4\n"
	"	cntp x2, p0, p0.b; cmp x2, x3; b.ne 9f\n"
	"	cntp x2, p0, p1.b; cmp x2, x4; b.ne 9f\n"
	"	rdffr p2.b; cntp x2, p0, p2.b; cmp x2, x3; b.ne 9f\n"
	"	index z4.d, #5, #3; cmpne p3.d, p0/z, z3.d, z4.d; b.ne 9f\n"
	"	index z5.b, #1, #1; cmpne p3.b, p0/z, z31.b, z5.b; b.ne 9f\n"
	"	ldr x2, [x0]; add x2, x2, #1; str x2, [x0]\n"
	"	ldr w2, [x1]; cbz w2, 1b\n"
	"	mov w0, #0; ret\n"
	"9:	mov w0, #1; ret\n"
	".arch armv8-a\n"
	".popsection\n");

/* And in the streaming mode of SME, with a row of ZA. */
int inject_test_spin_sme(atomic_long *counter, atomic_int *stop);
__asm__(".pushsection .text\n"
	".arch armv8-a+sve+sme\n"
	".globl inject_test_spin_sme\n"
	"inject_test_spin_sme:\n"
	"	stp d8, d9, [sp, #-64]!; stp d10, d11, [sp, #16]; stp d12, d13, [sp, #32]\n"
	"	stp d14, d15, [sp, #48]\n"
	"	smstart\n"
	"	ptrue p0.b; index z3.d, #5, #3; index z31.b, #1, #1; mov w12, #0\n"
	"	mov za0h.b[w12, 0], p0/m, z31.b\n"
	"1:	mrs x2, svcr; cmp x2, #3; b.ne 9f\n"
	"	cntb x3; cntp x2, p0, p0.b; cmp x2, x3; b.ne 9f\n"
	"	index z4.d, #5, #3; cmpne p3.d, p0/z, z3.d, z4.d; b.ne 9f\n"
	"	index z5.b, #1, #1; cmpne p3.b, p0/z, z31.b, z5.b; b.ne 9f\n"
	"	mov z6.b, p0/m, za0h.b[w12, 0]; cmpne p3.b, p0/z, z6.b, z5.b; b.ne 9f\n"
	"	ldr x2, [x0]; add x2, x2, #1; str x2, [x0]\n"
	"	ldr w2, [x1]; cbz w2, 1b\n"
	"	mov w0, #0; b 8f\n"
	"9:	mov w0, #1\n"
	"8:	smstop\n"
	"	ldp d10, d11, [sp, #16]; ldp d12, d13, [sp, #32]; ldp d14, d15, [sp, #48]\n"
	"	ldp d8, d9, [sp], #64\n"
	"	ret\n"
	".arch armv8-a\n"
	".popsection\n");

/* A loop of indirect branches: at each of them PSTATE.BTYPE is set. */
int inject_test_branches(atomic_long *counter, atomic_int *stop);
__asm__(".pushsection .text\n"
	".globl inject_test_branches\n"
	"inject_test_branches:\n"
	"	adr x16, 1f\n"
	"1:	ldr w2, [x1]; cbnz w2, 2f\n"
	"	ldr x2, [x0]; add x2, x2, #1; str x2, [x0]\n"
	"	br x16\n"
	"2:	mov w0, #0; ret\n"
	".popsection\n");

/*
 * A hand-made critical section, rseq(2), that counts up inside until it is told to stop; each abort
 * counts in `aborts`. x0: the struct rseq of the thread; x1: counter; x2: aborts; x3: stop.
 */
__asm__(".pushsection .data.rel.local, \"aw\"\n"
	".balign 32\n"
	"3:	.long 0, 0; .quad 1f, 2f - 1f, 4f\n"
	".popsection\n"
	".pushsection .text\n"
	".inst 0xd428bc00\n" /* RSEQ_SIG, which must stand before an abort handler */
	"4:	ldaxr w5, [x2]; add w5, w5, #1; stlxr w6, w5, [x2]; cbnz w6, 4b\n"
	".globl inject_test_rseq\n"
	"inject_test_rseq:\n"
	"	adrp x4, 3b; add x4, x4, :lo12:3b\n"
	"	str x4, [x0, #8]\n"
	"1:	ldr x5, [x1]; add x5, x5, #1; str x5, [x1]\n"
	"	ldr w5, [x3]; cbz w5, 1b\n"
	"2:	str xzr, [x0, #8]\n"
	"	ret\n"
	".popsection\n");

/* pause() in a loop, in 32 bit: mov r7, #29; svc 0; b back */
#define CODE_32_BIT                                                           \
	{                                                                     \
		0x1d, 0x70, 0xa0, 0xe3, 0, 0, 0, 0xef, 0xfc, 0xff, 0xff, 0xea \
	}
#define MACHINE_32_BIT EM_ARM
#define FLAGS_32_BIT EF_ARM_EABI_VER5

#endif
