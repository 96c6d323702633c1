/* SPDX-License-Identifier: MIT */
/*
 * What becomes of a task that sleeps in a system call. Each of these calls is disturbed in four
 * ways, and must end as if nothing had happened: with its natural result, no earlier and no later.
 * Some calls end with EINTR whenever a task is stopped and goes on, by SIGSTOP or the cgroup
 * freezer alike; that they do is checked too, so that what injection adds to it is known to be
 * nothing, and what it spares to be real.
 */
#include "tests/unit/interrupted_calls.h"

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
			own_cgroup_take(g, children[i].pid);
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
