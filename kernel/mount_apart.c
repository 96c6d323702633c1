/* SPDX-License-Identifier: MIT */
#include "kernel/mount_apart.h"

#include <errno.h>
#include <fcntl.h>
#include <libmount/libmount.h>
#include <linux/loop.h>
#include <linux/major.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "kernel/mounts.h"
#include "kernel/util.h"

#define LOOP_CONTROL "/dev/loop-control"
#define LOOP_CONTROL_MINOR 237 /* Documentation/admin-guide/devices.txt */

/* A kernel with loop devices as a module loads it when this node is opened; without udev nobody
 * has made the node. */
static void load_loop(void)
{
	if (access(LOOP_CONTROL, F_OK) < 0)
		(void)mknod(LOOP_CONTROL, S_IFCHR | 0600, makedev(MISC_MAJOR, LOOP_CONTROL_MINOR));
	(void)fd_close(open(LOOP_CONTROL, O_RDWR | O_CLOEXEC));
}

static int set_up(struct libmnt_context *cxt, const struct apart_request *q)
{
	int r = mnt_context_set_source(cxt, q->source);

	if (r == 0)
		r = mnt_context_set_target(cxt, q->at);
	if (r == 0 && q->fstype)
		r = mnt_context_set_fstype(cxt, q->fstype);
	if (r == 0)
		r = mnt_context_set_options(cxt, q->options);
	if (r == 0)
		r = mnt_context_disable_helpers(cxt, 1);
	/* Nor /run/mount/utab: this mount is not of the table that file is about. */
	return r ? r : mnt_context_disable_mtab(cxt, 1);
}

/* libmount's own errors are numbers from 5000 on. */
static int describe(struct libmnt_context *cxt, int r, struct error *e)
{
	char text[400] = "";
	int code = mnt_context_syscall_called(cxt) ? mnt_context_get_syscall_errno(cxt) : 0;

	if (code == 0)
		code = r < 0 && r > -4096 ? -r : EIO;
	(void)mnt_context_get_excode(cxt, r, text, sizeof(text));
	text[strcspn(text, "\n")] = '\0';
	if (!text[0])
		return error_say(e, code, "%s", strerror(code));
	return error_say(e, code, "%s", text);
}

static int mount_here(const struct apart_request *q, struct apart_mount *m, struct error *e)
{
	struct libmnt_context *cxt = mnt_new_context();
	struct libmnt_fs *fs;

	if (!cxt)
		return error_set(e, ENOMEM, "cannot mount");
	int r = set_up(cxt, q);
	r = r ? r : mnt_context_mount(cxt);
	if (r != 0 || mnt_context_get_status(cxt) != 1) {
		r = describe(cxt, r, e);
	} else {
		fs = mnt_context_get_fs(cxt);
		(void)snprintf(m->device, sizeof(m->device), "%s",
			fs && mnt_fs_get_srcpath(fs) ? mnt_fs_get_srcpath(fs) : q->source);
	}
	mnt_free_context(cxt);
	return r;
}

static int mount_and_detach(const struct apart_request *q, struct apart_mount *m, struct error *e)
{
	/* A copy of a shared mount is its peer: what is mounted here would be seen there. */
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return error_set(e, errno, "cannot make a mount namespace private");
	int r = mount_here(q, m, e);
	if (r < 0)
		return r;
	m->root = mount_clone(q->at, e);
	return m->root < 0 ? m->root : 0;
}

int mount_apart(const struct apart_request *q, struct apart_mount *ret, struct error *e)
{
	struct apart_mount m = {.root = -1};
	CLEANUP_FD int home = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);

	if (home < 0)
		return error_set(e, errno, "cannot open the mount namespace");
	load_loop();
	if (unshare(CLONE_NEWNS) < 0)
		return error_set(e, errno, "cannot make a mount namespace");
	int r = mount_and_detach(q, &m, e);
	/* The detached mount lives on; the namespace goes with the last who is in it. */
	if (setns(home, CLONE_NEWNS) < 0) {
		r = error_set(e, errno, "cannot return to the mount namespace");
		(void)fd_close(m.root);
	}
	if (r < 0)
		return r;
	*ret = m;
	return 0;
}
