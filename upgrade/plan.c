/* SPDX-License-Identifier: MIT */
#include "upgrade/plan.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/record.h"
#include "kernel/inject.h"
#include "kernel/mounts.h"
#include "kernel/proc.h"
#include "kernel/util.h"
#include "services/set.h"
#include "services/vote.h"
#include "upgrade/answer.h"
#include "upgrade/pivot.h"

void plan_header(int socket, const struct image_request *q, const struct image *image)
{
	struct record_writer w = {0};
	char from[256], to[256];

	image_name(AT_FDCWD, from, sizeof(from));
	image_name(image->root, to, sizeof(to));
	record_begin(&w, "plan", q->path);
	record_int(&w, "generation", q->generation);
	record_text(&w, "from", from);
	record_text(&w, "to", to);
	record_text(&w, "image", image_kind_name(image->kind));
	record_text(&w, "fstype", image->fstype);
	record_text(&w, "mode", image->read_only ? "ro" : "rw");
	record_text(&w, "device", image->device[0] ? image->device : NULL);
	if (image->verity)
		record_bool(&w, "verity", true);
	record_end(&w);
	answer_send(socket, &w);
}

static void send_mount(int socket, const struct mount *m, const struct pivot_mount *moved)
{
	struct record_writer w = {0};

	record_begin(&w, "mount", m->target);
	record_text(&w, "action", !moved ? "leave" : moved->to < 0 ? "make" : "move");
	record_text(&w, "fstype", m->fstype);
	if (moved && strcmp(moved->place, moved->path) != 0)
		record_text(&w, "to", moved->place);
	record_end(&w);
	answer_send(socket, &w);
}

static const struct pivot_mount *find_moved(const struct pivot *p, uint64_t id)
{
	for (size_t i = 0; i < p->n_mounts; i++)
		if (p->mounts[i].id == id)
			return &p->mounts[i];
	return NULL;
}

int plan_mounts(int socket, int root, const char *leave, struct error *e)
{
	struct mount_table table = {0};
	struct pivot p;
	int r = pivot_look(&p, root, leave, e);

	if (r == 0)
		r = mount_table_read(&table, e);
	for (size_t i = 0; r == 0 && i < table.count; i++)
		if (table.mounts[i].parent == p.old_id && table.mounts[i].id != p.old_id)
			send_mount(socket, &table.mounts[i], find_moved(&p, table.mounts[i].id));
	mount_table_free(&table);
	pivot_done(&p);
	return r;
}

static void describe_reexec(const struct service *s, char *buf, size_t size)
{
	const struct unit *u = s->unit;
	const char *signal = u->reexec_signal ? sigabbrev_np(u->reexec_signal) : NULL;
	const char *finish = u->reexec_finish_signal ? sigabbrev_np(u->reexec_finish_signal) : NULL;

	if (vote_asks(s))
		(void)snprintf(buf, size, "re-execs itself when it is told to by $MOLT_FD");
	else
		(void)snprintf(buf, size, "re-execs itself on SIG%s%s%s%s", signal ? signal : "?",
			finish ? ", then SIG" : "", finish ? finish : "",
			finish ? " to its old main process" : "");
}

static void describe_service(const struct service *s, char *buf, size_t size)
{
	const struct unit *u = s->unit;

	if (s->state != STATE_RUNNING) {
		(void)snprintf(buf, size, "nothing: it is %s", service_state_name(s->state));
		return;
	}
	switch (u->policy) {
	case POLICY_REEXEC:
		describe_reexec(s, buf, size);
		return;
	case POLICY_HANDOVER:
		(void)snprintf(
			buf, size, "a new instance takes over its sockets, the old one drains");
		return;
	case POLICY_RESTART:
		(void)snprintf(buf, size, "is stopped and started");
		return;
	case POLICY_KEEP:
		(void)snprintf(buf, size, "goes on undisturbed, on the old code%s",
			u->policy_set ? "" : " (no Policy= is set for it)");
		return;
	}
}

static void check_service(int socket, const struct service *s)
{
	char text[512];

	if (s->state != STATE_RUNNING || s->unit->policy != POLICY_REEXEC ||
		s->unit->reexec_signal || vote_asks(s))
		return;
	(void)snprintf(text, sizeof(text), "%s has Policy=reexec and nothing to ask it by: %s (%s)",
		s->unit->name,
		s->unit->handshake ? "it has closed its $MOLT_FD"
				   : "neither ReexecSignal= nor Handshake=yes",
		s->unit->source);
	answer_text(socket, "blocker", text);
}

const struct service *plan_find_draining(pid_t *ret_pid)
{
	for (const struct service *s = set_first(); s; s = s->next) {
		if (s->unit->policy == POLICY_KEEP || (!s->draining && !s->old_main.pid))
			continue;
		*ret_pid = s->draining ? s->draining->main.pid : s->old_main.pid;
		return s;
	}
	return NULL;
}

static void check_draining(int socket)
{
	char text[512];
	pid_t pid;
	const struct service *s = plan_find_draining(&pid);

	if (!s)
		return;
	(void)snprintf(text, sizeof(text),
		"%s still drains: its process %d from before the last upgrade serves on, and an upgrade is refused as long as it does",
		s->unit->name, (int)pid);
	answer_text(socket, "warning", text);
}

int plan_services(int socket, struct error *e)
{
	(void)e;
	check_draining(socket);
	for (struct service *s = set_first(); s; s = s->next) {
		struct record_writer w = {0};
		bool asked = vote_asks(s);
		char action[256], text[300];
		describe_service(s, action, sizeof(action));
		(void)snprintf(text, sizeof(text), "%s%s", asked ? "is asked first; " : "", action);
		record_begin(&w, "service", s->unit->name);
		record_text(&w, "policy", upgrade_policy_name(s->unit->policy));
		record_text(&w, "action", text);
		if (asked)
			record_bool(&w, "asked", true);
		record_end(&w);
		answer_send(socket, &w);
		check_service(socket, s);
	}
	return 0;
}
