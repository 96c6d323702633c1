/* SPDX-License-Identifier: MIT */
#include "upgrade/look.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernel/proc.h"
#include "kernel/util.h"
#include "upgrade/answer.h"
#include "upgrade/child.h"
#include "upgrade/obstacle.h"
#include "upgrade/plan.h"

#define LOOKS_MAX 4
#define LOOK_USEC (60 * USEC_PER_SEC)

struct look {
	struct child child;
	unsigned id;
	const struct look_hooks *hooks;
	bool complete;
	char why[256];
};

static struct look looks[LOOKS_MAX] = {[0 ... LOOKS_MAX - 1] = {.child = CHILD_NONE}};

/* The child's side */

/* It may be of an older generation, or of the one that runs. */
static void answer_doubt(int socket, const struct holder *h)
{
	char comm[64], text[PATH_MAX + 300], what[PATH_MAX + 64];

	proc_comm(h->pid, comm, sizeof(comm));
	if (h->what == HELD_QUEUED)
		(void)snprintf(what, sizeof(what), "%u descriptor%s that wait%s in its socket",
			h->more + 1, h->more ? "s" : "", h->more ? "" : "s");
	else
		(void)snprintf(what, sizeof(what), "%s registered with io_uring", h->path);
	(void)snprintf(text, sizeof(text),
		"process %d (%s) has %s (fd %d): of which generation, the kernel does not tell",
		(int)h->pid, comm, what, h->fd);
	answer_text(socket, "warning", text);
}

static void answer_holder(
	int socket, const struct holder *h, const struct look_image *images, struct obstacle *o)
{
	struct record_writer w = {0};
	const char *why = NULL, *remedy = NULL;

	if (h->image == HOLDERS_NO_IMAGE) {
		answer_doubt(socket, h);
		return;
	}
	if (h->what == HELD_WATCH)
		return; /* it does not keep a file system */
	if (held_is_directory(h->what) && h->pid > 0) {
		obstacle_look(o, h->tid);
		why = o->why[0] ? o->why : o->delay;
		remedy = o->advice;
	}
	plan_write_holder(&w, h, images[h->image].generation, ACTION_STAYS, why, remedy);
	answer_send(socket, &w);
}

static void __attribute__((noreturn))
look_as_child(int socket, int tree, const struct look_image *images, unsigned n)
{
	struct holders_image *asked = calloc(n ? n : 1, sizeof(*asked));
	struct holders h = {0};
	struct obstacle obstacle = {0};
	struct error e;
	char text[128];

	for (unsigned i = 0; asked && i < n; i++)
		asked[i] = images[i].image;
	if (!asked || holders_look(&h, tree, asked, n, getppid(), &e) < 0) {
		answer_text(socket, "incomplete", asked ? e.text : "out of memory");
		_exit(0);
	}
	for (size_t i = 0; n > 0 && i < h.count; i++)
		answer_holder(socket, &h.list[i], images, &obstacle);
	(void)snprintf(
		text, sizeof(text), "%zu more references to older images are not listed", h.n_more);
	if (h.n_more > 0)
		answer_text(socket, "warning", text);
	answer_text(socket, "looked", "");
	_exit(0);
}

/* PID 1's side */

static void take_answer(struct child *c, struct child_answer *a)
{
	struct look *l = CONTAINER_OF(c, struct look, child);
	const struct record *r = a->record;
	const char *text = record_get(r, "text");

	if (strcmp(r->kind, "looked") == 0)
		l->complete = true;
	else if (strcmp(r->kind, "incomplete") == 0)
		(void)snprintf(l->why, sizeof(l->why), "%s", text ? text : "");
	else if (strcmp(r->kind, "holder") == 0)
		l->hooks->record(
			l->id, (unsigned)record_get_int(r, "generation", 0), a->text, a->length);
	else
		l->hooks->record(l->id, 0, a->text, a->length);
}

static void ended(struct child *c, int r)
{
	struct look *l = CONTAINER_OF(c, struct look, child);

	(void)r;
	if (!l->complete && !l->why[0])
		(void)snprintf(l->why, sizeof(l->why),
			"the child that looks for holders ended without an answer");
	l->hooks->done(l->id, l->complete ? NULL : l->why);
}

static void late(struct child *c)
{
	struct look *l = CONTAINER_OF(c, struct look, child);

	l->hooks->done(l->id, "looking for holders took too long");
}

void look_cancel_all(void)
{
	for (size_t i = 0; i < LOOKS_MAX; i++)
		child_cancel(&looks[i].child);
}

static struct look *find_free(void)
{
	for (size_t i = 0; i < LOOKS_MAX; i++)
		if (!child_is_busy(&looks[i].child))
			return &looks[i];
	return NULL;
}

int look_begin(unsigned id, int tree, const struct look_image *images, unsigned n,
	const struct look_hooks *hooks, struct error *e)
{
	static const struct child_hooks own = {take_answer, ended, late};
	struct look *l = find_free();
	int socket;

	if (!l)
		return error_say(
			e, EBUSY, "busy: several others ask who holds what just now; try again");
	l->complete = false;
	l->why[0] = '\0';
	l->id = id;
	l->hooks = hooks;
	pid_t pid = child_fork(&l->child, -1, &own, deadline_in(LOOK_USEC), &socket);
	if (pid == 0)
		look_as_child(socket, tree, images, n);
	return pid < 0 ? error_set(e, pid, "cannot look for holders") : 0;
}
