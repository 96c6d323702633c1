/* SPDX-License-Identifier: MIT */
#include "upgrade/porter_work.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <unistd.h>

#include "kernel/mount_ns.h"
#include "kernel/mounts.h"
#include "kernel/util.h"

void porter_work_prepare(const struct namespaces *n)
{
	struct error ignored;

	for (size_t i = 0; i < n->count; i++) {
		struct pivot *p = &n->list[i].pivot;
		for (size_t m = 0; m < p->n_mounts; m++)
			p->mounts[m].to = place_open(p, &p->mounts[m], &ignored);
	}
}

static int enter(const struct namespace *ns, struct error *e)
{
	int r = mount_ns_enter(ns->fd);

	if (r < 0)
		return error_set(e, r, "cannot enter it");
	/* Entering leads to what is on top: after the pivot, that is the old root on the new one.
	 */
	if (ns->pivot.journal->aside != STEP_NOT &&
		(fchdir(ns->pivot.old_root) < 0 || chroot(".") < 0))
		return error_set(e, errno, "cannot stand on the root of process %d", (int)ns->pid);
	if (ns->pivot.journal->pivoted != STEP_NOT && ns->pivot.journal->settled == STEP_NOT &&
		(fchdir(ns->pivot.new_root) < 0 || chroot(".") < 0))
		return error_set(e, errno, "cannot stand on its new root");
	return 0;
}

/* Calls `act` in each; stops at the first failure, or goes on and reports it. */
static int in_each(const struct namespaces *n, bool go_on,
	int (*act)(struct pivot *p, struct error *e), struct error *e)
{
	int result = 0;

	for (size_t i = 0; i < n->count && (go_on || result == 0); i++) {
		const struct namespace *ns = &n->list[i];
		struct error why;
		char name[NAMESPACE_NAME_MAX];
		if (ns->fate != NAMESPACE_SWAPPED)
			continue;
		int r = enter(ns, &why);
		if (r == 0)
			r = act((struct pivot *)&ns->pivot, &why);
		if (r == 0)
			continue;
		namespace_name(ns, name, sizeof(name));
		result = error_say(e, -r, "in the mount namespace %s: %s", name, why.text);
	}
	return result;
}

static int undo_all(const struct namespaces *n, struct error *e)
{
	return in_each(n, true, pivot_undo, e);
}

static int pivot_all(const struct namespaces *n, struct error *e)
{
	struct error undo;
	int r = in_each(n, false, pivot_isolate, e);

	if (r == 0)
		r = in_each(n, false, pivot_run, e);
	if (r < 0 && undo_all(n, &undo) < 0)
		return error_say(
			e, -r, "%s; and it could not be taken back: %s", e->text, undo.text);
	return r;
}

/* The end: old roots away, and new roots in groups as the old ones were */

static int settle_one(struct pivot *p, struct error *e)
{
	return pivot_settle(p, false, e);
}

/* Somebody of `group` (of old roots) whose new root is in its own already. */
static const struct pivot *find_peer(
	const struct namespaces *n, const bool *grouped, uint64_t group)
{
	if (n->main->peers == group)
		return n->main;
	for (size_t i = 0; i < n->count; i++)
		if (grouped[i] && n->list[i].fate == NAMESPACE_SWAPPED &&
			n->list[i].pivot.peers == group)
			return &n->list[i].pivot;
	return NULL;
}

static bool is_among(const struct namespaces *n, uint64_t group)
{
	bool found = n->main->peers == group;

	for (size_t i = 0; i < n->count && !found; i++)
		found = n->list[i].fate == NAMESPACE_SWAPPED && n->list[i].pivot.peers == group;
	return found;
}

static int set_slave(const struct pivot *p, const struct pivot *master)
{
	int r = mount_join_groups(master->new_root, p->new_root);

	if (r == 0)
		r = mount_set_propagation(p->new_root, MS_SLAVE);
	return r == 0 && p->peers ? mount_set_propagation(p->new_root, MS_SHARED) : r;
}

/*
 * 1: done; 0: the group it is to be a slave of is not there yet. A master beyond the namespaces
 * that are swapped is one of another file system than the new root, and the kernel knows no such
 * slaves.
 */
static int group_one(const struct namespaces *n, const bool *grouped, const struct pivot *p)
{
	const struct pivot *peer = p->peers ? find_peer(n, grouped, p->peers) : NULL;
	int r = 0;

	if (peer) {
		r = mount_join_groups(peer->new_root, p->new_root);
	} else if (p->master && is_among(n, p->master)) {
		const struct pivot *master = find_peer(n, grouped, p->master);
		if (!master)
			return 0;
		r = set_slave(p, master);
	} else if (p->peers) {
		r = mount_set_propagation(p->new_root, MS_SHARED);
	}
	return r < 0 ? r : 1;
}

static int group_all(const struct namespaces *n, struct error *e)
{
	bool *grouped = calloc(n->count, sizeof(*grouped));
	bool again = true;
	int result = 0;

	if (!grouped)
		return error_set(e, ENOMEM, "cannot share the new roots as the old ones were");
	while (again) {
		again = false;
		for (size_t i = 0; i < n->count; i++) {
			const struct namespace *ns = &n->list[i];
			if (ns->fate != NAMESPACE_SWAPPED || grouped[i])
				continue;
			int r = enter(ns, e);
			if (r == 0)
				r = group_one(n, grouped, &ns->pivot);
			/* Once more, from where it began: it cannot be taken back any more. */
			if (r < 0 && mount_set_propagation(ns->pivot.new_root, MS_PRIVATE) == 0)
				r = group_one(n, grouped, &ns->pivot);
			if (r < 0) {
				char name[NAMESPACE_NAME_MAX];
				namespace_name(ns, name, sizeof(name));
				result = error_set(e, r,
					"cannot share the new root of the mount namespace %s as the old one was",
					name);
			}
			grouped[i] = r != 0;
			again = again || grouped[i];
		}
	}
	free(grouped);
	return result;
}

static int settle_all(const struct namespaces *n, struct error *e)
{
	int r = in_each(n, true, settle_one, e);
	struct error groups;
	int last = group_all(n, &groups);

	if (last < 0 && r == 0)
		*e = groups;
	return r < 0 ? r : last;
}

int porter_work(const struct namespaces *n, enum porter_order order, struct error *e)
{
	switch (order) {
	case PORTER_PIVOT:
		return pivot_all(n, e);
	case PORTER_UNDO:
		return undo_all(n, e);
	case PORTER_SETTLE:
		return settle_all(n, e);
	}
	return error_say(e, EINVAL, "no such order");
}
