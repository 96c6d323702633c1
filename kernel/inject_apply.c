/* SPDX-License-Identifier: MIT */
/*
 * Directories into another process: in chunks of descriptors, each through a socketpair of its own that is made in the
 * target and whose far end we fetch. Every chunk leaves the target with nothing of ours open.
 */
#include "kernel/inject.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "kernel/inject_target.h"
#include "kernel/proc.h"
#include "kernel/util.h"

/* Below the kernel's SCM_MAX_FD, 253. */
#define CHUNK_MAX 200
/* Room above the soft limit on descriptors: a chunk, the socketpair, a cwd. */
#define ROOM_FDS (CHUNK_MAX + 8)
#define PAGE_BYTES 4096

/* What the scratch memory of the target holds; the pointers in it are the target's. */
struct scratch {
	struct msghdr message;
	struct iovec iov;
	int pair[2];
	char here[4]; /* "." */
	char byte[4];
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(CHUNK_MAX * sizeof(int))];
	} control;
};
_Static_assert(sizeof(struct scratch) <= PAGE_BYTES, "the scratch memory is one page");

struct apply {
	struct inject_target *t;
	uint64_t deadline_usec;
	struct error *e;
	int lost; /* the errno after which the target answers no more calls */
	uint64_t scratch; /* address in the target */
	bool on_stack;    /* it is below the target's stack pointer, not a page of its own */
	char before[sizeof(struct scratch)]; /* what was on the stack there */
	int pidfd;
	bool limit_raised;
	struct rlimit limit;
};

/* Descriptors that are open in the target on our behalf. */
struct guests {
	int pair[2];
	int fds[CHUNK_MAX];
	size_t count; /* of fds */
	bool connected;
};

/* The raw result of a call in the target; once it is lost, a quick refusal: clean-up can call on. */
static int64_t call(struct apply *a, long number, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3)
{
	const uint64_t args[6] = {a0, a1, a2, a3, (uint64_t)-1, 0};
	int64_t result;

	if (a->lost)
		return a->lost;
	int r = inject_syscall(a->t, number, args, &result, a->deadline_usec, a->e);
	if (r < 0)
		a->lost = r;
	return r < 0 ? r : result;
}

/* The text of a call that failed; a lost target has its text already. */
static int call_failed(struct apply *a, int64_t result, const char *what)
{
	if (a->lost)
		return a->lost;
	return error_set(a->e, (int)result, "cannot %s in task %d", what, inject_tid(a->t));
}

/* What goes wrong while cleaning up after a failure must not hide it. */
static void keep_first_error(struct apply *a, int r)
{
	if (r < 0)
		a->e = NULL;
}

static int transfer(struct apply *a, void *buf, size_t size, uint64_t address, bool write)
{
	struct iovec local = {.iov_base = buf, .iov_len = size};
	struct iovec remote = {.iov_base = (void *)(uintptr_t)address, .iov_len = size};
	pid_t tid = inject_tid(a->t);
	ssize_t n = write ? process_vm_writev(tid, &local, 1, &remote, 1, 0)
			  : process_vm_readv(tid, &local, 1, &remote, 1, 0);

	if (n < 0)
		return -errno;
	return (size_t)n == size ? 0 : -EFAULT;
}

/* Where mmap is refused (RLIMIT_AS, too many mappings): below the red zone, where only signal frames go. */
static int borrow_stack(struct apply *a, int64_t reason)
{
	uint64_t top = inject_arch_stack(&a->t->saved) - inject_arch_red_zone;

	a->scratch = (top - sizeof(struct scratch)) & ~15ULL;
	a->on_stack = true;
	if (transfer(a, a->before, sizeof(a->before), a->scratch, false) == 0)
		return 0;
	a->scratch = 0;
	return call_failed(a, reason, "get a page of memory");
}

static int open_scratch(struct apply *a)
{
	int64_t r = call(a, SYS_mmap, 0, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);

	if (a->lost)
		return a->lost;
	if (r < 0)
		return borrow_stack(a, r);
	a->scratch = (uint64_t)r;
	return 0;
}

static int close_scratch(struct apply *a)
{
	if (!a->scratch)
		return 0;
	if (a->on_stack) {
		int r = transfer(a, a->before, sizeof(a->before), a->scratch, true);
		return r < 0 ? error_set(a->e, r, "cannot restore the stack of task %d", inject_tid(a->t)) : 0;
	}
	int64_t r = call(a, SYS_munmap, a->scratch, PAGE_BYTES, 0, 0);
	return r < 0 ? call_failed(a, r, "unmap a page") : 0;
}

