/* SPDX-License-Identifier: MIT */
/* Directories passed into processes that are busy, frozen or killed meanwhile; and how fast. */
#include "tests/unit/inject_directories.h"

#include <sys/time.h>

/* The order of an upgrade: everything is seized while frozen, and changed once thawed. */
static void test_frozen_then_thawed(void **state)
{
	struct inject_change change = {.action = INJECT_CWD, .fd = new_dir};
	struct inject_target *targets[8];
	struct child children[8];
	struct own_cgroup g;
	struct error e;

	(void)state;
	if (!own_cgroup_make(&g)) {
		if (geteuid() == 0)
			fail_msg("no cgroup v2 to make a cgroup of our own in");
		skip();
	}
	for (int i = 0; i < 8; i++) {
		children[i] = child_new(sleep_in_old_dir);
		wait_asleep_in(children[i].pid, CALL_OF_PAUSE);
		own_cgroup_take(&g, children[i].pid);
	}
	own_cgroup_set_frozen(&g, true);
	for (int i = 0; i < 8; i++)
		targets[i] = seize(children[i].pid);
	own_cgroup_set_frozen(&g, false);
	for (int i = 0; i < 8; i++) {
		assert_ok(inject_wait_stopped(targets[i], deadline_in(PATIENCE), &e), e);
		assert_ok(inject_apply(targets[i], &change, 1, deadline_in(PATIENCE), &e), e);
		release(targets[i]);
		assert_true(same_file(children[i].pid, "cwd", new_dir));
		wait_asleep_in(children[i].pid, CALL_OF_PAUSE);
		child_end(&children[i]);
	}
	own_cgroup_remove(&g);
}

/* Killed somewhere on the way: an error, and in no case a hang. */
static void test_killed_on_the_way(void **state)
{
	(void)state;
	for (int i = 0; i < 20; i++) {
		struct child c = child_new(sleep_in_old_dir);
		struct inject_change change = {.action = INJECT_CWD, .fd = new_dir};
		struct error e;

		wait_asleep_in(c.pid, CALL_OF_PAUSE);
		struct inject_target *t = seize_and_stop(c.pid);
		pid_t killer = fork();
		if (killer == 0) {
			(void)nanosleep(&(struct timespec){.tv_nsec = i * 10000}, NULL);
			(void)kill(c.pid, SIGKILL);
			_exit(0);
		}
		int r = inject_apply(t, &change, 1, deadline_in(PATIENCE), &e);
		assert_true(r == 0 || r == -ESRCH);
		r = inject_release(t, deadline_in(PATIENCE), &e);
		assert_true(r == 0 || r == -ESRCH);
		wait_until(waitpid(killer, NULL, WNOHANG) == killer);
		assert_int_equal(child_wait(&c), SIGKILL);
		child_end(&c);
	}
}

static struct page *storm_page;

static void count_alarm(int signal)
{
	(void)signal;
	storm_page->handled++;
}

/* Whether a failed call is one that a handler may have interrupted. */
static bool excused(struct page *p, int handled)
{
	return errno == EINTR && p->handled != handled;
}

static void storm_round(struct page *p, unsigned char value)
{
	unsigned char got = 0;
	struct timespec nap = {.tv_nsec = 1000};
	int handled = p->handled;
	ssize_t n;

	while ((n = write(p->fds[1], &value, 1)) != 1)
		if (!excused(p, handled))
			p->failures++;
	handled = p->handled;
	while ((n = read(p->fds[0], &got, 1)) != 1)
		if (!excused(p, handled))
			p->failures++;
	handled = p->handled;
	if (nanosleep(&nap, NULL) < 0 && !excused(p, handled))
		p->failures++;
	if (got != value || getpid() != p->id)
		p->failures++;
	int fd = openat(p->fds[2], ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || close(fd) < 0)
		p->failures++;
}

static void storm(struct page *p)
{
	struct sigaction action = {.sa_handler = count_alarm};
	struct itimerval often = {.it_interval = {.tv_usec = 300}, .it_value = {.tv_usec = 300}};

	storm_page = p;
	p->id = getpid();
	(void)sigaction(SIGALRM, &action, NULL);
	p->fds[2] = fcntl(old_dir, F_DUPFD, 50);
	if (fchdir(old_dir) < 0 || pipe(p->fds) < 0 || setitimer(ITIMER_REAL, &often, NULL) < 0)
		return;
	p->ready = 1;
	while (!p->go) {
		storm_round(p, (unsigned char)p->counter);
		p->counter++;
	}
}

#define STORM_CHILDREN 4
#define STORM_ROUNDS 200

static void test_storm(void **state)
{
	struct child children[STORM_CHILDREN];
	uint64_t total = 0, worst = 0;

	(void)state;
	for (int i = 0; i < STORM_CHILDREN; i++)
		children[i] = child_new(storm);
	for (int i = 0; i < STORM_CHILDREN; i++)
		wait_until(children[i].page->ready);
	for (int round = 0; round < STORM_ROUNDS; round++) {
		struct child *c = &children[round % STORM_CHILDREN];
		int dir = round / STORM_CHILDREN % 2 ? old_dir : new_dir;
		struct inject_change changes[] = {
			{.action = INJECT_CWD, .fd = dir},
			{.action = INJECT_FD,
				.fd = dir,
				.target_fd = c->page->fds[2],
				.cloexec = true},
		};
		uint64_t start = clock_usec();

		assert_int_equal(apply(c->pid, changes, ARRAY_SIZE(changes)), 0);
		uint64_t took = clock_usec() - start;
		total += took;
		worst = took > worst ? took : worst;
		assert_true(same_file(c->pid, "cwd", dir));
		long counter = c->page->counter;
		wait_until(c->page->counter > counter + 2);
		assert_int_equal(c->page->failures, 0);
	}
	print_message("storm: %llu us each, the worst %llu us\n",
		(unsigned long long)(total / STORM_ROUNDS), (unsigned long long)worst);
	for (int i = 0; i < STORM_CHILDREN; i++) {
		children[i].page->go = 1;
		assert_int_equal(child_wait(&children[i]), 0);
		assert_int_equal(children[i].page->failures, 0);
		child_end(&children[i]);
	}
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* One process, one thread, one cwd: what an upgrade does most. */
static void test_time(void **state)
{
	struct child c = child_new(sleep_in_old_dir);
	uint64_t took[101];

	(void)state;
	wait_asleep_in(c.pid, CALL_OF_PAUSE);
	for (size_t i = 0; i < ARRAY_SIZE(took); i++) {
		struct inject_change change = {
			.action = INJECT_CWD, .fd = i % 2 ? old_dir : new_dir};
		uint64_t start = clock_usec();

		assert_int_equal(apply(c.pid, &change, 1), 0);
		took[i] = clock_usec() - start;
	}
	qsort(took, ARRAY_SIZE(took), sizeof(took[0]), compare);
	print_message("one cwd, median: %llu us\n", (unsigned long long)took[ARRAY_SIZE(took) / 2]);
	/* Polling by sleeps would make it ten times that; a busy machine does not. An emulated one
	 * tells nothing about time. */
	assert_true(took[ARRAY_SIZE(took) / 2] < 5000 || slowness() > 1);
	child_end(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_frozen_then_thawed),
		cmocka_unit_test(test_killed_on_the_way),
		cmocka_unit_test(test_storm),
		cmocka_unit_test(test_time),
	};

	if (geteuid() != 0) {
		print_message("needs root: skipped\n");
		return 0;
	}
	return cmocka_run_group_tests(tests, make_directories, remove_directories);
}
