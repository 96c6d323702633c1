/* SPDX-License-Identifier: MIT */
/* Directories passed into processes: cwd, root, descriptors, by any of their threads. */
#include "tests/unit/inject_directories.h"

#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>

static void test_cwd(void **state)
{
	(void)state;
	move_cwd_of(sleep_in_old_dir);
}

static void test_nothing_to_do(void **state)
{
	struct child c = child_new(sleep_in_old_dir);

	(void)state;
	wait_asleep_in(c.pid, CALL_OF_PAUSE);
	assert_int_equal(apply(c.pid, NULL, 0), 0);
	child_end(&c);
}

static int fd_flags(pid_t pid, int fd)
{
	char path[64], text[1024];

	(void)snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", pid, fd);
	assert_true(file_read(AT_FDCWD, path, text, sizeof(text)) > 0);
	const char *line = strstr(text, "flags:\t");
	assert_non_null(line);
	return (int)strtol(line + 7, NULL, 8);
}

static void test_fd_keeps_its_number_and_flags(void **state)
{
	struct child c = child_new(hold_directories);
	struct traces before;
	char link[32];

	(void)state;
	wait_asleep_in(c.pid, CALL_OF_PAUSE);
	look(c.pid, &before);
	struct inject_change changes[] = {
		{.action = INJECT_FD, .fd = new_dir, .target_fd = c.page->fds[0]},
		{.action = INJECT_FD, .fd = new_dir, .target_fd = c.page->fds[1], .cloexec = true},
		{.action = INJECT_CWD, .fd = new_dir},
	};
	assert_int_equal(apply(c.pid, changes, ARRAY_SIZE(changes)), 0);
	for (int i = 0; i < 2; i++) {
		(void)snprintf(link, sizeof(link), "fd/%d", c.page->fds[i]);
		assert_true(same_file(c.pid, link, new_dir));
		assert_int_equal(fd_flags(c.pid, c.page->fds[i]) & O_CLOEXEC, i ? O_CLOEXEC : 0);
	}
	assert_true(same_file(c.pid, "cwd", new_dir));
	assert_no_traces(c.pid, &before);
	child_end(&c);
}

#define MANY 450 /* three messages */

