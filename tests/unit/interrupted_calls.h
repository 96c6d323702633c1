/* SPDX-License-Identifier: MIT */
/*
 * Calls that sleep, to be disturbed in their sleep: how each is begun in a child (inject_child.h),
 * ended from outside, and what it must return.
 */
#ifndef MOLT_TESTS_INTERRUPTED_CALLS_H
#define MOLT_TESTS_INTERRUPTED_CALLS_H

#include "tests/unit/inject_child.h"

#include <linux/futex.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/un.h>

/* arm64 does not show what it would take: inject_arch_in_syscall(). */
#if defined(__x86_64__)
#define INJECTION_SPARES true
#else
#define INJECTION_SPARES false
#endif

/* Longer each time that a busy machine kept us from telling. */
static long patience = 1;
#define NAP_MSEC (700 * slowness() * patience)
#define NAP_TIMESPEC                                                             \
	{                                                                        \
		.tv_sec = NAP_MSEC / 1000, .tv_nsec = NAP_MSEC % 1000 * 1000000L \
	}
#define NAP_TIMEVAL                                                           \
	{                                                                     \
		.tv_sec = NAP_MSEC / 1000, .tv_usec = NAP_MSEC % 1000 * 1000L \
	}
#define DISTURB_AFTER_MSEC (NAP_MSEC / 2)
#define NAP_MAX_MSEC 8000

#define RECORD(p, call)                      \
	do {                                 \
		(p)->started = clock_usec(); \
		(p)->ready = 1;              \
		errno = 0;                   \
		(p)->result = (call);        \
		(p)->error = errno;          \
		(p)->ended = clock_usec();   \
	} while (0)

static inline void block(int signal, sigset_t *ret_before)
{
	sigset_t set;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, signal);
	(void)sigprocmask(SIG_BLOCK, &set, ret_before);
}

static inline void make_pipe(struct page *p)
{
	assert_int_equal(pipe(p->fds), 0);
}

static inline void make_sockets(struct page *p)
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, p->fds), 0);
}

static inline void make_listener(struct page *p)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};

	p->fds[0] = socket(AF_UNIX, SOCK_STREAM, 0);
	/* The kernel picks an abstract name: "autobind" in unix(7). */
	assert_int_equal(bind(p->fds[0], (struct sockaddr *)&name, sizeof(sa_family_t)), 0);
	assert_int_equal(listen(p->fds[0], 1), 0);
	p->fds[1] = socket(AF_UNIX, SOCK_STREAM, 0);
}

static inline void make_queue(struct page *p)
{
	p->id = msgget(IPC_PRIVATE, 0600);
	assert_true(p->id >= 0);
}

static inline void make_semaphore(struct page *p)
{
	p->id = semget(IPC_PRIVATE, 1, 0600);
	assert_true(p->id >= 0);
}

static inline void make_file(struct page *p)
{
	char path[] = "/tmp/molt-test-inject-XXXXXX";

	p->fds[0] = mkstemp(path);
	assert_true(p->fds[0] >= 0);
	char link[64];
	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", p->fds[0]);
	p->fds[1] = open(
		link, O_RDWR | O_CLOEXEC); /* another open file description: a lock of its own */
	assert_int_equal(unlink(path), 0);
	assert_int_equal(flock(p->fds[1], LOCK_EX), 0);
}

static inline void make_inotify(struct page *p)
{
	make_pipe(p);
	p->fds[2] = inotify_init1(IN_CLOEXEC);
	char link[64];
	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", p->fds[1]);
	assert_true(inotify_add_watch(p->fds[2], link, IN_MODIFY) >= 0);
}

static inline void do_read(struct page *p)
{
	char c;

	RECORD(p, read(p->fds[0], &c, 1));
}

static inline void do_nanosleep(struct page *p)
{
	struct timespec nap = NAP_TIMESPEC;

	RECORD(p, nanosleep(&nap, NULL));
}

static inline void do_clock_nanosleep_until(struct page *p)
{
	struct timespec until;

	uint64_t began = clock_usec();
	(void)clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += NAP_MSEC / 1000;
	until.tv_nsec += NAP_MSEC % 1000 * 1000000L;
	until.tv_sec += until.tv_nsec / 1000000000L;
	until.tv_nsec %= 1000000000L;
	RECORD(p, -clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL));
	p->started = began;
}

static inline void do_poll(struct page *p)
{
	struct pollfd fd = {.fd = p->fds[0], .events = POLLIN};

	RECORD(p, poll(&fd, 1, -1));
}

static inline void do_poll_nap(struct page *p)
{
	RECORD(p, poll(NULL, 0, (int)NAP_MSEC));
}

static inline void do_ppoll_nap(struct page *p)
{
	struct timespec nap = NAP_TIMESPEC;
	sigset_t open;

	(void)sigemptyset(&open);
	RECORD(p, ppoll(NULL, 0, &nap, &open));
}

