/* SPDX-License-Identifier: MIT */
/*
 * What becomes of a task that sleeps in a system call. Each of these calls is disturbed in four
 * ways, and must end as if nothing had happened: with its natural result, no earlier and no later.
 * Some calls end with EINTR whenever a task is stopped and goes on, by SIGSTOP or the cgroup
 * freezer alike; that they do is checked too, so that what injection adds to it is known to be
 * nothing, and what it spares to be real.
 */
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

static void block(int signal, sigset_t *ret_before)
{
	sigset_t set;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, signal);
	(void)sigprocmask(SIG_BLOCK, &set, ret_before);
}

static void make_pipe(struct page *p)
{
	assert_int_equal(pipe(p->fds), 0);
}

static void make_sockets(struct page *p)
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, p->fds), 0);
}

static void make_listener(struct page *p)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};

	p->fds[0] = socket(AF_UNIX, SOCK_STREAM, 0);
	/* The kernel picks an abstract name: "autobind" in unix(7). */
	assert_int_equal(bind(p->fds[0], (struct sockaddr *)&name, sizeof(sa_family_t)), 0);
	assert_int_equal(listen(p->fds[0], 1), 0);
	p->fds[1] = socket(AF_UNIX, SOCK_STREAM, 0);
}

static void make_queue(struct page *p)
{
	p->id = msgget(IPC_PRIVATE, 0600);
	assert_true(p->id >= 0);
}

static void make_semaphore(struct page *p)
{
	p->id = semget(IPC_PRIVATE, 1, 0600);
	assert_true(p->id >= 0);
}

static void make_file(struct page *p)
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

static void make_inotify(struct page *p)
{
	make_pipe(p);
	p->fds[2] = inotify_init1(IN_CLOEXEC);
	char link[64];
	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", p->fds[1]);
	assert_true(inotify_add_watch(p->fds[2], link, IN_MODIFY) >= 0);
}

static void do_read(struct page *p)
{
	char c;

	RECORD(p, read(p->fds[0], &c, 1));
}

static void do_nanosleep(struct page *p)
{
	struct timespec nap = NAP_TIMESPEC;

	RECORD(p, nanosleep(&nap, NULL));
}

static void do_clock_nanosleep_until(struct page *p)
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

static void do_poll(struct page *p)
{
	struct pollfd fd = {.fd = p->fds[0], .events = POLLIN};

	RECORD(p, poll(&fd, 1, -1));
}

static void do_poll_nap(struct page *p)
{
	RECORD(p, poll(NULL, 0, (int)NAP_MSEC));
}

static void do_ppoll_nap(struct page *p)
{
	struct timespec nap = NAP_TIMESPEC;
	sigset_t open;

	(void)sigemptyset(&open);
	RECORD(p, ppoll(NULL, 0, &nap, &open));
}

static void do_select_nap(struct page *p)
{
	struct timeval nap = NAP_TIMEVAL;

	RECORD(p, select(0, NULL, NULL, NULL, &nap));
}

static int epoll_of(struct page *p)
{
	struct epoll_event event = {.events = EPOLLIN};
	int fd = epoll_create1(EPOLL_CLOEXEC);

	(void)epoll_ctl(fd, EPOLL_CTL_ADD, p->fds[0], &event);
	return fd;
}

static void do_epoll_wait(struct page *p)
{
	struct epoll_event event;
	int fd = epoll_of(p);

	RECORD(p, epoll_wait(fd, &event, 1, -1));
}

static void do_epoll_pwait(struct page *p)
{
	struct epoll_event event;
	sigset_t open;
	int fd = epoll_of(p);

	block(SIGUSR1, NULL);
	handle(p, SIGUSR1);
	(void)sigemptyset(&open);
	RECORD(p, epoll_pwait(fd, &event, 1, -1, &open));
}

static void do_epoll_nap(struct page *p)
{
	struct epoll_event event;
	int fd = epoll_of(p);

	RECORD(p, epoll_wait(fd, &event, 1, (int)NAP_MSEC));
}

static void do_futex(struct page *p)
{
	RECORD(p, syscall(SYS_futex, &p->go, FUTEX_WAIT, 0, NULL, NULL, 0));
}

static void do_futex_nap(struct page *p)
{
	struct timespec nap = NAP_TIMESPEC;

	RECORD(p, syscall(SYS_futex, &p->go, FUTEX_WAIT, 0, &nap, NULL, 0));
}

static void do_accept(struct page *p)
{
	RECORD(p, accept(p->fds[0], NULL, NULL) >= 0);
}

static void do_recv(struct page *p)
{
	char c;

	RECORD(p, recv(p->fds[0], &c, 1, 0));
}

static void do_recv_nap(struct page *p)
{
	struct timeval nap = NAP_TIMEVAL;
	char c;

	(void)setsockopt(p->fds[0], SOL_SOCKET, SO_RCVTIMEO, &nap, sizeof(nap));
	RECORD(p, recv(p->fds[0], &c, 1, 0));
}

