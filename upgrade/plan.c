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
#include "upgrade/answer.h"
#include "upgrade/pivot.h"

enum holder_action plan_holder_action(
	const struct holder *h, enum upgrade_policy policy, bool counterpart, bool reachable)
{
	bool replaced = policy != POLICY_KEEP;

	switch (h->what) {
	case HELD_FILE:
		if (holder_is_writer(h) && !h->deleted)
			return ACTION_BLOCKS;
		return replaced ? ACTION_REPLACE : ACTION_STAYS;
	case HELD_EXE:
		return replaced ? ACTION_REPLACE : ACTION_STAYS;
	case HELD_ROOT:
	case HELD_CWD:
	case HELD_DIRFD:
		if (counterpart && !h->deleted && reachable)
			return ACTION_MIGRATE;
		return replaced ? ACTION_REPLACE : ACTION_STAYS;
	}
	return ACTION_STAYS;
}

static const char *action_name(enum holder_action action)
{
	switch (action) {
	case ACTION_MIGRATE:
		return "migrate";
	case ACTION_REPLACE:
		return "replace";
	case ACTION_STAYS:
		return "stays";
	case ACTION_BLOCKS:
		return "blocks";
	}
	return "?";
}

void plan_header(int socket, const struct image_request *q, int root)
{
	struct record_writer w = {0};
	char from[256], to[256];

	image_name(AT_FDCWD, from, sizeof(from));
	image_name(root, to, sizeof(to));
	record_begin(&w, "plan", q->path);
	record_int(&w, "generation", q->generation);
	record_text(&w, "from", from);
	record_text(&w, "to", to);
	record_end(&w);
	answer_send(socket, &w);
}

static void send_mount(int socket, const struct mount *m, const char *action)
{
	struct record_writer w = {0};

	record_begin(&w, "mount", m->target);
	record_text(&w, "action", action);
	record_text(&w, "fstype", m->fstype);
	record_end(&w);
	answer_send(socket, &w);
}

static int plan_mount(
	int socket, const struct mount *m, int root, const char *leave, struct error *e)
{
	if (leave && strcmp(leave, m->target) == 0) {
		send_mount(socket, m, "leave");
		return 0;
	}
	CLEANUP_FD int from = open_mount(m, e);
	if (from < 0)
		return from;
	CLEANUP_FD int to = open_mount_point(root, m->target, e);
	if (to < 0)
		return to;
	send_mount(socket, m, "move");
	return 0;
}

int plan_mounts(int socket, int root, const char *leave, struct error *e)
{
	struct mount_table table = {0};
	uint64_t id;
	int r = mount_id_at(AT_FDCWD, "/", &id);

	if (r < 0)
		return error_set(e, r, "cannot identify the root mount");
	r = mount_table_read(&table, e);
	for (size_t i = 0; r == 0 && i < table.count; i++)
		if (table.mounts[i].parent == id && table.mounts[i].id != id)
			r = plan_mount(socket, &table.mounts[i], root, leave, e);
	mount_table_free(&table);
	return r;
}

