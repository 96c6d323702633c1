/* SPDX-License-Identifier: MIT */
#include "upgrade/carry.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "conf/system.h"
#include "kernel/log.h"
#include "kernel/mounts.h"
#include "kernel/util.h"
#include "upgrade/answer.h"
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
	struct mount_table mounts;
	struct carry_list list;
	int store; /* the state directory, if something is to be mounted from it */
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

/* A file that is on a mount comes along with that, unless the mount is one that stays with the
 * running root because it is how the file was carried there. */
static bool comes_along(const struct carrying *c, int fd)
{
	uint64_t id;
	const struct mount *m;

	if (mount_id_of_fd(fd, &id) < 0 || id == c->root_mount)
		return false;
	m = mount_table_find(&c->mounts, id);
	return !m || !grafts_has(sides.current.generation, m->target, m->dev);
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

static int decide(const struct carrying *c, struct carry_entry *entry, struct error *e)
{
	struct stat st;
	CLEANUP_FD int fd = open_in_root(c->root, entry->path, O_PATH | O_NOFOLLOW);

	if (fd == -ENOENT || entry->action == CARRY_MISSING) {
		entry->action = CARRY_MISSING;
		return 0;
	}
	if (fd < 0 || fstat(fd, &st) < 0)
		return error_set(e, fd < 0 ? fd : errno,
			"cannot look at %s, which is to be carried", entry->path);
	entry->action = CARRY_COPY;
	if (comes_along(c, fd))
		entry->action = CARRY_STAYS;
	else if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode) && !S_ISLNK(st.st_mode))
		return error_say(e, EINVAL,
			"%s cannot be carried: it is neither a file nor a directory nor a symbolic link",
			entry->path);
	else if (!c->image->read_only)
		return 0;
	else if (S_ISLNK(st.st_mode) && has_same_link(c, entry->path))
		entry->action = CARRY_SAME;
	else if (S_ISLNK(st.st_mode))
		return error_say(e, EINVAL,
			"%s cannot be carried: it is a symbolic link, and the image is read-only and has not the same",
			entry->path);
	else
		entry->action = CARRY_BIND;
	return entry->action == CARRY_BIND ? check_place(c, entry->path, st.st_mode, e) : 0;
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

/* The state directory */

/* It, or what there is of the way to it. */
static int open_nearest(const char *path, struct error *e)
{
	char buf[PATH_MAX];

	(void)snprintf(buf, sizeof(buf), "%s", path);
	for (;;) {
		int fd = open(buf, O_PATH | O_CLOEXEC);
		if (fd >= 0)
			return fd;
		char *slash = strrchr(buf, '/');
		if (errno != ENOENT || !slash || slash == buf)
			return error_set(e, errno, "cannot open CarryDirectory=%s", path);
		*slash = '\0';
	}
}

