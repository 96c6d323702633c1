/* SPDX-License-Identifier: MIT */
#include "kernel/inject_arch.h"

#if defined(__aarch64__)

#include <asm/ptrace.h>
#include <elf.h>
#include <endian.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

#include "kernel/inject_memory.h"

/* Instructions are little endian whatever the data are. */
const unsigned char inject_arch_instruction[] = {0x01, 0x00, 0x00, 0xd4}; /* svc #0 */
const size_t inject_arch_instruction_size = sizeof(inject_arch_instruction);
const size_t inject_arch_instruction_align = 4;
const uint16_t inject_arch_elf_machine = EM_AARCH64;
const uint64_t inject_arch_red_zone = 0; /* AAPCS64: nothing below sp is anybody's */

#define NO_SYSCALL (-1)
/* The kernel does not look at the number in the instruction. */
#define SVC_BITS 0xd4000001
#define SVC_MASK 0xffe0001f

static int regset(
	pid_t tid, enum __ptrace_request request, uintptr_t type, void *data, size_t *size)
{
	struct iovec iov = {.iov_base = data, .iov_len = *size};

	if (ptrace(request, tid, (void *)type, &iov) < 0)
		return -errno;
	*size = iov.iov_len;
	return 0;
}

int inject_arch_read(pid_t tid, struct inject_registers *ret)
{
	struct inject_registers regs;
	size_t size = sizeof(regs.user);
	int r = regset(tid, PTRACE_GETREGSET, NT_PRSTATUS, &regs.user, &size);

	if (r < 0)
		return r;
	/* An AArch32 task shows the 72 bytes of its own registers. */
	if (size != sizeof(regs.user))
		return -ENOTSUP;
	size = sizeof(regs.syscall);
	r = regset(tid, PTRACE_GETREGSET, NT_ARM_SYSTEM_CALL, &regs.syscall, &size);
	if (r == 0)
		*ret = regs;
	return r;
}

/*
 * x7 cannot be written in a stop at a system call, nor does it show its value there: the kernel
 * uses it to tell entry from exit and puts the task's own back by itself (report_syscall() in
 * arch/arm64/kernel/ptrace.c). It is never changed here, so nothing is lost by that.
 */
int inject_arch_write(pid_t tid, const struct inject_registers *regs)
{
	struct inject_registers copy = *regs;
	size_t size = sizeof(copy.user);
	int r = regset(tid, PTRACE_SETREGSET, NT_PRSTATUS, &copy.user, &size);

	size = sizeof(copy.syscall);
	return r < 0 ? r : regset(tid, PTRACE_SETREGSET, NT_ARM_SYSTEM_CALL, &copy.syscall, &size);
}

void inject_arch_call(
	struct inject_registers *regs, uint64_t address, long number, const uint64_t args[6])
{
	for (size_t i = 0; i < 6; i++)
		regs->user.regs[i] = args[i];
	regs->user.regs[8] = (unsigned long)number;
	inject_arch_set_ip(regs, address);
	/* The kernel must not take our first argument for the result of a call to restart. */
	regs->syscall = NO_SYSCALL;
}

int64_t inject_arch_result(const struct inject_registers *regs)
{
	return (int64_t)regs->user.regs[0];
}

int inject_arch_cancel(pid_t tid)
{
	int none = NO_SYSCALL;
	size_t size = sizeof(none);

	return regset(tid, PTRACE_SETREGSET, NT_ARM_SYSTEM_CALL, &none, &size);
}

/* Eight bytes from an address that is a multiple of eight, which never cross the end of a page. */
static int instruction_at(pid_t tid, uint64_t address, uint32_t *ret)
{
	unsigned char bytes[8];
	uint32_t instruction;

	*ret = 0; /* no instruction at all */
	if (inject_memory_readable(tid, address & ~7ULL, sizeof(bytes)) < sizeof(bytes))
		return inject_memory_why_not(tid);
	errno = 0;
	/* Not process_vm_readv(2): memory may be executable and not readable. */
	long word = ptrace(PTRACE_PEEKTEXT, tid, (void *)(uintptr_t)(address & ~7ULL), NULL);
	if (errno || address & 3)
		return 0;
	memcpy(bytes, &word, sizeof(bytes));
	memcpy(&instruction, bytes + (address & 4), sizeof(instruction));
	*ret = le32toh(instruction);
	return 0;
}

/*
 * The pc of a call to be restarted is back at its instruction; and a task that has not made its
 * call yet, but is just about to, may as well be met in it.
 */
int inject_arch_meets_entry(pid_t tid, const struct inject_registers *regs)
{
	uint32_t instruction;
	int r = instruction_at(tid, regs->user.pc, &instruction);

	return r < 0 ? r : (instruction & SVC_MASK) == SVC_BITS;
}

/* Its number, by which the kernel tells restart_syscall(2), is all that it changes (do_signal()).
 */
int inject_arch_learn_entry(pid_t tid, struct inject_registers *saved)
{
	struct inject_registers regs;
	int r = inject_arch_read(tid, &regs);

	if (r == 0)
		saved->user.regs[8] = regs.user.regs[8];
	return r;
}

uint64_t inject_arch_ip(const struct inject_registers *regs)
{
	return regs->user.pc;
}

/*
 * A task that stopped right after an indirect branch has BTYPE set: on a page guarded by BTI (the
 * vDSO is one) any other instruction than a landing pad would fault.
 */
void inject_arch_set_ip(struct inject_registers *regs, uint64_t ip)
{
	regs->user.pc = ip;
	regs->user.pstate &= ~(unsigned long long)PSR_BTYPE_MASK;
}

/* DBGBCR<n>_EL1: all four bytes of an instruction, in user space, enabled. */
#define BREAK_CONTROL (0xfU << 5 | 2U << 1 | 1U)

int inject_arch_break_at(pid_t tid, uint64_t address)
{
	struct user_hwdebug_state state = {0};
	size_t size = offsetof(struct user_hwdebug_state, dbg_regs[1]);

	state.dbg_regs[0].addr = address;
	state.dbg_regs[0].ctrl = address ? BREAK_CONTROL : 0;
	return regset(tid, PTRACE_SETREGSET, NT_ARM_HW_BREAK, &state, &size);
}

uint64_t inject_arch_stack(const struct inject_registers *regs)
{
	return regs->user.sp;
}

bool inject_arch_in_syscall(
	const struct inject_registers *regs, long *ret_number, int64_t *ret_result)
{
	(void)regs;
	(void)ret_number;
	(void)ret_result;
	return false;
}

uint64_t inject_arch_argument(const struct inject_registers *regs, unsigned int index)
{
	return regs->user.regs[index];
}

/* By nobody wanted, since no interrupted call is ever seen: the kernel has restarted it or not. */
void inject_arch_restart_unless_handled(struct inject_registers *regs)
{
	(void)regs;
}

#endif
