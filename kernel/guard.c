/* SPDX-License-Identifier: MIT */
/* Both ends of the channel; the guard itself is guard_watch.c. */
#include "kernel/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel/guard_watch.h"
#include "kernel/process.h"
#include "kernel/util.h"

#define READY_USEC (2 * USEC_PER_SEC)
#define SAY_USEC (10 * USEC_PER_MSEC)

static int open_channel(int ends[2])
{
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	int r = fd_set_cloexec(ends[0], false);
	if (r < 0) {
		(void)fd_close(ends[0]);
		(void)fd_close(ends[1]);
	}
	return r;
}

/* What the guard says once it watches us, or why it does not. */
static int hear(int channel, struct error *e)
{
	char text[400] = "";
	struct pollfd p = {.fd = channel, .events = POLLIN};
	uint64_t deadline = deadline_in(READY_USEC);
	int r;

	do {
		uint64_t now = clock_usec();
		if (now >= deadline)
			return error_say(e, ETIMEDOUT, "its guard does not get ready");
		/* The guard stops us in the middle of this. */
		r = poll(&p, 1, (int)((deadline - now) / USEC_PER_MSEC) + 1);
	} while (r == 0 || (r < 0 && errno == EINTR));
	ssize_t n = r < 0 ? r : recv(channel, text, sizeof(text) - 1, MSG_DONTWAIT);
	if (n == 1 && text[0] == GUARD_READY)
		return 0;
	return error_say(e, EPERM, "%s", n > 0 ? text : "its guard has ended");
}

int guard_begin(struct guard *ret, const struct guard_fallback *fallback, uint64_t timeout_usec,
	struct error *e)
{
	struct guard g = {.channel = -1, .pidfd = -1};
	int ends[2];
	int r = open_channel(ends);

	if (r < 0)
		return error_set(e, r, "cannot make a channel to a guard");
	g.channel = ends[0];
	g.pid = process_fork(-1, &g.pidfd);
	if (g.pid == 0) {
		struct guard_watch w = {.fallback = fallback,
			.timeout_usec = timeout_usec,
			.tracee = getppid(),
			.theirs = ends[0],
			.ours = ends[1]};
		guard_watch(&w);
	}
	(void)fd_close(ends[1]);
	if (g.pid < 0) {
		(void)fd_close(g.channel);
		return error_set(e, g.pid, "cannot fork a guard%s", process_fork_hint(g.pid));
	}
	r = hear(g.channel, e);
	if (r < 0) {
		guard_cancel(&g);
		return r;
	}
	*ret = g;
	return 0;
}

void guard_cancel(struct guard *g)
{
	if (g->pidfd >= 0)
		(void)syscall(SYS_pidfd_send_signal, g->pidfd, SIGKILL, NULL, 0);
	g->pidfd = fd_close(g->pidfd);
	g->channel = fd_close(g->channel);
	g->pid = 0;
}

static bool is_passing(int error)
{
	return error == ENOMEM || error == ENOBUFS || error == EAGAIN || error == EINTR;
}

/* Where memory is short it is tried again. Nobody there to hear it: then nobody guards us. */
static int say(int channel, char what, const char *why)
{
	char text[400];
	int n = snprintf(text, sizeof(text), "%c%s", what, why);
	size_t length = n < (int)sizeof(text) ? (size_t)n : sizeof(text) - 1;
	uint64_t deadline = deadline_in(SAY_USEC);

	while (send(channel, text, length, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
		int error = errno;
		if (!is_passing(error) || clock_usec() >= deadline)
			return -error;
		(void)poll(NULL, 0, 1);
	}
	return 0;
}

/* A guard that never heard this would stay, and at its deadline make us what we were: with a state
 * that is not true any more. The end of what we say needs no memory, and means the same. */
static void say_that_we_are_up(int channel)
{
	if (say(channel, GUARD_UP, "") < 0)
		(void)shutdown(channel, SHUT_WR);
}

/* It is about to make us something else: returns if there is nobody who does. */
static void say_that_we_failed(int channel, const char *why)
{
	struct error ignored;

	if (say(channel, GUARD_FAILED, why) == 0)
		(void)hear(channel, &ignored);
	(void)fd_close(channel);
}

/* What a library may do to us; our own code does not. */
static pid_t self;
static int channel_at_exit = -1;

static void say_exiting(void)
{
	if (channel_at_exit >= 0 && getpid() == self)
		say_that_we_failed(channel_at_exit, "exited while it took over");
}

void guard_say_loaded(int channel)
{
	char address[24];

	self = getpid();
	/* Where that cannot be had, each call goes on being watched. */
	if (channel < 0 || atexit(say_exiting) != 0)
		return;
	channel_at_exit = channel;
	(void)fd_set_cloexec(channel, true);
	(void)snprintf(address, sizeof(address), "%" PRIu64, (uint64_t)(uintptr_t)_exit);
	(void)say(channel, GUARD_LOADED, address);
}

void guard_say_up(int channel)
{
	struct error ignored;

	channel_at_exit = -1;
	if (channel < 0)
		return;
	say_that_we_are_up(channel);
	(void)hear(channel, &ignored);
	(void)fd_close(channel);
}

void guard_say_failed(int channel, const char *why)
{
	channel_at_exit = -1;
	if (channel >= 0)
		say_that_we_failed(channel, why);
}
