/* SPDX-License-Identifier: MIT */
#include "kernel/inject_exec.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/kcmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel/environment.h"
#include "kernel/inject.h"
#include "kernel/inject_session.h"
#include "kernel/trace.h"
#include "kernel/util.h"

#define ARGUMENTS_MAX 12
/* On the stack, where no page is to be had, there is room for so many. */
#define ENVIRONMENT_LEAST 4

/*
 * What the scratch memory of the target holds for the exec: the addresses, which are the target's,
 * of the arguments and, from `environment` on, of the environment; then the texts.
 */
struct exec_page {
	union {
		uint64_t addresses[INJECT_SCRATCH_BYTES / sizeof(uint64_t)];
		char text[INJECT_SCRATCH_BYTES];
	};
	size_t n; /* of the addresses so far */
	size_t environment;
	size_t nothing, here; /* where "" and "." are */
	size_t used, size; /* of the text */
};

static int64_t call(struct inject_session *s, long number, uint64_t a, uint64_t b, uint64_t c)
{
	return inject_call(s, number, a, b, c, 0);
}

/* The call it is about to make is not made. */
static int leave_entry(struct inject_target *t, uint64_t deadline_usec, struct error *e)
{
	int r = inject_arch_cancel(t->tid);

	if (r < 0)
		return error_set(e, r, "cannot cancel a call in task %d", t->tid);
	return inject_to_syscall_stop(t, deadline_usec, e);
}

static int block_signals(pid_t tid)
{
	uint64_t all = UINT64_MAX;

	return trace_request(PTRACE_SETSIGMASK, tid, sizeof(all), (uintptr_t)&all);
}

/* Like inject_wait_stopped() for a task that stands still already, and is not to go on. */
static int adopt(struct inject_target *t, bool entering, uint64_t deadline_usec, struct error *e)
{
	int r = block_signals(t->tid);

	if (r < 0)
		return error_set(e, r, "cannot block the signals of task %d", t->tid);
	if (entering && (r = leave_entry(t, deadline_usec, e)) < 0)
		return r;
	r = inject_arch_read(t->tid, &t->saved);
	if (r < 0)
		return error_set(e, r, "cannot read the registers of task %d", t->tid);
	r = inject_find_instruction(t->tid, &t->instruction, e);
	t->borrowed = r == 0;
	t->own = INJECT_OWN_NONE; /* it never goes back */
	return r;
}

/* An exec keeps them, and the program that is to go away may have changed them. */
static void give_limits(pid_t tid)
{
	struct rlimit limit;

	for (int i = 0; i < RLIM_NLIMITS; i++)
		if (getrlimit(i, &limit) == 0)
			(void)prlimit(tid, i, &limit, NULL);
}

static int64_t close_one(struct inject_session *s, int64_t fd)
{
	return call(s, SYS_close_range, (uint64_t)fd, (uint64_t)fd, 0);
}

/* Ourselves, as the target sees us: a pidfd above all the numbers that are to be filled. */
static int open_ourselves(struct inject_session *s, int highest)
{
	int64_t low = call(s, SYS_pidfd_open, (uint64_t)getpid(), 0, 0);

	if (low < 0)
		return inject_call_failed(s, low, "open a pidfd");
	int64_t high = call(s, SYS_fcntl, (uint64_t)low, F_DUPFD_CLOEXEC, (uint64_t)highest + 1);
	(void)close_one(s, low);
	return high < 0 ? inject_call_failed(s, high, "duplicate a descriptor") : (int)high;
}

/* At the lowest free number there, O_CLOEXEC. */
static int fetch(struct inject_session *s, int pidfd, int fd)
{
	int64_t got = call(s, SYS_pidfd_getfd, (uint64_t)pidfd, (uint64_t)fd, 0);

	return got < 0 ? inject_call_failed(s, got, "fetch a descriptor") : (int)got;
}

static bool has_the_same(struct inject_session *s, int fd)
{
	return syscall(SYS_kcmp, getpid(), inject_tid(s->t), KCMP_FILE, (long)fd, (long)fd) == 0;
}

/* Replaces whatever is there. */
static int place(struct inject_session *s, int pidfd, int fd)
{
	int64_t r = 0;
	bool there = has_the_same(s, fd);
	int got = there ? fd : fetch(s, pidfd, fd);

	if (got < 0)
		return got;
	if (got == fd) {
		r = call(s, SYS_fcntl, (uint64_t)fd, F_SETFD, 0);
	} else {
		r = call(s, SYS_dup3, (uint64_t)got, (uint64_t)fd, 0);
		(void)close_one(s, got);
	}
	return r < 0 ? inject_call_failed(s, r, "place a descriptor") : 0;
}

