/* SPDX-License-Identifier: MIT */
#include "kernel/process.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/util.h"

/* Who forks faster than we bury would keep us at it for ever. */
#define REAP_MAX 256

#define DEAD_MAX 64

static struct process *watched;
static bool keep_dead;
static pid_t dead[DEAD_MAX];
static unsigned n_dead;

void process_default_signals(void)
{
	/* Refused for SIGKILL, SIGSTOP and the two that libc keeps to itself, which heeds those. */
	for (int n = 1; n < NSIG; n++)
		(void)signal(n, SIG_DFL);
}

pid_t process_fork(int cgroup, int *ret_pidfd)
{
	int pidfd = -1;
	struct clone_args args = {
		.flags = CLONE_PIDFD | CLONE_CLEAR_SIGHAND | (cgroup >= 0 ? CLONE_INTO_CGROUP : 0),
		.pidfd = (uint64_t)(uintptr_t)&pidfd,
		.exit_signal = SIGCHLD,
		.cgroup = cgroup >= 0 ? (uint64_t)cgroup : 0,
	};

	/* The bare call: with one thread there is nothing for libc's fork handlers to put in order.
	 */
	long pid = syscall(SYS_clone3, &args, sizeof(args));
	if (pid < 0)
		return -errno;
	if (pid > 0)
		*ret_pidfd = pidfd;
	if (pid == 0) {
		sigset_t none;
		(void)sigemptyset(&none);
		(void)sigprocmask(SIG_SETMASK, &none, NULL);
	}
	return (pid_t)pid;
}

const char *process_fork_hint(int r)
{
	return r == -EAGAIN ? " (a limit on processes: pids.max, RLIMIT_NPROC or kernel.pid_max)"
			    : "";
}

static void forget(struct process *p)
{
	loop_remove(&p->source);
	p->pidfd = fd_close(p->pidfd);
	p->pid = 0;
	if (p->previous)
		p->previous->next = p->next;
	else
		watched = p->next;
	if (p->next)
		p->next->previous = p->previous;
	p->next = p->previous = NULL;
}

void process_forget(struct process *p)
{
	if (p->pid)
		forget(p);
}

void process_keep_dead(void)
{
	keep_dead = true;
}

bool process_to_bury(void)
{
	return n_dead > 0;
}

void process_bury(void)
{
	siginfo_t info;

	/* ECHILD: somebody else's child, which its parent buries. */
	while (n_dead > 0)
		(void)waitid(P_PID, (id_t)dead[--n_dead], &info, WEXITED | WNOHANG);
}

static void remember_dead(pid_t pid)
{
	if (!keep_dead)
		return;
	if (n_dead == DEAD_MAX)
		process_bury();
	dead[n_dead++] = pid;
}

/* Reaps p if it has ended; says whether it had. */
static bool reap(struct process *p)
{
	siginfo_t info = {0};
	struct process_exit ended = {0};

	if (waitid(P_PIDFD, (id_t)p->pidfd, &info, WEXITED | WNOHANG | (keep_dead ? WNOWAIT : 0)) ==
		0) {
		if (info.si_pid == 0)
			return false;
		remember_dead(info.si_pid);
		ended.known = true;
		ended.signal = info.si_code != CLD_EXITED;
		ended.status = info.si_status;
	} else if (errno != ECHILD && errno != EBADF && errno != EINVAL) {
		return false; /* EBADF, EINVAL: what process_adopt() put in its place */
	}
	forget(p);
	if (p->exited)
		p->exited(p, &ended);
	return true;
}

static void pidfd_ready(struct loop_source *s, uint32_t events)
{
	(void)events;
	(void)reap(CONTAINER_OF(s, struct process, source));
}

int process_watch(struct process *p, pid_t pid, int pidfd)
{
	if (p->pid) {
		/* Twice in the list, it would make a ring of it. */
		(void)fd_close(pidfd);
		return -EBUSY;
	}
	if (pidfd < 0)
		pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0)
		return -errno;
	p->source = (struct loop_source){.fd = -1, .ready = pidfd_ready};
	int r = loop_add(&p->source, pidfd, EPOLLIN);
	if (r < 0) {
		(void)fd_close(pidfd);
		return r;
	}
	p->pid = pid;
	p->pidfd = pidfd;
	p->previous = NULL;
	p->next = watched;
	if (watched)
		watched->previous = p;
	watched = p;
	return 0;
}

static bool is_pidfd_of(int pidfd, pid_t pid)
{
	char path[64], text[512], line[32];

	if (pidfd < 0)
		return false;
	(void)snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", pidfd);
	if (file_read(AT_FDCWD, path, text, sizeof(text)) <= 0)
		return false;
	(void)snprintf(line, sizeof(line), "\nPid:\t%d\n", (int)pid);
	/* -1: it has ended and was buried; it is still that descriptor. */
	return strstr(text, line) || strstr(text, "\nPid:\t-1\n");
}

int process_adopt(struct process *p, pid_t pid, int pidfd, bool may_open)
{
	if (is_pidfd_of(pidfd, pid))
		return process_watch(p, pid, pidfd);
	/* Not closed: whatever it is, it is not ours. */
	pidfd = may_open ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
	if (pidfd < 0)
		pidfd = eventfd(1, EFD_CLOEXEC); /* ready at once, and no process: see reap() */
	return pidfd < 0 ? -errno : process_watch(p, pid, pidfd);
}

int process_signal(const struct process *p, int signal)
{
	if (!p->pid)
		return -ESRCH;
	return syscall(SYS_pidfd_send_signal, p->pidfd, signal, NULL, 0) < 0 ? -errno : 0;
}

static struct process *find(pid_t pid)
{
	struct process *p = watched;

	while (p && p->pid != pid)
		p = p->next;
	return p;
}

bool process_reap_all(void)
{
	for (unsigned i = 0; i < REAP_MAX; i++) {
		siginfo_t info = {0};
		/* Peek first: what is watched is reaped by its own descriptor, with its status. */
		if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0)
			return false;
		struct process *p = find(info.si_pid);
		/* One whose descriptor does not say so has ended all the same: it must not hide
		 * those behind it. */
		if (p && reap(p)) {
			if (keep_dead)
				return true;
			continue;
		}
		if (waitid(P_PID, (id_t)info.si_pid, &info, WEXITED | WNOHANG) < 0)
			return false;
	}
	return true;
}

void process_exit_describe(const struct process_exit *ended, char *buf, size_t size)
{
	const char *name;

	if (!ended->known) {
		(void)snprintf(buf, size, "ended");
	} else if (ended->signal) {
		name = sigabbrev_np(ended->status);
		if (name)
			(void)snprintf(buf, size, "was killed by SIG%s", name);
		else
			(void)snprintf(buf, size, "was killed by signal %d",
				ended->status); /* a real-time one */
	} else {
		(void)snprintf(buf, size, "exited with code %d", ended->status);
	}
}

bool process_exit_clean(const struct process_exit *ended)
{
	return ended->known && !ended->signal && ended->status == 0;
}