static inline void do_select_nap(struct page *p)
{
	struct timeval nap = NAP_TIMEVAL;

	RECORD(p, select(0, NULL, NULL, NULL, &nap));
}

static inline int epoll_of(struct page *p)
{
	struct epoll_event event = {.events = EPOLLIN};
	int fd = epoll_create1(EPOLL_CLOEXEC);

	(void)epoll_ctl(fd, EPOLL_CTL_ADD, p->fds[0], &event);
	return fd;
}

static inline void do_epoll_wait(struct page *p)
{
	struct epoll_event event;
	int fd = epoll_of(p);

	RECORD(p, epoll_wait(fd, &event, 1, -1));
}

static inline void do_epoll_pwait(struct page *p)
{
	struct epoll_event event;
	sigset_t open;
	int fd = epoll_of(p);

	block(SIGUSR1, NULL);
	handle(p, SIGUSR1);
	(void)sigemptyset(&open);
	RECORD(p, epoll_pwait(fd, &event, 1, -1, &open));
}

static inline void do_epoll_nap(struct page *p)
{
	struct epoll_event event;
	int fd = epoll_of(p);

	RECORD(p, epoll_wait(fd, &event, 1, (int)NAP_MSEC));
}

static inline void do_futex(struct page *p)
{
	RECORD(p, syscall(SYS_futex, &p->go, FUTEX_WAIT, 0, NULL, NULL, 0));
}

static inline void do_futex_nap(struct page *p)
{
	struct timespec nap = NAP_TIMESPEC;

	RECORD(p, syscall(SYS_futex, &p->go, FUTEX_WAIT, 0, &nap, NULL, 0));
}

static inline void do_accept(struct page *p)
{
	RECORD(p, accept(p->fds[0], NULL, NULL) >= 0);
}

static inline void do_recv(struct page *p)
{
	char c;

	RECORD(p, recv(p->fds[0], &c, 1, 0));
}

static inline void do_recv_nap(struct page *p)
{
	struct timeval nap = NAP_TIMEVAL;
	char c;

	(void)setsockopt(p->fds[0], SOL_SOCKET, SO_RCVTIMEO, &nap, sizeof(nap));
	RECORD(p, recv(p->fds[0], &c, 1, 0));
}

static inline void do_pause(struct page *p)
{
	handle(p, SIGUSR1);
	RECORD(p, pause());
}

static inline void do_sigsuspend(struct page *p)
{
	sigset_t before;

	handle(p, SIGUSR1);
	block(SIGUSR1, &before);
	RECORD(p, sigsuspend(&before));
	/* Its mask must be the one from before the call again. */
	(void)sigprocmask(SIG_BLOCK, NULL, &before);
	if (!sigismember(&before, SIGUSR1) || sigismember(&before, SIGUSR2))
		p->failures++;
}

static inline void do_sigtimedwait(struct page *p)
{
	sigset_t set;

	block(SIGUSR1, NULL);
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGUSR1);
	/* glibc's sigwaitinfo() loops on EINTR: the kernel is asked itself. */
	RECORD(p, syscall(SYS_rt_sigtimedwait, &set, NULL, NULL, 8));
}

static inline void do_sigtimedwait_nap(struct page *p)
{
	struct timespec nap = NAP_TIMESPEC;
	sigset_t set;

	block(SIGUSR1, NULL);
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGUSR1);
	RECORD(p, syscall(SYS_rt_sigtimedwait, &set, NULL, &nap, 8));
}

static inline void do_wait4(struct page *p)
{
	pid_t pid = fork();
	char c;

	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		while (read(p->fds[0], &c, 1) < 0 && errno == EINTR)
			;
		_exit(0);
	}
	RECORD(p, waitpid(pid, NULL, 0) == pid);
}

static inline void do_msgrcv(struct page *p)
{
	struct {
		long type;
		char text[8];
	} message;

	RECORD(p, msgrcv(p->id, &message, sizeof(message.text), 0, 0));
}

static inline void do_semop(struct page *p)
{
	struct sembuf down = {.sem_op = -1};

	RECORD(p, semop(p->id, &down, 1));
}

static inline void do_flock(struct page *p)
{
	RECORD(p, flock(p->fds[0], LOCK_EX));
}

static inline void do_read_inotify(struct page *p)
{
	char event[256];

	RECORD(p, read(p->fds[2], event, sizeof(event)) > 0);
}

static inline void end_by_write(struct page *p, pid_t pid)
{
	(void)pid;
	assert_int_equal(write(p->fds[1], "x", 1), 1);
}

