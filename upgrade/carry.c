/* SPDX-License-Identifier: MIT */
#include "upgrade/carry.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "conf/machine_id.h"
#include "conf/system.h"
#include "kernel/mounts.h"
#include "kernel/util.h"
#include "upgrade/answer.h"
#include "upgrade/carry_store.h"
#include "upgrade/grafts.h"
#include "upgrade/pivot.h"
#include "upgrade/sides.h"
#include "upgrade/stage.h"

/* Identity and keys, not data: those belong on a mount. */
#define CARRY_MAX_BYTES (UINT64_C(256) << 20)
#define CARRY_MAX_ENTRIES 10000

struct carrying {
	const struct image_request *q;
	const struct image *image;
	int socket;
	int root; /* "/" */
	uint64_t root_mount;
	bool root_read_only;
	struct mount_table mounts;
	struct carry_list list;
	int store; /* the state directory, where it is there and counts; or -1 */
};

static void say(const struct carrying *c, const struct carry_entry *entry)
{
	struct record_writer w = {0};

	record_begin(&w, "carry", entry->path);
	record_text(&w, "action", carry_action_name(entry->action));
	record_end(&w);
	answer_send(c->socket, &w);
}

/* What to do with each */

/* The boot's own, over the empty one of a read-only root: init/stages/machine_id.c. */
static bool is_boots_id(const struct carrying *c, const char *path, const struct stat *st)
{
	struct stat made;
	CLEANUP_FD int fd = strcmp(path, MACHINE_ID_PATH) == 0
				    ? open_in_root(c->root, MACHINE_ID_MADE, O_PATH | O_NOFOLLOW)
				    : -1;

	return fd >= 0 && fstat(fd, &made) == 0 && made.st_dev == st->st_dev &&
	       made.st_ino == st->st_ino;
}

/* *ret_st is zeroed for what is not there. */
static int look(const struct carrying *c, const char *path, enum carry_seen *ret,
	struct stat *ret_st, struct error *e)
{
	uint64_t id;
	const struct mount *m;
	CLEANUP_FD int fd = open_in_root(c->root, path, O_PATH | O_NOFOLLOW);

	*ret = CARRY_SEEN_NOT;
	*ret_st = (struct stat){0};
	if (fd == -ENOENT)
		return 0;
	if (fd < 0 || fstat(fd, ret_st) < 0)
		return error_set(
			e, fd < 0 ? fd : errno, "cannot look at %s, which is to be carried", path);
	*ret = CARRY_SEEN_ON_ROOT;
	if (mount_id_of_fd(fd, &id) < 0 || id == c->root_mount)
		return 0;
	m = mount_table_find(&c->mounts, id);
	if (m && grafts_has(sides.current.generation, m->target, m->dev))
		*ret = CARRY_SEEN_CARRIED;
	else
		*ret = is_boots_id(c, path, ret_st) ? CARRY_SEEN_MADE : CARRY_SEEN_ON_MOUNT;
	return 0;
}

bool carry_takes_stored(enum carry_seen seen, bool root_read_only, bool image_read_only)
{
	switch (seen) {
	case CARRY_SEEN_NOT:
		return root_read_only || image_read_only;
	case CARRY_SEEN_ON_ROOT:
		return root_read_only;
	case CARRY_SEEN_CARRIED:
		return true;
	case CARRY_SEEN_ON_MOUNT:
	case CARRY_SEEN_MADE:
		return false;
	}
	return false;
}

/* Somebody has taken it out of the state directory, which is still the same file system. */
static bool was_removed(const struct carrying *c, const char *path, const struct stat *seen)
{
	struct stat store;

	return c->store >= 0 && fstat(c->store, &store) == 0 && store.st_dev == seen->st_dev &&
	       !carry_store_has(c->store, path, NULL);
}

static void warn(const struct carrying *c, const char *path, const char *what, const char *so)
{
	char text[2 * PATH_MAX + 200];

	(void)snprintf(text, sizeof(text), "%s %s CarryDirectory=%s: %s", path, what,
		c->q->carry_directory, so);
	answer_text(c->socket, "warning", text);
}

/* A copy has the times of what it was made from. */
static bool look_alike(const struct stat *a, const struct stat *b)
{
	return (a->st_dev == b->st_dev && a->st_ino == b->st_ino) ||
	       (a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
		       a->st_mtim.tv_nsec == b->st_mtim.tv_nsec);
}

static bool has_same_link(const struct carrying *c, const char *path)
{
	char ours[PATH_MAX], theirs[PATH_MAX];
	CLEANUP_FD int a = open_in_root(c->root, path, O_PATH | O_NOFOLLOW);
	CLEANUP_FD int b = open_in_root(c->image->root, path, O_PATH | O_NOFOLLOW);
	ssize_t n = a < 0 ? -1 : readlinkat(a, "", ours, sizeof(ours));

	return n >= 0 && b >= 0 && readlinkat(b, "", theirs, sizeof(theirs)) == n &&
	       memcmp(ours, theirs, (size_t)n) == 0;
}

