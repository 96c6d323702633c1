/* SPDX-License-Identifier: MIT */
#include "init/fstab.h"

#include <errno.h>
#include <libmount/libmount.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/swap.h>
#include <unistd.h>

#include "conf/fsck.h"
#include "init/device_wait.h"
#include "init/late_mounts.h"
#include "init/stages/children.h"
#include "init/stages/tools.h"
#include "init/system.h"
#include "kernel/log.h"
#include "kernel/swap.h"
#include "kernel/util.h"

static bool has_option(struct libmnt_fs *fs, const char *name)
{
	/* Not mnt_fs_match_options(): to it, "noauto" means that "auto" is not there. */
	return mnt_fs_get_option(fs, name, NULL, NULL) == 0;
}

static const char *source_of(struct libmnt_fs *fs)
{
	return mnt_fs_get_source(fs) ? mnt_fs_get_source(fs) : "?";
}

static const char *target_of(struct libmnt_fs *fs)
{
	return mnt_fs_get_target(fs) ? mnt_fs_get_target(fs) : "none";
}

static bool is_root(struct libmnt_fs *fs)
{
	return mnt_fs_get_target(fs) && strcmp(mnt_fs_get_target(fs), "/") == 0;
}

/* 9p is a file system of virtual machines: their host is there from the first moment on. */
static bool is_network(struct libmnt_fs *fs)
{
	const char *type = mnt_fs_get_fstype(fs);

	return has_option(fs, "_netdev") ||
	       (mnt_fs_is_netfs(fs) && !(type && strcmp(type, "9p") == 0));
}

/* The table */

static int complain(struct libmnt_table *table, const char *file, int line)
{
	(void)table;
	log_error("%s:%d: cannot make sense of this line; it is left out", file, line);
	return 1; /* go on with the rest */
}

static int skip(struct libmnt_table *table, const char *file, int line)
{
	(void)table;
	(void)file;
	(void)line;
	return 1; /* one stage complains, not all */
}

/* An empty one if there is no file; NULL if there is one and it cannot be read. */
static struct libmnt_table *read_fstab(int (*broken)(struct libmnt_table *, const char *, int))
{
	struct libmnt_table *fstab = mnt_new_table();

	if (!fstab)
		return NULL;
	(void)mnt_table_set_parser_errcb(fstab, broken);
	if (access("/etc/fstab", F_OK) < 0 || mnt_table_parse_fstab(fstab, NULL) == 0)
		return fstab;
	log_error("cannot read /etc/fstab");
	mnt_unref_table(fstab);
	return NULL;
}

static bool any(bool (*is)(struct libmnt_fs *fs))
{
	struct libmnt_table *fstab = read_fstab(skip);
	struct libmnt_iter *iter = mnt_new_iter(MNT_ITER_FORWARD);
	struct libmnt_fs *fs;
	bool found = false;

	while (fstab && iter && !found && mnt_table_next_fs(fstab, iter, &fs) == 0)
		found = is(fs);
	mnt_free_iter(iter);
	mnt_unref_table(fstab);
	return found;
}

/* What all lines of a kind have done to them: 0 or 1 each. */
static int each(
	int (*broken)(struct libmnt_table *, const char *, int), int (*visit)(struct libmnt_fs *fs))
{
	struct libmnt_table *fstab = read_fstab(broken);
	struct libmnt_iter *iter = mnt_new_iter(MNT_ITER_FORWARD);
	struct libmnt_fs *fs;
	int failed = fstab && iter ? 0 : 1;

	while (fstab && iter && mnt_table_next_fs(fstab, iter, &fs) == 0)
		failed |= visit(fs);
	mnt_free_iter(iter);
	mnt_unref_table(fstab);
	return failed;
}

/* Waiting */

/* A disk that may be in a drawer as well: long enough for one that is slow. */
#define NOFAIL_USEC (5 * USEC_PER_SEC)

static uint64_t await_since_usec;

/* In a container swap is the whole machine's. */
static bool is_ours(struct libmnt_fs *fs)
{
	return sys.real || !mnt_fs_is_swaparea(fs);
}

