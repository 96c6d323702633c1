/* SPDX-License-Identifier: MIT */
#include "kernel/inject_session.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel/inject.h"
#include "kernel/inject_memory.h"
#include "kernel/proc.h"
#include "kernel/util.h"

/* Room above the soft limit on descriptors: a chunk, the socketpair, a cwd. */
#define ROOM_FDS (INJECT_CHUNK_MAX + 8)

_Static_assert(
	sizeof(struct inject_scratch) <= INJECT_SCRATCH_BYTES, "the scratch memory is one page");

int64_t inject_call(
	struct inject_session *s, long number, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3)
{
	/* The fifth: mmap(2) wants -1 for no file, and nobody else here has one. */
	const uint64_t args[6] = {a0, a1, a2, a3, (uint64_t)-1, 0};
	int64_t result;

	if (s->lost)
		return s->lost;
	int r = inject_syscall(s->t, number, args, &result, s->deadline_usec, s->e);
	if (r < 0)
		s->lost = r;
	return r < 0 ? r : result;
}

int inject_call_failed(struct inject_session *s, int64_t result, const char *what)
{
	if (s->lost)
		return s->lost;
	inject_note_unable(s->t);
	return error_set(s->e, (int)result, "cannot %s in task %d", what, inject_tid(s->t));
}

#define TRANSFER_TRIES 5

void inject_keep_first_error(struct inject_session *s, int r)
{
	if (r < 0)
		s->e = NULL;
}

static int transfer(struct inject_session *s, void *buf, size_t size, uint64_t address, bool write)
{
	struct iovec local = {.iov_base = buf, .iov_len = size};
	struct iovec remote = {.iov_base = (void *)(uintptr_t)address, .iov_len = size};
	pid_t tid = inject_tid(s->t);
	ssize_t n = -1;

	/* What was just opened in the target is known by what is read here: worth more than one
	 * try, or it stays open. */
	for (unsigned tries = 0; n < 0 && tries < TRANSFER_TRIES; tries++) {
		n = write ? process_vm_writev(tid, &local, 1, &remote, 1, 0)
			  : process_vm_readv(tid, &local, 1, &remote, 1, 0);
		if (n < 0 && errno == ESRCH)
			break;
	}
	if (n < 0)
		return -errno;
	return (size_t)n == size ? 0 : -EFAULT;
}

int inject_scratch_read(struct inject_session *s, void *buf, size_t size, size_t offset)
{
	int r = transfer(s, buf, size, s->scratch + offset, false);

	return r < 0 ? error_set(s->e, r, "cannot read memory of task %d", inject_tid(s->t)) : 0;
}

int inject_scratch_put(struct inject_session *s, void *buf, size_t size)
{
	int r = transfer(s, buf, size, s->scratch, true);

	return r < 0 ? error_set(s->e, r, "cannot write memory of task %d", inject_tid(s->t)) : 0;
}

int inject_scratch_write(struct inject_session *s, const struct inject_scratch *scratch)
{
	struct inject_scratch copy = *scratch; /* struct iovec knows no const */

	return inject_scratch_put(s, &copy, sizeof(copy));
}

/*
 * Where mmap is refused (RLIMIT_AS, too many mappings): below the red zone, where only signal
 * frames go.
 */
static int borrow_stack(struct inject_session *s, int64_t reason)
{
	uint64_t top = inject_arch_stack(&s->t->saved) - inject_arch_red_zone;

	s->scratch = (top - sizeof(struct inject_scratch)) & ~15ULL;
	s->on_stack = true;
	if (inject_memory_writable(inject_tid(s->t), s->scratch, sizeof(s->before)) ==
			sizeof(s->before) &&
		transfer(s, s->before, sizeof(s->before), s->scratch, false) == 0)
		return 0;
	s->scratch = 0;
	return inject_call_failed(s, reason, "get a page of memory");
}

static int open_scratch(struct inject_session *s)
{
	int64_t r = inject_call(s, SYS_mmap, 0, INJECT_SCRATCH_BYTES, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS);

	if (s->lost)
		return s->lost;
	if (r < 0)
		return borrow_stack(s, r);
	s->scratch = (uint64_t)r;
	return 0;
}

