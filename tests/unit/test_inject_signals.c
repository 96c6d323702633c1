/* SPDX-License-Identifier: MIT */
/* Signals, job control and deaths that come in between, and targets that do not answer. */
#include "tests/unit/inject_child.h"

#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ioctl.h>

static void sleep_with_handlers(struct page *p)
{
	sigset_t odd;

	handle(p, SIGUSR1);
	handle(p, SIGRTMIN);
	(void)sigemptyset(&odd);
	(void)sigaddset(&odd, SIGUSR2);
	(void)sigaddset(&odd, SIGRTMAX);
	(void)sigprocmask(SIG_SETMASK, &odd, NULL);
	p->ready = 1;
	while (p->handled < 4)
		p->result += pause();
}

static void test_signals_wait_for_release(void **state)
{
	struct child c = child_new(sleep_with_handlers);
	char before[128], after[128];

	(void)state;
	wait_asleep_in(c.pid, CALL_OF_PAUSE);
	status_line(c.pid, "SigBlk:", before, sizeof(before));
	struct inject_target *t = seize_and_stop(c.pid);
	assert_int_equal(kill(c.pid, SIGUSR1), 0);
	assert_int_equal(run_in(t, SYS_getpid, 0, 0, 0), c.pid);
	for (int i = 0; i < 3; i++)
		assert_int_equal(sigqueue(c.pid, SIGRTMIN, (union sigval){0}), 0);
	assert_int_equal(run_in(t, SYS_getpid, 0, 0, 0), c.pid);
	assert_int_equal(c.page->handled, 0);
	release(t);
	assert_int_equal(child_wait(&c), 0);
	/* All four handlers ran, in the one interruption of one pause(). */
	assert_int_equal(c.page->handled, 4);
	assert_int_equal(c.page->result, -1);
	child_end(&c);

	c = child_new(sleep_with_handlers);
	wait_asleep_in(c.pid, CALL_OF_PAUSE);
	t = seize_and_stop(c.pid);
	assert_int_equal(run_in(t, SYS_getpid, 0, 0, 0), c.pid);
	release(t);
	status_line(c.pid, "SigBlk:", after, sizeof(after));
	assert_string_equal(after, before);
	child_end(&c);
}

/*
 * On a processor of its own, where there are two: else it never runs between our seizing and
 * interrupting it.
 */
static void stay_on(pid_t pid, int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	(void)sched_setaffinity(pid, sizeof(set), &set);
}

static void signal_itself(struct page *p)
{
	handle(p, SIGUSR1);
	stay_on(0, 1);
	p->ready = 1;
	while (!p->go) {
		(void)kill(getpid(), SIGUSR1);
		p->counter++;
	}
}

/*
 * With a signal always on its way, the first stop is often its delivery: neither it nor the stop
 * may get lost.
 */
static void test_signal_arrives_first(void **state)
{
	struct child c = child_new(signal_itself);
	cpu_set_t before;

	(void)state;
	(void)sched_getaffinity(0, sizeof(before), &before);
	stay_on(0, 0);
	for (int i = 0; i < 300; i++) {
		long counter = c.page->counter;

		wait_until(c.page->counter > counter + 10);
		struct inject_target *t = seize_and_stop(c.pid);
		assert_int_equal(run_in(t, SYS_getpid, 0, 0, 0), c.pid);
		release(t);
	}
	(void)sched_setaffinity(0, sizeof(before), &before);
	c.page->go = 1;
	assert_int_equal(child_wait(&c), 0);
	assert_int_equal(c.page->handled, c.page->counter);
	child_end(&c);
}

/* A shell that writes down what it is told of its job: stops in counter, continuations in handled.
 */