static int place_all(struct inject_session *s, int pidfd, const struct inject_exec *x)
{
	int64_t marked = call(s, SYS_close_range, 0, ~0U, CLOSE_RANGE_CLOEXEC);

	if (marked < 0)
		return inject_call_failed(s, marked, "mark the descriptors");
	for (size_t i = 0; i < x->n_fds; i++) {
		int r = place(s, pidfd, x->fds[i]);
		if (r < 0)
			return r;
	}
	return 0;
}

static size_t add_text(struct exec_page *page, const char *text)
{
	size_t size = strlen(text) + 1, at = page->used;

	if (size > page->size - page->used)
		return 0;
	memcpy(page->text + at, text, size);
	page->used += size;
	return at;
}

/* Returns how many found room. */
static size_t add_texts(struct exec_page *page, uint64_t base, char *const *texts, size_t max)
{
	size_t i = 0;

	for (size_t at; i < max && texts[i] && (at = add_text(page, texts[i])); i++)
		page->addresses[page->n++] = base + at;
	page->addresses[page->n++] = 0;
	return i;
}

static int write_page(struct inject_session *s, struct exec_page *page, const struct inject_exec *x)
{
	size_t max = s->on_stack ? ENVIRONMENT_LEAST : ENVIRONMENT_MAX;

	page->size = s->on_stack ? sizeof(struct inject_scratch) : INJECT_SCRATCH_BYTES;
	page->used = (ARGUMENTS_MAX + 1 + max + 1) * sizeof(page->addresses[0]);
	page->nothing = add_text(page, "");
	page->here = add_text(page, ".");
	if (x->argv[add_texts(page, s->scratch, x->argv, ARGUMENTS_MAX)])
		return error_set(s->e, E2BIG, "cannot lay out the arguments");
	page->environment = page->n * sizeof(page->addresses[0]);
	(void)add_texts(page, s->scratch, x->environment, max);
	return inject_scratch_put(s, page->text, page->used);
}

static int enter_root(struct inject_session *s, const struct exec_page *page, int root)
{
	int64_t r = call(s, SYS_fchdir, (uint64_t)root, 0, 0);

	if (r == 0)
		r = call(s, SYS_chroot, s->scratch + page->here, 0, 0);
	return r < 0 ? inject_call_failed(s, r, "change the root") : 0;
}

static int run_exec(struct inject_session *s, const struct exec_page *page, int exe)
{
	const uint64_t args[6] = {(uint64_t)exe, s->scratch + page->nothing, s->scratch,
		s->scratch + page->environment, AT_EMPTY_PATH, 0};
	int64_t result;

	/* The new program is to begin with the limit that the old one had. */
	inject_session_restore_limit(s);
	int r = inject_syscall(s->t, SYS_execveat, args, &result, s->deadline_usec, s->e);
	if (r < 0)
		return r;
	return result < 0 ? inject_call_failed(s, result, "execute the program") : 0;
}

static int run(struct inject_session *s, const struct inject_exec *x)
{
	struct exec_page page = {0};
	int highest = x->n_fds ? x->fds[x->n_fds - 1] : 2;
	int r = inject_session_open(s, highest);
	if (r < 0)
		return r;
	int pidfd = r = open_ourselves(s, highest);
	if (r >= 0)
		r = place_all(s, pidfd, x);
	int root = r < 0 ? r : fetch(s, pidfd, x->root);
	int exe = root < 0 ? root : fetch(s, pidfd, x->exe);
	if (exe < 0)
		return exe;
	r = write_page(s, &page, x);
	if (r == 0)
		r = enter_root(s, &page, root);
	return r == 0 ? run_exec(s, &page, exe) : r;
}

int inject_exec(pid_t tid, bool entering, const struct inject_exec *x, uint64_t deadline_usec,
	struct error *e)
{
	struct inject_target t = {.tid = tid, .stop = INJECT_STOP_SYSCALL};
	struct inject_session s = {.t = &t, .deadline_usec = deadline_usec, .e = e, .pidfd = -1};
	give_limits(tid);
	int r = adopt(&t, entering, deadline_usec, e);

	if (r == 0)
		r = run(&s, x);
	/* What the session made in the target has gone with its program. */
	s.pidfd = fd_close(s.pidfd);
	if (r < 0)
		return r;
	r = trace_request(PTRACE_SETSIGMASK, tid, sizeof(x->mask), (uintptr_t)&x->mask);
	return r < 0 ? error_set(e, r, "cannot set the signal mask of task %d", tid) : 0;
}