static int close_scratch(struct inject_session *s)
{
	/* A call that got no answer may write there still. */
	if (!s->scratch || (s->on_stack && s->lost))
		return 0;
	if (s->on_stack) {
		int r = transfer(s, s->before, sizeof(s->before), s->scratch, true);
		return r < 0 ? error_set(s->e, r, "cannot restore the stack of task %d",
				       inject_tid(s->t))
			     : 0;
	}
	int64_t r = inject_call(s, SYS_munmap, s->scratch, INJECT_SCRATCH_BYTES, 0, 0);
	return r < 0 ? inject_call_failed(s, r, "unmap a page") : 0;
}

static int pidfd_open_quietly(pid_t tid, unsigned int flags)
{
	int fd = (int)syscall(SYS_pidfd_open, tid, flags);

	return fd < 0 ? -errno : fd;
}

/*
 * A pidfd through which the target's descriptor table is reached. Before Linux 6.9 (PIDFD_THREAD,
 * which is O_EXCL) there is none for other threads than the first, whose table serves if they share
 * it.
 */
static int open_table(struct inject_session *s)
{
	pid_t tid = inject_tid(s->t);
	int fd = pidfd_open_quietly(tid, 0);

	if (fd < 0)
		fd = pidfd_open_quietly(tid, O_EXCL);
	if (fd < 0) {
		pid_t leader = inject_thread_group(tid);
		if (leader > 0 && proc_same_files(tid, leader))
			fd = pidfd_open_quietly(leader, 0);
	}
	if (fd < 0)
		return error_set(s->e, fd, "cannot reach the descriptors of task %d", tid);
	s->pidfd = fd;
	return 0;
}

/*
 * Always, without looking whether there is room, because looking costs more. dup3 also wants the
 * number it replaces to be below the limit, which may have been lowered since. Without
 * CAP_SYS_RESOURCE there is only the way up to the hard limit, and for a task of another user none:
 * then what room there is must do.
 */
static void raise_limit(struct inject_session *s, int highest)
{
	pid_t tid = inject_tid(s->t);
	struct rlimit wanted;

	if (prlimit(tid, RLIMIT_NOFILE, NULL, &s->limit) < 0 || s->limit.rlim_cur == RLIM_INFINITY)
		return;
	wanted = s->limit;
	if (wanted.rlim_cur <= (rlim_t)highest)
		wanted.rlim_cur = (rlim_t)highest + 1;
	wanted.rlim_cur += ROOM_FDS;
	if (wanted.rlim_max < wanted.rlim_cur)
		wanted.rlim_max = wanted.rlim_cur;
	s->limit_raised = prlimit(tid, RLIMIT_NOFILE, &wanted, NULL) == 0;
	if (s->limit_raised || s->limit.rlim_max <= s->limit.rlim_cur)
		return;
	wanted.rlim_cur = wanted.rlim_max = s->limit.rlim_max;
	s->limit_raised = prlimit(tid, RLIMIT_NOFILE, &wanted, NULL) == 0;
}

int inject_session_restore_limit(struct inject_session *s)
{
	if (!s->limit_raised || prlimit(inject_tid(s->t), RLIMIT_NOFILE, &s->limit, NULL) == 0)
		return 0;
	return error_set(s->e, errno, "cannot restore RLIMIT_NOFILE of task %d", inject_tid(s->t));
}

int inject_session_open(struct inject_session *s, int highest_target_fd)
{
	int r = open_table(s);

	if (r < 0)
		return r;
	raise_limit(s, highest_target_fd);
	return open_scratch(s);
}

int inject_session_close(struct inject_session *s, int r)
{
	inject_keep_first_error(s, r);
	int cleaned = close_scratch(s);
	int restored = inject_session_restore_limit(s);
	int settled = s->lost ? 0 : inject_settle(s->t, s->deadline_usec, s->e);
	s->pidfd = fd_close(s->pidfd);
	if (r < 0)
		return r;
	if (cleaned < 0)
		return cleaned;
	return restored < 0 ? restored : settled;
}