static void run_job(struct page *p)
{
	pid_t pid = fork();
	siginfo_t info;

	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		p->result = nanosleep(&(struct timespec){.tv_nsec = 300 * 1000000L}, NULL);
		p->error = errno;
		p->go = 1;
		sleep_for_ever(p);
	}
	p->id = pid;
	p->ready = 1;
	for (;;) {
		if (waitid(P_PID, (id_t)pid, &info, WEXITED | WSTOPPED | WCONTINUED) < 0)
			continue;
		if (info.si_code == CLD_STOPPED)
			p->counter++;
		else if (info.si_code == CLD_CONTINUED)
			p->handled++;
		else
			return;
	}
}

static struct child start_job(void)
{
	struct child c = child_new(run_job);

	wait_until(c.page->ready);
	wait_asleep_in(c.page->id, SYS_clock_nanosleep);
	return c;
}

/*
 * The shell has nothing left to be told: it sleeps, and waited last for what `stops` and `conts`
 * count.
 */
static void assert_told(const struct child *c, long stops, int conts)
{
	wait_until(c->page->counter >= stops && c->page->handled >= conts);
	wait_asleep_in(c->pid, SYS_waitid);
	assert_int_equal(c->page->counter, stops);
	assert_int_equal(c->page->handled, conts);
}

static void end_job(struct child *c)
{
	wait_until(c->page->go);
	assert_int_equal(c->page->result, 0);
	(void)kill(c->page->id, SIGKILL);
	assert_int_equal(child_wait(c), 0);
	child_end(c);
}

static void test_stopped_job_stays_stopped(void **state)
{
	struct child c = start_job();
	pid_t job = c.page->id;

	(void)state;
	assert_int_equal(kill(job, SIGSTOP), 0);
	assert_told(&c, 1, 0);
	for (int i = 0; i < 3; i++) {
		struct inject_target *t = seize_and_stop(job);
		assert_int_equal(run_in(t, SYS_getpid, 0, 0, 0), job);
		assert_int_equal(run_in(t, SYS_getpid, 0, 0, 0), job);
		release(t);
		wait_until(state_of(job) == 'T');
	}
	assert_told(&c, 1, 0);
	assert_int_equal(kill(job, SIGCONT), 0);
	assert_told(&c, 1, 1);
	end_job(&c);
}

static void test_job_stopped_meanwhile(void **state)
{
	struct child c = start_job();
	pid_t job = c.page->id;
	struct inject_target *t = seize_and_stop(job);

	(void)state;
	assert_int_equal(run_in(t, SYS_getpid, 0, 0, 0), job);
	assert_int_equal(kill(job, SIGSTOP), 0);
	assert_int_equal(run_in(t, SYS_getpid, 0, 0, 0), job);
	assert_int_equal(run_in(t, SYS_getppid, 0, 0, 0), c.pid);
	release(t);
	wait_until(state_of(job) == 'T');
	assert_told(&c, 1, 0);
	assert_int_equal(kill(job, SIGCONT), 0);
	assert_told(&c, 1, 1);
	end_job(&c);
}

static void test_job_continued_meanwhile(void **state)
{
	struct child c = start_job();
	pid_t job = c.page->id;

	(void)state;
	assert_int_equal(kill(job, SIGSTOP), 0);
	assert_told(&c, 1, 0);
	struct inject_target *t = seize_and_stop(job);
	assert_int_equal(run_in(t, SYS_getpid, 0, 0, 0), job);
	assert_int_equal(kill(job, SIGCONT), 0);
	assert_int_equal(run_in(t, SYS_getpid, 0, 0, 0), job);
	assert_int_equal(run_in(t, SYS_getpid, 0, 0, 0), job);
	release(t);
	wait_until(state_of(job) == 'S');
	assert_told(&c, 1, 1);
	end_job(&c);
}

