/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs those four before it. */
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "kernel/process.h"
#include "tests/unit/own_cgroup.h"

static struct own_cgroup own;

static int set_up(void **state)
{
	(void)state;
	return own_cgroup_make(&own) ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
	return own_cgroup_end(&own) ? 0 : -1;
}

static pid_t sleeper(int cgroup)
{
	int pidfd;
	pid_t pid = process_fork(cgroup, &pidfd);

	if (pid == 0)
		for (;;)
			(void)pause();
	assert_true(pid > 0);
	(void)fd_close(pidfd);
	return pid;
}

static void bury(pid_t pid, int expected_signal)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == expected_signal);
}

static void test_born_in_it(void **state)
{
	char path[512], expected[600];
	int a = cgroup_make(own.fd, "a");

	(void)state;
	assert_true(a >= 0);
	int same = cgroup_make(own.fd, "a"); /* is there already: fine */
	assert_true(same >= 0);
	(void)fd_close(same);
	pid_t pid = sleeper(a);
	assert_int_equal(cgroup_of_pid(pid, path, sizeof(path)), 0);
	(void)snprintf(expected, sizeof(expected), "%s/a", own.path);
	assert_string_equal(path, expected);
	assert_int_equal(cgroup_of_pid(pid, path, 5), -ENAMETOOLONG);
	assert_int_equal(cgroup_remove(own.fd, "a"), -EBUSY);
	assert_int_equal(cgroup_kill(a), 0);
	bury(pid, SIGKILL);
	(void)fd_close(a);
	assert_int_equal(cgroup_remove(own.fd, "a"), 0);
	assert_int_equal(cgroup_remove(own.fd, "a"), 0); /* is gone already: fine */
	assert_true(cgroup_of_pid(pid, path, sizeof(path)) < 0);
}

static void test_events(void **state)
{
	bool populated, frozen;
	int events = cgroup_open_events(own.fd);

	(void)state;
	assert_int_equal(cgroup_events(events, &populated, &frozen), 0);
	assert_false(populated || frozen);
	pid_t pid = sleeper(own.fd);
	assert_int_equal(cgroup_events(events, &populated, NULL), 0);
	assert_true(populated);
	assert_int_equal(cgroup_freeze(own.fd, true), 0);
	assert_int_equal(cgroup_wait_frozen(events, true, deadline_in(5 * USEC_PER_SEC)), 0);
	assert_int_equal(cgroup_events(events, NULL, &frozen), 0);
	assert_true(frozen);
	/* Frozen or not, SIGKILL gets through. */
	assert_int_equal(cgroup_kill(own.fd), 0);
	bury(pid, SIGKILL);
	assert_int_equal(cgroup_freeze(own.fd, false), 0);
	assert_int_equal(cgroup_wait_frozen(events, false, deadline_in(5 * USEC_PER_SEC)), 0);
	assert_int_equal(
		cgroup_wait_frozen(events, true, deadline_in(20 * USEC_PER_MSEC)), -ETIMEDOUT);
	(void)fd_close(events);
}

static void test_signal_reaches_all_below(void **state)
{
	int a = cgroup_make(own.fd, "a"), b = cgroup_make(own.fd, "a/b"),
	    c = cgroup_make(own.fd, "c");
	pid_t pids[3] = {sleeper(a), sleeper(b), sleeper(c)};

	(void)state;
	assert_int_equal(cgroup_signal(a, SIGUSR1), 2);
	bury(pids[0], SIGUSR1);
	bury(pids[1], SIGUSR1);
	assert_int_equal(cgroup_signal(own.fd, SIGTERM), 1);
	bury(pids[2], SIGTERM);
	assert_int_equal(cgroup_signal(own.fd, SIGTERM), 0);
	(void)fd_close(a);
	(void)fd_close(b);
	(void)fd_close(c);
	assert_int_equal(cgroup_remove(own.fd, "a"), 0); /* with its child */
	assert_int_equal(cgroup_remove(own.fd, "c"), 0);
}

static int note(int cgroup, const char *path, void *userdata)
{
	char *text = userdata;

	assert_true(cgroup >= 0);
	(void)strcat(strcat(text, path), ";");
	return strcmp(path, "stop") == 0 ? 42 : 0;
}

static void test_walk_is_leaf_first(void **state)
{
	char text[256] = "";

	(void)state;
	(void)fd_close(cgroup_make(own.fd, "a"));
	(void)fd_close(cgroup_make(own.fd, "a/b"));
	(void)fd_close(cgroup_make(own.fd, "a/b/c"));
	assert_int_equal(cgroup_walk(own.fd, note, text), 0);
	assert_string_equal(text, "a/b/c;a/b;a;;");
	(void)fd_close(cgroup_make(own.fd, "stop"));
	text[0] = '\0';
	assert_int_equal(cgroup_walk(own.fd, note, text), 42);
	assert_null(strstr(text, ";;"));
	assert_int_equal(cgroup_remove(own.fd, "a"), 0);
	assert_int_equal(cgroup_remove(own.fd, "stop"), 0);
}

/* A service may make cgroups of its own, but not deeper than we can follow. */
static void test_depth(void **state)
{
	char path[2 * (CGROUP_DEPTH + 2)] = "d";
	char text[sizeof(path) * (CGROUP_DEPTH + 2)] = "";
	int depth = 0, fd;

	(void)state;
	assert_int_equal(cgroup_limit_depth(own.fd), 0);
	while ((fd = cgroup_make(own.fd, path)) >= 0) {
		(void)fd_close(fd);
		(void)strcat(path, "/d");
		assert_true(++depth <= CGROUP_DEPTH);
	}
	assert_int_equal(fd, -EAGAIN);
	assert_int_equal(depth, CGROUP_DEPTH);
	path[strlen(path) - 2] = '\0';
	assert_int_equal(cgroup_walk(own.fd, note, text), 0);
	assert_non_null(strstr(text, path));
	assert_int_equal(cgroup_remove(own.fd, "d"), 0);
}

static void test_pids_of_many(void **state)
{
	enum { N = 1500 }; /* more than one read of cgroup.procs */
	struct pid_array list = {0};
	pid_t *pids = calloc(N, sizeof(*pids));

	(void)state;
	assert_non_null(pids);
	for (int i = 0; i < N; i++)
		pids[i] = sleeper(own.fd);
	assert_int_equal(cgroup_pids(own.fd, "cgroup.procs", &list), 0);
	assert_int_equal(list.count, N);
	pid_array_free(&list);
	assert_int_equal(cgroup_pids(own.fd, "no-such-file", &list), -ENOENT);
	assert_int_equal(cgroup_kill(own.fd), 0);
	for (int i = 0; i < N; i++)
		bury(pids[i], SIGKILL);
	free(pids);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_born_in_it, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_events, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_signal_reaches_all_below, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_walk_is_leaf_first, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_depth, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_pids_of_many, set_up, tear_down),
	};

	if (geteuid() != 0) {
		print_message("needs root: skipped\n");
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
