/* SPDX-License-Identifier: MIT */
/*
 * The seam between injection and the processor: registers, the instruction that enters the kernel,
 * how a call is laid out in registers. One inject_ARCH.c implements it; nothing else in kernel/
 * knows a register by name.
 *
 * What differs most is what becomes of a call that the stop has interrupted. On x86-64 a stop
 * inside the kernel shows it as it is: its number in orig_rax and -ERESTART* in rax, and the kernel
 * decides about the restart only when the task leaves the stop (arch_do_signal_or_restart() in
 * arch/x86/kernel/signal.c): registers that are put back bring the decision back. On arm64
 * do_signal() (arch/arm64/kernel/signal.c) rewinds pc and x0 to the instruction *before* the stop,
 * and keeps how the call ended in a local variable. Two things depend on that variable, and a
 * detour through another call loses both: that a relative sleep goes on with restart_syscall(2) and
 * not from its beginning, and that a signal handler which runs first makes the call end with EINTR
 * where it should. So there the task is led to the entry of the call that the kernel really
 * restarts, which is then known; and led there again in the end, and let go from there. What it
 * returns, and whether it is interrupted, is then the kernel's business as ever.
 */
#ifndef MOLT_KERNEL_INJECT_ARCH_H
#define MOLT_KERNEL_INJECT_ARCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#if defined(__x86_64__)
#include <sys/user.h>
struct inject_registers {
	struct user_regs_struct user;
};
#elif defined(__aarch64__)
#include <sys/user.h>
struct inject_registers {
	struct user_regs_struct user;
	/* NT_ARM_SYSTEM_CALL: which call it is in, or was when it stopped; -1: none. */
	int32_t syscall;
};
#else
#error "no inject_ARCH.c for this processor yet"
#endif

/* The bytes of the instruction that enters the kernel, and where it may stand. */
extern const unsigned char inject_arch_instruction[];
extern const size_t inject_arch_instruction_size;
extern const size_t inject_arch_instruction_align;
/* e_machine of a native vDSO, and how far below the stack pointer a leaf function may keep data. */
extern const uint16_t inject_arch_elf_machine;
extern const uint64_t inject_arch_red_zone;

/* Registers of a stopped task. -ENOTSUP: it runs in another mode (32 bit) than we. */
int inject_arch_read(pid_t tid, struct inject_registers *ret);
int inject_arch_write(pid_t tid, const struct inject_registers *regs);

/* Makes the registers those of a task about to run the instruction at `address`, as that call. */
void inject_arch_call(
	struct inject_registers *regs, uint64_t address, long number, const uint64_t args[6]);
/* The raw result, at the exit of the call. */
int64_t inject_arch_result(const struct inject_registers *regs);
/* At the stop before a call: makes it do nothing. */
int inject_arch_cancel(pid_t tid);

/*
 * Whether the call that a task is in, or about to make, has to be met at its entry (see above), to
 * which the task has then to be led before anything else is run in it. Never on x86-64. 1, 0, or
 * -EFAULT: that cannot be seen.
 */
int inject_arch_meets_entry(pid_t tid, const struct inject_registers *regs);
/* There: takes what the kernel restarts into the registers to be put back. */
int inject_arch_learn_entry(pid_t tid, struct inject_registers *saved);

/*
 * What a system call does not keep of a task that was not in one: on arm64, all of the SVE
 * registers that is not also a V register. *ret is for free(3), or NULL where there is nothing to
 * be lost. x86-64 keeps everything, whatever XSAVE knows.
 */
struct inject_vectors;
int inject_arch_save_vectors(pid_t tid, struct inject_vectors **ret);
int inject_arch_restore_vectors(pid_t tid, const struct inject_vectors *vectors);

/*
 * A breakpoint of the processor's: whoever gets to run the instruction at `address` stops before it
 * by SIGTRAP, code TRAP_HWBKPT. 0: no such place any more. An exec ends it, a child does not
 * inherit it, a detach keeps it.
 */
int inject_arch_break_at(pid_t tid, uint64_t address);

uint64_t inject_arch_ip(const struct inject_registers *regs);
void inject_arch_set_ip(struct inject_registers *regs, uint64_t ip);
uint64_t inject_arch_stack(const struct inject_registers *regs);

/*
 * Whether the task stopped on its way out of a call; then also which one, with what result. arm64
 * cannot tell that from a return of sigreturn(2) to the same place, nor knows the first argument
 * any more: always no.
 */
bool inject_arch_in_syscall(
	const struct inject_registers *regs, long *ret_number, int64_t *ret_result);
uint64_t inject_arch_argument(const struct inject_registers *regs, unsigned int index);
/* Makes the interrupted call end as -ERESTARTNOHAND: again, unless a handler runs first. */
void inject_arch_restart_unless_handled(struct inject_registers *regs);

#endif
