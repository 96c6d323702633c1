/* SPDX-License-Identifier: MIT */
/*
 * Calls that end with EINTR when a task is stopped and goes on, although no handler ran: signal(7),
 * "Interruption of system calls and library functions by stop signals". The kernel restarts all
 * others by itself. The cgroup freezer interrupts like a stop signal does, so every frozen task is
 * met by this, injected into or not; for a task we hold we can do better: the kernel's own code for
 * "again, unless a handler runs", which pause(2) has.
 *
 * Only where waiting is without end: a timeout would start anew, and nobody can know how much of it
 * was left. Such calls keep their EINTR, as after any SIGSTOP and SIGCONT; and so do sockets with
 * SO_RCVTIMEO or SO_SNDTIMEO.
 */
#include "kernel/inject_target.h"

#include <errno.h>
#include <linux/io_uring.h>
#include <sys/syscall.h>

#include "kernel/util.h"

enum endless {
	ENDLESS_ALWAYS,
	ENDLESS_IF_NULL, /* the argument is a pointer to a timespec */
	ENDLESS_IF_NEGATIVE, /* the argument is an int, in milliseconds */
	ENDLESS_WITHOUT_EXTENDED, /* io_uring_enter(2): the timeout hides behind a flag */
};

static const struct {
	long number;
	unsigned int argument;
	enum endless endless;
} spared[] = {
#ifdef SYS_epoll_wait
	{SYS_epoll_wait, 3, ENDLESS_IF_NEGATIVE},
#endif
	{SYS_epoll_pwait, 3, ENDLESS_IF_NEGATIVE},
#ifdef SYS_epoll_pwait2
	{SYS_epoll_pwait2, 3, ENDLESS_IF_NULL},
#endif
	{SYS_io_uring_enter, 3, ENDLESS_WITHOUT_EXTENDED},
	{SYS_io_getevents, 4, ENDLESS_IF_NULL},
	{SYS_rt_sigtimedwait, 2, ENDLESS_IF_NULL},
	{SYS_semop, 0, ENDLESS_ALWAYS},
	{SYS_semtimedop, 3, ENDLESS_IF_NULL},
};

static bool is_endless(enum endless rule, uint64_t argument)
{
	switch (rule) {
	case ENDLESS_ALWAYS:
		return true;
	case ENDLESS_IF_NULL:
		return argument == 0;
	case ENDLESS_IF_NEGATIVE:
		return (int32_t)argument < 0;
	case ENDLESS_WITHOUT_EXTENDED:
		return !(argument & IORING_ENTER_EXT_ARG);
	}
	return false;
}

void inject_spare_eintr(struct inject_registers *regs)
{
	long number;
	int64_t result;

	if (!inject_arch_in_syscall(regs, &number, &result) || result != -EINTR)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(spared); i++)
		if (spared[i].number == number &&
			is_endless(
				spared[i].endless, inject_arch_argument(regs, spared[i].argument)))
			inject_arch_restart_unless_handled(regs);
}