static void describe_service(const struct service *s, char *buf, size_t size)
{
	const struct unit *u = s->unit;
	const char *signal = u->reexec_signal ? sigabbrev_np(u->reexec_signal) : NULL;
	const char *finish = u->reexec_finish_signal ? sigabbrev_np(u->reexec_finish_signal) : NULL;

	if (s->state != STATE_RUNNING) {
		(void)snprintf(buf, size, "nothing: it is %s", service_state_name(s->state));
		return;
	}
	switch (u->policy) {
	case POLICY_REEXEC:
		(void)snprintf(buf, size, "re-execs itself on SIG%s%s%s%s", signal ? signal : "?",
			finish ? ", then SIG" : "", finish ? finish : "",
			finish ? " to its old main process" : "");
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

	if (s->state != STATE_RUNNING || s->unit->policy != POLICY_REEXEC || s->unit->reexec_signal)
		return;
	(void)snprintf(text, sizeof(text),
		"%s has Policy=reexec and no ReexecSignal= to ask it by (%s)", s->unit->name,
		s->unit->source);
	answer_text(socket, "blocker", text);
}

int plan_services(int socket, struct error *e)
{
	(void)e;
	for (struct service *s = set_first(); s; s = s->next) {
		struct record_writer w = {0};
		char action[256];
		describe_service(s, action, sizeof(action));
		record_begin(&w, "service", s->unit->name);
		record_text(&w, "policy", upgrade_policy_name(s->unit->policy));
		record_text(&w, "action", action);
		record_end(&w);
		answer_send(socket, &w);
		check_service(socket, s);
	}
	return 0;
}

void plan_advice(const struct holder *h, char *buf, size_t size)
{
	char unit[256];

	holder_unit(h, unit, sizeof(unit));
	if (set_find(unit))
		(void)snprintf(buf, size, "restart %s to release it", unit);
	else
		(void)snprintf(buf, size, "end process %d to release it", (int)h->pid);
}

void plan_write_holder(struct record_writer *w, const struct holder *h, unsigned generation,
	const char *action, const char *advice)
{
	char comm[64], unit[256], id[16];
	int access = h->flags & O_ACCMODE;

	proc_comm(h->pid, comm, sizeof(comm));
	holder_unit(h, unit, sizeof(unit));
	(void)snprintf(id, sizeof(id), "%d", (int)h->pid);
	record_begin(w, "holder", id);
	record_text(w, "comm", comm);
	record_text(w, "unit", unit);
	record_int(w, "generation", generation);
	record_text(w, "what", held_name(h->what));
	if (h->fd >= 0) {
		record_int(w, "fd", h->fd);
		record_text(w, "mode", access == O_RDONLY ? "r" : access == O_WRONLY ? "w" : "rw");
	}
	if (h->tid != h->pid)
		record_int(w, "tid", h->tid);
	record_text(w, "path", h->path);
	record_text(w, "action", action);
	record_text(w, "advice", advice);
	record_end(w);
}

static void send_blocker(int socket, const struct holder *h)
{
	char comm[64], text[PATH_MAX + 200];

	proc_comm(h->pid, comm, sizeof(comm));
	(void)snprintf(text, sizeof(text),
		"process %d (%s) has %s open for writing on the old image (fd %d): what it writes would vanish with it",
		(int)h->pid, comm, h->path, h->fd);
	answer_text(socket, "blocker", text);
}

static void send_holder(
	int socket, const struct holder *h, enum holder_action action, const char *advice)
{
	struct record_writer w = {0};

	plan_write_holder(&w, h, 0, action_name(action), advice);
	answer_send(socket, &w);
}

static void plan_holder(int socket, const struct holder *h, int root)
{
	char unit[256], advice[400] = "";
	const struct service *s;
	struct error why = {0};
	bool directory = h->what == HELD_ROOT || h->what == HELD_CWD || h->what == HELD_DIRFD;
	bool reachable = !directory || inject_check(h->tid, &why) == 0;

	holder_unit(h, unit, sizeof(unit));
	s = set_find(unit);
	/* Opening it also brings it into the cache, for the blackout. */
	CLEANUP_FD int fd = directory ? open_in_root(root, h->path, O_PATH | O_DIRECTORY) : -1;
	enum holder_action action =
		plan_holder_action(h, s ? s->unit->policy : POLICY_KEEP, fd >= 0, reachable);
	if (action == ACTION_BLOCKS)
		send_blocker(socket, h);
	if (action == ACTION_STAYS && directory && !reachable)
		(void)snprintf(advice, sizeof(advice), "%s", why.text);
	else if (action == ACTION_STAYS && directory && fd < 0)
		(void)snprintf(advice, sizeof(advice), "the new image has no such directory");
	else if (action != ACTION_MIGRATE && action != ACTION_REPLACE)
		plan_advice(h, advice, sizeof(advice));
	send_holder(socket, h, action, advice[0] ? advice : NULL);
}

int plan_holders(int socket, int tree, int root, struct error *e)
{
	struct holders h = {0};
	uint64_t id;
	int r = mount_id_at(AT_FDCWD, "/", &id);

	if (r < 0)
		return error_set(e, r, "cannot identify the root mount");
	r = holders_scan(&h, tree, &id, 1, true, true, e);
	for (size_t i = 0; r == 0 && i < h.count; i++)
		plan_holder(socket, &h.list[i], root);
	holders_free(&h);
	return r;
}
