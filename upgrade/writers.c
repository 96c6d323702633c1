/* SPDX-License-Identifier: MIT */
#include "upgrade/writers.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

#include "kernel/proc.h"
#include "kernel/proc_maps.h"
#include "kernel/writers.h"
#include "upgrade/holders.h"
#include "upgrade/namespaces.h"
#include "upgrade/plan.h"

static bool may_have_writers(int root, const struct namespaces *others)
{
	if (mount_has_writers(root) != 0)
		return true;
	/* In another name space a mount cannot be asked like that, unless it is read-only. */
	for (size_t i = 0; i < others->count; i++)
		if (others->list[i].fate == NAMESPACE_SWAPPED &&
			mount_has_writers(others->list[i].pivot.old_root) != 0)
			return true;
	return false;
}

/* PID 1 itself is not in the tree. What it writes is its log, and that it opens again. */

struct own {
	const uint64_t *mounts;
	unsigned n;
	bool found;
};

static bool is_asked(const struct own *o, uint64_t mount)
{
	for (unsigned i = 0; i < o->n; i++)
		if (o->mounts[i] == mount)
			return true;
	return false;
}

static int look_at_own_fd(const struct proc_fd *fd, void *userdata)
{
	struct own *o = userdata;
	int64_t offset;
	int flags;

	if (is_asked(o, fd->mount_id) && proc_fd_info(getpid(), fd->fd, &offset, &flags) == 0 &&
		(flags & O_ACCMODE) != O_RDONLY)
		o->found = true;
	return 0;
}

static int look_at_own_map(const struct proc_map *m, void *userdata)
{
	struct own *o = userdata;

	if (is_asked(o, m->mount_id) && m->file_writable)
		o->found = true;
	return 0;
}

static bool is_own(const uint64_t *mounts, unsigned n)
{
	struct own o = {.mounts = mounts, .n = n};

	(void)proc_fds(getpid(), look_at_own_fd, &o);
	(void)proc_maps(getpid(), look_at_own_map, &o);
	return o.found;
}

static int refuse_found(const struct holders *h, struct error *e)
{
	char text[400];

	for (size_t i = 0; i < h->count; i++) {
		const struct holder *writer = &h->list[i];
		if (plan_holder_action(writer, plan_policy_of(writer), false, false) !=
			ACTION_BLOCKS)
			continue;
		plan_describe(writer, text, sizeof(text));
		return error_say(e, EROFS, "%s: %s", text, plan_stake(writer));
	}
	return 0;
}

int writers_refuse(int tree, int root, const struct namespaces *others, const uint64_t *mounts,
	unsigned n, uint64_t deadline_usec, struct error *e)
{
	struct holders h = {0};
	bool latent = false;

	if (!may_have_writers(root, others))
		return 0;
	int r = holders_find_writers(&h, &latent, tree, mounts, n, deadline_usec, e);
	if (r == 0)
		r = refuse_found(&h, e);
	/* Others' name spaces were not asked: there need be nobody. */
	if (r == 0 && h.count == 0 && !latent && mount_has_writers(root) == 1 && !is_own(mounts, n))
		r = error_say(e, EROFS,
			"something that no process of the tree has in sight is open for writing on the old image: a descriptor under way in a socket or registered with io_uring, a process outside of the tree, a loop device or a swap file");
	holders_free(&h);
	return r;
}
