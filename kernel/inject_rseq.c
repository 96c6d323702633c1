/* SPDX-License-Identifier: MIT */
/*
 * Restartable sequences, rseq(2). A task that is preempted inside a critical section must go on at
 * its abort handler. The kernel does that on its way back to user space, by looking whether the ip
 * is inside the section that rseq_cs points to; if it is not, it clears rseq_cs. During injection
 * the ip is in the vDSO: the kernel clears rseq_cs, and with the old ip put back the task would
 * finish its section as if nothing had happened, perhaps on another CPU. So we do what the kernel
 * would have done.
 */
#include "kernel/inject_target.h"

#include <errno.h>
#include <linux/rseq.h>
#include <stddef.h>
#include <sys/ptrace.h>

#include "kernel/inject_memory.h"

int inject_leave_rseq(pid_t tid, struct inject_registers *regs)
{
	struct __ptrace_rseq_configuration area;
	struct rseq_cs section;
	uint64_t pointer;
	long number;
	int64_t result;

	/* A system call inside a section is forbidden, so a task in one is not in the other. */
	if (inject_arch_in_syscall(regs, &number, &result))
		return 0;
	/* Before Linux 5.13 nobody can know (EIO), and before glibc 2.35 few registered. */
	if (ptrace(PTRACE_GET_RSEQ_CONFIGURATION, tid, (void *)sizeof(area), &area) < 0)
		return errno == ESRCH ? -ESRCH : 0;
	if (!area.rseq_abi_pointer)
		return 0;
	/* The kernel looks at the pointer whenever it goes back to a task that it has preempted:
	 * one that is not there leads to no section. */
	if (inject_memory_read(tid, area.rseq_abi_pointer + offsetof(struct rseq, rseq_cs),
		    &pointer, sizeof(pointer)) < 0 ||
		!pointer)
		return 0;
	/* It may be one all the same, in a page of a file that is to be read again. */
	if (inject_memory_read(tid, pointer, &section, sizeof(section)) < 0)
		return -ENOEXEC;
	if (inject_arch_ip(regs) - section.start_ip < section.post_commit_offset)
		inject_arch_set_ip(regs, section.abort_ip);
	return 0;
}
