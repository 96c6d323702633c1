/* SPDX-License-Identifier: MIT */
#include "upgrade/namespaces.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernel/cgroup.h"
#include "kernel/log.h"
#include "kernel/mount_ns.h"
#include "kernel/mounts.h"
#include "kernel/proc.h"
#include "kernel/util.h"
#include "upgrade/pins.h"
#include "upgrade/porter.h"
#include "upgrade/scout.h"

/* Who is where: each process, and each thread with an fs struct of its own, for a namespace of its
 * own comes with one. */

struct search {
	int (*found)(struct search *s, uint64_t id, pid_t tid);
	int (*descriptors)(struct search *s, pid_t tid); /* instead; NULL: where it is itself */
	struct namespaces *n;
};

static const struct namespace *find(const struct namespaces *n, uint64_t id)
{
	for (size_t i = 0; i < n->count; i++)
		if (n->list[i].id == id)
			return &n->list[i];
	return NULL;
}

bool namespaces_know(const struct namespaces *n, uint64_t id)
{
	return id == n->own_id || find(n, id);
}

static int look_at_task(struct search *s, pid_t tid)
{
	uint64_t id;
	int r = mount_ns_id(tid, &id);

	/* A zombie is in none: the link is there and leads nowhere. */
	if (r < 0)
		return proc_is_gone(r) || r == -EACCES ? 0 : r;
	return namespaces_know(s->n, id) ? 0 : s->found(s, id, tid);
}

static int look_at_thread(struct search *s, pid_t pid, pid_t tid)
{
	if (s->descriptors)
		return proc_same_files(pid, tid) ? 0 : s->descriptors(s, tid);
	return proc_same_fs(pid, tid) ? 0 : look_at_task(s, tid);
}

static int look_at_process(pid_t pid, void *userdata)
{
	struct search *s = userdata;
	struct pid_array threads = {0};
	int r = s->descriptors ? s->descriptors(s, pid) : look_at_task(s, pid);

	if (r != 0)
		return r;
	r = proc_has_threads(pid);
	if (r > 0)
		r = proc_threads(pid, &threads);
	if (proc_is_gone(r))
		r = 0;
	for (size_t i = 0; r == 0 && i < threads.count; i++)
		if (threads.pids[i] != pid)
			r = look_at_thread(s, pid, threads.pids[i]);
	pid_array_free(&threads);
	return r;
}

static int look_through_tree(struct search *s)
{
	return cgroup_each_process(s->n->tree, look_at_process, s);
}

/* Before the freeze */