static void test_stopped_while_frozen(void **state)
{
	struct child c = sleeper();
	struct own_cgroup g;
	struct error e;

	(void)state;
	if (!own_cgroup_make(&g))
		skip();
	assert_int_equal(cgroup_attach(g.dir, c.pid), 0);
	assert_int_equal(kill(c.pid, SIGSTOP), 0);
	wait_until(state_of(c.pid) == 'T');
	own_cgroup_set_frozen(&g, true);
	struct inject_target *t = seize_and_stop(c.pid);
	own_cgroup_set_frozen(&g, false);
	assert_int_equal(run_in(t, SYS_getpid, 0, 0, 0), c.pid);
	assert_ok(inject_release(t, deadline_in(PATIENCE), &e), e);
	wait_until(state_of(c.pid) == 'T');
	assert_int_equal(kill(c.pid, SIGCONT), 0);
	wait_asleep_in(c.pid, CALL_OF_PAUSE);
	child_end(&c);
	own_cgroup_remove(&g);
}

/* An upgrade that gives up between the two: frozen or not, nothing remains. */
static void test_release_at_once(void **state)
{
	struct child c = sleeper();
	struct own_cgroup g;

	(void)state;
	release(seize(c.pid));
	wait_asleep_in(c.pid, CALL_OF_PAUSE);
	release(seize_and_stop(c.pid));
	wait_asleep_in(c.pid, CALL_OF_PAUSE);
	if (!own_cgroup_make(&g)) {
		child_end(&c);
		return;
	}
	assert_int_equal(cgroup_attach(g.dir, c.pid), 0);
	own_cgroup_set_frozen(&g, true);
	release(seize(c.pid));
	release(seize_and_stop(c.pid));
	assert_int_equal(cgroup_wait_frozen(g.events, true, deadline_in(PATIENCE)), 0);
	own_cgroup_set_frozen(&g, false);
	wait_asleep_in(c.pid, CALL_OF_PAUSE);
	child_end(&c);
	own_cgroup_remove(&g);
}

static int try_getpid(struct inject_target *t, uint64_t usec, struct error *e)
{
	const uint64_t args[6] = {0};
	int64_t result;

	return inject_syscall(t, SYS_getpid, args, &result, deadline_in(usec), e);
}

/*
 * Without a thaw the call cannot run. The release takes back what was asked: while still frozen, or
 * thawed too late, when the task stands at the entry of a call that would be its end.
 */
static void call_too_late(bool thaw_first)
{
	struct child c = sleeper();
	struct own_cgroup g;
	const uint64_t args[6] = {0};
	struct error e;
	int64_t result;

	if (!own_cgroup_make(&g))
		skip();
	assert_int_equal(cgroup_attach(g.dir, c.pid), 0);
	own_cgroup_set_frozen(&g, true);
	struct inject_target *t = seize_and_stop(c.pid);
	uint64_t deadline = deadline_in(30 * USEC_PER_MSEC);
	assert_int_equal(
		inject_syscall(t, SYS_exit_group, args, &result, deadline, &e), -ETIMEDOUT);
	assert_non_null(strstr(e.text, "does not answer"));
	assert_int_equal(try_getpid(t, PATIENCE, &e), -EINVAL);
	if (thaw_first) {
		own_cgroup_set_frozen(&g, false);
		wait_until(state_of(c.pid) == 't');
	}
	assert_int_equal(inject_release(t, 0, &e), 0);
	own_cgroup_set_frozen(&g, false);
	wait_asleep_in(c.pid, CALL_OF_PAUSE);
	child_end(&c);
	own_cgroup_remove(&g);
}

static void test_frozen_target_does_not_run(void **state)
{
	(void)state;
	call_too_late(false);
	call_too_late(true);
}

static void test_killed_meanwhile(void **state)
{
	struct child c = sleeper();
	struct inject_target *t = seize_and_stop(c.pid);
	struct error e;

	(void)state;
	assert_int_equal(run_in(t, SYS_getpid, 0, 0, 0), c.pid);
	assert_int_equal(kill(c.pid, SIGKILL), 0);
	assert_int_equal(try_getpid(t, PATIENCE, &e), -ESRCH);
	assert_int_equal(inject_release(t, deadline_in(PATIENCE), &e), -ESRCH);
	/* Its status is still there for who reaps. */
	assert_int_equal(child_wait(&c), SIGKILL);
	child_end(&c);
}

