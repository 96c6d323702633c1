/* SPDX-License-Identifier: MIT */
/*
 * Children to inject into: each is a real process with a page it shares with the test, where it
 * tells how it fares. All waiting is for an event, with a deadline.
 */
#ifndef MOLT_TESTS_INJECT_CHILD_H
#define MOLT_TESTS_INJECT_CHILD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kernel/cgroup.h"
#include "kernel/error.h"
#include "kernel/inject.h"
#include "kernel/util.h"

#define PATIENCE (10 * USEC_PER_SEC) /* nothing here takes that long unless it is broken */

/* What pause(3) is made of. */
#ifdef SYS_pause
#define CALL_OF_PAUSE SYS_pause
#else
#define CALL_OF_PAUSE SYS_ppoll
#endif

/* How many times longer things may take: more than 1 in a machine that is emulated. */
static inline long slowness(void)
{
	const char *text = getenv("MOLT_TEST_SLOWNESS");

	return text ? strtol(text, NULL, 10) : 1;
}

struct page {
	atomic_int ready; /* set by the child: it is about to do its thing */
	atomic_int go; /* set by the test */
	atomic_int done;
	atomic_int failures;
	atomic_int handled; /* signals */
	atomic_long counter;
	int64_t result;
	int error;
	uint64_t started, ended;
	int fds[4]; /* made before the fork */
	int id;
	atomic_int tids[64];
};

typedef void (*child_main)(struct page *page);

struct child {
	pid_t pid;
	struct page *page;
};

