/* SPDX-License-Identifier: MIT */
/*
 * Parts of an image that are mounted somewhere: bind mounts of its directories and files. An
 * upgrade moves them like any other mount, so they go on showing what that image has, and keep it
 * in use. A mount of the whole image is none: that is where somebody has it from.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "kernel/mounts.h"
#include "kernel/proc_fdinfo.h"
#include "kernel/util.h"
#include "upgrade/grafts.h"
#include "upgrade/holders_internal.h"
#include "upgrade/sides.h"
#include "upgrade/vault.h"

#define NAMESPACES_MAX 256

struct place {
	const struct holders_image *asked;
	uint64_t dev; /* the kernel's number of the file system */
	char *base; /* the image's root in it; NULL: not known, or not to be looked for */
};

struct image_mounts {
	struct place *places;
	unsigned n;
	ino_t seen[NAMESPACES_MAX]; /* mount name spaces that were looked at */
	size_t n_seen;
};

/* Of the current generation, or of one in the vault, the table tells; later nothing does. */
static int find_base(struct place *p, const struct mount_table *table)
{
	const struct mount *m = mount_table_find(table, p->asked->mount);
	const char *base = m ? m->root : p->asked->base;
	struct stat here, root;
	uint32_t dev;

	if (!base || kernel_dev(p->asked->root, &dev) < 0)
		return 0;
	/* What is of the image that runs, too, is as it should be. */
	if (!p->asked->is_root && fstat(p->asked->root, &root) == 0 && stat("/", &here) == 0 &&
		root.st_dev == here.st_dev && root.st_ino == here.st_ino)
		return 0;
	p->dev = makedev(dev >> 20, dev & 0xfffff);
	p->base = strdup(base);
	return p->base ? 0 : -ENOMEM;
}

/* The part of the image that `root`, a path of the file system, is; NULL: none, or all of it. */
static const char *part_of(const char *root, const char *base)
{
	size_t length = strcmp(base, "/") == 0 ? 0 : strlen(base);

	return strncmp(root, base, length) == 0 && root[length] == '/' && root[length + 1]
		       ? root + length
		       : NULL;
}

/* Of one file system as well, and yet a tree of its own, with a device number of its own. */
static bool is_other_subvolume(const struct place *p, const struct mount *m, pid_t pid)
{
	char path[PATH_MAX + 32];
	struct statx part, root;
	unsigned flags = AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC | AT_SYMLINK_NOFOLLOW;

	if (strcmp(m->fstype, "btrfs") != 0)
		return false;
	(void)snprintf(path, sizeof(path), "/proc/%d/root%s", (int)pid, m->target);
	return statx(AT_FDCWD, path, (int)flags, STATX_INO, &part) == 0 &&
	       statx(p->asked->root, "", AT_EMPTY_PATH, STATX_INO, &root) == 0 &&
	       (part.stx_dev_major != root.stx_dev_major ||
		       part.stx_dev_minor != root.stx_dev_minor);
}

static bool is_ours(const struct mount *m)
{
	return strcmp(m->target, "/") == 0 || starts_with(m->target, VAULT_PATH) ||
	       grafts_has(sides.current.generation, m->target, m->dev);
}

static int add_mount(struct scan *s, const struct image_mounts *im, const struct mount *m, pid_t in)
{
	static const char DELETED[] = "//deleted"; /* proc(5) */

	for (unsigned i = 0; i < im->n; i++) {
		const struct place *p = &im->places[i];
		const char *part = p->base && p->dev == m->dev ? part_of(m->root, p->base) : NULL;
		struct holder h = {.what = HELD_MOUNT, .fd = -1, .image = i}, *added;
		if (!part || is_other_subvolume(p, m, in))
			continue;
		h.deleted = ends_with(part, DELETED);
		int r = scan_add(s, &h, m->target, &added);
		if (r == 0 && added && !(added->part = strdup(part)))
			r = -ENOMEM;
		return r;
	}
	return 0;
}

static int look_at_table(
	struct scan *s, const struct image_mounts *im, const struct mount_table *table, pid_t in)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < table->count; i++)
		if (!is_ours(&table->mounts[i]))
			r = add_mount(s, im, &table->mounts[i], in);
	return r;
}

int image_mounts_new(struct image_mounts **ret, struct scan *s, const struct holders_image *images,
	unsigned n, struct error *e)
{
	struct image_mounts *im = calloc(1, sizeof(*im));
	struct mount_table table = {0};
	int r = im && (im->places = calloc(n ? n : 1, sizeof(*im->places))) ? 0 : -ENOMEM;

	if (r < 0)
		(void)error_set(e, r, "cannot look for holders");
	else
		r = mount_table_read(&table, e);
	for (unsigned i = 0; r == 0 && i < n; i++) {
		im->places[i].asked = &images[i];
		r = find_base(&im->places[im->n++], &table);
	}
	s->pid = s->tid = 0; /* they are everybody's */
	s->cgroup = "";
	if (r == 0)
		r = look_at_table(s, im, &table, getpid());
	if (r == -ENOMEM)
		(void)error_set(e, r, "cannot look for holders");
	mount_table_free(&table);
	if (r < 0)
		image_mounts_free(im);
	else
		*ret = im;
	return r;
}

int image_mounts_add(struct image_mounts *im, struct scan *s, ino_t namespace)
{
	struct mount_table table = {0};
	struct error ignored;
	char path[48];

	for (size_t i = 0; i < im->n_seen; i++)
		if (im->seen[i] == namespace)
			return 0;
	if (im->n_seen == NAMESPACES_MAX)
		return 0;
	im->seen[im->n_seen++] = namespace;
	(void)snprintf(path, sizeof(path), "/proc/%d/mountinfo", (int)s->tid);
	CLEANUP_FD int watch = open(path, O_RDONLY | O_CLOEXEC);
	if (watch < 0 || mount_table_read_watched(watch, &table, &ignored) < 0)
		return 0; /* it has ended */
	int r = look_at_table(s, im, &table, s->tid);
	mount_table_free(&table);
	return r;
}

void image_mounts_free(struct image_mounts *im)
{
	for (unsigned i = 0; im && i < im->n; i++)
		free(im->places[i].base);
	if (im)
		free(im->places);
	free(im);
}
