/* SPDX-License-Identifier: MIT */
/* The other mount namespaces, as told to a person. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

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

int plan_namespaces(int socket, int tree, int root, const char *leave, struct error *e)
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
	n.main = &main;
	n.look_only = true;
	if (r == 0 && namespaces_to_look_at(&n))
		r = scout_run(&n, e);
	for (size_t i = 0; r == 0 && i < n.count; i++)
		tell(socket, &n.list[i]);
	namespaces_done(&n);
	return r;
}