static inline void end_by_wake(struct page *p, pid_t pid)
{
	(void)pid;
	p->go = 1;
	(void)syscall(SYS_futex, &p->go, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static inline void end_by_connect(struct page *p, pid_t pid)
{
	struct sockaddr_un name;
	socklen_t length = sizeof(name);

	(void)pid;
	assert_int_equal(getsockname(p->fds[0], (struct sockaddr *)&name, &length), 0);
	assert_int_equal(connect(p->fds[1], (struct sockaddr *)&name, length), 0);
}

static inline void end_by_signal(struct page *p, pid_t pid)
{
	(void)p;
	assert_int_equal(kill(pid, SIGUSR1), 0);
}

static inline void end_by_message(struct page *p, pid_t pid)
{
	struct {
		long type;
		char text[8];
	} message = {.type = 1, .text = "1234567"};

	(void)pid;
	assert_int_equal(msgsnd(p->id, &message, sizeof(message.text), 0), 0);
}

static inline void end_by_up(struct page *p, pid_t pid)
{
	struct sembuf up = {.sem_op = 1};

	(void)pid;
	assert_int_equal(semop(p->id, &up, 1), 0);
}

static inline void end_by_unlock(struct page *p, pid_t pid)
{
	(void)pid;
	assert_int_equal(flock(p->fds[1], LOCK_UN), 0);
}

static inline void drop_queue(struct page *p)
{
	(void)msgctl(p->id, IPC_RMID, NULL);
}

static inline void drop_semaphore(struct page *p)
{
	(void)semctl(p->id, 0, IPC_RMID);
}

enum stopped {
	RESTARTS, /* the kernel restarts it by itself */
	SPARED, /* EINTR when stopped or frozen, but not when injected into (on x86-64) */
	INTERRUPTED, /* EINTR in every case: it has a timeout, of which nobody knows the rest */
};

static const struct call {
	const char *name;
	void (*make)(struct page *page);
	child_main run;
	void (*end)(struct page *page, pid_t pid); /* NULL: it ends by its timeout */
	void (*drop)(struct page *page);
	int64_t result;
	int error;
	enum stopped stopped;
} calls[] = {
	{"read", make_pipe, do_read, end_by_write, NULL, 1, 0, RESTARTS},
	{"nanosleep", NULL, do_nanosleep, NULL, NULL, 0, 0, RESTARTS},
	{"clock_nanosleep", NULL, do_clock_nanosleep_until, NULL, NULL, 0, 0, RESTARTS},
	{"poll", make_pipe, do_poll, end_by_write, NULL, 1, 0, RESTARTS},
	{"poll with timeout", NULL, do_poll_nap, NULL, NULL, 0, 0, RESTARTS},
	{"ppoll with timeout", NULL, do_ppoll_nap, NULL, NULL, 0, 0, RESTARTS},
	{"select with timeout", NULL, do_select_nap, NULL, NULL, 0, 0, RESTARTS},
	{"epoll_wait", make_pipe, do_epoll_wait, end_by_write, NULL, 1, 0, SPARED},
	{"epoll_pwait", make_pipe, do_epoll_pwait, end_by_write, NULL, 1, 0, SPARED},
	{"epoll_wait with timeout", make_pipe, do_epoll_nap, NULL, NULL, 0, 0, INTERRUPTED},
	{"futex", NULL, do_futex, end_by_wake, NULL, 0, 0, RESTARTS},
	{"futex with timeout", NULL, do_futex_nap, NULL, NULL, -1, ETIMEDOUT, RESTARTS},
	{"accept", make_listener, do_accept, end_by_connect, NULL, 1, 0, RESTARTS},
	{"recv", make_sockets, do_recv, end_by_write, NULL, 1, 0, RESTARTS},
	{"recv with timeout", make_sockets, do_recv_nap, NULL, NULL, -1, EAGAIN, INTERRUPTED},
	{"pause", NULL, do_pause, end_by_signal, NULL, -1, EINTR, RESTARTS},
	{"sigsuspend", NULL, do_sigsuspend, end_by_signal, NULL, -1, EINTR, RESTARTS},
	{"sigtimedwait", NULL, do_sigtimedwait, end_by_signal, NULL, SIGUSR1, 0, SPARED},
	{"sigtimedwait with timeout", NULL, do_sigtimedwait_nap, NULL, NULL, -1, EAGAIN,
		INTERRUPTED},
	{"wait4", make_pipe, do_wait4, end_by_write, NULL, 1, 0, RESTARTS},
	{"msgrcv", make_queue, do_msgrcv, end_by_message, drop_queue, 8, 0, RESTARTS},
	{"semop", make_semaphore, do_semop, end_by_up, drop_semaphore, 0, 0, SPARED},
	{"flock", make_file, do_flock, end_by_unlock, NULL, 0, 0, RESTARTS},
	{"read of inotify", make_inotify, do_read_inotify, end_by_write, NULL, 1, 0, RESTARTS},
};

#endif
