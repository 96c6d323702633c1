/* SPDX-License-Identifier: MIT */
/* Signals and job control that come in between. */
#include "tests/unit/inject_child.h"

#include <sched.h>

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
	own_cgroup_take(&g, c.pid);
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
	own_cgroup_take(&g, c.pid);
	own_cgroup_set_frozen(&g, true);
	release(seize(c.pid));
	release(seize_and_stop(c.pid));
	assert_int_equal(cgroup_wait_frozen(g.events, true, deadline_in(PATIENCE)), 0);
	own_cgroup_set_frozen(&g, false);
	wait_asleep_in(c.pid, CALL_OF_PAUSE);
	child_end(&c);
	own_cgroup_remove(&g);
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
	own_cgroup_take(&g, c.pid);
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
	};

	if (geteuid() != 0) {
		print_message("needs root: skipped\n");
		return 0;
	}
	return cmocka_run_group_tests(tests, block_sigchld, clean_up);
}
