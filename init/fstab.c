/* SPDX-License-Identifier: MIT */
#include "init/fstab.h"

#include <errno.h>
#include <libmount/libmount.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/swap.h>
#include <unistd.h>

#include "kernel/log.h"
#include "kernel/util.h"

static bool has_option(struct libmnt_fs *fs, const char *name)
{
	/* Not mnt_fs_match_options(): to it, "noauto" means that "auto" is not there. */
	return mnt_fs_get_option(fs, name, NULL, NULL) == 0;
}

static int switch_swap_on(struct libmnt_fs *fs)
{
	const char *source = mnt_fs_get_srcpath(fs);
	CLEANUP_FREE char *resolved = mnt_resolve_spec(mnt_fs_get_source(fs), NULL);

	if (resolved)
		source = resolved;
	if (!source || (swapon(source, 0) < 0 && errno != EBUSY)) {
		log_warning("cannot swap on %s: %s", source ? source : "?",
			source ? strerror(errno) : "no such device");
		return -1;
	}
	return 0;
}

static void describe(struct libmnt_context *cxt, struct libmnt_fs *fs, int r)
{
	char text[400] = "";

	(void)mnt_context_get_excode(cxt, r, text, sizeof(text));
	log_error("cannot mount %s on %s: %s", mnt_fs_get_source(fs) ? mnt_fs_get_source(fs) : "?",
		mnt_fs_get_target(fs) ? mnt_fs_get_target(fs) : "?",
		text[0] ? text : "no reason given");
}

static int mount_one(struct libmnt_fs *fs, const char *extra)
{
	struct libmnt_context *cxt = mnt_new_context();
	int r;

	if (!cxt)
		return -1;
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
		r = -1;
	}
	mnt_free_context(cxt);
	return r;
}

static int handle(struct libmnt_fs *fs, struct libmnt_table *mounted)
{
	const char *target = mnt_fs_get_target(fs);
	int r;

	if (mnt_fs_is_swaparea(fs)) {
		(void)(has_option(fs, "noauto") ? 0
						: switch_swap_on(fs)); /* a machine runs without */
		return 0;
	}
	if (!target || has_option(fs, "noauto") || strcmp(target, "none") == 0)
		return 0;
	if (strcmp(target, "/") == 0)
		r = mount_one(fs, "remount");
	else if (mnt_table_is_fs_mounted(mounted, fs) == 1 ||
		 mnt_table_find_target(mounted, target, MNT_ITER_BACKWARD))
		return 0;
	else
		r = mount_one(fs, NULL);
	return r < 0 && !has_option(fs, "nofail") ? -1 : 0;
}

static int complain(struct libmnt_table *table, const char *file, int line)
{
	(void)table;
	log_error("%s:%d: cannot make sense of this line; it is left out", file, line);
	return 1; /* go on with the rest */
}

int fstab_mount_all(void)
{
	struct libmnt_table *fstab = mnt_new_table(), *mounted = mnt_new_table();
	struct libmnt_iter *iter = mnt_new_iter(MNT_ITER_FORWARD);
	struct libmnt_fs *fs;
	int failed = 0;

	if (!fstab || !mounted || !iter)
		return 1;
	(void)mnt_table_set_parser_errcb(fstab, complain);
	if (access("/etc/fstab", F_OK) < 0 || mnt_table_parse_fstab(fstab, NULL) < 0)
		return access("/etc/fstab", F_OK) < 0 ? 0 : 1;
	if (mnt_table_parse_mtab(mounted, NULL) < 0)
		return 1;
	while (mnt_table_next_fs(fstab, iter, &fs) == 0)
		if (handle(fs, mounted) < 0)
			failed = 1;
	return failed;
}
