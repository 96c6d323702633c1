/* SPDX-License-Identifier: MIT */
#include "kernel/mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <libmount/libmount.h>
#include <linux/mount.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel/util.h"

#define READ_TRIES 5

static int proc_dir = -1;

void mount_proc_at(int proc)
{
	proc_dir = proc;
}

static int open_mountinfo(void)
{
	int fd = proc_dir >= 0 ? openat(proc_dir, "self/mountinfo", O_RDONLY | O_CLOEXEC)
			       : open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static char *copy_or_empty(const char *text)
{
	return strdup(text ? text : "");
}

/* proc(5): optional fields are "tag:value", with blanks between them. */
static uint64_t group_of(struct libmnt_fs *fs, const char *tag)
{
	const char *fields = mnt_fs_get_optional_fields(fs);
	const char *at = fields ? strstr(fields, tag) : NULL;

	return at ? strtoull(at + strlen(tag), NULL, 10) : 0;
}

static int copy_mount(struct mount *m, struct libmnt_fs *fs)
{
	m->id = (uint64_t)mnt_fs_get_id(fs);
	m->parent = (uint64_t)mnt_fs_get_parent_id(fs);
	if (mnt_fs_get_propagation(fs, &m->propagation) < 0)
		m->propagation = 0;
	m->dev = (uint64_t)mnt_fs_get_devno(fs);
	m->peers = group_of(fs, "shared:");
	m->master = group_of(fs, "master:");
	if (!mnt_fs_get_target(fs) || !mnt_fs_get_root(fs))
		return -ENOMEM; /* every line has both */
	m->target = copy_or_empty(mnt_fs_get_target(fs));
	m->root = copy_or_empty(mnt_fs_get_root(fs));
	m->fstype = copy_or_empty(mnt_fs_get_fstype(fs));
	m->source = copy_or_empty(mnt_fs_get_source(fs));
	return m->target && m->root && m->fstype && m->source ? 0 : -ENOMEM;
}

static int copy_table(struct mount_table *t, struct libmnt_table *table)
{
	int n = mnt_table_get_nents(table);
	struct libmnt_iter *iter = mnt_new_iter(MNT_ITER_FORWARD);
	struct libmnt_fs *fs;
	int r = 0;

	t->mounts = calloc(n > 0 ? (size_t)n : 1, sizeof(*t->mounts));
	if (!t->mounts || !iter) {
		mnt_free_iter(iter);
		return -ENOMEM;
	}
	while (r == 0 && t->count < (size_t)n && mnt_table_next_fs(table, iter, &fs) == 0)
		r = copy_mount(&t->mounts[t->count++], fs);
	mnt_free_iter(iter);
	return r;
}

static int count_lines(FILE *f)
{
	int c, n = 0;

	while ((c = getc(f)) != EOF)
		n += c == '\n';
	if (ferror(f))
		return -EIO;
	rewind(f);
	return n;
}

/*
 * libmount leaves out a line that it has no memory for, and says nothing: a mount that is not in
 * the table would be lost with the old root. So they are counted. Another one made between the two
 * looks is the same error, and as harmless.
 */
static int parse(struct libmnt_table *table, FILE *f)
{
	int lines = count_lines(f);

	if (lines < 0)
		return lines;
	/* A name would be resolved, to see whose table it is: in another namespace on a file system
	 * whose server may not answer. */
	int r = mnt_table_parse_stream(table, f, "");
	if (r)
		return r < 0 ? r : -EBADMSG;
	return mnt_table_get_nents(table) == lines ? 0 : -EAGAIN;
}

/* From a copy of `watch`, or, without one, of the caller's namespace. */
static int open_table(int watch)
{
	if (watch < 0)
		return open_mountinfo();
	if (lseek(watch, 0, SEEK_SET) < 0)
		return -errno;
	int fd = fcntl(watch, F_DUPFD_CLOEXEC, 3);
	return fd < 0 ? -errno : fd;
}

static int read_once(int watch, struct mount_table *t)
{
	struct libmnt_table *table = mnt_new_table();
	CLEANUP_FD int fd = open_table(watch);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
	int r = fd < 0 ? fd : f ? 0 : -errno;

	if (f)
		(void)fd_steal(&fd); /* fclose(3) closes it */
	if (r == 0 && !table)
		r = -ENOMEM;
	if (r == 0)
		r = parse(table, f);
	if (r == 0)
		r = copy_table(t, table);
	mnt_unref_table(table);
	if (f)
		(void)fclose(f);
	return r;
}

static int read_table(int watch, struct mount_table *ret, struct error *e)
{
	struct mount_table t = {0};
	int r = -EAGAIN;

	for (unsigned tries = 0; r == -EAGAIN && tries < READ_TRIES; tries++)
		r = read_once(watch, &t);
	if (r < 0) {
		mount_table_free(&t);
		return error_set(e, r, "cannot read the mount table from /proc/self/mountinfo");
	}
	*ret = t;
	return 0;
}

int mount_table_read(struct mount_table *ret, struct error *e)
{
	return read_table(-1, ret, e);
}

int mount_table_read_watched(int watch, struct mount_table *ret, struct error *e)
{
	return read_table(watch, ret, e);
}

void mount_table_free(struct mount_table *t)
{
	for (size_t i = 0; i < t->count; i++) {
		free(t->mounts[i].target);
		free(t->mounts[i].root);
		free(t->mounts[i].fstype);
		free(t->mounts[i].source);
	}
	free(t->mounts);
	*t = (struct mount_table){0};
}

const struct mount *mount_table_find(const struct mount_table *t, uint64_t id)
{
	for (size_t i = 0; i < t->count; i++)
		if (t->mounts[i].id == id)
			return &t->mounts[i];
	return NULL;
}

int mount_watch_open(void)
{
	return open_mountinfo();
}

int mount_watch_changed(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLPRI};
	int n = poll(&p, 1, 0);

	if (n < 0)
		return -errno;
	return n == 1 && (p.revents & (POLLPRI | POLLERR)) ? 1 : 0;
}

