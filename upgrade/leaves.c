/* SPDX-License-Identifier: MIT */
#include "upgrade/leaves.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernel/cgroup.h"
#include "kernel/crash.h"
#include "kernel/log.h"
#include "kernel/util.h"
#include "upgrade/settle.h"
#include "upgrade/thawer.h"

static int add_leaf(int cgroup, const char *path, void *userdata)
{
	struct leaves *l = userdata;
	struct leaf *grown = reallocarray(l->list, l->count + 1, sizeof(*grown));
	bool top = !*path;
	char flag[8];

	if (!grown)
		return -ENOMEM;
	l->list = grown;
	struct leaf *leaf = &grown[l->count];
	/* Who lives in the tree itself (we put nobody there) thaws with it. */
	*leaf = (struct leaf){.path = strdup(path), .flag = -1, .affected = top};
	if (!leaf->path)
		return -ENOMEM;
	l->count++;
	if (top)
		return 0;
	leaf->flag = openat(cgroup, "cgroup.freeze", O_RDWR | O_CLOEXEC);
	if (leaf->flag < 0)
		return errno == ENOENT || errno == ENODEV ? 0 : -errno; /* removed meanwhile */
	ssize_t n = pread(leaf->flag, flag, sizeof(flag), 0);
	if (n < 0)
		return errno == ENODEV ? 0 : -errno;
	leaf->by_user = n > 0 && flag[0] == '1';
	return 0;
}

int leaves_read(struct leaves *l, int tree, struct error *e)
{
	*l = (struct leaves){0};
	int r = cgroup_walk(tree, add_leaf, l);
	return r < 0 ? error_set(e, r, "cannot look through the cgroups") : 0;
}

void leaves_free(struct leaves *l)
{
	for (size_t i = 0; i < l->count; i++) {
		free(l->list[i].path);
		(void)fd_close(l->list[i].flag);
	}
	free(l->list);
	*l = (struct leaves){0};
}

static struct leaf *find(struct leaves *l, const char *path, size_t length)
{
	for (size_t i = 0; i < l->count; i++)
		if (strlen(l->list[i].path) == length &&
			strncmp(l->list[i].path, path, length) == 0)
			return &l->list[i];
	return NULL;
}

void leaves_mark_affected(struct leaves *l, const char *path)
{
	for (size_t length = strlen(path); length > 0;) {
		struct leaf *leaf = find(l, path, length);
		if (leaf)
			leaf->affected = true;
		while (length > 0 && path[length - 1] != '/')
			length--;
		if (length > 0)
			length--;
	}
}

bool leaf_contains(const struct leaf *leaf, const char *cgroup)
{
	size_t n = strlen(leaf->path);

	return n == 0 ||
	       (strncmp(cgroup, leaf->path, n) == 0 && (cgroup[n] == '\0' || cgroup[n] == '/'));
}

void leaves_spare(struct leaves *l, const struct leaf *leaf)
{
	for (size_t i = 0; i < l->count; i++)
		if (leaf_contains(leaf, l->list[i].path))
			l->list[i].affected = false;
}

int leaves_hold(struct leaves *l, struct error *e)
{
	for (size_t i = 0; i < l->count; i++) {
		struct leaf *leaf = &l->list[i];
		if (leaf->affected || leaf->by_user || leaf->flag < 0)
			continue;
		thawer_note(leaf->path);
		int r = settle_try(leaf->flag, true);
		if (r == -ENODEV)
			continue; /* removed meanwhile */
		/* Even a write that failed may have frozen some. */
		leaf->frozen = true;
		crash_thaw_add(leaf->flag);
		if (r < 0)
			return error_set(e, r, "cannot freeze the cgroup %s", leaf->path);
	}
	return 0;
}

void leaves_release(struct leaves *l)
{
	for (size_t i = 0; i < l->count; i++) {
		struct leaf *leaf = &l->list[i];
		if (!leaf->frozen)
			continue;
		settle_cgroup(leaf->flag, false, leaf->path);
		crash_thaw_remove(leaf->flag);
		leaf->frozen = false;
	}
}

void leaves_lift(struct leaves *l)
{
	for (size_t i = 0; i < l->count; i++) {
		struct leaf *leaf = &l->list[i];
		if (!leaf->affected || !leaf->by_user || leaf->flag < 0)
			continue;
		leaf->lifted = true;
		settle_cgroup(leaf->flag, false, leaf->path);
	}
}

void leaves_unlift(struct leaves *l)
{
	for (size_t i = 0; i < l->count; i++) {
		struct leaf *leaf = &l->list[i];
		if (leaf->lifted)
			settle_cgroup(leaf->flag, true, leaf->path);
		leaf->lifted = false;
	}
}
