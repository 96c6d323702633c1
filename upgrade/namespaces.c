/* SPDX-License-Identifier: MIT */
#include "upgrade/namespaces.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "kernel/cgroup.h"
#include "kernel/log.h"
#include "kernel/mount_ns.h"
#include "kernel/mounts.h"
#include "kernel/proc.h"
#include "kernel/util.h"
#include "upgrade/porter.h"
#include "upgrade/scout.h"

/* Who is where: each process, and each thread with an fs struct of its own, for a namespace of its
 * own comes with one. */

struct search {
	int (*found)(struct search *s, uint64_t id, pid_t tid);
	struct namespaces *n;
};

static const struct namespace *find(const struct namespaces *n, uint64_t id)
{
	for (size_t i = 0; i < n->count; i++)
		if (n->list[i].id == id)
			return &n->list[i];
	return NULL;
}

static int look_at_task(struct search *s, pid_t tid)
{
	uint64_t id;
	int r = mount_ns_id(tid, &id);

	/* A zombie is in none: the link is there and leads nowhere. */
	if (r < 0)
		return proc_is_gone(r) || r == -EACCES ? 0 : r;
	return id == s->n->own_id || find(s->n, id) ? 0 : s->found(s, id, tid);
}

static int look_at_process(struct search *s, pid_t pid)
{
	struct pid_array threads = {0};
	int r = look_at_task(s, pid);

	if (r != 0)
		return r;
	r = proc_has_threads(pid);
	if (r > 0)
		r = proc_threads(pid, &threads);
	if (proc_is_gone(r))
		r = 0;
	for (size_t i = 0; r == 0 && i < threads.count; i++)
		if (threads.pids[i] != pid && !proc_same_fs(pid, threads.pids[i]))
			r = look_at_task(s, threads.pids[i]);
	pid_array_free(&threads);
	return r;
}

static int look_at_cgroup(int cgroup, const char *path, void *userdata)
{
	struct pid_array list = {0};
	int r = cgroup_pids(cgroup, "cgroup.procs", &list);

	(void)path;
	if (r == -ENODEV || r == -ENOENT)
		r = 0; /* removed while we looked */
	for (size_t i = 0; r == 0 && i < list.count; i++)
		r = look_at_process(userdata, list.pids[i]);
	pid_array_free(&list);
	return r;
}

static int look_through_tree(struct search *s)
{
	return cgroup_walk(s->n->tree, look_at_cgroup, s);
}

/* Before the freeze */

static int add(struct search *s, uint64_t id, pid_t tid)
{
	struct namespaces *n = s->n;
	struct namespace *grown = reallocarray(n->list, n->count + 1, sizeof(*grown));
	bool ours;

	if (!grown)
		return -ENOMEM;
	n->list = grown;
	CLEANUP_FD int fd = mount_ns_open(tid);
	if (fd < 0)
		return proc_is_gone(fd) ? 0 : fd;
	struct namespace *new = &n->list[n->count];
	*new = (struct namespace){.id = id, .pid = tid, .copy = -1};
	pivot_init(&new->pivot);
	int r = mount_ns_is_ours(fd, &ours);
	if (r < 0)
		return r;
	if (!ours)
		(void)snprintf(new->why, sizeof(new->why),
			"another user namespace owns it: its mounts are locked");
	new->fd = fd_steal(&fd);
	n->count++;
	return 0;
}

int namespaces_find(struct namespaces *n, int tree, struct error *e)
{
	struct search s = {.found = add, .n = n};

	*n = (struct namespaces){.tree = tree};
	int r = mount_ns_id(getpid(), &n->own_id);
	if (r == 0)
		r = look_through_tree(&s);
	return r < 0 ? error_set(e, r, "cannot look through the processes for mount namespaces")
		     : 0;
}

static void log_fate(const struct namespace *ns)
{
	char comm[64];

	if (ns->fate != NAMESPACE_BARRED)
		return;
	proc_comm(ns->pid, comm, sizeof(comm));
	log_warning("the mount namespace of process %d (%s) stays on the old image: %s",
		(int)ns->pid, comm, ns->why);
}

int namespaces_prepare(struct namespaces *n, const struct pivot *main, struct error *e)
{
	n->main = main;
	if (n->count == 0)
		return 0;
	int r = scout_run(n, e);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n->count; i++)
		log_fate(&n->list[i]);
	return namespaces_swapped(n) > 0 ? porter_start(&n->porter, n, e) : 0;
}

/* In the blackout */

static int stranger(struct search *s, uint64_t id, pid_t tid)
{
	(void)s;
	(void)id;
	(void)tid;
	return -ESTALE;
}

int namespaces_verify(const struct namespaces *n, struct error *e)
{
	struct search s = {.found = stranger, .n = (struct namespaces *)n};
	int r = look_through_tree(&s);

	for (size_t i = 0; r == 0 && i < n->count; i++) {
		if (n->list[i].fate != NAMESPACE_SWAPPED)
			continue;
		r = mount_watch_changed(n->list[i].pivot.watch);
		r = r > 0 ? -ESTALE : r;
	}
	if (r == -ESTALE)
		return error_say(e, ESTALE,
			"mount namespaces come and go faster than an upgrade can be planned");
	return r < 0 ? error_set(e, r, "cannot look through the processes for mount namespaces")
		     : 0;
}

size_t namespaces_swapped(const struct namespaces *n)
{
	size_t swapped = 0;

	for (size_t i = 0; i < n->count; i++)
		swapped += n->list[i].fate == NAMESPACE_SWAPPED;
	return swapped;
}

void namespaces_roots(const struct namespaces *n, uint64_t *ids, int *new_roots)
{
	size_t at = 0;

	for (size_t i = 0; i < n->count; i++) {
		if (n->list[i].fate != NAMESPACE_SWAPPED)
			continue;
		ids[at] = n->list[i].pivot.old_id;
		new_roots[at++] = n->list[i].copy;
	}
}

void namespaces_done(struct namespaces *n)
{
	porter_stop(n->porter);
	for (size_t i = 0; i < n->count; i++) {
		pivot_done(&n->list[i].pivot);
		(void)fd_close(n->list[i].copy);
		(void)fd_close(n->list[i].fd);
	}
	free(n->list);
	*n = (struct namespaces){0};
}