/* The image's own file or directory that the carried one is to cover. */
static int check_place(const struct carrying *c, const char *path, mode_t mode, struct error *e)
{
	struct stat place;
	struct open_how how = {
		.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS};
	CLEANUP_FD int fd = (int)syscall(SYS_openat2, c->image->root, path, &how, sizeof(how));

	if (fd < 0 && errno == ELOOP)
		return error_say(e, ELOOP,
			"%s cannot be carried: the read-only image has a symbolic link there, or on the way",
			path);
	if (fd < 0)
		return error_say(e, errno,
			"%s cannot be carried: the image is read-only and has none to mount it over (make an empty %s there when building the image): %s",
			path, S_ISDIR(mode) ? "directory" : "file", strerror(errno));
	if (fstat(fd, &place) < 0)
		return error_set(e, errno, "cannot look at %s of the image", path);
	if (!carry_kinds_match(mode, place.st_mode))
		return error_say(e, EEXIST,
			"%s cannot be carried: here it is a %s, and in the read-only image it is not",
			path, S_ISDIR(mode) ? "directory" : "file");
	return 0;
}

/* What can be copied into an image that can be written to, or mounted over one that cannot. */
static int decide_how(
	const struct carrying *c, struct carry_entry *entry, mode_t mode, struct error *e)
{
	entry->action = CARRY_COPY;
	if (!S_ISREG(mode) && !S_ISDIR(mode) && !S_ISLNK(mode))
		return error_say(e, EINVAL,
			"%s cannot be carried: it is neither a file nor a directory nor a symbolic link",
			entry->path);
	if (!c->image->read_only)
		return 0;
	if (S_ISLNK(mode) && has_same_link(c, entry->path)) {
		entry->action = CARRY_SAME;
		return 0;
	}
	if (S_ISLNK(mode))
		return error_say(e, EINVAL,
			"%s cannot be carried: it is a symbolic link, and the image is read-only and has not the same",
			entry->path);
	entry->action = CARRY_BIND;
	return check_place(c, entry->path, mode, e);
}

/* One that nobody sees now. A boot would pass over what has no place, and say so. */
static int decide_unseen(
	const struct carrying *c, struct carry_entry *entry, mode_t mode, struct error *e)
{
	int r = decide_how(c, entry, mode, e);

	if (r == 0) {
		warn(c, entry->path, "is not here, but in", "the new image will have it");
		return 0;
	}
	answer_text(c->socket, "warning", e->text);
	entry->action = CARRY_MISSING;
	return 0;
}

static int decide(const struct carrying *c, struct carry_entry *entry, struct error *e)
{
	enum carry_seen seen;
	struct stat st, stored;

	if (entry->action == CARRY_MISSING)
		return 0;
	int r = look(c, entry->path, &seen, &st, e);
	if (r < 0)
		return r;
	bool has = carry_store_has(c->store, entry->path, &stored);
	entry->stored = has && carry_takes_stored(seen, c->root_read_only, c->image->read_only);
	if (seen == CARRY_SEEN_NOT && entry->stored)
		return decide_unseen(c, entry, stored.st_mode, e);
	entry->action = CARRY_MISSING;
	if (seen == CARRY_SEEN_NOT)
		return 0;
	if (seen == CARRY_SEEN_CARRIED && was_removed(c, entry->path, &st)) {
		warn(c, entry->path, "was removed from", "the new image's own will count");
		return 0;
	}
	entry->action = CARRY_STAYS;
	entry->keep = seen == CARRY_SEEN_MADE && c->image->read_only && !has;
	if (seen == CARRY_SEEN_ON_MOUNT || (seen == CARRY_SEEN_MADE && c->image->read_only))
		return 0;
	if (entry->stored && !look_alike(&st, &stored))
		warn(c, entry->path, "is not the one in", "the new image will have that one");
	return decide_how(c, entry, entry->stored ? stored.st_mode : st.st_mode, e);
}

static int decide_all(struct carrying *c, struct error *e)
{
	int r = 0;
	size_t n = 0;

	for (size_t i = 0; r == 0 && i < c->list.count; i++) {
		r = decide(c, &c->list.list[i], e);
		if (r == 0)
			say(c, &c->list.list[i]);
		n += c->list.list[i].action == CARRY_BIND;
	}
	if (r == 0 && n > GRAFTS_MAX)
		r = error_say(e, E2BIG,
			"Carry= means %zu files, and a read-only image takes %d (list a directory instead)",
			n, GRAFTS_MAX);
	return r;
}

/* After a reboot into it, that image goes by its own list. */
static void warn_if_not_listed(const struct carrying *c)
{
	struct system_conf *conf;
	char text[PATH_MAX + 200];

	if (!c->image->read_only || system_conf_load(&conf, c->image->root, NULL, NULL, NULL) < 0)
		return;
	for (char *const *p = c->q->carry; *p; p++) {
		if (strings_contain(conf->carry, *p))
			continue;
		(void)snprintf(text, sizeof(text),
			"the image's own init.conf has no Carry=%s: after a reboot into it that will be the image's own",
			*p);
		answer_text(c->socket, "warning", text);
	}
	system_conf_free(conf);
}

