/* SPDX-License-Identifier: MIT */
/* The other mount namespaces, as told to a person. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernel/mounts.h"
#include "kernel/proc.h"
#include "kernel/util.h"
#include "upgrade/answer.h"
#include "upgrade/namespaces.h"
#include "upgrade/plan.h"
#include "upgrade/scout.h"

static const char *action_of(enum namespace_fate fate)
{
	switch (fate) {
	case NAMESPACE_SWAPPED:
		return "swap";
	case NAMESPACE_OWN_ROOT:
		return "leave";
	case NAMESPACE_BARRED:
		return "cannot";
	case NAMESPACE_UNKNOWN:
		break;
	}
	return "?";
}

static void tell(int socket, const struct namespace *ns)
{
	struct record_writer w = {0};
	char id[16], comm[64];

	(void)snprintf(id, sizeof(id), "%d", (int)ns->pid);
	proc_comm(ns->pid, comm, sizeof(comm));
	record_begin(&w, "namespace", id);
	record_text(&w, "comm", ns->pid > 0 ? comm : NULL);
	if (ns->held_fd >= 0)
		record_int(&w, "fd", ns->held_fd);
	record_text(&w, "path", ns->mount);
	record_text(&w, "action", action_of(ns->fate));
	record_text(&w, "why", ns->fate == NAMESPACE_BARRED ? ns->why : NULL);
	record_end(&w);
	answer_send(socket, &w);
}

/* Whether the new roots will have a group in place of that one (porter_work.c). */
static bool is_among(const struct namespaces *n, uint64_t group)
{
	bool found = n->main->peers == group;

	for (size_t i = 0; i < n->count && !found; i++)
		found = n->list[i].fate == NAMESPACE_SWAPPED && n->list[i].pivot.peers == group;
	return found;
}

/* A slave is a mount of its master's file system, and the new root lies on another one: from a
 * master that is not swapped as well nothing comes any more. */
static void warn_lost_masters(int socket, const struct namespaces *n)
{
	char name[NAMESPACE_NAME_MAX], text[NAMESPACE_NAME_MAX + 300];

	if (n->main->master)
		answer_text(socket, "warning",
			"the root mount is a slave of one outside of this system: what is mounted there on it does not come here any more, since the new root is no mount of that file system (what is mounted below /run, /var and other mounts still does)");
	for (size_t i = 0; i < n->count; i++) {
		const struct namespace *ns = &n->list[i];
		if (ns->fate != NAMESPACE_SWAPPED || !ns->pivot.master ||
			is_among(n, ns->pivot.master))
			continue;
		namespace_name(ns, name, sizeof(name));
		(void)snprintf(text, sizeof(text),
			"the root of the mount namespace %s is a slave of a mount that is not exchanged: what is mounted there on it does not come to it any more",
			name);
		answer_text(socket, "warning", text);
	}
}

static int find_groups(struct pivot *main, struct error *e)
{
	struct mount_table table = {0};
	int r = mount_id_of_fd(main->old_root, &main->old_id);

	if (r < 0)
		return error_set(e, r, "cannot identify the root mount");
	r = mount_table_read(&table, e);
	const struct mount *m = r < 0 ? NULL : mount_table_find(&table, main->old_id);
	main->peers = m ? m->peers : 0;
	main->master = m ? m->master : 0;
	mount_table_free(&table);
	return r;
}

static int take_roots(const struct namespaces *n, struct plan_roots *ret)
{
	uint64_t *ids = calloc(n->count ? n->count : 1, sizeof(*ids));
	size_t count = 0;

	if (!ids)
		return -ENOMEM;
	for (size_t i = 0; i < n->count; i++)
		if (n->list[i].fate == NAMESPACE_SWAPPED)
			ids[count++] = n->list[i].pivot.old_id;
	*ret = (struct plan_roots){ids, count};
	return 0;
}

int plan_namespaces(int socket, int tree, int root, const char *leave, struct plan_roots *roots,
	struct error *e)
{
	CLEANUP_FD int own = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct pivot main;
	struct namespaces n;

	if (own < 0)
		return error_set(e, errno, "cannot open /");
	pivot_init(&main);
	main.old_root = own;
	main.new_root = root;
	main.leave = (char *)leave;
	int r = namespaces_find(&n, tree, e);
	if (r == 0)
		r = find_groups(&main, e);
	n.main = &main;
	n.look_only = true;
	if (r == 0 && namespaces_to_look_at(&n))
		r = scout_run(&n, e);
	for (size_t i = 0; r == 0 && i < n.count; i++)
		tell(socket, &n.list[i]);
	if (r == 0)
		warn_lost_masters(socket, &n);
	if (r == 0 && take_roots(&n, roots) < 0)
		r = error_set(e, ENOMEM, "cannot plan");
	namespaces_done(&n);
	return r;
}
