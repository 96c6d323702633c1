/* SPDX-License-Identifier: MIT */
/* What a person can do about a holder, in one sentence. */
#include <stdio.h>
#include <string.h>

#include "kernel/proc.h"
#include "services/set.h"
#include "upgrade/plan.h"

/* The service that PID 1 holds that socket for; NULL: none that is known. */
static const struct service *listener_of(const struct holder *h)
{
	for (const struct service *s = set_first(); s; s = s->next)
		for (size_t i = 0; i < s->n_listen; i++)
			if (strcmp(s->listen[i].address, h->path) == 0)
				return s;
	return NULL;
}

/* PID 1 has nothing of the image but what it keeps for services. */
static void advise_on_init(const struct holder *h, const char *unit, char *buf, size_t size)
{
	const struct service *listener = listener_of(h);

	if (listener)
		(void)snprintf(buf, size, "name a place below /run in ListenStream= of %s",
			listener->unit->name);
	else
		(void)snprintf(buf, size,
			"%s has stored it with init (FDSTORE=1): have it bind it below /run, or stop it",
			set_find(unit) ? unit : "a service");
}

static void advise_service(
	const struct holder *h, enum holder_action action, const char *unit, char *buf, size_t size)
{
	char terminal[32];

	if (action == ACTION_BLOCKS && h->what == HELD_SOCKET)
		(void)snprintf(buf, size,
			"have %s bind it below /run, stop it, or give it Policy=restart", unit);
	else if (action == ACTION_BLOCKS)
		(void)snprintf(buf, size,
			"keep what %s writes on a mount of its own, stop it, or give it Policy=restart",
			unit);
	else if (h->what == HELD_WATCH)
		(void)snprintf(buf, size, "restart %s for it to watch the new image", unit);
	else if (proc_terminal(h->pid, terminal, sizeof(terminal)))
		(void)snprintf(
			buf, size, "log out of %s to release it, or restart %s", terminal, unit);
	else
		(void)snprintf(buf, size, "restart %s to release it", unit);
}

/* Of no service: a session, or what somebody has left running. */
static void advise_stranger(
	const struct holder *h, enum holder_action action, const char *unit, char *buf, size_t size)
{
	char comm[64], who[400], terminal[32];

	proc_comm(h->pid, comm, sizeof(comm));
	(void)snprintf(who, sizeof(who), "process %d (%s%s%s)", (int)h->pid, comm,
		*unit ? ", of " : "", unit);
	if (action == ACTION_BLOCKS)
		(void)snprintf(buf, size, "end %s, or have it %s", who,
			h->what == HELD_SOCKET ? "bind it below /run"
					       : "write below /run or on a mount of its own");
	else if (h->what == HELD_WATCH)
		(void)snprintf(buf, size, "start %s again for it to watch the new image", who);
	else if (proc_terminal(h->pid, terminal, sizeof(terminal)))
		(void)snprintf(buf, size, "log out of %s or end %s to release it", terminal, who);
	else
		(void)snprintf(buf, size, "end %s, or log out of its session, to release it", who);
}

static void advise_on_mount(const struct holder *h, char *buf, size_t size)
{
	char comm[64], where[128] = "";

	proc_comm(h->pid, comm, sizeof(comm));
	if (h->pid > 0)
		(void)snprintf(where, sizeof(where),
			" in the mount namespace of process %d (%s), or end that,", (int)h->pid,
			comm);
	(void)snprintf(buf, size,
		"unmount %s%s to release it; mounted again it shows the image that runs then",
		h->path, where);
}

static void advise(const struct holder *h, enum holder_action action, char *buf, size_t size)
{
	char unit[256];

	holder_unit(h, unit, sizeof(unit));
	if (h->what == HELD_MOUNT)
		advise_on_mount(h, buf, size);
	else if (h->of_init || h->pid == 1)
		advise_on_init(h, unit, buf, size);
	else if (h->pid == 0)
		(void)snprintf(buf, size, "look for who uses %s", h->path);
	else if (set_find(unit))
		advise_service(h, action, unit, buf, size);
	else
		advise_stranger(h, action, unit, buf, size);
}

void plan_advice(const struct holder *h, enum holder_action action, const char *remedy, char *buf,
	size_t size)
{
	(void)snprintf(buf, size, "%s", remedy ? remedy : "");
	if (!*buf && (action == ACTION_STAYS || action == ACTION_BLOCKS))
		advise(h, action, buf, size);
}