static int await_one(struct libmnt_fs *fs)
{
	uint64_t usec = sys.conf->device_timeout_usec;
	bool nofail = has_option(fs, "nofail");

	if (has_option(fs, "noauto") || is_root(fs) || is_network(fs) || !is_ours(fs))
		return 0;
	if (nofail && usec > NOFAIL_USEC)
		usec = NOFAIL_USEC;
	if (late_mounts_are_below(source_of(fs), target_of(fs))) {
		late_mounts_note(source_of(fs), target_of(fs));
		return 0;
	}
	if (device_await(fs, await_since_usec, usec) == 0)
		return 0;
	log_line(nofail ? LEVEL_NOTICE : LEVEL_ERROR, "the device %s has not come", source_of(fs));
	late_mounts_note(source_of(fs), target_of(fs));
	return nofail ? 0 : 1;
}

int fstab_await_devices(void)
{
	await_since_usec = clock_usec();
	return each(skip, await_one);
}

/* Mounting */

static void describe(struct libmnt_context *cxt, struct libmnt_fs *fs, int r)
{
	char text[400] = "";

	(void)mnt_context_get_excode(cxt, r, text, sizeof(text));
	log_line(has_option(fs, "nofail") ? LEVEL_NOTICE : LEVEL_ERROR, "cannot mount %s on %s: %s",
		source_of(fs), mnt_fs_get_target(fs) ? mnt_fs_get_target(fs) : "?",
		text[0] ? text
		: r < 0 ? strerror(-r)
			: "no reason given");
}

static bool try_to_mount(struct libmnt_fs *fs, const char *extra)
{
	struct libmnt_context *cxt = mnt_new_context();
	int r;

	if (!cxt)
		return false;
	(void)mnt_context_disable_helpers(cxt, 0);
	r = mnt_context_set_target(cxt, mnt_fs_get_target(fs));
	if (r == 0)
		r = mnt_context_set_source(cxt, mnt_fs_get_source(fs));
	if (r == 0 && mnt_fs_get_fstype(fs))
		r = mnt_context_set_fstype(cxt, mnt_fs_get_fstype(fs));
	if (r == 0)
		r = mnt_context_set_options(cxt, mnt_fs_get_options(fs));
	if (r == 0 && extra)
		r = mnt_context_append_options(cxt, extra);
	if (r == 0)
		r = mnt_context_mount(cxt);
	if (r != 0 || mnt_context_get_status(cxt) != 1) {
		describe(cxt, fs, r);
		r = 1;
	}
	mnt_free_context(cxt);
	return r == 0;
}

static int mount_one(struct libmnt_fs *fs, const char *extra)
{
	return try_to_mount(fs, extra) || has_option(fs, "nofail") ? 0 : 1;
}

static struct libmnt_table *mounted;

/* Does `visit` to all lines, with what is mounted in `mounted`. 0 or 1. */
static int each_against_mounted(
	int (*broken)(struct libmnt_table *, const char *, int), int (*visit)(struct libmnt_fs *fs))
{
	int failed = 1;

	mounted = mnt_new_table();
	if (mounted && mnt_table_parse_mtab(mounted, NULL) == 0)
		failed = each(broken, visit);
	mnt_unref_table(mounted);
	mounted = NULL;
	return failed;
}

/* An initramfs mounts these two as the kernel command line says, which is read-only mostly. */
static bool is_of_initramfs(struct libmnt_fs *fs)
{
	const char *target = mnt_fs_get_target(fs);

	return is_root(fs) || (target && strcmp(target, "/usr") == 0 &&
				      mnt_table_find_target(mounted, target, MNT_ITER_BACKWARD));
}

static int remount_if_there(struct libmnt_fs *fs)
{
	return is_of_initramfs(fs) && !has_option(fs, "noauto") ? mount_one(fs, "remount") : 0;
}

int fstab_remount_root(void)
{
	return each_against_mounted(skip, remount_if_there);
}

static int mount_if_local(struct libmnt_fs *fs)
{
	const char *target = mnt_fs_get_target(fs);

	if (!target || mnt_fs_is_swaparea(fs) || is_root(fs) || has_option(fs, "noauto") ||
		strcmp(target, "none") == 0)
		return 0;
	if (mnt_table_is_fs_mounted(mounted, fs) == 1 ||
		mnt_table_find_target(mounted, target, MNT_ITER_BACKWARD))
		return 0;
	if (is_network(fs)) {
		log_notice(
			"%s on %s is left out: a service that comes after the network has to mount it",
			source_of(fs), target);
		return 0;
	}
	if (late_mounts_are_below(source_of(fs), target)) {
		log_line(has_option(fs, "nofail") ? LEVEL_NOTICE : LEVEL_ERROR,
			"%s on %s is left for later: what it lies on is not there", source_of(fs),
			target);
		return has_option(fs, "nofail") ? 0 : 1;
	}
	return mount_one(fs, NULL);
}

