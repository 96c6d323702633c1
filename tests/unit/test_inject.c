/* SPDX-License-Identifier: MIT */
/* Seize, run, release: registers, signals, job control, deaths, and what is refused. */
#include "tests/unit/inject_child.h"

#include <elf.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/rseq.h>

static void sleep_for_ever(struct page *p)
{
	p->ready = 1;
	for (;;)
		(void)pause();
}

static struct child sleeper(void)
{
	struct child c = child_new(sleep_for_ever);

	wait_asleep_in(c.pid, SYS_pause);
	return c;
}

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
	wait_asleep_in(c.pid, SYS_pause);
	child_end(&c);
	assert_int_equal(inject_release(NULL, 0, NULL), 0);
}

#if defined(__x86_64__)
/*
 * A loop that keeps a value of its own in every register, in the carry flag, in the vector
 * registers and in the red zone, and looks at all of them all the time. rdi: what to count up; rsi:
 * to be set to stop. Returns the failures.
 */
int inject_test_spin(atomic_long *counter, atomic_int *stop);
__asm__(".pushsection .text\n"
	".globl inject_test_spin\n"
	"inject_test_spin:\n"
	"	push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
	"	mov $0x101, %rax; mov $0x102, %rbx; mov $0x103, %rcx; mov $0x104, %rdx\n"
	"	mov $0x105, %rbp; mov $0x108, %r8; mov $0x109, %r9; mov $0x10a, %r10\n"
	"	mov $0x10b, %r11; mov $0x10c, %r12; mov $0x10d, %r13; mov $0x10e, %r14\n"
	"	mov $0x10f, %r15\n"
	"	movq %rax, %xmm0; movq %rbx, %xmm7; movq %r15, %xmm15\n"
	"	movq $0x1111, -8(%rsp); movq $0x2222, -128(%rsp)\n"
	"1:	stc\n"
	"	nop; nop; nop; nop; nop; nop; nop; nop; nop; nop; nop; nop; nop; nop\n"
	"	jnc 9f\n"
	"	cmp $0x101, %rax; jne 9f; cmp $0x102, %rbx; jne 9f; cmp $0x103, %rcx; jne 9f\n"
	"	cmp $0x104, %rdx; jne 9f; cmp $0x105, %rbp; jne 9f; cmp $0x108, %r8; jne 9f\n"
	"	cmp $0x109, %r9; jne 9f; cmp $0x10a, %r10; jne 9f; cmp $0x10b, %r11; jne 9f\n"
	"	cmp $0x10c, %r12; jne 9f; cmp $0x10d, %r13; jne 9f; cmp $0x10e, %r14; jne 9f\n"
	"	cmp $0x10f, %r15; jne 9f\n"
	"	cmpq $0x1111, -8(%rsp); jne 9f; cmpq $0x2222, -128(%rsp); jne 9f\n"
	"	movq %xmm0, %rax; cmp $0x101, %rax; jne 9f\n"
	"	movq %xmm7, %rax; cmp $0x102, %rax; jne 9f\n"
	"	movq %xmm15, %rax; cmp $0x10f, %rax; jne 9f\n"
	"	mov $0x101, %rax\n"
	"	incq (%rdi)\n"
	"	cmpl $0, (%rsi); je 1b\n"
	"	xor %eax, %eax; jmp 8f\n"
	"9:	mov $1, %eax\n"
	"8:	pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
	"	ret\n"
	".popsection\n");

static void spin(struct page *p)
{
	p->ready = 1;
	p->failures = inject_test_spin(&p->counter, &p->go);
}

static void test_registers_survive(void **state)
{
	struct child c = child_new(spin);

	(void)state;
	for (int i = 0; i < 200; i++) {
		long before = c.page->counter;

		wait_until(c.page->counter != before);
		struct inject_target *t = seize_and_stop(c.pid);
		before = c.page->counter;
		assert_int_equal(run_in(t, SYS_getpid, 1, 2, 3), c.pid);
		assert_int_equal(c.page->counter, before);
		release(t);
	}
	c.page->go = 1;
	assert_int_equal(child_wait(&c), 0);
	assert_int_equal(c.page->failures, 0);
	child_end(&c);
}

/*
 * A hand-made critical section, rseq(2), that counts up inside until it is told to stop; each abort
 * counts in `handled`. rdi: the struct rseq of the thread; rsi: counter; rdx: aborts; rcx: stop.
 */
void inject_test_rseq(void *area, atomic_long *counter, atomic_int *aborts, atomic_int *stop);
__asm__(".pushsection .data.rel.local, \"aw\"\n"
	".balign 32\n"
	"3:	.long 0, 0; .quad 1f, 2f - 1f, 4f\n"
	".popsection\n"
	".pushsection .text\n"
	".long 0x53053053\n" /* RSEQ_SIG, which must stand before an abort handler */
	"4:	lock incl (%rdx)\n"
	".globl inject_test_rseq\n"
	"inject_test_rseq:\n"
	"	lea 3b(%rip), %rax\n"
	"	mov %rax, 8(%rdi)\n"
	"1:	incq (%rsi)\n"
	"	cmpl $0, (%rcx)\n"
	"	je 1b\n"
	"2:	movq $0, 8(%rdi)\n"
	"	ret\n"
	".popsection\n");

static void restart_sequence(struct page *p)
{
	p->ready = 1;
	if (__rseq_size == 0)
		return;
	inject_test_rseq((char *)__builtin_thread_pointer() + __rseq_offset, &p->counter,
		&p->handled, &p->go);
}

