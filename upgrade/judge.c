/* SPDX-License-Identifier: MIT */
#include "upgrade/judge.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "conf/protocol.h"
#include "kernel/close_apart.h"
#include "kernel/log.h"
#include "kernel/loop.h"
#include "kernel/process.h"
#include "kernel/util.h"
#include "upgrade/answer.h"
#include "upgrade/grafts.h"

/* Beside the time that --check-state may take: opening, reading, scanning. */
#define JUDGE_USEC (30 * USEC_PER_SEC)
#define FORCED_MAX 64

static struct process child = {.source.fd = -1};
static struct loop_source answers = {.fd = -1};
static struct loop_timer timer;
static bool forced;
static struct judgement judgement = {.image = -1};
static void (*emit_hook)(const char *text, size_t length);
static void (*judged_hook)(const struct judgement *j);

/* An image may lie in a packet that nobody has read: unless all of them were. */
static void stop_listening(bool all_read)
{
	int fd = answers.fd;

	loop_remove(&answers);
	(void)(all_read ? fd_close(fd) : fd_close_apart(fd));
	timer_cancel(&timer);
}

static void drop_outcome(void)
{
	judgement.image = fd_close_apart(judgement.image);
	free(judgement.leave);
	judgement = (struct judgement){.image = -1};
}

/* The image and what to leave are handed over: they are no longer ours to drop. */
static void tell(void)
{
	struct judgement j = judgement;

	judgement = (struct judgement){.image = -1};
	judged_hook(&j);
}

static void copy_field(const struct record *r, const char *key, char *buf, size_t size)
{
	const char *text = record_get(r, key);

	(void)snprintf(buf, size, "%s", text ? text : "");
}

static void take_image(const struct record *r, int fd)
{
	const char *leave = record_get(r, "leave");

	judgement.image = fd_close_apart(judgement.image); /* there is only one, but who knows */
	free(judgement.leave);
	judgement.leave = leave ? strdup(leave) : NULL;
	if (leave && !judgement.leave) {
		(void)fd_close_apart(fd);
		(void)snprintf(judgement.unfit, sizeof(judgement.unfit), "out of memory");
		return;
	}
	judgement.image = fd;
}

/* What was said yes to is in the log by name, as long as that is of use to anybody. */
static void take_blocker(const struct record *r)
{
	const char *text = record_get(r, "text");

	if (judgement.n_blockers++ == 0)
		copy_field(r, "text", judgement.blocker, sizeof(judgement.blocker));
	if (forced && judgement.n_blockers <= FORCED_MAX)
		log_warning("upgrade forced in spite of: %s", text ? text : "");
}

static void take_record(const struct record *r, const char *raw, size_t length, int fd)
{
	if (strcmp(r->kind, "image") == 0 && fd >= 0) {
		take_image(r, fd);
		return;
	}
	if (strcmp(r->kind, "graft") == 0 && fd >= 0) {
		if (grafts_add(r->id, fd) < 0)
			(void)snprintf(judgement.unfit, sizeof(judgement.unfit),
				"too many files are carried into the image");
		return;
	}
	(void)fd_close(fd);
	if (strcmp(r->kind, "unfit") == 0 || strcmp(r->kind, "same") == 0) {
		judgement.same = strcmp(r->kind, "same") == 0;
		copy_field(r, "text", judgement.unfit, sizeof(judgement.unfit));
		return;
	}
	if (strcmp(r->kind, "blocker") == 0)
		take_blocker(r);
	emit_hook(raw, length);
}

static void take_packet(const char *buf, size_t length, int fd)
{
	struct record_reader *reader;
	struct record r;

	if (record_reader_new(&reader, buf, length) < 0) {
		(void)fd_close(fd);
		return;
	}
	if (record_next(reader, &r) == 1)
		take_record(&r, buf, length, fd);
	else
		(void)fd_close(fd);
	record_reader_free(reader);
}

static void answers_ready(struct loop_source *s, uint32_t events)
{
	static char buf[CONTROL_PACKET_MAX];
	int fd;
	ssize_t n = answer_receive(s->fd, buf, sizeof(buf), &fd);

	(void)events;
	if (n == -EAGAIN || n == -EINTR || n == -EMSGSIZE)
		return;
	if (n > 0) {
		take_packet(buf, (size_t)n, fd);
		return;
	}
	stop_listening(n == 0);
	if (n < 0)
		(void)snprintf(judgement.unfit, sizeof(judgement.unfit),
			"cannot receive what the child that looks at the image found: %s",
			strerror((int)-n));
	if (judgement.image < 0 && !judgement.unfit[0])
		(void)snprintf(judgement.unfit, sizeof(judgement.unfit),
			"the child that looks at the image ended without an answer");
	if (judgement.unfit[0])
		judgement.image = fd_close_apart(judgement.image);
	tell();
}

static void timer_expired(struct loop_timer *t)
{
	(void)t;
	(void)process_signal(&child, SIGKILL);
	stop_listening(false);
	drop_outcome();
	(void)snprintf(judgement.unfit, sizeof(judgement.unfit),
		"opening and checking the image took too long");
	tell();
}

void judge_cancel(void)
{
	if (answers.fd < 0)
		return;
	(void)process_signal(&child, SIGKILL);
	stop_listening(false);
	drop_outcome();
}

int judge_begin(const struct image_request *request, void (*emit)(const char *text, size_t length),
	void (*judged)(const struct judgement *j), struct error *e)
{
	int ends[2], pidfd;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return error_set(e, errno, "cannot start looking at the image");
	pid_t pid = process_fork(-1, &pidfd);
	if (pid == 0) {
		(void)close(ends[0]);
		image_judge(request, ends[1]);
	}
	(void)fd_close(ends[1]);
	/* The last one may have said its word and not been reaped yet: that is the reaper's. */
	process_forget(&child);
	int r = pid < 0 ? pid : process_watch(&child, pid, pidfd);
	answers.ready = answers_ready;
	if (r == 0)
		r = loop_add(&answers, ends[0], EPOLLIN);
	if (r < 0) {
		(void)fd_close(ends[0]);
		return error_set(
			e, r, "cannot start looking at the image%s", process_fork_hint(pid));
	}
	forced = request->force;
	emit_hook = emit;
	judged_hook = judged;
	timer.expired = timer_expired;
	timer_set(&timer, deadline_in(usec_add(request->check_usec, JUDGE_USEC)));
	return 0;
}