static void test_exits_meanwhile(void **state)
{
	struct child c = sleeper();
	struct inject_target *t = seize_and_stop(c.pid);
	const uint64_t args[6] = {7};
	struct error e;
	int64_t result;

	(void)state;
	assert_int_equal(
		inject_syscall(t, SYS_exit_group, args, &result, deadline_in(PATIENCE), &e),
		-ESRCH);
	assert_int_equal(inject_release(t, deadline_in(PATIENCE), &e), -ESRCH);
	assert_int_equal(child_wait(&c), 7 << 8);
	child_end(&c);
}

static void *thread_waits(void *argument)
{
	struct page *p = argument;

	p->tids[0] = (int)syscall(SYS_gettid);
	while (!p->go)
		(void)pause();
	return NULL;
}

static void *thread_execs(void *argument)
{
	struct page *p = argument;
	char *argv[] = {(char[]){"sleep"}, (char[]){"1000"}, NULL};

	p->tids[0] = (int)syscall(SYS_gettid);
	while (!p->go)
		pause_briefly();
	(void)execvp(argv[0], argv);
	return NULL;
}

static void leader_execs(struct page *p)
{
	pthread_t thread;
	char *argv[] = {(char[]){"sleep"}, (char[]){"1000"}, NULL};

	(void)pthread_create(&thread, NULL, thread_waits, p);
	p->ready = 1;
	while (!p->go)
		pause_briefly();
	(void)execvp(argv[0], argv);
}

static void other_thread_execs(struct page *p)
{
	pthread_t thread;

	(void)pthread_create(&thread, NULL, thread_execs, p);
	p->ready = 1;
	for (;;)
		(void)pause();
}

/* Either way the seized thread is killed, and nobody must wait for ever. */
static void exec_beside(struct child c, pid_t tid)
{
	struct inject_target *t = seize_and_stop(tid);
	struct error e;

	assert_int_equal(run_in(t, SYS_gettid, 0, 0, 0), tid);
	c.page->go = 1;
	int r;
	uint64_t end = deadline_in(PATIENCE);
	do
		r = try_getpid(t, 50 * USEC_PER_MSEC, &e);
	while (r == 0 && clock_usec() < end);
	assert_true(r == -ESRCH || r == -ETIMEDOUT);
	while ((r = inject_release(t, deadline_in(50 * USEC_PER_MSEC), &e)) == -ETIMEDOUT)
		assert_true(clock_usec() < end);
	assert_int_equal(r, -ESRCH);
	/* The exec itself waits for the burial of a traced thread. */
	if (tid != c.pid)
		wait_until(waitpid(tid, NULL, __WALL | WNOHANG) == tid);
	char exe[64] = "", path[64];
	(void)snprintf(path, sizeof(path), "/proc/%d/comm", c.pid);
	wait_until(file_read(AT_FDCWD, path, exe, sizeof(exe)) > 0 && !strcmp(exe, "sleep\n"));
	child_end(&c);
}

static void test_exec_by_another_thread(void **state)
{
	struct child c = child_new(leader_execs);

	(void)state;
	wait_until(c.page->tids[0]);
	exec_beside(c, c.page->tids[0]);
	c = child_new(other_thread_execs);
	wait_until(c.page->tids[0]);
	wait_asleep_in(c.pid, CALL_OF_PAUSE);
	exec_beside(c, c.pid);
}

static void wait_in_vfork(struct page *p)
{
	char c;

	p->ready = 1;
	if (vfork() == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		(void)!read(p->fds[0], &c, 1);
		_exit(0);
	}
	p->go = 1;
}