static void test_rseq_section_is_aborted(void **state)
{
	struct child c = child_new(restart_sequence);

	(void)state;
	wait_until(c.page->counter > 0 || c.page->done);
	if (c.page->done) {
		child_end(&c);
		skip();
	}
	for (int i = 0; i < 50; i++) {
		struct inject_target *t = seize_and_stop(c.pid);
		int aborts = c.page->handled;
		long counter = c.page->counter;

		assert_int_equal(run_in(t, SYS_getpid, 0, 0, 0), c.pid);
		release(t);
		wait_until(c.page->counter > counter + 1000);
		assert_true(c.page->handled > aborts);
	}
	c.page->go = 1;
	assert_int_equal(child_wait(&c), 0);
	child_end(&c);
}
#endif

static struct page *handler_page;

static void count_signal(int signal)
{
	(void)signal;
	handler_page->handled++;
}

static void handle(struct page *p, int signal)
{
	struct sigaction action = {.sa_handler = count_signal};

	handler_page = p;
	(void)sigaction(signal, &action, NULL);
}

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
	wait_asleep_in(c.pid, SYS_pause);
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
	wait_asleep_in(c.pid, SYS_pause);
	t = seize_and_stop(c.pid);
	assert_int_equal(run_in(t, SYS_getpid, 0, 0, 0), c.pid);
	release(t);
	status_line(c.pid, "SigBlk:", after, sizeof(after));
	assert_string_equal(after, before);
	child_end(&c);
}

/* On a processor of its own, where there are two: else it never runs between our seizing and
 * interrupting it. */
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

/* With a signal always on its way, the first stop is often its delivery: neither it nor the stop
 * may get lost. */
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

/* The shell has nothing left to be told: it sleeps, and waited last for what `stops` and `conts`
 * count. */
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
	wait_asleep_in(c.pid, SYS_pause);
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
	wait_asleep_in(c.pid, SYS_pause);
	release(seize_and_stop(c.pid));
	wait_asleep_in(c.pid, SYS_pause);
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
	wait_asleep_in(c.pid, SYS_pause);
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
	wait_asleep_in(c.pid, SYS_pause);
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
	wait_asleep_in(c.pid, SYS_pause);
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

#if defined(__x86_64__)
/* A program of i386: pause() in a loop. */
static void exec_32_bit(struct page *p)
{
	struct {
		Elf32_Ehdr header;
		Elf32_Phdr segment;
		unsigned char code[16];
	} image = {
		.header =
			{
				.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS32, ELFDATA2LSB,
					EV_CURRENT},
				.e_type = ET_EXEC,
				.e_machine = EM_386,
				.e_version = EV_CURRENT,
				.e_entry = 0x400000 + sizeof(Elf32_Ehdr) + sizeof(Elf32_Phdr),
				.e_phoff = sizeof(Elf32_Ehdr),
				.e_ehsize = sizeof(Elf32_Ehdr),
				.e_phentsize = sizeof(Elf32_Phdr),
				.e_phnum = 1,
			},
		.segment =
			{
				.p_type = PT_LOAD,
				.p_vaddr = 0x400000,
				.p_filesz = sizeof(image),
				.p_memsz = sizeof(image),
				.p_flags = PF_R | PF_X,
				.p_align = 4096,
			},
		/* mov $29, %eax; int $0x80; jmp back */
		.code = {0xb8, 29, 0, 0, 0, 0xcd, 0x80, 0xeb, 0xf7},
	};
	char *none[] = {NULL};
	int fd = memfd_create("i386", MFD_CLOEXEC);

	if (write(fd, &image, sizeof(image)) == (ssize_t)sizeof(image))
		(void)fexecve(fd, none, none);
	p->failures = errno;
}

static void test_32_bit_target_is_refused(void **state)
{
	struct child c = child_new(exec_32_bit);
	struct error e;

	(void)state;
	wait_until(syscall_of(c.pid) == 29 || c.page->done);
	if (c.page->done) {
		child_end(&c);
		skip();
	}
	assert_int_equal(inject_check(c.pid, &e), -ENOTSUP);
	struct inject_target *t = seize(c.pid);
	assert_int_equal(inject_wait_stopped(t, deadline_in(PATIENCE), &e), -ENOTSUP);
	assert_non_null(strstr(e.text, "32-bit"));
	release(t);
	wait_asleep_in(c.pid, 29);
	child_end(&c);
}
#endif

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
	wait_asleep_in(c.pid, SYS_pause);
	struct inject_target *t = seize_and_stop(c.pid);
	assert_int_equal(run_in(t, SYS_getpid, 0, 0, 0), c.pid);
	release(t);
	child_end(&c);

	c = child_new(drop_vdso);
	wait_asleep_in(c.pid, SYS_pause);
	assert_int_equal(inject_check(c.pid, &e), -ENOEXEC);
	t = seize(c.pid);
	assert_int_equal(inject_wait_stopped(t, deadline_in(PATIENCE), &e), -ENOEXEC);
	release(t);
	wait_asleep_in(c.pid, SYS_pause);
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
#if defined(__x86_64__)
		cmocka_unit_test(test_registers_survive),
		cmocka_unit_test(test_rseq_section_is_aborted),
		cmocka_unit_test(test_32_bit_target_is_refused),
#endif
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
