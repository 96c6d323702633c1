/* SPDX-License-Identifier: MIT */
/*
 * Directories into another process: in chunks of descriptors, each through a socketpair of its own
 * that is made in the target and whose far end we fetch. Every chunk leaves the target with nothing
 * of ours open.
 */
#include "kernel/inject.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel/crash.h"
#include "kernel/inject_session.h"
#include "kernel/util.h"

#define NUMBERS_MAX 4096
#define CLEAN_UP_USEC (200 * USEC_PER_MSEC)

/* Descriptors that are open in the target on our behalf. One at a time, and static: so that they
 * can be closed after a crash, or once a target that was too slow has answered. */
static struct guests {
	int pair[2];
	int fds[INJECT_CHUNK_MAX];
	size_t count; /* of fds */
	bool connected;
	bool asked; /* to receive the fds */
	int cwd; /* where it is to be again; -1 */
	int cwd_expected; /* the number that this has or will have; -1 */
} guests;

static int highest_target_fd(const struct inject_change *changes, size_t n)
{
	int highest = 0;

	for (size_t i = 0; i < n; i++)
		if (changes[i].action == INJECT_FD && changes[i].target_fd > highest)
			highest = changes[i].target_fd;
	return highest;
}

/* Our end of a new socketpair; both of its ends stay open in the target until close_guests(). */
static int connect_target(struct inject_session *s, struct guests *g, int *ret_fd)
{
	size_t pair = offsetof(struct inject_scratch, pair);
	int64_t made = inject_call(s, SYS_socketpair, AF_UNIX,
		SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, s->scratch + pair);

	if (made < 0)
		return inject_call_failed(s, made, "make a socketpair");
	int r = inject_scratch_read(s, g->pair, sizeof(g->pair), pair);
	if (r < 0)
		return r;
	g->connected = true;
	int fd = (int)syscall(SYS_pidfd_getfd, s->pidfd, g->pair[0], 0);
	if (fd < 0)
		return error_set(
			s->e, errno, "cannot fetch a socket from task %d", inject_tid(s->t));
	*ret_fd = fd;
	return 0;
}

static int send_fds(
	struct inject_session *s, int socket, const struct inject_change *changes, size_t n)
{
	struct inject_scratch own = {.byte = "x"};
	struct iovec iov = {.iov_base = own.byte, .iov_len = 1};
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &own.control,
		.msg_controllen = CMSG_SPACE(n * sizeof(int)),
	};
	int *fds = (int *)(void *)CMSG_DATA(&own.control.header);

	own.control.header.cmsg_level = SOL_SOCKET;
	own.control.header.cmsg_type = SCM_RIGHTS;
	own.control.header.cmsg_len = CMSG_LEN(n * sizeof(int));
	for (size_t i = 0; i < n; i++)
		fds[i] = changes[i].fd;
	if (sendmsg(socket, &message, MSG_NOSIGNAL) >= 0)
		return 0;
	/* Its ends of the pair are closed: by nobody but its death. */
	if (errno == EPIPE || errno == ECONNRESET)
		return error_say(s->e, ESRCH, "task %d has ended", inject_tid(s->t));
	return error_set(s->e, errno, "cannot pass descriptors to task %d", inject_tid(s->t));
}

static void *in_scratch(const struct inject_session *s, size_t offset)
{
	return (void *)(uintptr_t)(s->scratch + offset);
}

static int prepare_message(struct inject_session *s)
{
	struct inject_scratch theirs = {.here = "."};

	theirs.message.msg_iov = in_scratch(s, offsetof(struct inject_scratch, iov));
	theirs.message.msg_iovlen = 1;
	theirs.message.msg_control = in_scratch(s, offsetof(struct inject_scratch, control));
	theirs.message.msg_controllen = sizeof(theirs.control);
	theirs.iov.iov_base = in_scratch(s, offsetof(struct inject_scratch, byte));
	theirs.iov.iov_len = 1;
	return inject_scratch_write(s, &theirs);
}

/* Whatever arrived is noted, also when it was not all, so that it will be closed. */
static void note_received(const struct inject_scratch *theirs, struct guests *g)
{
	const struct cmsghdr *header = &theirs->control.header;

	if (theirs->message.msg_controllen < CMSG_LEN(0) || header->cmsg_type != SCM_RIGHTS ||
		header->cmsg_len > sizeof(theirs->control))
		return;
	g->count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	memcpy(g->fds, CMSG_DATA(header), g->count * sizeof(int));
}

static int receive_fds(struct inject_session *s, struct guests *g, size_t n)
{
	struct inject_scratch theirs;
	int r = prepare_message(s);

	if (r < 0)
		return r;
	g->asked = true;
	int64_t got = inject_call(s, SYS_recvmsg, (uint64_t)g->pair[1], s->scratch,
		MSG_CMSG_CLOEXEC | MSG_DONTWAIT, 0);
	if (got < 0)
		return inject_call_failed(s, got, "receive descriptors");
	r = inject_scratch_read(s, &theirs, sizeof(theirs), 0);
	if (r < 0)
		return r;
	note_received(&theirs, g);
	if (g->count == n)
		return 0;
	return error_set(s->e, EMFILE, "task %d got %zu of %zu descriptors, by its limit or LSM",
		inject_tid(s->t), g->count, n);
}

