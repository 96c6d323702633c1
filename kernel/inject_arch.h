/* SPDX-License-Identifier: MIT */
/*
 * The seam between injection and the processor: registers, the instruction that enters the kernel,
 * how a call is laid out in registers. One inject_ARCH.c implements it; nothing else in kernel/
 * knows a register by name.
 *
 * What a port must know. On x86-64 a stop inside the kernel shows the interrupted call as it is:
 * its number in orig_rax and -ERESTART* in rax, and the kernel decides about the restart only when
 * the task leaves the stop (arch_do_signal_or_restart() in arch/x86/kernel/signal.c). On arm64
 * do_signal() rewinds pc and x0 *before* the stop and keeps "it was ERESTART_RESTARTBLOCK" in a
 * local variable, which a detour through an injected call loses. The way out there: if the
 * instruction at pc is `svc #0`, the next stop under PTRACE_SYSCALL is the entry of the call the
 * kernel really restarts (restart_syscall or the original); save the number and the arguments seen
 * there, and restore them with pc at the `svc`.
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

uint64_t inject_arch_ip(const struct inject_registers *regs);
void inject_arch_set_ip(struct inject_registers *regs, uint64_t ip);
uint64_t inject_arch_stack(const struct inject_registers *regs);

/* Whether the task stopped on its way out of a call; then also which one, with what result. */
bool inject_arch_in_syscall(
	const struct inject_registers *regs, long *ret_number, int64_t *ret_result);
uint64_t inject_arch_argument(const struct inject_registers *regs, unsigned int index);
/* Makes the interrupted call end as -ERESTARTNOHAND: again, unless a handler runs first. */
void inject_arch_restart_unless_handled(struct inject_registers *regs);

#endif