int namespaces_add(struct namespaces *n, const struct namespace *like, int fd)
{
	CLEANUP_FD int opened = fd;
	bool ours;

	if (namespaces_know(n, like->id))
		return 0;
	struct namespace *grown = reallocarray(n->list, n->count + 1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	n->list = grown;
	struct namespace *new = &n->list[n->count];
	*new = (struct namespace){
		.id = like->id, .pid = like->pid, .held_fd = like->held_fd, .copy = -1};
	pivot_init(&new->pivot);
	(void)snprintf(new->why, sizeof(new->why), "%s", like->why);
	int r = opened < 0 ? 0 : mount_ns_is_ours(opened, &ours);
	if (r < 0)
		return r;
	if (opened >= 0 && !ours)
		(void)snprintf(new->why, sizeof(new->why),
			"another user namespace owns it: its mounts are locked");
	if (like->mount && !(new->mount = strdup(like->mount)))
		return -ENOMEM;
	new->fd = fd_steal(&opened);
	n->count++;
	return 1;
}

static int add(struct search *s, uint64_t id, pid_t tid)
{
	struct namespace like = {.id = id, .pid = tid, .held_fd = -1};
	int fd = mount_ns_open(tid);

	if (fd < 0)
		return proc_is_gone(fd) ? 0 : fd;
	int r = namespaces_add(s->n, &like, fd);
	return r < 0 ? r : 0;
}

static int add_descriptor(uint64_t id, pid_t tid, int held_fd, void *userdata)
{
	struct namespace like = {.id = id, .pid = tid, .held_fd = held_fd};
	struct search *s = userdata;

	if (namespaces_know(s->n, id))
		return 0;
	int fd = pin_open_descriptor(tid, held_fd, id);
	if (fd < 0)
		return fd == -ESTALE ? 0 : fd; /* closed meanwhile */
	int r = namespaces_add(s->n, &like, fd);
	return r < 0 ? r : 0;
}

static int look_for_descriptors(struct search *s, pid_t tid)
{
	return pins_of_task(tid, add_descriptor, s);
}

static int look_for_mount(uint64_t id, const char *path, void *userdata)
{
	struct namespaces *n = userdata;

	(void)path;
	n->pinned = n->pinned || !namespaces_know(n, id);
	return 0;
}

int namespaces_find(struct namespaces *n, int tree, struct error *e)
{
	struct search s = {.found = add, .n = n};
	int r = pins_init();

	*n = (struct namespaces){.tree = tree, .watch = -1};
	if (r == 0)
		r = mount_ns_id(getpid(), &n->own_id);
	if (r == 0)
		r = look_through_tree(&s);
	/* Of who is somewhere himself, that is what to say: so these come after all of those. */
	s.descriptors = look_for_descriptors;
	if (r == 0)
		r = look_through_tree(&s);
	if (r == 0) /* services leave some with PID 1 (FDSTORE=1) */
		r = look_for_descriptors(&s, 1);
	if (r < 0)
		return error_set(e, r, "cannot look through the processes for mount namespaces");
	n->watch = mount_watch_open();
	if (n->watch < 0)
		return error_set(e, n->watch, "cannot watch the mount table");
	return pins_of_mounts(n->watch, look_for_mount, n, e);
}

bool namespaces_to_look_at(const struct namespaces *n)
{
	return n->count > 0 || n->pinned;
}

void namespace_name(const struct namespace *ns, char *buf, size_t size)
{
	char comm[64];

	proc_comm(ns->pid, comm, sizeof(comm));
	if (ns->mount)
		(void)snprintf(buf, size, "that is mounted at %s", ns->mount);
	else if (ns->held_fd >= 0)
		(void)snprintf(buf, size, "that process %d (%s) has a descriptor of (fd %d)",
			(int)ns->pid, comm, ns->held_fd);
	else
		(void)snprintf(buf, size, "of process %d (%s)", (int)ns->pid, comm);
}

static void log_fate(const struct namespace *ns)
{
	char name[NAMESPACE_NAME_MAX];

	if (ns->fate != NAMESPACE_BARRED)
		return;
	namespace_name(ns, name, sizeof(name));
	log_warning("the mount namespace %s stays on the old image: %s", name, ns->why);
}

int namespaces_prepare(struct namespaces *n, const struct pivot *main, struct error *e)
{
	n->main = main;
	if (!namespaces_to_look_at(n))
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

static int stranger_mounted(uint64_t id, const char *path, void *userdata)
{
	(void)path;
	return namespaces_know(userdata, id) ? 0 : -ESTALE;
}

/* What is mounted in one that stays as it is does not matter, but for mounts that keep others. */
static int look_for_new_pins(const struct namespaces *n, int watch)
{
	struct error e;
	int r = watch < 0 ? 0 : mount_watch_changed(watch);

	return r > 0 ? pins_of_mounts(watch, stranger_mounted, (void *)n, &e) : r;
}

static int verify_mounts(const struct namespaces *n)
{
	int r = look_for_new_pins(n, n->watch);

	for (size_t i = 0; r == 0 && i < n->count; i++) {
		int watch = n->list[i].pivot.watch;
		if (n->list[i].fate == NAMESPACE_SWAPPED)
			r = mount_watch_changed(watch) ? -ESTALE : 0;
		else
			r = look_for_new_pins(n, watch);
	}
	return r;
}

static int stale(struct error *e)
{
	return error_say(
		e, ESTALE, "mount namespaces come and go faster than an upgrade can be planned");
}

int namespaces_verify(const struct namespaces *n, struct error *e)
{
	struct search s = {.found = stranger, .n = (struct namespaces *)n};
	int r = look_through_tree(&s);

	if (r == 0)
		r = verify_mounts(n);
	if (r == -ESTALE)
		return stale(e);
	return r < 0 ? error_set(e, r, "cannot look through the processes for mount namespaces")
		     : 0;
}

int namespaces_verify_held(const struct namespaces *n, const struct holders *h, struct error *e)
{
	for (size_t i = 0; i < h->n_namespaces; i++) {
		const struct held_namespace *held = &h->namespaces[i];
		if (!namespaces_know(n, held->id) && pin_is_mount_ns(held->tid, held->fd))
			return stale(e);
	}
	return 0;
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
		free(n->list[i].mount);
	}
	(void)fd_close(n->watch);
	free(n->list);
	*n = (struct namespaces){0};
}
