/* SPDX-License-Identifier: MIT */
/* Who holds old roots of namespaces is looked for while more of them come. Needs root. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs those four before it. */
#include <cmocka.h>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/loop.h"
#include "kernel/mounts.h"
#include "kernel/process.h"
#include "tests/unit/own_cgroup.h"
#include "upgrade/strays.h"

static struct own_cgroup tree;

static int set_up(void **state)
{
	(void)state;
	if (loop_init() < 0 || !own_cgroup_make(&tree))
		return -1;
	strays_init(tree.fd);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	return own_cgroup_end(&tree) ? 0 : -1;
}

/* A process of the tree that stands in that directory. */
static void hold(const char *path)
{
	int pidfd;
	pid_t pid = process_fork(tree.fd, &pidfd);

	if (pid == 0) {
		if (chdir(path) == 0)
			(void)pause();
		_exit(1);
	}
	assert_true(pid > 0);
	(void)close(pidfd);
}

static void add(struct namespaces *n, const char *path)
{
	struct namespace *ns = &n->list[0];

	ns->pivot.old_root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_true(ns->pivot.old_root >= 0);
	assert_int_equal(mount_id_of_fd(ns->pivot.old_root, &ns->pivot.old_id), 0);
	strays_add(n, 1);
}

static void run_for(uint64_t usec)
{
	struct loop_timer timer = {.expired = wake};

	for (uint64_t end = deadline_in(usec); clock_usec() < end;) {
		timer_set(&timer, deadline_in(20 * USEC_PER_MSEC));
		(void)loop_run_once();
	}
	timer_cancel(&timer);
}

static bool none_is_left(void *userdata)
{
	return strays_roots(userdata, NULL, NULL) == 0;
}

static void test_what_comes_while_it_looks(void **state)
{
	struct namespace ns = {.id = 1, .fate = NAMESPACE_SWAPPED, .copy = -1, .fd = -1};
	struct namespaces n = {.list = &ns, .count = 1};

	(void)state;
	hold("/proc");
	hold("/sys");
	add(&n, "/proc");
	(void)usleep(1100 * 1000);
	(void)loop_run_once(); /* the timer: a child looks, and nobody reads what it finds */
	add(&n, "/sys");
	(void)usleep(1100 * 1000);
	run_for(2 * USEC_PER_SEC);
	assert_int_equal(strays_roots(&n, NULL, NULL), 2);
	/* And once nobody is there any more, both go. */
	assert_int_equal(cgroup_kill(tree.fd), 0);
	add(&n, "/dev");
	assert_true(run_until(none_is_left, &n));
}

int main(void)
{
	if (geteuid() != 0) {
		print_message("skipped: needs root\n");
		return 0;
	}
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_what_comes_while_it_looks, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