static void do_pause(struct page *p)
{
	handle(p, SIGUSR1);
	RECORD(p, pause());
}

static void do_sigsuspend(struct page *p)
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

static void do_sigtimedwait(struct page *p)
{
	sigset_t set;

	block(SIGUSR1, NULL);
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGUSR1);
	/* glibc's sigwaitinfo() loops on EINTR: the kernel is asked itself. */
	RECORD(p, syscall(SYS_rt_sigtimedwait, &set, NULL, NULL, 8));
}

static void do_sigtimedwait_nap(struct page *p)
{
	struct timespec nap = NAP_TIMESPEC;
	sigset_t set;

	block(SIGUSR1, NULL);
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGUSR1);
	RECORD(p, syscall(SYS_rt_sigtimedwait, &set, NULL, &nap, 8));
}

static void do_wait4(struct page *p)
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

static void do_msgrcv(struct page *p)
{
	struct {
		long type;
		char text[8];
	} message;

	RECORD(p, msgrcv(p->id, &message, sizeof(message.text), 0, 0));
}

static void do_semop(struct page *p)
{
	struct sembuf down = {.sem_op = -1};

	RECORD(p, semop(p->id, &down, 1));
}

static void do_flock(struct page *p)
{
	RECORD(p, flock(p->fds[0], LOCK_EX));
}

static void do_read_inotify(struct page *p)
{
	char event[256];

	RECORD(p, read(p->fds[2], event, sizeof(event)) > 0);
}

static void end_by_write(struct page *p, pid_t pid)
{
	(void)pid;
	assert_int_equal(write(p->fds[1], "x", 1), 1);
}

static void end_by_wake(struct page *p, pid_t pid)
{
	(void)pid;
	p->go = 1;
	(void)syscall(SYS_futex, &p->go, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void end_by_connect(struct page *p, pid_t pid)
{
	struct sockaddr_un name;
	socklen_t length = sizeof(name);

	(void)pid;
	assert_int_equal(getsockname(p->fds[0], (struct sockaddr *)&name, &length), 0);
	assert_int_equal(connect(p->fds[1], (struct sockaddr *)&name, length), 0);
}

static void end_by_signal(struct page *p, pid_t pid)
{
	(void)p;
	assert_int_equal(kill(pid, SIGUSR1), 0);
}

static void end_by_message(struct page *p, pid_t pid)
{
	struct {
		long type;
		char text[8];
	} message = {.type = 1, .text = "1234567"};

	(void)pid;
	assert_int_equal(msgsnd(p->id, &message, sizeof(message.text), 0), 0);
}

static void end_by_up(struct page *p, pid_t pid)
{
	struct sembuf up = {.sem_op = 1};

	(void)pid;
	assert_int_equal(semop(p->id, &up, 1), 0);
}

static void end_by_unlock(struct page *p, pid_t pid)
{
	(void)pid;
	assert_int_equal(flock(p->fds[1], LOCK_UN), 0);
}

static void drop_queue(struct page *p)
{
	(void)msgctl(p->id, IPC_RMID, NULL);
}

static void drop_semaphore(struct page *p)
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

static struct child children[ARRAY_SIZE(calls)];
static uint64_t disturbed; /* when the first of them was, at the earliest */
static bool overran; /* one was over before it could be disturbed: the machine is too busy */

/* To be asked before each is disturbed. */
static bool is_over(size_t i)
{
	if (children[i].page->done)
		overran = true;
	return children[i].page->done;
}

static void start_calls(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		struct page *p = page_new();

		if (calls[i].make)
			calls[i].make(p);
		children[i] = child_start(p, calls[i].run);
	}
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
		wait_until(children[i].page->done ||
			   (children[i].page->ready && state_of(children[i].pid) == 'S'));
	/* In the midst of their sleeps: a call that started anew would end late. */
	uint64_t last = children[ARRAY_SIZE(calls) - 1].page->started;
	uint64_t due = last + (uint64_t)DISTURB_AFTER_MSEC * USEC_PER_MSEC;
	wait_until(clock_usec() >= due);
	overran = false;
	disturbed = clock_usec();
}

static bool right_result(const struct call *call, const struct page *p, bool injected)
{
	bool spared = injected && INJECTION_SPARES;

	if (call->stopped == INTERRUPTED || (call->stopped == SPARED && !spared))
		return p->result == -1 && p->error == EINTR;
	return p->result == call->result && (p->result >= 0 || p->error == call->error);
}

enum verdict { RIGHT, WRONG, NOBODY_KNOWS };

/*
 * That it ends early is wrong whatever the machine does. One that had started anew would have slept
 * its whole nap since it was disturbed: before that is over its end is right, however late; after
 * it either may be the case.
 */
static enum verdict judge_time(const struct call *call, const struct page *p)
{
	if (call->end || call->stopped == INTERRUPTED)
		return RIGHT;
	if (p->ended - p->started < (uint64_t)NAP_MSEC * USEC_PER_MSEC)
		return WRONG;
	return p->ended < disturbed + (uint64_t)NAP_MSEC * USEC_PER_MSEC ? RIGHT : NOBODY_KNOWS;
}

static enum verdict judge_one(size_t i, bool injected)
{
	const struct page *p = children[i].page;
	int status = child_wait(&children[i]);
	enum verdict v = judge_time(&calls[i], p);

	if (overran)
		return NOBODY_KNOWS;
	if (status != 0 || p->failures || !right_result(&calls[i], p, injected))
		v = WRONG;
	if (v != RIGHT)
		print_error("%s: status %#x, result %lld, errno %d, %llu us, failures %d\n",
			calls[i].name, status, (long long)p->result, p->error,
			(unsigned long long)(p->ended - p->started), p->failures);
	return v;
}

/* False: nobody knows. */
static bool judge(bool injected)
{
	size_t n[NOBODY_KNOWS + 1] = {0};

	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		n[judge_one(i, injected)]++;
		if (calls[i].drop)
			calls[i].drop(children[i].page);
		child_end(&children[i]);
	}
	assert_int_equal(n[WRONG], 0);
	return n[NOBODY_KNOWS] == 0;
}

