/* SPDX-License-Identifier: MIT */
#include "upgrade/judge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/close_apart.h"
#include "kernel/log.h"
#include "kernel/process.h"
#include "kernel/util.h"
#include "upgrade/child.h"
#include "upgrade/grafts.h"

/* Beside the time that --check-state may take: opening, reading, scanning. */
#define JUDGE_USEC (30 * USEC_PER_SEC)
#define FORCED_MAX 64

static struct child child = CHILD_NONE;
static bool forced;
static struct judgement judgement = {.image = -1};
static void (*emit_hook)(const char *text, size_t length);
static void (*judged_hook)(const struct judgement *j);

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

static void take_answer(struct child *c, struct child_answer *a)
{
	const struct record *r = a->record;

	(void)c;
	if (strcmp(r->kind, "image") == 0 && a->fd >= 0) {
		take_image(r, fd_steal(&a->fd));
	} else if (strcmp(r->kind, "graft") == 0 && a->fd >= 0) {
		if (grafts_add(r->id, fd_steal(&a->fd)) < 0)
			(void)snprintf(judgement.unfit, sizeof(judgement.unfit),
				"too many files are carried into the image");
	} else if (strcmp(r->kind, "unfit") == 0 || strcmp(r->kind, "same") == 0) {
		judgement.same = strcmp(r->kind, "same") == 0;
		copy_field(r, "text", judgement.unfit, sizeof(judgement.unfit));
	} else {
		if (strcmp(r->kind, "blocker") == 0)
			take_blocker(r);
		emit_hook(a->text, a->length);
	}
}

static void ended(struct child *c, int r)
{
	(void)c;
	if (r < 0)
		(void)snprintf(judgement.unfit, sizeof(judgement.unfit),
			"cannot receive what the child that looks at the image found: %s",
			strerror(-r));
	if (judgement.image < 0 && !judgement.unfit[0])
		(void)snprintf(judgement.unfit, sizeof(judgement.unfit),
			"the child that looks at the image ended without an answer");
	if (judgement.unfit[0])
		judgement.image = fd_close_apart(judgement.image);
	tell();
}

static void late(struct child *c)
{
	(void)c;
	drop_outcome();
	(void)snprintf(judgement.unfit, sizeof(judgement.unfit),
		"opening and checking the image took too long");
	tell();
}

void judge_cancel(void)
{
	if (!child_is_busy(&child))
		return;
	child_cancel(&child);
	drop_outcome();
}

int judge_begin(const struct image_request *request, void (*emit)(const char *text, size_t length),
	void (*judged)(const struct judgement *j), struct error *e)
{
	static const struct child_hooks hooks = {take_answer, ended, late};
	uint64_t deadline = deadline_in(usec_add(request->check_usec, JUDGE_USEC));
	int socket;

	pid_t pid = child_fork(&child, -1, &hooks, deadline, &socket);
	if (pid == 0)
		image_judge(request, socket);
	if (pid < 0)
		return error_set(
			e, pid, "cannot start looking at the image%s", process_fork_hint(pid));
	forced = request->force;
	emit_hook = emit;
	judged_hook = judged;
	return 0;
}