/* Doing it */

static bool is_to_be_copied(const struct carrying *c, const struct carry_entry *entry)
{
	return c->image->read_only ? entry->keep || (entry->action == CARRY_BIND && !entry->stored)
				   : entry->action == CARRY_COPY;
}

static int copy_all(const struct carrying *c, struct error *e)
{
	struct stage s = {.root = c->image->read_only ? c->store : c->image->root,
		.budget = {.bytes = CARRY_MAX_BYTES, .entries = CARRY_MAX_ENTRIES}};
	int r = 0;

	for (size_t i = 0; r == 0 && i < c->list.count; i++) {
		s.from = c->list.list[i].stored ? c->store : c->root;
		if (is_to_be_copied(c, &c->list.list[i]))
			r = stage_add(&s, c->list.list[i].path, e);
	}
	if (r == 0)
		r = stage_place(&s, e);
	if (r == 0)
		stage_done(&s);
	else
		stage_undo(&s);
	return r;
}

static int send_grafts(const struct carrying *c, struct error *e)
{
	for (size_t i = 0; i < c->list.count; i++) {
		const struct carry_entry *entry = &c->list.list[i];
		if (entry->action != CARRY_BIND)
			continue;
		CLEANUP_FD int mount = carry_store_clone(c->store, entry->path, e);
		if (mount < 0)
			return mount;
		answer_graft(c->socket, entry->path, mount);
	}
	return 0;
}

static int do_all(struct carrying *c, struct error *e)
{
	if (!c->image->read_only)
		return copy_all(c, e);
	if (c->store < 0)
		c->store = carry_store_make(c->q->carry_directory, e);
	int r = c->store < 0 ? c->store : copy_all(c, e);
	return r < 0 ? r : send_grafts(c, e);
}

static bool any_is(const struct carrying *c, enum carry_action action)
{
	for (size_t i = 0; i < c->list.count; i++)
		if (c->list.list[i].action == action)
			return true;
	return false;
}

/* The image gets the boot's ID all the same: only the next boot does not. */
static bool can_keep(struct carrying *c)
{
	bool any = false;
	struct error e;

	for (size_t i = 0; i < c->list.count; i++)
		any = any || c->list.list[i].keep;
	if (!any)
		return false;
	if (carry_store_check(
		    c->q->carry_directory, &c->mounts, c->root_mount, c->image->leave, &e) == 0)
		return true;
	warn(c, MACHINE_ID_PATH, "cannot be kept in", "the next boot will make another one");
	for (size_t i = 0; i < c->list.count; i++)
		c->list.list[i].keep = false;
	return false;
}

/* Where neither is read-only, what may be left in the state directory is of no meaning. */
static int open_all(struct carrying *c, struct error *e)
{
	struct statvfs fs;
	int r = mount_id_of_fd(c->root, &c->root_mount);

	if (r < 0 || fstatvfs(c->root, &fs) < 0)
		return error_set(e, r < 0 ? r : errno, "cannot identify the root mount");
	c->root_read_only = fs.f_flag & ST_RDONLY;
	if (!c->root_read_only && !c->image->read_only)
		return 0;
	c->store = carry_store_open(c->q->carry_directory);
	if (c->store < 0 && errno != ENOENT)
		return error_set(e, errno, "cannot open CarryDirectory=%s", c->q->carry_directory);
	return 0;
}

static int carry_listed(struct carrying *c, struct error *e)
{
	int r = open_all(c, e);

	if (r < 0 || (r = mount_table_read(&c->mounts, e)) < 0 ||
		(r = carry_expand(&c->list, c->root, c->store, c->q->carry, e)) < 0)
		return r;
	carry_reduce(&c->list);
	if ((r = decide_all(c, e)) < 0)
		return r;
	warn_if_not_listed(c);
	if (any_is(c, CARRY_BIND) && (r = carry_store_check(c->q->carry_directory, &c->mounts,
					      c->root_mount, c->image->leave, e)) < 0)
		return r;
	bool keep = can_keep(c);
	if (c->q->plan || (c->image->read_only && !any_is(c, CARRY_BIND) && !keep))
		return 0;
	return do_all(c, e);
}

int carry(const struct image_request *q, const struct image *image, int socket, struct error *e)
{
	struct carrying c = {.q = q, .image = image, .socket = socket, .store = -1};

	if (!q->carry || !q->carry[0])
		return 0;
	c.root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = c.root < 0 ? error_set(e, errno, "cannot open /") : carry_listed(&c, e);
	carry_list_free(&c.list);
	mount_table_free(&c.mounts);
	(void)fd_close(c.store);
	(void)fd_close(c.root);
	return r;
}