static int make_all(const char *path)
{
	char buf[PATH_MAX];

	(void)snprintf(buf, sizeof(buf), "%s", path);
	for (char *p = strchr(buf + 1, '/'); p; p = strchr(p + 1, '/')) {
		*p = '\0';
		if (mkdir(buf, 0755) < 0 && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	/* Not for everybody: there are keys in it. */
	return mkdir(buf, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

static int check_store(const struct carrying *c, struct error *e)
{
	const char *path = c->q->carry_directory;
	CLEANUP_FD int fd = open_nearest(path, e);
	uint64_t id;
	const struct mount *m;
	struct statvfs fs;

	if (fd < 0)
		return fd;
	int r = mount_id_of_fd(fd, &id);
	if (r < 0 || fstatvfs(fd, &fs) < 0)
		return error_set(e, r < 0 ? r : errno, "cannot look at CarryDirectory=%s", path);
	m = mount_table_find(&c->mounts, id);
	if (id == c->root_mount ||
		(m && c->image->leave[0] && starts_with(m->target, c->image->leave)))
		return error_say(e, EINVAL,
			"CarryDirectory=%s lies on %s, which does not come along to the new image (it has to be on a mount of its own, such as /var)",
			path, id == c->root_mount ? "the running image itself" : "the new image");
	if (fs.f_flag & ST_RDONLY)
		return error_say(e, EROFS, "CarryDirectory=%s cannot be written to", path);
	return 0;
}

static int open_store(struct carrying *c, struct error *e)
{
	const char *path = c->q->carry_directory;
	int r = make_all(path);

	if (r < 0)
		return error_set(e, r, "cannot make CarryDirectory=%s", path);
	c->store = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return c->store < 0 ? error_set(e, errno, "cannot open CarryDirectory=%s", path) : 0;
}

/* Doing it */

/* The running file is the one in the state directory: it was carried here. */
static bool is_stored(const struct carrying *c, const char *path)
{
	struct stat a, b;
	CLEANUP_FD int ours = open_in_root(c->root, path, O_PATH | O_NOFOLLOW);
	CLEANUP_FD int stored = open_in_root(c->store, path, O_PATH | O_NOFOLLOW);

	return ours >= 0 && stored >= 0 && fstat(ours, &a) == 0 && fstat(stored, &b) == 0 &&
	       a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static int copy_all(struct carrying *c, enum carry_action action, struct error *e)
{
	struct stage s = {.from = c->root,
		.root = action == CARRY_BIND ? c->store : c->image->root,
		.budget = {.bytes = CARRY_MAX_BYTES, .entries = CARRY_MAX_ENTRIES}};
	int r = 0;

	for (size_t i = 0; r == 0 && i < c->list.count; i++)
		if (c->list.list[i].action == action &&
			!(action == CARRY_BIND && is_stored(c, c->list.list[i].path)))
			r = stage_add(&s, c->list.list[i].path, e);
	if (r == 0)
		r = stage_place(&s, e);
	if (r == 0)
		stage_done(&s);
	else
		stage_undo(&s);
	return r;
}

static int clone_stored(int store, const char *path, struct error *e)
{
	CLEANUP_FD int stored = open_in_root(store, path, O_PATH | O_NOFOLLOW);

	if (stored < 0)
		return error_set(e, stored, "cannot open the carried %s", path);
	int mount = mount_clone_fd(stored);
	return mount < 0 ? error_set(e, mount, "cannot take a mount of the carried %s", path)
			 : mount;
}

static int send_grafts(const struct carrying *c, struct error *e)
{
	for (size_t i = 0; i < c->list.count; i++) {
		const struct carry_entry *entry = &c->list.list[i];
		if (entry->action != CARRY_BIND)
			continue;
		CLEANUP_FD int mount = clone_stored(c->store, entry->path, e);
		if (mount < 0)
			return mount;
		answer_graft(c->socket, entry->path, mount);
	}
	return 0;
}

static int do_all(struct carrying *c, struct error *e)
{
	if (!c->image->read_only)
		return copy_all(c, CARRY_COPY, e);
	int r = open_store(c, e);
	if (r == 0)
		r = copy_all(c, CARRY_BIND, e);
	return r < 0 ? r : send_grafts(c, e);
}

static bool wants_store(const struct carrying *c)
{
	for (size_t i = 0; i < c->list.count; i++)
		if (c->list.list[i].action == CARRY_BIND)
			return true;
	return false;
}

static int carry_listed(struct carrying *c, struct error *e)
{
	int r = mount_id_of_fd(c->root, &c->root_mount);

	if (r < 0)
		return error_set(e, r, "cannot identify the root mount");
	if ((r = mount_table_read(&c->mounts, e)) < 0 ||
		(r = carry_expand(&c->list, c->root, c->q->carry, e)) < 0)
		return r;
	carry_reduce(&c->list);
	if ((r = decide_all(c, e)) < 0)
		return r;
	warn_if_not_listed(c);
	if (wants_store(c) && (r = check_store(c, e)) < 0)
		return r;
	if (c->q->plan || (c->image->read_only && !wants_store(c)))
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

/* At boot */

static int graft_one(int root, int store, const char *path, int out, struct error *e)
{
	struct stat st, place;
	CLEANUP_FD int at = open_mount_point(root, path, e);
	if (at < 0)
		return at;
	CLEANUP_FD int mount = clone_stored(store, path, e);
	if (mount < 0)
		return mount;
	if (fstat(mount, &st) < 0 || fstat(at, &place) < 0)
		return error_set(e, errno, "cannot look at %s", path);
	if (!carry_kinds_match(st.st_mode, place.st_mode))
		return error_say(e, EEXIST, "%s is of another kind in the image", path);
	int r = mount_move(mount, at);
	if (r < 0)
		return error_set(e, r, "cannot mount the carried %s", path);
	struct record_writer w = {0};
	grafts_write(&w, path, graft_dev(mount));
	if (w.error || write(out, w.text, w.length) != (ssize_t)w.length)
		log_warning("cannot note that %s is carried", path);
	record_writer_done(&w);
	return 0;
}

/* Not what lies on a mount of the fstab, and not twice. */
static bool is_on_root(int root, const char *path)
{
	uint64_t own, id;
	CLEANUP_FD int fd = open_in_root(root, path, O_PATH);

	return fd >= 0 && mount_id_of_fd(root, &own) == 0 && mount_id_of_fd(fd, &id) == 0 &&
	       own == id;
}

static void graft_all(int root, int store, char *const *patterns, int out)
{
	struct carry_list l = {0};
	struct error e;

	if (carry_expand(&l, store, patterns, &e) < 0) {
		log_warning("%s", e.text);
		return;
	}
	carry_reduce(&l);
	for (size_t i = 0; i < l.count && i < GRAFTS_MAX; i++) {
		const struct carry_entry *entry = &l.list[i];
		if (entry->action == CARRY_MISSING)
			continue;
		if (!is_on_root(root, entry->path))
			log_warning("%s is carried, and there is no place for it", entry->path);
		else if (graft_one(root, store, entry->path, out, &e) < 0)
			log_warning("%s", e.text);
	}
	carry_list_free(&l);
}

void carry_at_boot(char *const *patterns, const char *directory, int fd)
{
	struct statvfs fs;
	CLEANUP_FD int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (!patterns || !patterns[0] || root < 0 || fstatvfs(root, &fs) < 0 ||
		!(fs.f_flag & ST_RDONLY))
		return;
	CLEANUP_FD int store = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (store >= 0)
		graft_all(root, store, patterns, fd);
	else if (errno != ENOENT)
		log_warning("cannot open CarryDirectory=%s: %s", directory, strerror(errno));
}