bool mount_is_directory(int fd)
{
	struct statx st;
	char path[48];

	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, 0, &st) == 0 && st.stx_mode)
		return S_ISDIR(st.stx_mode);
	/* A FUSE mount that its user keeps to himself does not tell. */
	(void)snprintf(path, sizeof(path), "%sself/fd/%d", proc_dir < 0 ? "/proc/" : "", fd);
	CLEANUP_FD int directory =
		openat(proc_dir < 0 ? AT_FDCWD : proc_dir, path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return directory >= 0 || errno != ENOTDIR;
}

static int statx_mount_id(int dirfd, const char *path, int flags, uint64_t *ret_id)
{
	struct statx st;

	/* DONT_SYNC: a file system whose server does not answer must not hold us up. */
	flags |= AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC;
	/* Nothing is asked of the file system itself: FUSE would deny root any answer about a mount
	 * that its user keeps to himself. The mount's id comes in any case. */
	if (statx(dirfd, path, flags, 0, &st) < 0)
		return -errno;
	if (!(st.stx_mask & STATX_MNT_ID))
		return -EOPNOTSUPP; /* before Linux 5.8 */
	*ret_id = st.stx_mnt_id;
	return 0;
}

int mount_id_of_fd(int fd, uint64_t *ret_id)
{
	return statx_mount_id(fd, "", AT_EMPTY_PATH, ret_id);
}

int mount_id_at(int dirfd, const char *path, uint64_t *ret_id)
{
	return statx_mount_id(dirfd, path, 0, ret_id);
}

static int set_attributes(int mount_fd, const struct mount_attr *attr)
{
	if (syscall(SYS_mount_setattr, mount_fd, "", AT_EMPTY_PATH, attr, sizeof(*attr)) < 0)
		return -errno;
	return 0;
}

int mount_set_propagation(int mount_fd, unsigned long propagation)
{
	char path[64];

	int r = set_attributes(mount_fd, &(struct mount_attr){.propagation = propagation});
	if (r != -ENOSYS)
		return r;
	/* Before Linux 5.12, where an initramfs mounts the root as well. */
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", mount_fd);
	return mount(NULL, path, NULL, propagation, NULL) < 0 ? -errno : 0;
}

int mount_clear_restrictions(int mount_fd)
{
	return set_attributes(mount_fd,
		&(struct mount_attr){
			.attr_clr = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC});
}

int mount_make_read_only(int mount_fd)
{
	return set_attributes(mount_fd, &(struct mount_attr){.attr_set = MOUNT_ATTR_RDONLY});
}

int mount_clone(const char *path, struct error *e)
{
	CLEANUP_FD int fd =
		(int)syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	if (fd < 0)
		return error_set(e, errno, "cannot take a mount of %s", path);
	/* A copy joins the peer group of the mount it was made from: leave it again. */
	int r = mount_set_propagation(fd, MS_PRIVATE);
	if (r < 0)
		return error_set(e, r, "cannot make the mount of %s private", path);
	return fd_steal(&fd);
}

int mount_copy(int fd, bool recursive)
{
	unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH;

	int copy = (int)syscall(
		SYS_open_tree, fd, "", flags | (recursive ? (unsigned)AT_RECURSIVE : 0));
	return copy < 0 ? -errno : copy;
}

/* linux/mount.h has it since 5.15. */
#ifndef MOVE_MOUNT_SET_GROUP
#define MOVE_MOUNT_SET_GROUP 0x00000100
#endif

int mount_join_groups(int from, int to)
{
	if (syscall(SYS_move_mount, from, "", to, "",
		    MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH | MOVE_MOUNT_SET_GROUP) < 0)
		return -errno;
	return 0;
}

int mount_clone_fd(int fd)
{
	CLEANUP_FD int mount = (int)syscall(
		SYS_open_tree, fd, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	if (mount < 0)
		return -errno;
	int r = mount_set_propagation(mount, MS_PRIVATE);
	return r < 0 ? r : fd_steal(&mount);
}

int mount_move(int from, int to)
{
	if (syscall(SYS_move_mount, from, "", to, "",
		    MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
		return -errno;
	return 0;
}

int mount_pivot(int new_root)
{
	if (fchdir(new_root) < 0)
		return -errno;
	int r = syscall(SYS_pivot_root, ".", ".") < 0 ? -errno : 0;
	/* Our cwd is the new root's "/" if it worked; if not, back to where PID 1 stands. */
	if (r < 0 && chdir("/") < 0)
		return -errno;
	return r;
}

static int configure_tmpfs(int fs, const char *source, const char *size)
{
	if (syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "source", source, 0) < 0 ||
		syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "mode", "0700", 0) < 0 ||
		syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "size", size, 0) < 0 ||
		syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -errno;
	return 0;
}

int mount_new_tmpfs(const char *source, const char *size)
{
	CLEANUP_FD int fs = (int)syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC);

	if (fs < 0)
		return -errno;
	int r = configure_tmpfs(fs, source, size);
	if (r < 0)
		return r;
	int fd = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC,
		MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	return fd < 0 ? -errno : fd;
}

int mount_detach(int fd)
{
	return mount_detach_at(fd, ".");
}

int mount_detach_at(int dirfd, const char *name)
{
	int r = 0;

	if (fchdir(dirfd) < 0)
		return -errno;
	if (umount2(name, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
		r = -errno;
	if (chdir("/") < 0 && r == 0)
		r = -errno;
	return r;
}
