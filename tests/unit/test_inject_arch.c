/* SPDX-License-Identifier: MIT */
/* How a call is laid out in the registers of this processor: a pure function of them. And its
 * breakpoints. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/inject_arch.h"
#include "kernel/inject_target.h"

#define NUMBER 77
#define ADDRESS 0x7fff00001234

static const uint64_t ARGS[6] = {11, 12, 13, 14, 15, (uint64_t)-16};

/* Every byte another than in any valid register. */
static struct inject_registers filled(void)
{
	struct inject_registers regs;

	memset(&regs, 0xa5, sizeof(regs));
	return regs;
}

static void test_arguments(void **state)
{
	struct inject_registers regs = filled();

	(void)state;
	inject_arch_call(&regs, ADDRESS, NUMBER, ARGS);
	assert_int_equal(inject_arch_ip(&regs), ADDRESS);
	for (unsigned int i = 0; i < 6; i++)
		assert_int_equal(inject_arch_argument(&regs, i), ARGS[i]);
	assert_int_equal(inject_arch_stack(&regs), 0xa5a5a5a5a5a5a5a5);
}

#if defined(__x86_64__)
#define FLAGS_TRAP 0x100ULL
#define ERESTARTNOHAND 514

static void test_call(void **state)
{
	struct inject_registers before = filled(), regs = before;

	(void)state;
	before.user.eflags = regs.user.eflags = ~0ULL;
	inject_arch_call(&regs, ADDRESS, NUMBER, ARGS);
	assert_int_equal(regs.user.rax, NUMBER);
	assert_int_equal(regs.user.orig_rax, -1ULL);
	assert_int_equal(regs.user.eflags, ~FLAGS_TRAP);
	/* Nothing else is touched. */
	regs.user.rax = before.user.rax;
	regs.user.orig_rax = before.user.orig_rax;
	regs.user.rip = before.user.rip;
	regs.user.eflags = before.user.eflags;
	regs.user.rdi = before.user.rdi;
	regs.user.rsi = before.user.rsi;
	regs.user.rdx = before.user.rdx;
	regs.user.r10 = before.user.r10;
	regs.user.r8 = before.user.r8;
	regs.user.r9 = before.user.r9;
	assert_memory_equal(&regs, &before, sizeof(regs));
}

static void test_interrupted_call(void **state)
{
	struct inject_registers regs = filled();
	long number = 0;
	int64_t result = 0;

	(void)state;
	regs.user.orig_rax = -1ULL;
	assert_false(inject_arch_in_syscall(&regs, &number, &result));
	regs.user.orig_rax = 0xffffffff; /* the kernel looks at 32 bits */
	assert_false(inject_arch_in_syscall(&regs, &number, &result));
	regs.user.orig_rax = SYS_epoll_wait;
	regs.user.rax = (unsigned long long)-EINTR;
	regs.user.r10 = (unsigned long long)-1;
	assert_true(inject_arch_in_syscall(&regs, &number, &result));
	assert_int_equal(number, SYS_epoll_wait);
	assert_int_equal(result, -EINTR);
	inject_spare_eintr(&regs);
	assert_int_equal(inject_arch_result(&regs), -ERESTARTNOHAND);
	/* With a timeout it stays as it is. */
	regs.user.rax = (unsigned long long)-EINTR;
	regs.user.r10 = 1000;
	inject_spare_eintr(&regs);
	assert_int_equal(inject_arch_result(&regs), -EINTR);
}

#elif defined(__aarch64__)
#include <asm/ptrace.h>

static void test_call(void **state)
{
	struct inject_registers before = filled(), regs = before;

	(void)state;
	before.user.pstate = regs.user.pstate =
		PSR_N_BIT | PSR_C_BIT | PSR_SSBS_BIT | PSR_TCO_BIT | PSR_BTYPE_JC;
	inject_arch_call(&regs, ADDRESS, NUMBER, ARGS);
	assert_int_equal(regs.user.regs[8], NUMBER);
	assert_int_equal(regs.syscall, -1);
	assert_int_equal(regs.user.pstate, PSR_N_BIT | PSR_C_BIT | PSR_SSBS_BIT | PSR_TCO_BIT);
	/* Nothing else is touched. */
	memcpy(regs.user.regs, before.user.regs, 6 * sizeof(regs.user.regs[0]));
	regs.user.regs[8] = before.user.regs[8];
	regs.user.pc = before.user.pc;
	regs.user.pstate = before.user.pstate;
	regs.syscall = before.syscall;
	assert_memory_equal(&regs, &before, sizeof(regs));
}

static void test_interrupted_call(void **state)
{
	static const unsigned int types[] = {
		PSR_BTYPE_NONE, PSR_BTYPE_JC, PSR_BTYPE_C, PSR_BTYPE_J};
	struct inject_registers regs = filled();
	long number = 0;
	int64_t result = 0;

	(void)state;
	regs.syscall = SYS_epoll_pwait;
	regs.user.regs[0] = (unsigned long long)-EINTR;
	assert_false(inject_arch_in_syscall(&regs, &number, &result));
	inject_spare_eintr(&regs);
	assert_int_equal(inject_arch_result(&regs), -EINTR);
	/* An abort handler of rseq(2) may stand on a page guarded by BTI as well. */
	for (size_t i = 0; i < 4; i++) {
		regs.user.pstate = PSR_Z_BIT | types[i];
		inject_arch_set_ip(&regs, ADDRESS);
		assert_int_equal(regs.user.pstate, PSR_Z_BIT);
	}
}
#endif

static siginfo_t next_stop(pid_t pid)
{
	siginfo_t info = {0};
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFSTOPPED(status))
		assert_int_equal(ptrace(PTRACE_GETSIGINFO, pid, NULL, &info), 0);
	else
		info.si_status = WEXITSTATUS(status);
	return info;
}

static pid_t one_that_exits(void)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		(void)ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		(void)raise(SIGSTOP);
		_exit(42);
	}
	assert_int_equal(next_stop(pid).si_signo, SIGSTOP);
	return pid;
}

/* Of the processor: where it has none to give the guard of an exec watches each call. */
static void test_breakpoint(void **state)
{
	struct inject_registers regs;
	pid_t pid = one_that_exits();

	(void)state;
	assert_int_equal(inject_arch_break_at(pid, (uint64_t)(uintptr_t)_exit), 0);
	assert_int_equal(ptrace(PTRACE_CONT, pid, NULL, 0), 0);
	siginfo_t stop = next_stop(pid);
	assert_int_equal(stop.si_signo, SIGTRAP);
	assert_int_equal(stop.si_code, TRAP_HWBKPT);
	assert_int_equal(inject_arch_read(pid, &regs), 0);
	assert_int_equal(inject_arch_ip(&regs), (uint64_t)(uintptr_t)_exit);
	assert_int_equal(inject_arch_argument(&regs, 0), 42);
	assert_int_equal(inject_arch_break_at(pid, 0), 0);
	assert_int_equal(ptrace(PTRACE_CONT, pid, NULL, 0), 0);
	assert_int_equal(next_stop(pid).si_status, 42);
	/* Taken away before anybody came there. */
	pid = one_that_exits();
	assert_int_equal(inject_arch_break_at(pid, (uint64_t)(uintptr_t)_exit), 0);
	assert_int_equal(inject_arch_break_at(pid, 0), 0);
	assert_int_equal(ptrace(PTRACE_CONT, pid, NULL, 0), 0);
	assert_int_equal(next_stop(pid).si_status, 42);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_breakpoint),
		cmocka_unit_test(test_arguments),
		cmocka_unit_test(test_call),
		cmocka_unit_test(test_interrupted_call),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