static bool end_calls(bool injected)
{
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		struct child *c = &children[i];

		if (!calls[i].end)
			continue;
		/* Either it goes on sleeping, or it is over already. */
		wait_until(c->page->done || state_of(c->pid) == 'S' || state_of(c->pid) == 'Z');
		if (!c->page->done)
			calls[i].end(c->page, c->pid);
	}
	return judge(injected);
}

/* With longer naps until it can be told. */
static void until_it_is_known(bool (*attempt)(void))
{
	for (patience = 1; !attempt(); patience *= 2)
		if (2 * NAP_MSEC > NAP_MAX_MSEC)
			fail_msg("calls start anew, or this machine is much too busy");
}

static void inject_something(struct inject_target *t, pid_t pid)
{
	for (int i = 0; i < 3; i++)
		assert_int_equal(run_in(t, SYS_getpid, 0, 0, 0), pid);
	assert_int_equal(run_in(t, SYS_close, (uint64_t)-1, 0, 0), -EBADF);
}

static bool stop_and_continue(void)
{
	start_calls();
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		if (is_over(i))
			continue;
		assert_int_equal(kill(children[i].pid, SIGSTOP), 0);
		wait_until(state_of(children[i].pid) == 'T' || is_over(i));
		assert_int_equal(kill(children[i].pid, SIGCONT), 0);
	}
	return end_calls(false);
}

static void test_stop_signal(void **state)
{
	(void)state;
	until_it_is_known(stop_and_continue);
}

static void make_cgroup(struct own_cgroup *g)
{
	if (own_cgroup_make(g))
		return;
	if (geteuid() == 0)
		fail_msg("no cgroup v2 to make a cgroup of our own in");
	skip();
}

static void freeze_calls(struct own_cgroup *g)
{
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
		if (!is_over(i))
			assert_int_equal(cgroup_attach(g->dir, children[i].pid), 0);
	own_cgroup_set_frozen(g, true);
}

static bool freeze_and_thaw(void)
{
	struct own_cgroup g;

	make_cgroup(&g);
	start_calls();
	freeze_calls(&g);
	own_cgroup_set_frozen(&g, false);
	bool known = end_calls(false);
	own_cgroup_remove(&g);
	return known;
}

static void test_freezer(void **state)
{
	(void)state;
	until_it_is_known(freeze_and_thaw);
}

static bool inject(void)
{
	start_calls();
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		if (is_over(i))
			continue;
		struct inject_target *t = seize_and_stop(children[i].pid);

		inject_something(t, children[i].pid);
		release(t);
	}
	return end_calls(true);
}

static void test_injected(void **state)
{
	(void)state;
	until_it_is_known(inject);
}

static bool inject_after_freeze(void)
{
	struct inject_target *targets[ARRAY_SIZE(calls)];
	struct own_cgroup g;
	struct error e;

	make_cgroup(&g);
	start_calls();
	freeze_calls(&g);
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
		targets[i] = is_over(i) ? NULL : seize(children[i].pid);
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
		if (targets[i])
			assert_ok(inject_wait_stopped(targets[i], deadline_in(PATIENCE), &e), e);
	own_cgroup_set_frozen(&g, false);
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		if (!targets[i])
			continue;
		inject_something(targets[i], children[i].pid);
		release(targets[i]);
	}
	bool known = end_calls(true);
	own_cgroup_remove(&g);
	return known;
}

/* As an upgrade does it: seized while frozen, injected into once thawed. */
static void test_injected_after_freeze(void **state)
{
	(void)state;
	until_it_is_known(inject_after_freeze);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stop_signal),
		cmocka_unit_test(test_freezer),
		cmocka_unit_test(test_injected),
		cmocka_unit_test(test_injected_after_freeze),
	};

	if (geteuid() != 0) {
		print_message("needs root: skipped\n");
		return 0;
	}
	return cmocka_run_group_tests(tests, block_sigchld, clean_up);
}