static void hold_many(struct page *p)
{
	struct rlimit limit;

	(void)getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = 1000;
	if (fchdir(old_dir) < 0 || setrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	/* Every second number, so that what is passed in lies scattered between. */
	for (int i = 0; i < MANY; i++)
		if (fcntl(old_dir, F_DUPFD, 100 + 2 * i) != 100 + 2 * i)
			return;
	/* And the limit lowered below what is open, which dup3(2) would mind. */
	limit.rlim_cur = 300;
	if (setrlimit(RLIMIT_NOFILE, &limit) == 0)
		sleep_for_ever(p);
}

static void test_many_fds(void **state)
{
	struct child c = child_new(hold_many);
	struct inject_change changes[MANY];
	struct traces before;
	char link[32];

	(void)state;
	wait_asleep_in(c.pid, CALL_OF_PAUSE);
	look(c.pid, &before);
	for (int i = 0; i < MANY; i++)
		changes[i] = (struct inject_change){
			.action = INJECT_FD, .fd = new_dir, .target_fd = 100 + 2 * i};
	uint64_t start = clock_usec();
	assert_int_equal(apply(c.pid, changes, MANY), 0);
	print_message(
		"%d descriptors: %llu us\n", MANY, (unsigned long long)(clock_usec() - start));
	for (int i = 0; i < MANY; i++) {
		(void)snprintf(link, sizeof(link), "fd/%d", 100 + 2 * i);
		assert_int_equal(changes[i].result, 0);
		assert_true(same_file(c.pid, link, new_dir));
	}
	assert_no_traces(c.pid, &before);
	child_end(&c);
}

static void test_root(void **state)
{
	struct child c = child_new(sleep_in_old_dir);
	struct inject_change changes[] = {
		{.action = INJECT_ROOT, .fd = new_dir},
		{.action = INJECT_CWD, .fd = new_dir},
		{.action = INJECT_CWD, .fd = old_dir},
		{.action = INJECT_ROOT, .fd = new_dir},
	};
	struct traces before;

	(void)state;
	wait_asleep_in(c.pid, CALL_OF_PAUSE);
	look(c.pid, &before);
	assert_int_equal(apply(c.pid, changes, 1), 0);
	assert_true(same_file(c.pid, "root", new_dir));
	assert_true(same_file(c.pid, "cwd", old_dir));
	assert_int_equal(apply(c.pid, changes, ARRAY_SIZE(changes)), 0);
	assert_true(same_file(c.pid, "root", new_dir));
	assert_true(same_file(c.pid, "cwd", old_dir));
	assert_no_traces(c.pid, &before);
	child_end(&c);
}

static void test_closed_descriptor(void **state)
{
	struct child c = child_new(hold_directories);
	struct traces before;
	int closed = dup(new_dir);

	(void)state;
	(void)close(closed);
	wait_asleep_in(c.pid, CALL_OF_PAUSE);
	look(c.pid, &before);
	struct inject_change changes[] = {
		{.action = INJECT_CWD, .fd = new_dir},
		{.action = INJECT_FD, .fd = closed, .target_fd = c.page->fds[0]},
		{.action = INJECT_FD, .fd = new_dir, .target_fd = c.page->fds[1]},
	};
	assert_int_equal(apply(c.pid, changes, ARRAY_SIZE(changes)), -EBADF);
	assert_int_equal(changes[0].result, 0);
	assert_int_equal(changes[1].result, -EBADF);
	assert_int_equal(changes[2].result, -ECANCELED);
	assert_true(same_file(c.pid, "cwd", new_dir));
	assert_no_traces(c.pid, &before);

	/* The other way round: a number that the target does not have open must not come to life.
	 */
	for (int unused = 40; unused >= 0; unused--) {
		struct inject_change change = {
			.action = INJECT_FD, .fd = new_dir, .target_fd = unused};
		char link[64];

		(void)snprintf(link, sizeof(link), "/proc/%d/fd/%d", c.pid, unused);
		if (faccessat(AT_FDCWD, link, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
			continue;
		assert_int_equal(apply(c.pid, &change, 1), -EBADF);
		assert_int_equal(change.result, -EBADF);
	}
	assert_no_traces(c.pid, &before);
	child_end(&c);
}

static void *keep_own_table(void *argument)
{
	struct page *p = argument;

	if (unshare(CLONE_FILES | CLONE_FS) == 0 && fchdir(old_dir) == 0)
		p->fds[0] = openat(AT_FDCWD, ".", O_RDONLY | O_DIRECTORY);
	p->tids[0] = (int)syscall(SYS_gettid);
	for (;;)
		(void)pause();
	return NULL;
}

static void *share_table(void *argument)
{
	struct page *p = argument;

	p->tids[1] = (int)syscall(SYS_gettid);
	for (;;)
		(void)pause();
	return NULL;
}

static void run_threads(struct page *p)
{
	pthread_t thread;

	if (fchdir(old_dir) < 0)
		return;
	(void)pthread_create(&thread, NULL, keep_own_table, p);
	(void)pthread_create(&thread, NULL, share_table, p);
	sleep_for_ever(p);
}

/* A thread that is not the first of its process, once with what is everybody's, once with its own.
 */
static void test_threads(void **state)
{
	struct child c = child_new(run_threads);
	char link[32];

	(void)state;
	wait_until(c.page->tids[0] && c.page->tids[1]);
	wait_asleep_in(c.page->tids[0], CALL_OF_PAUSE);
	wait_asleep_in(c.page->tids[1], CALL_OF_PAUSE);
	struct inject_change changes[] = {
		{.action = INJECT_FD, .fd = new_dir, .target_fd = c.page->fds[0]},
		{.action = INJECT_CWD, .fd = new_dir},
	};
	/*
	 * Its own table can be reached since Linux 6.9; before, that must be said and nothing be
	 * touched.
	 */
	int r = apply(c.page->tids[0], changes, ARRAY_SIZE(changes));
	if (r == 0) {
		(void)snprintf(link, sizeof(link), "fd/%d", c.page->fds[0]);
		assert_true(same_file(c.page->tids[0], link, new_dir));
		assert_true(same_file(c.page->tids[0], "cwd", new_dir));
	}
	assert_true(r == 0 || changes[0].result == -ECANCELED);
	assert_true(same_file(c.pid, "cwd", old_dir));
	assert_int_equal(apply(c.page->tids[1], &changes[1], 1), 0);
	assert_true(same_file(c.pid, "cwd", new_dir));
	child_end(&c);
}

/* How long it takes here at least, with a change that changes nothing. */
static uint64_t apply_usec(pid_t pid)
{
	struct inject_change same = {.action = INJECT_CWD, .fd = old_dir};
	uint64_t least = UINT64_MAX;

	for (unsigned i = 0; i < 10; i++) {
		uint64_t begin = clock_usec();
		assert_int_equal(apply(pid, &same, 1), 0);
		uint64_t took = clock_usec() - begin;
		least = took < least ? took : least;
	}
	return least;
}

#define N_MOMENTS 64

/* Each time it has a little longer, and is asked whether anything of it is left. Returns how often
 * it was late. */
static unsigned come_too_late(struct child *c)
{
	struct traces before;
	struct error e;
	unsigned n_late = 0;

	look(c->pid, &before);
	uint64_t step = apply_usec(c->pid) / 32 + 1;
	for (uint64_t usec = 0; usec < N_MOMENTS * step; usec += step) {
		struct inject_target *t;
		struct inject_change changes[] = {
			{.action = INJECT_FD, .fd = new_dir, .target_fd = c->page->fds[0]},
			{.action = INJECT_FD,
				.fd = new_dir,
				.target_fd = c->page->fds[1],
				.cloexec = true},
			{.action = INJECT_ROOT, .fd = new_dir},
		};
		assert_ok(inject_seize(&t, c->pid, &e), e);
		assert_ok(inject_wait_stopped(t, deadline_in(PATIENCE), &e), e);
		int r = inject_apply(t, changes, ARRAY_SIZE(changes), deadline_in(usec), &e);
		assert_true(r == 0 || r == -ETIMEDOUT);
		if (r < 0) {
			assert_ok(inject_recover(t, deadline_in(PATIENCE), &e), e);
			inject_clean_up(t, deadline_in(PATIENCE));
			n_late++;
		}
		assert_ok(inject_release(t, deadline_in(PATIENCE), &e), e);
		struct traces after;
		look(c->pid, &after);
		assert_string_equal(after.limits, before.limits);
		assert_string_equal(after.fds, before.fds);
		assert_true(same_file(c->pid, "cwd", old_dir));
	}
	return n_late;
}

/* With another processor than ours it may be late, where the two of us run at the same time. */
static void test_too_slow_at_any_moment(void **state)
{
	struct child c = child_new(hold_directories);

	(void)state;
	wait_asleep_in(c.pid, CALL_OF_PAUSE);
	(void)come_too_late(&c);
	child_end(&c);
}

/* With our processor, and behind us, it has not begun when we look for the first time. */
static void test_too_slow_for_certain(void **state)
{
	struct sched_param first = {.sched_priority = 1}, usual = {0};
	cpu_set_t all, one;

	(void)state;
	assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
	int cpu = sched_getcpu();
	assert_true(cpu >= 0);
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
	struct child c = child_new(hold_directories);
	wait_asleep_in(c.pid, CALL_OF_PAUSE);
	bool is_first = sched_setscheduler(0, SCHED_FIFO, &first) == 0;
	unsigned n_late = come_too_late(&c);
	assert_int_equal(sched_setscheduler(0, SCHED_OTHER, &usual), 0);
	assert_int_equal(sched_setaffinity(0, sizeof(all), &all), 0);
	child_end(&c);
	if (!is_first)
		skip();
	assert_true(n_late > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cwd),
		cmocka_unit_test(test_nothing_to_do),
		cmocka_unit_test(test_fd_keeps_its_number_and_flags),
		cmocka_unit_test(test_many_fds),
		cmocka_unit_test(test_root),
		cmocka_unit_test(test_too_slow_at_any_moment),
		cmocka_unit_test(test_too_slow_for_certain),
		cmocka_unit_test(test_closed_descriptor),
		cmocka_unit_test(test_threads),
	};

	if (geteuid() != 0) {
		print_message("needs root: skipped\n");
		return 0;
	}
	return cmocka_run_group_tests(tests, make_directories, remove_directories);
}
