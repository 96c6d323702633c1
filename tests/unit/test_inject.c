/* SPDX-License-Identifier: MIT */
/* Seize, run, release; and what is refused. */
#include "tests/unit/inject_child.h"

#include <pthread.h>
#include <sched.h>
#include <sys/ptrace.h>

static void test_runs_syscalls(void **state)
{
	struct child c = sleeper();
	struct inject_target *t = seize_and_stop(c.pid);

	(void)state;
	assert_int_equal(inject_tid(t), c.pid);
	assert_int_equal(run_in(t, SYS_getpid, 0, 0, 0), c.pid);
	assert_int_equal(run_in(t, SYS_getppid, 0, 0, 0), getpid());
	assert_int_equal(run_in(t, SYS_fchdir, (uint64_t)-1, 0, 0), -EBADF);
	assert_int_equal(run_in(t, -1, 0, 0, 0), -ENOSYS);
	release(t);
	wait_asleep_in(c.pid, CALL_OF_PAUSE);
	child_end(&c);
	assert_int_equal(inject_release(NULL, 0, NULL), 0);
}

static void trace_another(struct page *p)
{
	if (ptrace(PTRACE_SEIZE, p->id, NULL, NULL) == 0)
		p->ready = 1;
	for (;;)
		(void)pause();
}

static void test_traced_target_is_refused(void **state)
{
	struct child c = sleeper();
	struct page *p = page_new();
	struct inject_target *t = NULL;
	struct error e;
	char number[16];

	(void)state;
	assert_int_equal(inject_check(c.pid, &e), 0);
	p->id = c.pid;
	struct child tracer = child_start(p, trace_another);
	wait_until(p->ready);
	(void)snprintf(number, sizeof(number), "process %d", tracer.pid);
	assert_int_equal(inject_seize(&t, c.pid, &e), -EPERM);
	assert_non_null(strstr(e.text, number));
	assert_int_equal(inject_check(c.pid, &e), -EPERM);
	assert_non_null(strstr(e.text, number));
	child_end(&tracer);
	child_end(&c);
}

static void return_at_once(struct page *p)
{
	(void)p;
}

static void test_dead_target_is_refused(void **state)
{
	struct child c = child_new(return_at_once);
	struct inject_target *t = NULL;
	struct error e;
	pid_t pid = c.pid;

	(void)state;
	wait_until(state_of(pid) == 'Z');
	assert_int_equal(inject_seize(&t, pid, &e), -ESRCH);
	assert_int_equal(inject_check(pid, &e), -ESRCH);
	child_end(&c);
	assert_int_equal(inject_seize(&t, pid, &e), -ESRCH);
	assert_int_equal(inject_check(pid, &e), -ESRCH);
	assert_null(t);
}

static void test_kernel_thread_is_refused(void **state)
{
	struct inject_target *t = NULL;
	struct error e;
	char comm[64];

	(void)state;
	/* In a PID namespace of our own it is not to be seen. */
	if (file_read(AT_FDCWD, "/proc/2/comm", comm, sizeof(comm)) < 0 ||
		strcmp(comm, "kthreadd\n") != 0)
		skip();
	assert_int_equal(inject_check(2, &e), -EPERM);
	assert_int_equal(inject_seize(&t, 2, &e), -EPERM);
	assert_non_null(strstr(e.text, "kernel thread"));
}

static void find_vdso(uintptr_t *start, size_t *size)
{
	char line[512];
	unsigned long from, to;
	FILE *f = fopen("/proc/self/maps", "re");

	while (f && fgets(line, sizeof(line), f))
		if (strstr(line, "[vdso]") && sscanf(line, "%lx-%lx", &from, &to) == 2) {
			*start = from;
			*size = to - from;
		}
	(void)fclose(f);
}

static void move_vdso(struct page *p)
{
	uintptr_t start = 0;
	size_t size = 0;

	find_vdso(&start, &size);
	void *room = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mremap((void *)start, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, room) == MAP_FAILED)
		return;
	sleep_for_ever(p);
}

static void drop_vdso(struct page *p)
{
	uintptr_t start = 0;
	size_t size = 0;

	find_vdso(&start, &size);
	(void)munmap((void *)start, size);
	sleep_for_ever(p);
}

static void test_vdso_elsewhere_or_gone(void **state)
{
	struct child c = child_new(move_vdso);
	struct error e;

	(void)state;
	wait_asleep_in(c.pid, CALL_OF_PAUSE);
	struct inject_target *t = seize_and_stop(c.pid);
	assert_int_equal(run_in(t, SYS_getpid, 0, 0, 0), c.pid);
	release(t);
	child_end(&c);

	c = child_new(drop_vdso);
	wait_asleep_in(c.pid, CALL_OF_PAUSE);
	assert_int_equal(inject_check(c.pid, &e), -ENOEXEC);
	t = seize(c.pid);
	assert_int_equal(inject_wait_stopped(t, deadline_in(PATIENCE), &e), -ENOEXEC);
	release(t);
	wait_asleep_in(c.pid, CALL_OF_PAUSE);
	child_end(&c);
}

