/* SPDX-License-Identifier: MIT */
#include "init/successor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "init/reexec.h"
#include "init/state.h"
#include "kernel/log.h"
#include "kernel/util.h"
#include "upgrade/answer.h"
#include "upgrade/check_state.h"
#include "upgrade/child.h"

/* Beside the time that the answer may take. */
#define CHILD_USEC (5 * USEC_PER_SEC)

static struct child child = CHILD_NONE;
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
	child_leave(&child);
	answered_hook(fit ? NULL : unfit);
}

static void take_answer(struct child *c, struct child_answer *a)
{
	const char *text = record_get(a->record, "text");

	(void)c;
	if (strcmp(a->record->kind, "fit") == 0) {
		fit = true;
		finish();
	} else if (strcmp(a->record->kind, "unfit") == 0) {
		(void)snprintf(unfit, sizeof(unfit), "%s", text ? text : "");
	} else {
		log_warning("%s: %s", INIT_PATH, text ? text : "");
	}
}

static void ended(struct child *c, int r)
{
	(void)c;
	(void)r;
	finish();
}

static void late(struct child *c)
{
	(void)c;
	(void)snprintf(unfit, sizeof(unfit), "asking %s whether it could take over took too long",
		INIT_PATH);
	finish();
}

int successor_ask(uint64_t timeout_usec, void (*answered)(const char *why), struct error *e)
{
	static const struct child_hooks hooks = {take_answer, ended, late};
	CLEANUP_FD int state_fd = state_snapshot();
	uint64_t deadline = deadline_in(usec_add(timeout_usec, CHILD_USEC));
	int socket;

	pid_t pid = state_fd < 0 ? state_fd : child_fork(&child, -1, &hooks, deadline, &socket);
	if (pid == 0)
		ask(state_fd, timeout_usec, socket);
	if (pid < 0)
		return error_set(e, pid, "cannot ask %s whether it could take over", INIT_PATH);
	fit = false;
	(void)snprintf(
		unfit, sizeof(unfit), "the child that asks %s ended without an answer", INIT_PATH);
	answered_hook = answered;
	return 0;
}

bool successor_is_asked(void)
{
	return child_is_busy(&child);
}