/* The longest run of consecutive numbers from `start`: all are ours, so one call closes them. */
static size_t run_length(const int *fds, size_t start, size_t n)
{
	size_t i = start + 1;

	while (i < n && fds[i] == fds[i - 1] + 1)
		i++;
	return i - start;
}

static int close_guests(struct inject_session *s, const struct guests *g)
{
	int fds[INJECT_CHUNK_MAX + 2];
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
		int64_t closed = inject_call(
			s, SYS_close_range, (uint64_t)fds[i], (uint64_t)fds[i + length - 1], 0, 0);
		if (closed < 0)
			r = closed;
	}
	return r < 0 ? inject_call_failed(s, r, "close descriptors") : 0;
}

/* 0, -EBADF or why it cannot be told. */
static int is_open_in_target(const struct inject_session *s, int number)
{
	int fd = (int)syscall(SYS_pidfd_getfd, s->pidfd, number, 0);
	int r = fd < 0 ? -errno : 0;

	(void)fd_close(fd);
	return r;
}

/*
 * What it opens next gets the lowest number that is free, and so did what we have there: numbers
 * that rise. -1: that cannot be told, or would take too long.
 */
static int next_number(const struct inject_session *s)
{
	int last = guests.count ? guests.fds[guests.count - 1] : INT_MAX - NUMBERS_MAX, r = 0;

	for (int number = last + 1; r == 0 && number < last + NUMBERS_MAX; number++) {
		r = is_open_in_target(s, number);
		if (r == -EBADF)
			return number;
	}
	return -1;
}

static int64_t change_cwd(struct inject_session *s, int fd)
{
	return inject_call(s, SYS_fchdir, (uint64_t)fd, 0, 0, 0);
}

/* All threads that share the table stand still: nobody is in the middle of a call on the number. */
static int64_t change_fd(struct inject_session *s, const struct inject_change *change, int fd)
{
	return inject_call(s, SYS_dup3, (uint64_t)fd, (uint64_t)change->target_fd,
		change->cloexec ? O_CLOEXEC : 0, 0);
}

/*
 * chroot(2) takes a path, and of all paths only "." is sure to mean the same in the target: so over
 * its cwd, and back. Going back needs search permission there, which is tried before anything
 * changes.
 */
static int64_t change_root(struct inject_session *s, int fd)
{
	uint64_t here = s->scratch + offsetof(struct inject_scratch, here);

	guests.cwd_expected = next_number(s);
	int64_t cwd = inject_call(
		s, SYS_openat, (uint64_t)AT_FDCWD, here, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);

	if (cwd < 0)
		return cwd;
	guests.cwd = guests.cwd_expected = (int)cwd;
	int64_t r = change_cwd(s, (int)cwd);
	if (r == 0)
		r = change_cwd(s, fd);
	if (r == 0) {
		r = inject_call(s, SYS_chroot, here, 0, 0, 0);
		int64_t back = change_cwd(s, (int)cwd);
		if (r == 0)
			r = back;
	}
	(void)inject_call(s, SYS_close_range, (uint64_t)cwd, (uint64_t)cwd, 0, 0);
	if (!s->lost)
		guests.cwd = guests.cwd_expected = -1;
	return s->lost ? s->lost : r;
}

