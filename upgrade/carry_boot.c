/* SPDX-License-Identifier: MIT */
/* What is carried over a read-only root, as it boots. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "kernel/log.h"
#include "kernel/mounts.h"
#include "kernel/util.h"
#include "upgrade/carry.h"
#include "upgrade/carry_store.h"
#include "upgrade/grafts.h"
#include "upgrade/pivot.h"
#include "upgrade/stage.h"

static int graft_one(int root, int store, const char *path, int out, struct error *e)
{
	struct stat st, place;
	CLEANUP_FD int at = open_mount_point(root, path, e);
	if (at < 0)
		return at;
	CLEANUP_FD int mount = carry_store_clone(store, path, e);
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

	if (carry_expand(&l, store, -1, patterns, &e) < 0) {
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

static bool is_listed(char *const *patterns, int root, const char *path)
{
	struct carry_list l = {0};
	struct error e;
	bool listed = false;

	if (carry_expand(&l, root, -1, patterns, &e) < 0)
		return false;
	for (size_t i = 0; i < l.count; i++)
		listed = listed || strcmp(l.list[i].path, path) == 0;
	carry_list_free(&l);
	return listed;
}

int carry_keep(char *const *patterns, const char *directory, const char *path, struct error *e)
{
	struct statvfs fs;
	CLEANUP_FD int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (root < 0 || fstatvfs(root, &fs) < 0)
		return error_set(e, errno, "cannot open /");
	/* Over a root that can be written to nothing is mounted at boot. */
	if (!(fs.f_flag & ST_RDONLY) || !is_listed(patterns, root, path))
		return 0;
	CLEANUP_FD int store = carry_store_make(directory, e);
	if (store < 0)
		return store;
	if (carry_store_has(store, path, NULL))
		return 0;
	struct stage s = {.from = root, .root = store, .budget = {.bytes = 4096, .entries = 1}};
	int r = stage_add(&s, path, e);
	if (r == 0)
		r = stage_place(&s, e);
	if (r == 0)
		stage_done(&s);
	else
		stage_undo(&s);
	return r < 0 ? r : 1;
}
