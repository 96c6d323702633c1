/* SPDX-License-Identifier: MIT */
#include "init/successor.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "conf/protocol.h"
#include "conf/record.h"
#include "init/reexec.h"
#include "init/state.h"
#include "kernel/log.h"
#include "kernel/loop.h"
#include "kernel/process.h"
#include "kernel/util.h"
#include "upgrade/answer.h"
#include "upgrade/check_state.h"

/* Beside the time that the answer may take. */
#define CHILD_USEC (5 * USEC_PER_SEC)

static struct process child = {.source.fd = -1};
static struct loop_source answers = {.fd = -1};
static struct loop_timer timer;
static bool fit;
static char unfit[512];
static void (*answered_hook)(const char *why);

static void __attribute__((noreturn)) ask(int state_fd, uint64_t timeout_usec, int socket)
{
	struct error e;
	int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

	int r = root < 0 ? error_set(&e, errno, "cannot open /")
			 : check_state(INIT_PATH, root, state_fd, timeout_usec, socket, &e);

	if (r < 0)
		answer_unfit(socket, e.text);
	else
		answer_text(socket, "fit", "");
	_exit(0);
}

static void finish(void)
{
	int fd = answers.fd;

	loop_remove(&answers);
	(void)fd_close(fd);
	timer_cancel(&timer);
	answered_hook(fit ? NULL : unfit);
}

static void take_record(const struct record *r)
{
	const char *text = record_get(r, "text");

	if (strcmp(r->kind, "fit") == 0)
		fit = true;
	else if (strcmp(r->kind, "unfit") == 0)
		(void)snprintf(unfit, sizeof(unfit), "%s", text ? text : "");
	else
		log_warning("%s: %s", INIT_PATH, text ? text : "");
}

static void take_packet(const char *buf, size_t length)
{
	struct record_reader *reader;
	struct record r;

	if (record_reader_new(&reader, buf, length) < 0)
		return;
	if (record_next(reader, &r) == 1)
		take_record(&r);
	record_reader_free(reader);
}

static void answers_ready(struct loop_source *s, uint32_t events)
{
	static char buf[4096];
	int fd;
	ssize_t n = answer_receive(s->fd, buf, sizeof(buf), &fd);

	(void)events;
	(void)fd_close(fd);
	if (n == -EAGAIN || n == -EINTR || n == -EMSGSIZE)
		return;
	if (n > 0)
		take_packet(buf, (size_t)n);
	if (n <= 0 || fit)
		finish();
}

static void timer_expired(struct loop_timer *t)
{
	(void)t;
	(void)process_signal(&child, SIGKILL);
	(void)snprintf(unfit, sizeof(unfit), "asking %s whether it could take over took too long",
		INIT_PATH);
	finish();
}

static int fork_child(int state_fd, uint64_t timeout_usec, int *ret_end)
{
	int ends[2], pidfd;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	pid_t pid = process_fork(-1, &pidfd);
	if (pid == 0) {
		(void)close(ends[0]);
		ask(state_fd, timeout_usec, ends[1]);
	}
	(void)fd_close(ends[1]);
	/* The last one may have said its word and not been reaped yet: that is the reaper's. */
	process_forget(&child);
	int r = pid < 0 ? pid : process_watch(&child, pid, pidfd);
	if (r < 0)
		(void)fd_close(ends[0]);
	else
		*ret_end = ends[0];
	return r;
}

int successor_ask(uint64_t timeout_usec, void (*answered)(const char *why), struct error *e)
{
	CLEANUP_FD int state_fd = state_snapshot();
	int end = -1;
	int r = state_fd < 0 ? state_fd : fork_child(state_fd, timeout_usec, &end);

	answers.ready = answers_ready;
	if (r == 0 && (r = loop_add(&answers, end, EPOLLIN)) < 0)
		(void)fd_close(end);
	if (r < 0)
		return error_set(e, r, "cannot ask %s whether it could take over", INIT_PATH);
	fit = false;
	(void)snprintf(
		unfit, sizeof(unfit), "the child that asks %s ended without an answer", INIT_PATH);
	answered_hook = answered;
	timer.expired = timer_expired;
	timer_set(&timer, deadline_in(usec_add(timeout_usec, CHILD_USEC)));
	return 0;
}

bool successor_is_asked(void)
{
	return answers.fd >= 0;
}
