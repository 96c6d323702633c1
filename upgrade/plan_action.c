/* SPDX-License-Identifier: MIT */
/* What becomes of each holder. Nothing here asks the kernel anything. */
#include <fcntl.h>

#include "upgrade/plan.h"

/*
 * Whether it is gone once the service has got onto the new image. A re-exec replaces the code, not
 * the process: what an exec keeps, the process keeps.
 */
static bool is_replaced(const struct holder *h, enum upgrade_policy policy)
{
	switch (policy) {
	case POLICY_KEEP:
		return false;
	case POLICY_RESTART:
	case POLICY_HANDOVER:
		return !(h->what == HELD_SOCKET && h->of_init);
	case POLICY_REEXEC:
		break;
	}
	switch (h->what) {
	case HELD_EXE:
	case HELD_MAP:
		return true;
	case HELD_ROOT:
	case HELD_CWD:
	case HELD_NAMESPACE:
	case HELD_MOUNT:
	case HELD_QUEUED:
		return false;
	case HELD_DIRFD:
	case HELD_FILE:
	case HELD_SOCKET:
	case HELD_WATCH:
	case HELD_RING:
		return h->flags & O_CLOEXEC;
	}
	return false;
}

/* Something would be lost: data, or the way to a socket. */
static bool is_at_stake(const struct holder *h)
{
	if (h->deleted)
		return false; /* it is lost to everybody else already */
	return holder_is_writer(h) || (h->what == HELD_SOCKET && h->reachable);
}

enum holder_action plan_holder_action(
	const struct holder *h, enum upgrade_policy policy, bool counterpart, bool reachable)
{
	if (held_is_directory(h->what) && counterpart && !h->deleted && reachable)
		return ACTION_MIGRATE;
	/* It is swapped along, and one that cannot be refuses the upgrade (namespaces.h). */
	if (h->what == HELD_NAMESPACE)
		return ACTION_MIGRATE;
	if (is_replaced(h, policy))
		return ACTION_REPLACE;
	return is_at_stake(h) ? ACTION_BLOCKS : ACTION_STAYS;
}

const char *plan_action_name(enum holder_action action)
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

const char *plan_stake(const struct holder *h)
{
	if (h->what == HELD_SOCKET)
		return "nobody would find it any more";
	return "what it writes would vanish with it";
}