static int64_t change_one(struct inject_session *s, const struct inject_change *change, int fd)
{
	switch (change->action) {
	case INJECT_CWD:
		return change_cwd(s, fd);
	case INJECT_FD:
		return change_fd(s, change, fd);
	case INJECT_ROOT:
		return change_root(s, fd);
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

static int change_all(
	struct inject_session *s, struct inject_change *changes, size_t n, const struct guests *g)
{
	for (size_t i = 0; i < n; i++) {
		int64_t r = change_one(s, &changes[i], g->fds[i]);

		changes[i].result = r < 0 ? (int)r : 0;
		if (r < 0)
			return inject_call_failed(s, r, change_name(changes[i].action));
	}
	return 0;
}

static int apply_chunk(struct inject_session *s, struct inject_change *changes, size_t n)
{
	CLEANUP_FD int socket = -1;
	struct guests *g = &guests;

	*g = (struct guests){.cwd = -1, .cwd_expected = -1};
	int r = connect_target(s, g, &socket);

	if (r == 0)
		r = send_fds(s, socket, changes, n);
	if (r == 0)
		r = receive_fds(s, g, n);
	if (r == 0)
		r = change_all(s, changes, n, g);
	inject_keep_first_error(s, r);
	int closed = close_guests(s, g);
	if (!s->lost)
		*g = (struct guests){.cwd = -1, .cwd_expected = -1};
	return r < 0 ? r : closed;
}

/*
 * A number that is not open in the target may be one that a descriptor of ours gets there, or dup3
 * would silently make it: so this is asked while nothing of ours is open.
 */
static int check_target_fd(const struct inject_session *s, const struct inject_change *change)
{
	int r = change->action == INJECT_FD ? is_open_in_target(s, change->target_fd) : 0;

	if (r == 0)
		return 0;
	return error_set(s->e, r, "cannot replace descriptor %d of task %d", change->target_fd,
		inject_tid(s->t));
}

static int apply_changes(struct inject_session *s, struct inject_change *changes, size_t n)
{
	for (size_t done = 0, length; done < n; done += length) {
		int bad = 0;

		for (length = 0; done + length < n && length < INJECT_CHUNK_MAX; length++) {
			bad = check_target_fd(s, &changes[done + length]);
			if (bad < 0)
				break;
		}
		int r = length ? apply_chunk(s, changes + done, length) : 0;
		if (r < 0)
			return r;
		if (bad < 0) {
			changes[done + length].result = bad;
			return bad;
		}
	}
	return 0;
}

/* One bad descriptor fails its whole message. Asked before one of ours can get its number. */
static size_t count_sendable(const struct inject_change *changes, size_t n)
{
	size_t i = 0;

	while (i < n && fcntl(changes[i].fd, F_GETFD) >= 0)
		i++;
	return i;
}

static int refuse_unsendable(struct inject_session *s, struct inject_change *change)
{
	change->result = -EBADF;
	return error_set(
		s->e, EBADF, "cannot pass descriptor %d to task %d", change->fd, inject_tid(s->t));
}

static int apply_sendable(struct inject_session *s, struct inject_change *changes, size_t n)
{
	int r = inject_session_open(s, highest_target_fd(changes, n));

	if (r == 0)
		r = apply_changes(s, changes, n);
	return inject_session_close(s, r);
}

static int apply(struct inject_session *s, struct inject_change *changes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		changes[i].result = -ECANCELED;
	size_t sendable = count_sendable(changes, n);
	int r = sendable ? apply_sendable(s, changes, sendable) : 0;
	return r == 0 && sendable < n ? refuse_unsendable(s, &changes[sendable]) : r;
}

/* What the target had got just then and was not noted yet. */
static void find_guests(struct inject_session *s, struct guests *g)
{
	struct inject_scratch theirs;

	/* A page of our own is empty at first; on the stack there may be anything. */
	if (!s->scratch || s->on_stack || inject_scratch_read(s, &theirs, sizeof(theirs), 0) < 0)
		return;
	if (!g->connected && theirs.pair[0] != theirs.pair[1]) {
		memcpy(g->pair, theirs.pair, sizeof(g->pair));
		g->connected = true;
	}
	if (g->asked && g->count == 0)
		note_received(&theirs, g);
}

/* Nothing of ours stays in the target; what was changed is taken back by whoever knows how. */
static void clean_up(struct inject_session *s)
{
	struct guests *g = &guests;

	s->lost = 0;
	s->e = NULL;
	find_guests(s, g);
	if (g->cwd >= 0)
		(void)change_cwd(s, g->cwd);
	if (g->cwd_expected >= 0)
		(void)inject_call(s, SYS_close_range, (uint64_t)g->cwd_expected,
			(uint64_t)g->cwd_expected, 0, 0);
	(void)close_guests(s, g);
	(void)inject_session_close(s, -EFAULT);
	*g = (struct guests){.cwd = -1, .cwd_expected = -1};
}

static void clean_up_after_crash(struct inject_session *s)
{
	struct error e;

	s->deadline_usec = deadline_in(CLEAN_UP_USEC);
	if (inject_recover(s->t, s->deadline_usec, &e) == 0)
		clean_up(s);
}

static struct inject_session session;

void inject_clean_up(const struct inject_target *t, uint64_t deadline_usec)
{
	if (session.t != t || !session.lost)
		return;
	session.deadline_usec = deadline_usec;
	clean_up(&session);
}

int inject_apply(struct inject_target *t, struct inject_change *changes, size_t n,
	uint64_t deadline_usec, struct error *e)
{
	static sigjmp_buf crashed, *outer;

	session = (struct inject_session){
		.t = t, .deadline_usec = deadline_usec, .e = e, .pidfd = -1};
	guests = (struct guests){.cwd = -1, .cwd_expected = -1};
	outer = crash_recover_at(NULL);
	if (outer && sigsetjmp(crashed, 1)) {
		(void)crash_recover_at(outer);
		clean_up_after_crash(&session);
		(void)crash_recover_at(NULL);
		siglongjmp(*outer, crash_signal());
	}
	if (outer)
		(void)crash_recover_at(&crashed);
	int r = apply(&session, changes, n);
	(void)crash_recover_at(outer);
	return r;
}
