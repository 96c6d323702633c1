/* SPDX-License-Identifier: MIT */
#include "kernel/inject_arch.h"

#if defined(__x86_64__)

#include <elf.h>
#include <errno.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

const unsigned char inject_arch_instruction[] = {0x0f, 0x05}; /* syscall */
const size_t inject_arch_instruction_size = sizeof(inject_arch_instruction);
const size_t inject_arch_instruction_align = 1;
const uint16_t inject_arch_elf_machine = EM_X86_64;
const uint64_t inject_arch_red_zone = 128;

#define NO_SYSCALL (-1ULL)
#define ERESTARTNOHAND 514 /* include/linux/errno.h: never seen by user space */
#define FLAGS_TRAP 0x100 /* TF: single step */

static int regset(pid_t tid, enum __ptrace_request request, struct iovec *iov)
{
	return ptrace(request, tid, (void *)NT_PRSTATUS, iov) < 0 ? -errno : 0;
}

int inject_arch_read(pid_t tid, struct inject_registers *ret)
{
	struct user_regs_struct user;
	struct iovec iov = {.iov_base = &user, .iov_len = sizeof(user)};
	int r = regset(tid, PTRACE_GETREGSET, &iov);

	if (r < 0)
		return r;
	/* The kernel picks the view by the code segment: a 32-bit task shows the 68 bytes of i386.
	 */
	if (iov.iov_len != sizeof(user))
		return -ENOTSUP;
	ret->user = user;
	return 0;
}

int inject_arch_write(pid_t tid, const struct inject_registers *regs)
{
	struct user_regs_struct user = regs->user;
	/*
	 * Up to ss and no further: nothing we do changes the segment bases and selectors behind it,
	 * and before Linux 5.9 writing a selector could clear its base, which is the thread
	 * pointer.
	 */
	struct iovec iov = {
		.iov_base = &user,
		.iov_len = offsetof(struct user_regs_struct, fs_base),
	};

	return regset(tid, PTRACE_SETREGSET, &iov);
}

void inject_arch_call(
	struct inject_registers *regs, uint64_t address, long number, const uint64_t args[6])
{
	regs->user.rip = address;
	regs->user.rax = (unsigned long)number;
	/* No interrupted call: nothing for the kernel to restart, whatever stands in rax. */
	regs->user.orig_rax = NO_SYSCALL;
	/* A task that single-steps itself would get its SIGTRAP inside our call. */
	regs->user.eflags &= ~(unsigned long long)FLAGS_TRAP;
	regs->user.rdi = args[0];
	regs->user.rsi = args[1];
	regs->user.rdx = args[2];
	regs->user.r10 = args[3];
	regs->user.r8 = args[4];
	regs->user.r9 = args[5];
}

int64_t inject_arch_result(const struct inject_registers *regs)
{
	return (int64_t)regs->user.rax;
}

int inject_arch_cancel(pid_t tid)
{
	struct inject_registers regs;
	int r = inject_arch_read(tid, &regs);

	if (r < 0)
		return r;
	regs.user.orig_rax = NO_SYSCALL;
	return inject_arch_write(tid, &regs);
}

int inject_arch_meets_entry(pid_t tid, const struct inject_registers *regs)
{
	(void)tid;
	(void)regs;
	return 0;
}

int inject_arch_learn_entry(pid_t tid, struct inject_registers *saved)
{
	(void)tid;
	(void)saved;
	return 0;
}

int inject_arch_save_vectors(pid_t tid, struct inject_vectors **ret)
{
	(void)tid;
	*ret = NULL;
	return 0;
}

int inject_arch_restore_vectors(pid_t tid, const struct inject_vectors *vectors)
{
	(void)tid;
	(void)vectors;
	return 0;
}

static int set_debug_register(pid_t tid, size_t n, uint64_t value)
{
	size_t at = offsetof(struct user, u_debugreg) + n * sizeof(uint64_t);

	return ptrace(PTRACE_POKEUSER, tid, (void *)at, (void *)value) < 0 ? -errno : 0;
}

/* Intel SDM 3, 18.2: bit 0 of DR7 enables DR0, whose kind and length are 0: to be executed. */
int inject_arch_break_at(pid_t tid, uint64_t address)
{
	int r = address ? set_debug_register(tid, 0, address) : 0;

	return r < 0 ? r : set_debug_register(tid, 7, address != 0);
}

uint64_t inject_arch_ip(const struct inject_registers *regs)
{
	return regs->user.rip;
}

void inject_arch_set_ip(struct inject_registers *regs, uint64_t ip)
{
	regs->user.rip = ip;
}

uint64_t inject_arch_stack(const struct inject_registers *regs)
{
	return regs->user.rsp;
}

bool inject_arch_in_syscall(
	const struct inject_registers *regs, long *ret_number, int64_t *ret_result)
{
	/* Interrupts and sigreturn(2) set -1. The kernel itself looks at the low 32 bits only. */
	if ((int32_t)regs->user.orig_rax < 0)
		return false;
	*ret_number = (long)regs->user.orig_rax;
	*ret_result = (int64_t)regs->user.rax;
	return true;
}

uint64_t inject_arch_argument(const struct inject_registers *regs, unsigned int index)
{
	const uint64_t args[] = {regs->user.rdi, regs->user.rsi, regs->user.rdx, regs->user.r10,
		regs->user.r8, regs->user.r9};

	return args[index];
}

void inject_arch_restart_unless_handled(struct inject_registers *regs)
{
	regs->user.rax = (unsigned long long)-ERESTARTNOHAND;
}

#endif