#define assert_ok(call, e)                                                     \
	do {                                                                   \
		int assert_ok_r = (call);                                      \
		if (assert_ok_r != 0)                                          \
			fail_msg("%s: %d (%s)", #call, assert_ok_r, (e).text); \
	} while (0)

static inline struct page *page_new(void)
{
	struct page *page = mmap(
		NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(page, MAP_FAILED);
	return page;
}

static pid_t started[4096]; /* to be killed if a test fails */
static size_t started_count;

static inline struct child child_start(struct page *page, child_main run)
{
	struct child c = {.page = page, .pid = fork()};

	assert_true(c.pid >= 0);
	if (c.pid == 0) {
		sigset_t none;

		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		(void)sigemptyset(&none);
		(void)sigprocmask(SIG_SETMASK, &none, NULL);
		run(page);
		page->done = 1;
		_exit(0);
	}
	assert_true(started_count < ARRAY_SIZE(started));
	started[started_count++] = c.pid;
	return c;
}

static inline struct child child_new(child_main run)
{
	return child_start(page_new(), run);
}

static inline void pause_briefly(void)
{
	(void)nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
}

/* For the event `condition`, by looking often. */
#define wait_until(condition)                                      \
	do {                                                       \
		uint64_t wait_until_end = deadline_in(PATIENCE);   \
		while (!(condition)) {                             \
			if (clock_usec() > wait_until_end)         \
				fail_msg("never: %s", #condition); \
			pause_briefly();                           \
		}                                                  \
	} while (0)

static inline long syscall_of(pid_t tid)
{
	char path[64], text[256];

	(void)snprintf(path, sizeof(path), "/proc/%d/syscall", tid);
	if (file_read(AT_FDCWD, path, text, sizeof(text)) <= 0)
		return -2;
	char *end;
	long number = strtol(text, &end, 10);
	return end == text ? -2 : number; /* -2: "running" */
}

static inline char state_of(pid_t tid)
{
	char path[64], text[1024];

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", tid);
	if (file_read(AT_FDCWD, path, text, sizeof(text)) <= 0)
		return '?';
	const char *end = strrchr(text, ')');
	return end ? end[2] : '?';
}

static inline void status_line(pid_t tid, const char *name, char *buf, size_t size)
{
	char path[64], text[8192];

	(void)snprintf(path, sizeof(path), "/proc/%d/status", tid);
	assert_true(file_read(AT_FDCWD, path, text, sizeof(text)) > 0);
	const char *line = strstr(text, name);
	assert_non_null(line);
	(void)snprintf(buf, size, "%.*s", (int)strcspn(line, "\n"), line);
}

static inline void wait_asleep_in(pid_t tid, long number)
{
	wait_until(syscall_of(tid) == number && state_of(tid) == 'S');
}

/* Exit status in the style of wait(2). */
static inline int child_wait(struct child *c)
{
	int status = -1;

	wait_until(waitpid(c->pid, &status, WNOHANG | __WALL) == c->pid && !WIFSTOPPED(status));
	c->pid = 0;
	return status;
}

static inline void child_end(struct child *c)
{
	if (c->pid > 0) {
		(void)kill(c->pid, SIGKILL);
		(void)child_wait(c);
	}
	if (c->page)
		(void)munmap(c->page, sizeof(*c->page));
	*c = (struct child){0};
}

static inline void sleep_for_ever(struct page *p)
{
	p->ready = 1;
	for (;;)
		(void)pause();
}

static inline struct child sleeper(void)
{
	struct child c = child_new(sleep_for_ever);

	wait_asleep_in(c.pid, CALL_OF_PAUSE);
	return c;
}

static struct page *handler_page;

static inline void count_signal(int signal)
{
	(void)signal;
	handler_page->handled++;
}

static inline void handle(struct page *p, int signal)
{
	struct sigaction action = {.sa_handler = count_signal};

	handler_page = p;
	(void)sigaction(signal, &action, NULL);
}

static inline struct inject_target *seize(pid_t tid)
{
	struct inject_target *t = NULL;
	struct error e = {0};

	assert_ok(inject_seize(&t, tid, &e), e);
	return t;
}

static inline struct inject_target *seize_and_stop(pid_t tid)
{
	struct inject_target *t = seize(tid);
	struct error e = {0};

	assert_ok(inject_wait_stopped(t, deadline_in(PATIENCE), &e), e);
	return t;
}

static inline void release(struct inject_target *t)
{
	struct error e = {0};

	assert_ok(inject_release(t, deadline_in(PATIENCE), &e), e);
}

static inline int64_t run_in(
	struct inject_target *t, long number, uint64_t a0, uint64_t a1, uint64_t a2)
{
	const uint64_t args[6] = {a0, a1, a2};
	struct error e = {0};
	int64_t result = 0;

	assert_ok(inject_syscall(t, number, args, &result, deadline_in(PATIENCE), &e), e);
	return result;
}

/* A call that may fail. */
static inline int try_getpid(struct inject_target *t, uint64_t usec, struct error *e)
{
	const uint64_t args[6] = {0};
	int64_t result;

	return inject_syscall(t, SYS_getpid, args, &result, deadline_in(usec), e);
}

static inline int apply(pid_t tid, struct inject_change *changes, size_t n)
{
	struct inject_target *t = seize_and_stop(tid);
	struct error e = {0};
	int r = inject_apply(t, changes, n, deadline_in(PATIENCE), &e);

	assert_true(r == 0 || e.text[0]);
	release(t);
	return r;
}

/* The numbers of all open descriptors, as text: to compare before with after. */
static inline void list_fds(pid_t pid, char *buf, size_t size)
{
	char path[64];
	size_t used = 0;

	(void)snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	DIR *dir = opendir(path);
	assert_non_null(dir);
	buf[0] = '\0';
	for (struct dirent *entry; (entry = readdir(dir));)
		if (entry->d_name[0] != '.')
			used += (size_t)snprintf(buf + used, size - used, "%s ", entry->d_name);
	assert_true(used < size);
	(void)closedir(dir);
}

static inline size_t count_lines(pid_t pid, const char *file)
{
	char path[64];
	size_t lines = 0;

	(void)snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
	FILE *f = fopen(path, "re");
	assert_non_null(f);
	for (int c; (c = getc(f)) != EOF;)
		lines += c == '\n';
	(void)fclose(f);
	return lines;
}

/* A cgroup v2 of our own: the only one that is ever frozen here. -1 if there is none to be had. */
static inline int cgroup_parent(void)
{
	static const char *const places[] = {"/sys/fs/cgroup/unified", "/sys/fs/cgroup"};

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		int fd = open(places[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		if (fd >= 0 && faccessat(fd, "cgroup.procs", F_OK, 0) == 0 &&
			faccessat(fd, "cgroup.controllers", F_OK, 0) == 0)
			return fd;
		(void)fd_close(fd);
	}
	return -1;
}

struct own_cgroup {
	int parent, dir, events;
	char name[64];
};

static int own_cgroups; /* made so far */

static inline bool own_cgroup_make(struct own_cgroup *g)
{
	*g = (struct own_cgroup){.parent = cgroup_parent(), .dir = -1, .events = -1};
	if (g->parent < 0)
		return false;
	(void)snprintf(g->name, sizeof(g->name), "molt-test-inject-%d-%d", getpid(), own_cgroups++);
	g->dir = cgroup_make(g->parent, g->name);
	if (g->dir >= 0)
		g->events = cgroup_open_events(g->dir);
	if (g->events < 0)
		(void)fd_close(g->parent);
	return g->events >= 0;
}

static inline void own_cgroup_take(const struct own_cgroup *g, pid_t pid)
{
	char text[16];

	(void)snprintf(text, sizeof(text), "%d", (int)pid);
	assert_int_equal(file_write(g->dir, "cgroup.procs", text), 0);
}

static inline void own_cgroup_set_frozen(struct own_cgroup *g, bool frozen)
{
	assert_int_equal(cgroup_freeze(g->dir, frozen), 0);
	assert_int_equal(cgroup_wait_frozen(g->events, frozen, deadline_in(PATIENCE)), 0);
}

/* After its processes have ended. */
static inline void own_cgroup_remove(struct own_cgroup *g)
{
	(void)fd_close(g->events);
	(void)fd_close(g->dir);
	wait_until(cgroup_remove(g->parent, g->name) == 0);
	(void)fd_close(g->parent);
}

/*
 * What failed tests left behind. PR_SET_PDEATHSIG is not enough: a child that changes its uid loses
 * it.
 */
static inline void kill_started(void)
{
	siginfo_t info;

	for (size_t i = 0; i < started_count; i++)
		if (waitid(P_PID, (id_t)started[i], &info, WEXITED | WNOHANG | WNOWAIT | __WALL) ==
			0)
			(void)kill(started[i], SIGKILL);
}

static inline int clean_up(void **state)
{
	int parent = cgroup_parent();
	char name[64];

	(void)state;
	kill_started();
	for (int i = 0; parent >= 0 && i < own_cgroups; i++) {
		(void)snprintf(name, sizeof(name), "molt-test-inject-%d-%d", getpid(), i);
		int dir = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (dir < 0)
			continue;
		(void)cgroup_kill(dir);
		(void)fd_close(dir);
		for (int tries = 0; tries < 1000 && cgroup_remove(parent, name) < 0; tries++) {
			(void)waitpid(-1, NULL, WNOHANG | __WALL);
			pause_briefly();
		}
	}
	(void)fd_close(parent);
	return 0;
}

static inline int block_sigchld(void **state)
{
	sigset_t set;

	(void)state;
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGCHLD);
	return sigprocmask(SIG_BLOCK, &set, NULL);
}

#endif
