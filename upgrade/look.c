/* SPDX-License-Identifier: MIT */
#include "upgrade/look.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "conf/protocol.h"
#include "kernel/loop.h"
#include "kernel/process.h"
#include "kernel/util.h"
#include "upgrade/answer.h"
#include "upgrade/plan.h"

#define LOOKS_MAX 4
#define LOOK_USEC (60 * USEC_PER_SEC)

struct look {
	bool busy;
	unsigned id;
	const struct look_hooks *hooks;
	struct process child;
	struct loop_source answers;
	struct loop_timer timer;
	bool complete;
	char why[256];
};

static struct look looks[LOOKS_MAX];

/* The child's side */

static void answer_holder(int socket, const struct holder *h, const struct look_image *images)
{
	struct record_writer w = {0};

	/* A watch does not keep a file system, and of what is under way nobody knows. */
	if (h->what == HELD_WATCH || h->image == HOLDERS_NO_IMAGE)
		return;
	plan_write_holder(&w, h, images[h->image].generation, ACTION_STAYS, NULL);
	answer_send(socket, &w);
}

static void __attribute__((noreturn))
look_as_child(int socket, int tree, const struct look_image *images, unsigned n)
{
	struct holders_image *asked = calloc(n ? n : 1, sizeof(*asked));
	struct holders h = {0};
	struct error e;
	char text[128];

	for (unsigned i = 0; asked && i < n; i++)
		asked[i] = images[i].image;
	if (!asked || holders_look(&h, tree, asked, n, getppid(), &e) < 0) {
		answer_text(socket, "incomplete", asked ? e.text : "out of memory");
		_exit(0);
	}
	for (size_t i = 0; i < h.count; i++)
		answer_holder(socket, &h.list[i], images);
	(void)snprintf(
		text, sizeof(text), "%zu more references to older images are not listed", h.n_more);
	if (h.n_more > 0)
		answer_text(socket, "warning", text);
	answer_text(socket, "looked", "");
	_exit(0);
}

/* PID 1's side */

static void stop(struct look *l)
{
	int fd = l->answers.fd;

	loop_remove(&l->answers);
	(void)fd_close(fd);
	timer_cancel(&l->timer);
	l->busy = false;
}

static void take_record(struct look *l, const struct record *r, const char *raw, size_t length)
{
	const char *text = record_get(r, "text");

	if (strcmp(r->kind, "looked") == 0)
		l->complete = true;
	else if (strcmp(r->kind, "incomplete") == 0)
		(void)snprintf(l->why, sizeof(l->why), "%s", text ? text : "");
	else if (strcmp(r->kind, "holder") == 0)
		l->hooks->record(l->id, (unsigned)record_get_int(r, "generation", 0), raw, length);
	else
		l->hooks->record(l->id, 0, raw, length);
}

static void take_packet(struct look *l, const char *buf, size_t length)
{
	struct record_reader *reader;
	struct record r;

	if (record_reader_new(&reader, buf, length) < 0)
		return;
	if (record_next(reader, &r) == 1)
		take_record(l, &r, buf, length);
	record_reader_free(reader);
}

static void end(struct look *l)
{
	if (!l->complete && !l->why[0])
		(void)snprintf(l->why, sizeof(l->why),
			"the child that looks for holders ended without an answer");
	stop(l);
	l->hooks->done(l->id, l->complete ? NULL : l->why);
}

static void answers_ready(struct loop_source *s, uint32_t events)
{
	static char buf[CONTROL_PACKET_MAX];
	struct look *l = (struct look *)((char *)s - offsetof(struct look, answers));
	int fd;
	ssize_t n = answer_receive(s->fd, buf, sizeof(buf), &fd);

	(void)events;
	(void)fd_close(fd);
	if (n == -EAGAIN || n == -EINTR || n == -EMSGSIZE)
		return;
	if (n > 0)
		take_packet(l, buf, (size_t)n);
	else
		end(l);
}

static void timer_expired(struct loop_timer *t)
{
	struct look *l = (struct look *)((char *)t - offsetof(struct look, timer));

	(void)process_signal(&l->child, SIGKILL);
	(void)snprintf(l->why, sizeof(l->why), "looking for holders took too long");
	l->complete = false;
	end(l);
}

void look_cancel_all(void)
{
	for (size_t i = 0; i < LOOKS_MAX; i++) {
		if (!looks[i].busy)
			continue;
		(void)process_signal(&looks[i].child, SIGKILL);
		stop(&looks[i]);
	}
}

static struct look *find_free(void)
{
	for (size_t i = 0; i < LOOKS_MAX; i++)
		if (!looks[i].busy)
			return &looks[i];
	return NULL;
}

static int start(struct look *l, int tree, const struct look_image *images, unsigned n)
{
	int ends[2], pidfd;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	pid_t pid = process_fork(-1, &pidfd);
	if (pid == 0) {
		(void)close(ends[0]);
		look_as_child(ends[1], tree, images, n);
	}
	(void)fd_close(ends[1]);
	/* The last one may have said its word and not been reaped yet: that is the reaper's. */
	process_forget(&l->child);
	int r = pid < 0 ? pid : process_watch(&l->child, pid, pidfd);
	if (r == 0)
		r = loop_add(&l->answers, ends[0], EPOLLIN);
	if (r < 0)
		(void)fd_close(ends[0]);
	return r;
}

int look_begin(unsigned id, int tree, const struct look_image *images, unsigned n,
	const struct look_hooks *hooks, struct error *e)
{
	struct look *l = find_free();

	if (!l)
		return error_say(
			e, EBUSY, "busy: several others ask who holds what just now; try again");
	l->answers.ready = answers_ready;
	l->timer.expired = timer_expired;
	l->complete = false;
	l->why[0] = '\0';
	l->id = id;
	l->hooks = hooks;
	int r = start(l, tree, images, n);
	if (r < 0)
		return error_set(e, r, "cannot look for holders");
	l->busy = true;
	timer_set(&l->timer, deadline_in(LOOK_USEC));
	return 0;
}
