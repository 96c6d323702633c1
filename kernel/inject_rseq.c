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
#include <sys/uio.h>

static int read_memory(pid_t tid, uint64_t address, void *buf, size_t size)
{
	struct iovec local = {.iov_base = buf, .iov_len = size};
	struct iovec remote = {.iov_base = (void *)(uintptr_t)address, .iov_len = size};
	ssize_t n = process_vm_readv(tid, &local, 1, &remote, 1, 0);

	if (n < 0)
		return -errno;
	return (size_t)n == size ? 0 : -EFAULT;
}

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
	/* What cannot be read, the kernel cannot read either: it kills the task at the next return.
	 */
	if (read_memory(tid, area.rseq_abi_pointer + offsetof(struct rseq, rseq_cs), &pointer,
		    sizeof(pointer)) < 0 ||
		!pointer || read_memory(tid, pointer, &section, sizeof(section)) < 0)
		return 0;
	if (inject_arch_ip(regs) - section.start_ip < section.post_commit_offset)
		inject_arch_set_ip(regs, section.abort_ip);
	return 0;
}