int fstab_mount_all(void)
{
	return each_against_mounted(complain, mount_if_local);
}

/* Swap */

static int swap_on(struct libmnt_fs *fs)
{
	if (!mnt_fs_is_swaparea(fs) || has_option(fs, "noauto"))
		return 0;
	CLEANUP_FREE char *resolved = mnt_resolve_spec(mnt_fs_get_source(fs), NULL);
	const char *source = resolved ? resolved : source_of(fs);
	/* EBUSY: it is on. */
	if (swapon(source, swap_flags(mnt_fs_get_options(fs))) == 0 || errno == EBUSY)
		return 0;
	if (has_option(fs, "nofail")) {
		log_info("cannot swap on %s: %s", source, strerror(errno));
		return 0;
	}
	log_warning("cannot swap on %s: %s", source, strerror(errno));
	return 1;
}

int fstab_swap_on(void)
{
	return each(skip, swap_on);
}

/* Checking */

/* fsck(8) fails where it is asked for one file system and the image has no program for that kind:
 * an image without e2fsprogs, say, whose fstab(5) was written for all. */
static bool has_checker(struct libmnt_fs *fs)
{
	const char *type = mnt_fs_get_fstype(fs);
	char name[64];

	if (!type || strcmp(type, "auto") == 0)
		return true;
	(void)snprintf(name, sizeof(name), "fsck.%s", type);
	if (tool_find(name))
		return true;
	log_notice("%s is not checked: there is no %s in this image", source_of(fs), name);
	return false;
}

static bool is_checked_root(struct libmnt_fs *fs)
{
	struct stat root, device;
	struct statvfs now;

	if (!is_root(fs) || mnt_fs_get_passno(fs) <= 0 || statvfs("/", &now) < 0 ||
		!(now.f_flag & ST_RDONLY))
		return false;
	/* An image with a layer over it, or one that was booted in place of that line's, is not
	 * what would be checked. */
	CLEANUP_FREE char *resolved = mnt_resolve_spec(mnt_fs_get_source(fs), NULL);
	return resolved && stat("/", &root) == 0 && stat(resolved, &device) == 0 &&
	       S_ISBLK(device.st_mode) && device.st_rdev == root.st_dev && has_checker(fs);
}

bool fstab_checks_root(void)
{
	return any(is_checked_root);
}

/* The fsck that is asked for all leaves out what is mounted: what was checked before that is. */
static bool is_checked(struct libmnt_fs *fs)
{
	const char *target = mnt_fs_get_target(fs);
	const char *note = target ? fsck_note_of(target) : NULL;

	return !is_root(fs) && !mnt_fs_is_swaparea(fs) && mnt_fs_get_passno(fs) > 0 &&
	       !has_option(fs, "noauto") && !has_option(fs, "_netdev") &&
	       !(note && access(note, F_OK) == 0);
}

bool fstab_checks_others(void)
{
	return any(is_checked);
}

/* Later */

static struct {
	const char *source, *target;
	int result;
} wanted;

static int mount_late(struct libmnt_fs *fs)
{
	if (mnt_table_find_target(mounted, target_of(fs), MNT_ITER_BACKWARD))
		return FSTAB_LATE_DONE;
	if (!device_is_ready(fs))
		return FSTAB_LATE_MISSING;
	if (mnt_fs_is_swaparea(fs))
		return swap_on(fs) == 0 ? FSTAB_LATE_DONE : FSTAB_LATE_FAILED;
	if (mnt_fs_get_passno(fs) > 0 && has_checker(fs) && stage_check_late(source_of(fs)) != 0)
		return FSTAB_LATE_FAILED;
	if (!try_to_mount(fs, NULL))
		return FSTAB_LATE_FAILED;
	log_notice("%s has come and is mounted on %s", source_of(fs), target_of(fs));
	return FSTAB_LATE_DONE;
}

static int mount_if_wanted(struct libmnt_fs *fs)
{
	if (strcmp(source_of(fs), wanted.source) == 0 &&
		strcmp(target_of(fs), wanted.target) == 0 && !has_option(fs, "noauto"))
		wanted.result = mount_late(fs);
	return 0;
}

int fstab_mount_late(const char *source, const char *target)
{
	wanted.source = source;
	wanted.target = target;
	wanted.result =
		FSTAB_LATE_DONE; /* of the image that runs now, perhaps: it has no such line */
	(void)each_against_mounted(skip, mount_if_wanted);
	return wanted.result;
}
