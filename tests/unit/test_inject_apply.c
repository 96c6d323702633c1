/* SPDX-License-Identifier: MIT */
/* Directories passed into processes of every kind, and what the processes notice of it: nothing. */
#include "tests/unit/inject_child.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/uio.h>

/* Two directories on a file system of their own, world-searchable. */
static char base[] = "/tmp/molt-test-inject-XXXXXX";
static int old_dir, new_dir;

static void sleep_in_old_dir(struct page *p)
{
	if (fchdir(old_dir) == 0)
		sleep_for_ever(p);
}

static bool same_file(pid_t pid, const char *link, int fd)
{
	char path[64];
	struct stat a, b;

	(void)snprintf(path, sizeof(path), "/proc/%d/%s", pid, link);
	assert_int_equal(stat(path, &a), 0);
	assert_int_equal(fstat(fd, &b), 0);
	return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* What must be the same after as before. */
struct traces {
	char fds[16384];
	size_t mappings;
	char mask[128];
	char limits[2048];
};

static void look(pid_t pid, struct traces *t)
{
	list_fds(pid, t->fds, sizeof(t->fds));
	t->mappings = count_lines(pid, "maps");
	status_line(pid, "SigBlk:", t->mask, sizeof(t->mask));
	char path[64];
	(void)snprintf(path, sizeof(path), "/proc/%d/limits", pid);
	assert_true(file_read(AT_FDCWD, path, t->limits, sizeof(t->limits)) > 0);
}

static void assert_no_traces(pid_t pid, const struct traces *before)
{
	struct traces after;

	look(pid, &after);
	assert_string_equal(after.fds, before->fds);
	assert_int_equal(after.mappings, before->mappings);
	assert_string_equal(after.mask, before->mask);
	assert_string_equal(after.limits, before->limits);
}

/* Moves the cwd of a child that sleeps in pause(), and looks whether that is all that changed. */
static void move_cwd(struct child *c)
{
	struct inject_change change = {.action = INJECT_CWD, .fd = new_dir};
	struct traces before;

	look(c->pid, &before);
	assert_int_equal(apply(c->pid, &change, 1), 0);
	assert_int_equal(change.result, 0);
	assert_true(same_file(c->pid, "cwd", new_dir));
	assert_no_traces(c->pid, &before);
	wait_asleep_in(c->pid, CALL_OF_PAUSE);
}

static void move_cwd_of(child_main run)
{
	struct child c = child_new(run);

	wait_until(syscall_of(c.pid) == CALL_OF_PAUSE || c.page->done);
	assert_int_equal(c.page->done, 0);
	assert_true(same_file(c.pid, "cwd", old_dir));
	move_cwd(&c);
	child_end(&c);
}

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

static void hold_directories(struct page *p)
{
	if (fchdir(old_dir) < 0)
		return;
	p->fds[0] = openat(AT_FDCWD, ".", O_RDONLY | O_DIRECTORY);
	p->fds[1] = openat(AT_FDCWD, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	sleep_for_ever(p);
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

static void drop_privileges(struct page *p)
{
	if (fchdir(old_dir) < 0 || setresgid(65534, 65534, 65534) < 0 ||
		setresuid(65534, 65534, 65534) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return;
	sleep_for_ever(p);
}

static void test_unprivileged(void **state)
{
	(void)state;
	move_cwd_of(drop_privileges);
}

/* Kills on anything but pause, exit and sigreturn. */
static void sleep_under_filter(struct page *p)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, CALL_OF_PAUSE, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_restart_syscall, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = ARRAY_SIZE(code), .filter = code};

	if (fchdir(old_dir) < 0 || setresuid(65534, 65534, 65534) < 0 ||
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
		prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) < 0)
		return;
	sleep_for_ever(p);
}

static void test_seccomp_filter(void **state)
{
	struct child c = child_new(sleep_under_filter);

	(void)state;
	wait_asleep_in(c.pid, CALL_OF_PAUSE);
	move_cwd(&c);
	/*
	 * And the filter is in force again: fchdir(2) by hand is still possible, by itself it would
	 * be death.
	 */
	assert_int_equal(kill(c.pid, 0), 0);
	child_end(&c);
}

static void fill_table(struct page *p, rlim_t soft, rlim_t hard)
{
	struct rlimit limit = {.rlim_cur = soft, .rlim_max = hard};

	if (fchdir(old_dir) < 0 || setrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	while (dup(old_dir) >= 0)
		;
	sleep_for_ever(p);
}

static void fill_to_soft_limit(struct page *p)
{
	fill_table(p, 64, 1024);
}

static void fill_to_hard_limit(struct page *p)
{
	fill_table(p, 64, 64);
}

static void test_full_table(void **state)
{
	(void)state;
	move_cwd_of(fill_to_soft_limit);
}

/*
 * Going over the hard limit takes CAP_SYS_RESOURCE: with it this works, without it the target stays
 * as it was.
 */
static void test_table_full_to_the_hard_limit(void **state)
{
	struct child c = child_new(fill_to_hard_limit);
	struct inject_change change = {.action = INJECT_CWD, .fd = new_dir};
	struct traces before;

	(void)state;
	wait_asleep_in(c.pid, CALL_OF_PAUSE);
	look(c.pid, &before);
	int r = apply(c.pid, &change, 1);
	assert_true(r == 0 || (r == -EMFILE && change.result == -ECANCELED));
	assert_true(same_file(c.pid, "cwd", r == 0 ? new_dir : old_dir));
	assert_no_traces(c.pid, &before);
	wait_asleep_in(c.pid, CALL_OF_PAUSE);
	child_end(&c);
}

static void forbid_memory(struct page *p)
{
	struct rlimit none = {.rlim_cur = 4096, .rlim_max = 4096};

	if (fchdir(old_dir) < 0 || setrlimit(RLIMIT_AS, &none) < 0)
		return;
	sleep_for_ever(p);
}

/* The stack pointer of a task that sleeps: the last but one field. */
static uint64_t stack_of(pid_t pid)
{
	char path[64], text[256];
	unsigned long long sp = 0;

	(void)snprintf(path, sizeof(path), "/proc/%d/syscall", pid);
	assert_true(file_read(AT_FDCWD, path, text, sizeof(text)) > 0);
	assert_int_equal(sscanf(text, "%*s %*s %*s %*s %*s %*s %*s %llx", &sp), 1);
	return sp;
}

static void test_no_memory_to_be_had(void **state)
{
	struct child c = child_new(forbid_memory);
	char before[2048], after[2048];

	(void)state;
	wait_asleep_in(c.pid, CALL_OF_PAUSE);
	struct iovec local = {.iov_base = before, .iov_len = sizeof(before)};
	struct iovec remote = {
		.iov_base = (void *)(stack_of(c.pid) - sizeof(before)), .iov_len = sizeof(before)};
	assert_int_equal(process_vm_readv(c.pid, &local, 1, &remote, 1, 0), sizeof(before));
	move_cwd(&c);
	local.iov_base = after;
	assert_int_equal(process_vm_readv(c.pid, &local, 1, &remote, 1, 0), sizeof(after));
	assert_memory_equal(after, before, sizeof(before));
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

static void test_root_without_privilege(void **state)
{
	struct child c = child_new(drop_privileges);
	struct inject_change change = {.action = INJECT_ROOT, .fd = new_dir};
	struct traces before;

	(void)state;
	wait_asleep_in(c.pid, CALL_OF_PAUSE);
	look(c.pid, &before);
	assert_int_equal(apply(c.pid, &change, 1), -EPERM);
	assert_int_equal(change.result, -EPERM);
	assert_true(same_file(c.pid, "cwd", old_dir));
	assert_no_traces(c.pid, &before);
	child_end(&c);
}

/* fchdir(2) looks at the permissions with the target's eyes. */
static void test_forbidden_directory(void **state)
{
	struct child c = child_new(drop_privileges);
	struct traces before;

	(void)state;
	assert_int_equal(mkdirat(new_dir, "secret", 0700), 0);
	int fd = openat(new_dir, "secret", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct inject_change changes[] = {
		{.action = INJECT_CWD, .fd = new_dir},
		{.action = INJECT_CWD, .fd = fd},
		{.action = INJECT_CWD, .fd = old_dir},
	};
	wait_asleep_in(c.pid, CALL_OF_PAUSE);
	look(c.pid, &before);
	assert_int_equal(apply(c.pid, changes, ARRAY_SIZE(changes)), -EACCES);
	assert_int_equal(changes[0].result, 0);
	assert_int_equal(changes[1].result, -EACCES);
	assert_int_equal(changes[2].result, -ECANCELED);
	assert_true(same_file(c.pid, "cwd", new_dir));
	assert_no_traces(c.pid, &before);
	child_end(&c);
	(void)close(fd);
	assert_int_equal(unlinkat(new_dir, "secret", AT_REMOVEDIR), 0);
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
		assert_int_equal(cgroup_attach(g.dir, children[i].pid), 0);
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

static int make_directories(void **state)
{
	if (!mkdtemp(base) || mount("tmpfs", base, "tmpfs", 0, "mode=0755") < 0)
		return -1;
	int dir = open(base, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (mkdirat(dir, "old", 0755) < 0 || mkdirat(dir, "new", 0755) < 0)
		return -1;
	old_dir = openat(dir, "old", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	new_dir = openat(dir, "new", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	(void)close(dir);
	return old_dir < 0 || new_dir < 0 ? -1 : block_sigchld(state);
}

static int remove_directories(void **state)
{
	(void)umount2(base, MNT_DETACH);
	(void)rmdir(base);
	return clean_up(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cwd),
		cmocka_unit_test(test_nothing_to_do),
		cmocka_unit_test(test_fd_keeps_its_number_and_flags),
		cmocka_unit_test(test_many_fds),
		cmocka_unit_test(test_unprivileged),
		cmocka_unit_test(test_seccomp_filter),
		cmocka_unit_test(test_full_table),
		cmocka_unit_test(test_table_full_to_the_hard_limit),
		cmocka_unit_test(test_no_memory_to_be_had),
		cmocka_unit_test(test_root),
		cmocka_unit_test(test_root_without_privilege),
		cmocka_unit_test(test_forbidden_directory),
		cmocka_unit_test(test_closed_descriptor),
		cmocka_unit_test(test_threads),
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
