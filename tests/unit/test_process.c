/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs those four before it. */
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/process.h"
#include "tests/unit/own_cgroup.h"

struct child {
	struct process process;
	struct process_exit ended;
	int calls;
};

static void exited(struct process *p, const struct process_exit *ended)
{
	struct child *c = (struct child *)((char *)p - offsetof(struct child, process));

	assert_int_equal(p->pid, 0); /* "no process" again by then */
	c->ended = *ended;
	c->calls++;
}

static pid_t spawn(int *ret_pidfd, int code)
{
	pid_t pid = process_fork(-1, ret_pidfd);

	if (pid == 0) {
		if (code >= 0)
			_exit(code);
		for (;;)
			(void)pause();
	}
	assert_true(pid > 0);
	return pid;
}

static void start(struct child *c, int code)
{
	int pidfd;
	pid_t pid = spawn(&pidfd, code);

	*c = (struct child){.process = {.exited = exited}};
	assert_int_equal(process_watch(&c->process, pid, pidfd), 0);
}

static bool was_called(void *userdata)
{
	return ((struct child *)userdata)->calls > 0;
}

static int set_up(void **state)
{
	(void)state;
	return loop_init();
}

static void test_exit_code_and_signal(void **state)
{
	struct child c;
	char text[64];

	(void)state;
	start(&c, 7);
	assert_true(run_until(was_called, &c));
	assert_true(c.ended.known && !c.ended.signal && c.ended.status == 7);
	assert_false(process_exit_clean(&c.ended));
	process_exit_describe(&c.ended, text, sizeof(text));
	assert_string_equal(text, "exited with code 7");

	start(&c, -1);
	assert_int_equal(process_signal(&c.process, SIGKILL), 0);
	assert_true(run_until(was_called, &c));
	assert_true(c.ended.known && c.ended.signal && c.ended.status == SIGKILL);
	process_exit_describe(&c.ended, text, sizeof(text));
	assert_string_equal(text, "was killed by SIGKILL");
	assert_int_equal(c.calls, 1);
	assert_int_equal(process_signal(&c.process, SIGKILL), -ESRCH);

	start(&c, 0);
	assert_true(run_until(was_called, &c));
	assert_true(process_exit_clean(&c.ended));
	process_exit_describe(&(struct process_exit){.known = true, .signal = true, .status = 63},
		text, sizeof(text));
	assert_non_null(strstr(text, "63"));
	process_exit_describe(&(struct process_exit){0}, text, sizeof(text));
	assert_string_equal(text, "ended");
}

/* A second process in the place of the first would turn the list into a ring, and the next search
 * would never end. */
static void test_watching_twice_is_refused(void **state)
{
	struct child c;
	int pidfd;

	(void)state;
	start(&c, -1);
	pid_t other = spawn(&pidfd, -1);
	assert_int_equal(process_watch(&c.process, other, pidfd), -EBUSY);
	assert_int_equal(kill(other, SIGKILL), 0);
	assert_int_equal(process_signal(&c.process, SIGKILL), 0);
	assert_true(run_until(was_called, &c));
	assert_int_equal(waitpid(other, NULL, 0), other);
}

static void test_forgotten_process_lives_on_and_is_buried(void **state)
{
	struct child c;

	(void)state;
	start(&c, -1);
	pid_t pid = c.process.pid;
	process_forget(&c.process);
	process_forget(&c.process);
	assert_int_equal(kill(pid, SIGKILL), 0);
	siginfo_t info;
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	assert_false(process_reap_all());
	assert_int_equal(kill(pid, 0), -1);
	assert_int_equal(c.calls, 0);
}

static void wait_for_zombie(pid_t pid)
{
	siginfo_t info;

	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
}

static void test_reap_all_gives_the_watched_their_status(void **state)
{
	struct child c[3];
	int pidfd;

	(void)state;
	for (int i = 0; i < 3; i++)
		start(&c[i], i);
	pid_t stranger = spawn(&pidfd, 9);
	(void)fd_close(pidfd);
	wait_for_zombie(stranger);
	for (int i = 0; i < 3; i++)
		wait_for_zombie(c[i].process.pid);
	assert_false(process_reap_all());
	for (int i = 0; i < 3; i++)
		assert_true(c[i].calls == 1 && c[i].ended.status == i);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

/* However many have ended, one call takes a bounded number of them, and says that there are more.
 */
static void test_reaping_is_bounded(void **state)
{
	int pidfd, rounds = 1;

	(void)state;
	for (int i = 0; i < 600; i++) {
		pid_t pid = spawn(&pidfd, 0);
		(void)fd_close(pidfd);
		wait_for_zombie(pid);
	}
	while (process_reap_all())
		rounds++;
	assert_in_range(rounds, 3, 10);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static void forget_other(struct process *p, const struct process_exit *ended)
{
	struct child *c = (struct child *)((char *)p - offsetof(struct child, process));

	(void)ended;
	c->calls++;
	process_forget(&c[1].process);
}

static void test_call_may_forget_another_that_has_ended(void **state)
{
	struct child c[2];

	(void)state;
	start(&c[1], 0);
	start(&c[0], 0);
	c[0].process.exited = forget_other;
	wait_for_zombie(c[0].process.pid);
	wait_for_zombie(c[1].process.pid);
	while (process_reap_all())
		;
	assert_int_equal(c[0].calls, 1);
	assert_true(c[1].calls <= 1);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static void test_nobody(void **state)
{
	struct child c = {.process = {.exited = exited}};

	(void)state;
	assert_int_equal(process_watch(&c.process, 0x7fffff00, -1), -ESRCH);
	assert_int_equal(c.process.pid, 0);
	assert_int_equal(process_signal(&c.process, SIGTERM), -ESRCH);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_exit_code_and_signal, set_up),
		cmocka_unit_test_setup(test_watching_twice_is_refused, set_up),
		cmocka_unit_test_setup(test_forgotten_process_lives_on_and_is_buried, set_up),
		cmocka_unit_test_setup(test_reap_all_gives_the_watched_their_status, set_up),
		cmocka_unit_test_setup(test_reaping_is_bounded, set_up),
		cmocka_unit_test_setup(test_call_may_forget_another_that_has_ended, set_up),
		cmocka_unit_test_setup(test_nobody, set_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
