/* SPDX-License-Identifier: MIT */
/* Targets that end in between, execute something else, or do not answer. */
#include "tests/unit/inject_child.h"

#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sys/ioctl.h>

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