#define SET_SYSCALL_USER_DISPATCH 59

static volatile char selector; /* 1: every system call of the thread ends in SIGSYS, prctl(2) */

static void allow_syscalls(int signal)
{
	selector = 0;
	count_signal(signal);
}

static void dispatch_syscalls(struct page *p)
{
	struct sigaction action = {.sa_handler = allow_syscalls};

	handler_page = p;
	(void)sigaction(SIGSYS, &action, NULL);
	if (prctl(SET_SYSCALL_USER_DISPATCH, 1, 0, 0, &selector) < 0)
		return;
	selector = 1;
	p->ready = 1;
	while (!p->go)
		p->counter++;
	(void)syscall(SYS_getppid);
}

static void test_syscall_user_dispatch(void **state)
{
	struct child c = child_new(dispatch_syscalls);

	(void)state;
	wait_until(c.page->ready || c.page->done);
	if (c.page->done) {
		child_end(&c);
		skip();
	}
	struct inject_target *t = seize_and_stop(c.pid);
	int64_t pid = run_in(t, SYS_getpid, 0, 0, 0);
	release(t);
	assert_int_equal(pid, c.pid);
	/* And then it is on again. */
	assert_int_equal(c.page->handled, 0);
	c.page->go = 1;
	assert_int_equal(child_wait(&c), 0);
	assert_int_equal(c.page->handled, 1);
	child_end(&c);
}

static void test_sigchld_must_be_told(void **state)
{
	struct child c = sleeper();
	struct inject_target *t = NULL;
	struct sigaction action = {.sa_handler = SIG_DFL, .sa_flags = SA_NOCLDSTOP};
	struct error e;
	sigset_t set;

	(void)state;
	assert_int_equal(sigaction(SIGCHLD, &action, NULL), 0);
	assert_int_equal(inject_seize(&t, c.pid, &e), -EINVAL);
	action.sa_flags = 0;
	assert_int_equal(sigaction(SIGCHLD, &action, NULL), 0);
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGCHLD);
	assert_int_equal(sigprocmask(SIG_UNBLOCK, &set, NULL), 0);
	assert_int_equal(inject_seize(&t, c.pid, &e), -EINVAL);
	assert_int_equal(sigprocmask(SIG_BLOCK, &set, NULL), 0);
	assert_null(t);
	child_end(&c);
}

static void *thread_counts(void *argument)
{
	struct page *p = argument;
	int index = p->id++;

	p->tids[index] = (int)syscall(SYS_gettid);
	while (!p->go)
		p->counter++;
	return NULL;
}

/* Far more seized at once than are waited for one by one: their SIGCHLDs merge. */
static void count_in_threads(struct page *p)
{
	pthread_t threads[16];

	for (int i = 0; i < 16; i++) {
		(void)pthread_create(&threads[i], NULL, thread_counts, p);
		while (p->tids[i] == 0)
			(void)sched_yield();
	}
	p->ready = 1;
	for (int i = 0; i < 16; i++)
		(void)pthread_join(threads[i], NULL);
}

static void test_all_threads_stand_still(void **state)
{
	struct child c = child_new(count_in_threads);
	struct inject_target *t[17];
	struct error e;

	(void)state;
	wait_until(c.page->ready);
	for (int i = 0; i < 17; i++)
		t[i] = seize(i < 16 ? c.page->tids[i] : c.pid);
	for (int i = 0; i < 17; i++)
		assert_ok(inject_wait_stopped(t[i], deadline_in(PATIENCE), &e), e);
	long counter = c.page->counter;
	for (int i = 0; i < 17; i++)
		assert_int_equal(run_in(t[i], SYS_gettid, 0, 0, 0), inject_tid(t[i]));
	assert_int_equal(c.page->counter, counter);
	for (int i = 0; i < 17; i++)
		release(t[i]);
	wait_until(c.page->counter > counter);
	c.page->go = 1;
	assert_int_equal(child_wait(&c), 0);
	child_end(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_runs_syscalls),
		cmocka_unit_test(test_traced_target_is_refused),
		cmocka_unit_test(test_dead_target_is_refused),
		cmocka_unit_test(test_kernel_thread_is_refused),
		cmocka_unit_test(test_vdso_elsewhere_or_gone),
		cmocka_unit_test(test_syscall_user_dispatch),
		cmocka_unit_test(test_sigchld_must_be_told),
		cmocka_unit_test(test_all_threads_stand_still),
	};

	if (geteuid() != 0) {
		print_message("needs root: skipped\n");
		return 0;
	}
	return cmocka_run_group_tests(tests, block_sigchld, clean_up);
}