static int pidfd_open_quietly(pid_t tid, unsigned int flags)
{
	int fd = (int)syscall(SYS_pidfd_open, tid, flags);

	return fd < 0 ? -errno : fd;
}

/*
 * A pidfd through which the target's descriptor table is reached. Before Linux 6.9 (PIDFD_THREAD, which is O_EXCL)
 * there is none for other threads than the first, whose table serves if they share it.
 */
static int open_table(struct apply *a)
{
	pid_t tid = inject_tid(a->t);
	int fd = pidfd_open_quietly(tid, 0);

	if (fd < 0)
		fd = pidfd_open_quietly(tid, O_EXCL);
	if (fd < 0) {
		pid_t leader = inject_thread_group(tid);
		if (leader > 0 && proc_same_files(tid, leader))
			fd = pidfd_open_quietly(leader, 0);
	}
	if (fd < 0)
		return error_set(a->e, fd, "cannot reach the descriptors of task %d", tid);
	a->pidfd = fd;
	return 0;
}

static int highest_target_fd(const struct inject_change *changes, size_t n)
{
	int highest = 0;

	for (size_t i = 0; i < n; i++)
		if (changes[i].action == INJECT_FD && changes[i].target_fd > highest)
			highest = changes[i].target_fd;
	return highest;
}

/*
 * Always, without looking whether there is room, because looking costs more. dup3 also wants the number it replaces to be below
 * the limit, which may have been lowered since. Without CAP_SYS_RESOURCE there is only the way up to the hard limit,
 * and for a task of another user none: then what room there is must do.
 */
static void raise_limit(struct apply *a, int highest)
{
	pid_t tid = inject_tid(a->t);
	struct rlimit wanted;

	if (prlimit(tid, RLIMIT_NOFILE, NULL, &a->limit) < 0 || a->limit.rlim_cur == RLIM_INFINITY)
		return;
	wanted = a->limit;
	if (wanted.rlim_cur <= (rlim_t)highest)
		wanted.rlim_cur = (rlim_t)highest + 1;
	wanted.rlim_cur += ROOM_FDS;
	if (wanted.rlim_max < wanted.rlim_cur)
		wanted.rlim_max = wanted.rlim_cur;
	a->limit_raised = prlimit(tid, RLIMIT_NOFILE, &wanted, NULL) == 0;
	if (a->limit_raised || a->limit.rlim_max <= a->limit.rlim_cur)
		return;
	wanted.rlim_cur = wanted.rlim_max = a->limit.rlim_max;
	a->limit_raised = prlimit(tid, RLIMIT_NOFILE, &wanted, NULL) == 0;
}

static int restore_limit(struct apply *a)
{
	if (!a->limit_raised || prlimit(inject_tid(a->t), RLIMIT_NOFILE, &a->limit, NULL) == 0)
		return 0;
	return error_set(a->e, errno, "cannot restore RLIMIT_NOFILE of task %d", inject_tid(a->t));
}

/* Our end of a new socketpair of the target's; both of its ends stay open there until close_guests(). */
static int connect_target(struct apply *a, struct guests *g, int *ret_fd)
{
	int64_t r = call(a, SYS_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
		a->scratch + offsetof(struct scratch, pair));

	if (r < 0)
		return call_failed(a, r, "make a socketpair");
	int error = transfer(
		a, g->pair, sizeof(g->pair), a->scratch + offsetof(struct scratch, pair), false);
	if (error < 0)
		return error_set(a->e, error, "cannot read the scratch memory of task %d", inject_tid(a->t));
	g->connected = true;
	int fd = (int)syscall(SYS_pidfd_getfd, a->pidfd, g->pair[0], 0);
	if (fd < 0)
		return error_set(a->e, errno, "cannot fetch a socket from task %d", inject_tid(a->t));
	*ret_fd = fd;
	return 0;
}

static int send_fds(struct apply *a, int socket, const struct inject_change *changes, size_t n)
{
	struct scratch s = {.byte = "x"};
	struct iovec iov = {.iov_base = s.byte, .iov_len = 1};
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &s.control,
		.msg_controllen = CMSG_SPACE(n * sizeof(int)),
	};
	int *fds = (int *)(void *)CMSG_DATA(&s.control.header);

	s.control.header.cmsg_level = SOL_SOCKET;
	s.control.header.cmsg_type = SCM_RIGHTS;
	s.control.header.cmsg_len = CMSG_LEN(n * sizeof(int));
	for (size_t i = 0; i < n; i++)
		fds[i] = changes[i].fd;
	if (sendmsg(socket, &message, MSG_NOSIGNAL) < 0)
		return error_set(a->e, errno, "cannot pass descriptors to task %d", inject_tid(a->t));
	return 0;
}