static void test_vfork_parent_is_refused(void **state)
{
	struct page *p = page_new();
	struct inject_target *t = NULL;
	struct error e;

	(void)state;
	assert_int_equal(pipe(p->fds), 0);
	struct child c = child_start(p, wait_in_vfork);
	wait_until(state_of(c.pid) == 'D' && syscall_of(c.pid) >= 0);
	assert_int_equal(inject_seize(&t, c.pid, &e), -EBUSY);
	assert_null(t);
	assert_non_null(strstr(e.text, "vfork"));
	assert_int_equal(write(p->fds[1], "x", 1), 1);
	assert_int_equal(child_wait(&c), 0);
	child_end(&c);
}

/* A call into a page that nobody provides: it sleeps in the kernel, and no signal ends that. */
static void write_to_missing_page(struct page *p)
{
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	struct uffdio_api api = {.api = UFFD_API};
	char *missing =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct uffdio_register range = {
		.range = {.start = (uintptr_t)missing, .len = 4096},
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) < 0 || ioctl(fd, UFFDIO_REGISTER, &range) < 0)
		return;
	p->fds[2] = fd;
	p->started = (uintptr_t)missing;
	p->ready = 1;
	p->result = syscall(SYS_uname, missing);
	p->counter = missing[0];
}

static void provide_page(const struct child *c)
{
	int pidfd = (int)syscall(SYS_pidfd_open, c->pid, 0);
	int fd = (int)syscall(SYS_pidfd_getfd, pidfd, c->page->fds[2], 0);
	struct uffdio_zeropage zero = {.range = {.start = c->page->started, .len = 4096}};

	assert_true(fd >= 0);
	assert_int_equal(ioctl(fd, UFFDIO_ZEROPAGE, &zero), 0);
	(void)close(fd);
	(void)close(pidfd);
}

static void test_silent_target_stays_attached(void **state)
{
	struct page *p = page_new();
	struct error e;
	char number[16];

	(void)state;
	struct child c = child_start(p, write_to_missing_page);
	wait_until(p->ready || p->done);
	if (p->done) {
		child_end(&c);
		skip();
	}
	wait_until(syscall_of(c.pid) == SYS_uname);
	struct inject_target *t = seize(c.pid);
	assert_int_equal(inject_wait_stopped(t, deadline_in(30 * USEC_PER_MSEC), &e), -ETIMEDOUT);
	(void)snprintf(number, sizeof(number), "%d", c.pid);
	assert_non_null(strstr(e.text, number));
	assert_int_equal(inject_release(t, 0, &e), -ETIMEDOUT);
	provide_page(&c);
	/* The stop that comes now is taken by the caller's reaper, as it may be. */
	wait_until(waitpid(c.pid, NULL, WNOHANG | __WALL) == c.pid);
	assert_ok(inject_release(t, deadline_in(PATIENCE), &e), e);
	assert_int_equal(child_wait(&c), 0);
	assert_int_equal(p->result, 0);
	assert_int_equal(p->counter, 'L');
	child_end(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_signals_wait_for_release),
		cmocka_unit_test(test_signal_arrives_first),
		cmocka_unit_test(test_stopped_job_stays_stopped),
		cmocka_unit_test(test_job_stopped_meanwhile),
		cmocka_unit_test(test_job_continued_meanwhile),
		cmocka_unit_test(test_stopped_while_frozen),
		cmocka_unit_test(test_release_at_once),
		cmocka_unit_test(test_frozen_target_does_not_run),
		cmocka_unit_test(test_killed_meanwhile),
		cmocka_unit_test(test_exits_meanwhile),
		cmocka_unit_test(test_exec_by_another_thread),
		cmocka_unit_test(test_vfork_parent_is_refused),
		cmocka_unit_test(test_silent_target_stays_attached),
	};

	if (geteuid() != 0) {
		print_message("needs root: skipped\n");
		return 0;
	}
	return cmocka_run_group_tests(tests, block_sigchld, clean_up);
}