static void prepare_message(struct apply *a, struct scratch *s)
{
	*s = (struct scratch){
		.message = {
			.msg_iov = (void *)(uintptr_t)(a->scratch + offsetof(struct scratch, iov)),
			.msg_iovlen = 1,
			.msg_control = (void *)(uintptr_t)(a->scratch + offsetof(struct scratch, control)),
			.msg_controllen = sizeof(s->control),
		},
		.iov = {
			.iov_base = (void *)(uintptr_t)(a->scratch + offsetof(struct scratch, byte)),
			.iov_len = 1,
		},
		.here = ".",
	};
}

/* Whatever arrived is noted, also when it was not all, so that it will be closed. */
static void note_received(const struct scratch *s, struct guests *g)
{
	const struct cmsghdr *header = &s->control.header;

	if (s->message.msg_controllen < CMSG_LEN(0) || header->cmsg_type != SCM_RIGHTS ||
		header->cmsg_len > sizeof(s->control))
		return;
	g->count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	memcpy(g->fds, CMSG_DATA(header), g->count * sizeof(int));
}

static int receive_fds(struct apply *a, struct guests *g, size_t n)
{
	struct scratch s;

	prepare_message(a, &s);
	int r = transfer(a, &s, sizeof(s), a->scratch, true);
	if (r < 0)
		return error_set(a->e, r, "cannot write the scratch memory of task %d", inject_tid(a->t));
	int64_t got = call(a, SYS_recvmsg, (uint64_t)g->pair[1], a->scratch,
		MSG_CMSG_CLOEXEC | MSG_DONTWAIT, 0);
	if (got < 0)
		return call_failed(a, got, "receive descriptors");
	r = transfer(a, &s, sizeof(s), a->scratch, false);
	if (r < 0)
		return error_set(a->e, r, "cannot read the scratch memory of task %d", inject_tid(a->t));
	note_received(&s, g);
	if (g->count != n)
		return error_set(a->e, EMFILE,
			"task %d received %zu of %zu descriptors (RLIMIT_NOFILE or a security module)",
			inject_tid(a->t), g->count, n);
	return 0;
}

/* The longest run of consecutive numbers from `start`: they are all ours, so one call closes them. */
static size_t run_length(const int *fds, size_t start, size_t n)
{
	size_t i = start + 1;

	while (i < n && fds[i] == fds[i - 1] + 1)
		i++;
	return i - start;
}

static int close_guests(struct apply *a, const struct guests *g)
{
	int fds[CHUNK_MAX + 2];
	size_t n = 0;
	int64_t r = 0;

	if (g->connected) {
		fds[n++] = g->pair[0];
		fds[n++] = g->pair[1];
	}
	memcpy(fds + n, g->fds, g->count * sizeof(int));
	n += g->count;
	for (size_t i = 0, length; i < n; i += length) {
		length = run_length(fds, i, n);
		int64_t closed = call(a, SYS_close_range, (uint64_t)fds[i], (uint64_t)fds[i + length - 1], 0, 0);
		if (closed < 0)
			r = closed;
	}
	return r < 0 ? call_failed(a, r, "close descriptors") : 0;
}

static int64_t change_cwd(struct apply *a, int fd)
{
	return call(a, SYS_fchdir, (uint64_t)fd, 0, 0, 0);
}

/* All threads that share the table stand still, so nobody is in the middle of a call on the number. */
static int64_t change_fd(struct apply *a, const struct inject_change *change, int fd)
{
	return call(a, SYS_dup3, (uint64_t)fd, (uint64_t)change->target_fd,
		change->cloexec ? O_CLOEXEC : 0, 0);
}

/*
 * chroot(2) takes a path, and of all paths only "." is sure to mean the same in the target: so over
 * its cwd, and back. Going back needs search permission there, which is tried before anything changes.
 */
static int64_t change_root(struct apply *a, int fd)
{
	uint64_t here = a->scratch + offsetof(struct scratch, here);
	int64_t cwd = call(a, SYS_openat, (uint64_t)AT_FDCWD, here, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);

	if (cwd < 0)
		return cwd;
	int64_t r = change_cwd(a, (int)cwd);
	if (r == 0)
		r = change_cwd(a, fd);
	if (r == 0) {
		r = call(a, SYS_chroot, here, 0, 0, 0);
		int64_t back = change_cwd(a, (int)cwd);
		if (r == 0)
			r = back;
	}
	(void)call(a, SYS_close_range, (uint64_t)cwd, (uint64_t)cwd, 0, 0);
	return a->lost ? a->lost : r;
}

static int64_t change_one(struct apply *a, const struct inject_change *change, int fd)
{
	switch (change->action) {
	case INJECT_CWD:
		return change_cwd(a, fd);
	case INJECT_FD:
		return change_fd(a, change, fd);
	case INJECT_ROOT:
		return change_root(a, fd);
	}
	return -EINVAL;
}

static const char *change_name(enum inject_action action)
{
	switch (action) {
	case INJECT_CWD:
		return "change the working directory";
	case INJECT_FD:
		return "replace a descriptor";
	case INJECT_ROOT:
		return "change the root";
	}
	return "do something unknown";
}

static int change_all(struct apply *a, struct inject_change *changes, size_t n, const struct guests *g)
{
	for (size_t i = 0; i < n; i++) {
		int64_t r = change_one(a, &changes[i], g->fds[i]);

		changes[i].result = r < 0 ? (int)r : 0;
		if (r < 0)
			return call_failed(a, r, change_name(changes[i].action));
	}
	return 0;
}

static int apply_chunk(struct apply *a, struct inject_change *changes, size_t n)
{
	struct guests g = {0};
	CLEANUP_FD int socket = -1;
	int r = connect_target(a, &g, &socket);

	if (r == 0)
		r = send_fds(a, socket, changes, n);
	if (r == 0)
		r = receive_fds(a, &g, n);
	if (r == 0)
		r = change_all(a, changes, n, &g);
	keep_first_error(a, r);
	int closed = close_guests(a, &g);
	return r < 0 ? r : closed;
}

static bool is_open_in_target(const struct apply *a, int number)
{
	int fd = (int)syscall(SYS_pidfd_getfd, a->pidfd, number, 0);

	(void)fd_close(fd);
	return fd >= 0;
}

/*
 * A number that is not open in the target may be one that a descriptor of ours gets there, or dup3 would silently make
 * it: so this is asked while nothing of ours is open.
 */
static int check_target_fd(const struct apply *a, const struct inject_change *change)
{
	if (change->action != INJECT_FD || is_open_in_target(a, change->target_fd))
		return 0;
	return error_set(
		a->e, EBADF, "cannot replace descriptor %d of task %d", change->target_fd, inject_tid(a->t));
}

static int apply_changes(struct apply *a, struct inject_change *changes, size_t n)
{
	for (size_t done = 0, length; done < n; done += length) {
		int bad = 0;

		for (length = 0; done + length < n && length < CHUNK_MAX; length++) {
			bad = check_target_fd(a, &changes[done + length]);
			if (bad < 0)
				break;
		}
		int r = length ? apply_chunk(a, changes + done, length) : 0;
		if (r < 0)
			return r;
		if (bad < 0) {
			changes[done + length].result = bad;
			return bad;
		}
	}
	return 0;
}

/* One bad descriptor would fail its whole message. Asked before a descriptor of ours can get its number. */
static size_t count_sendable(const struct inject_change *changes, size_t n)
{
	size_t i = 0;

	while (i < n && fcntl(changes[i].fd, F_GETFD) >= 0)
		i++;
	return i;
}

static int refuse_unsendable(struct apply *a, struct inject_change *change)
{
	change->result = -EBADF;
	return error_set(
		a->e, EBADF, "cannot pass descriptor %d to task %d", change->fd, inject_tid(a->t));
}

static int apply_sendable(struct apply *a, struct inject_change *changes, size_t n)
{
	int r = open_table(a);

	if (r < 0)
		return r;
	raise_limit(a, highest_target_fd(changes, n));
	r = open_scratch(a);
	if (r == 0)
		r = apply_changes(a, changes, n);
	keep_first_error(a, r);
	int cleaned = close_scratch(a);
	int restored = restore_limit(a);
	a->pidfd = fd_close(a->pidfd);
	if (r < 0)
		return r;
	return cleaned < 0 ? cleaned : restored;
}

int inject_apply(struct inject_target *t, struct inject_change *changes, size_t n, uint64_t deadline_usec,
	struct error *e)
{
	struct apply a = {.t = t, .deadline_usec = deadline_usec, .e = e, .pidfd = -1};

	for (size_t i = 0; i < n; i++)
		changes[i].result = -ECANCELED;
	size_t sendable = count_sendable(changes, n);
	int r = sendable ? apply_sendable(&a, changes, sendable) : 0;
	return r == 0 && sendable < n ? refuse_unsendable(&a, &changes[sendable]) : r;
}
