/* SPDX-License-Identifier: MIT */
#include "kernel/copy.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/limits.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "kernel/util.h"

#define TRIES_MAX 3 /* of a file that changes while it is copied */
#define DEPTH_MAX 64 /* of directories */
#define CHUNK (128 * 1024)

/* The magic link of an O_PATH descriptor stands for what it is open on, be that a link itself. */
static void name_of(int fd, char buf[32])
{
	(void)snprintf(buf, 32, "/proc/self/fd/%d", fd);
}

/* Extended attributes */

/* Bound to the inode they are on, or how a file system keeps its own house. */
static bool is_not_copied(const char *name)
{
	return strcmp(name, "security.evm") == 0 || starts_with(name, "trusted.overlay.") ||
	       starts_with(name, "user.overlay.") || starts_with(name, "btrfs.") ||
	       starts_with(name, "system.nfs4_");
}

/* Labels that the other file system does not have, or the policy does not let us set. */
static bool is_optional(const char *name, int error)
{
	return (strcmp(name, "security.selinux") == 0 || strcmp(name, "security.ima") == 0) &&
	       (error == EOPNOTSUPP || error == EPERM || error == EINVAL);
}

static int copy_attribute(
	const char *from, const char *to, const char *name, const char *path, struct error *e)
{
	static char value[XATTR_SIZE_MAX];
	ssize_t n = getxattr(from, name, value, sizeof(value));

	if (n < 0 && errno == ENODATA)
		return 0; /* taken away meanwhile */
	if (n < 0)
		return error_set(e, errno, "cannot read the attribute %s of %s", name, path);
	if (setxattr(to, name, value, (size_t)n, 0) < 0 && !is_optional(name, errno))
		return error_set(e, errno, "cannot take the attribute %s of %s along", name, path);
	return 0;
}

static bool list_contains(const char *list, ssize_t length, const char *name)
{
	for (const char *p = list; p < list + length; p += strlen(p) + 1)
		if (strcmp(p, name) == 0)
			return true;
	return false;
}

/* What it has inherited where it was made: a default ACL of the directory. */
static void drop_others(const char *to, const char *wanted, ssize_t length)
{
	static char list[XATTR_LIST_MAX];
	ssize_t n = listxattr(to, list, sizeof(list));

	for (const char *p = list; n > 0 && p < list + n; p += strlen(p) + 1)
		if (!list_contains(wanted, length, p) && starts_with(p, "system.posix_acl_"))
			(void)removexattr(to, p);
}

static int copy_attributes(int from, int to, const char *path, struct error *e)
{
	static char list[XATTR_LIST_MAX];
	char from_name[32], to_name[32];
	int r = 0;

	name_of(from, from_name);
	name_of(to, to_name);
	ssize_t n = listxattr(from_name, list, sizeof(list));
	if (n < 0)
		return errno == EOPNOTSUPP
			       ? 0
			       : error_set(e, errno, "cannot list the attributes of %s", path);
	drop_others(to_name, list, n);
	for (const char *p = list; r == 0 && p < list + n; p += strlen(p) + 1)
		if (!is_not_copied(p))
			r = copy_attribute(from_name, to_name, p, path, e);
	return r;
}

int copy_metadata(int from, int to, const struct stat *st, const char *path, struct error *e)
{
	const struct timespec times[] = {st->st_atim, st->st_mtim};
	char name[32] = "";
	int r;

	name_of(to, name);
	if (fchownat(to, "", st->st_uid, st->st_gid, AT_EMPTY_PATH) < 0)
		return error_set(e, errno, "cannot give the copy of %s its owner", path);
	/* After the owner, who takes set-user-ID and capabilities away. A link has no mode. */
	if (!S_ISLNK(st->st_mode) && chmod(name, st->st_mode & 07777) < 0)
		return error_set(e, errno, "cannot give the copy of %s its mode", path);
	r = copy_attributes(from, to, path, e);
	if (r == 0 && utimensat(to, "", times, AT_EMPTY_PATH) < 0)
		r = error_set(e, errno, "cannot give the copy of %s its times", path);
	return r;
}

/* Files */

static bool is_zero(const char *buf, size_t n)
{
	return buf[0] == 0 && memcmp(buf, buf + 1, n - 1) == 0;
}

static int write_all(int out, const char *buf, size_t n)
{
	/* A hole stays one. */
	if (is_zero(buf, n))
		return lseek(out, (off_t)n, SEEK_CUR) < 0 ? -errno : 0;
	for (size_t done = 0; done < n;) {
		ssize_t w = write(out, buf + done, n - done);
		if (w < 0)
			return -errno;
		done += (size_t)w;
	}
	return 0;
}

static int read_and_write(int in, int out, struct copy_budget *budget)
{
	static char buf[CHUNK];
	uint64_t length = 0;
	ssize_t n;

	while ((n = read(in, buf, sizeof(buf))) > 0) {
		if ((uint64_t)n > budget->bytes)
			return -EFBIG;
		budget->bytes -= (uint64_t)n;
		length += (uint64_t)n;
		int r = write_all(out, buf, (size_t)n);
		if (r < 0)
			return r;
	}
	/* It may end in a hole. */
	return n < 0 || ftruncate(out, (off_t)length) < 0 ? -errno : 0;
}

static bool is_same_moment(const struct stat *a, const struct stat *b)
{
	return a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	       a->st_mtim.tv_nsec == b->st_mtim.tv_nsec && a->st_ctim.tv_sec == b->st_ctim.tv_sec &&
	       a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* Its content as it was at one moment; *st, what is known of it so far, is of that moment then. */
static int copy_content(int in, int out, struct copy_budget *budget, struct stat *st)
{
	const uint64_t bytes = budget->bytes;

	for (unsigned tries = 0; tries < TRIES_MAX; tries++) {
		struct stat before = *st;
		budget->bytes = bytes; /* what was copied in vain does not count */
		if ((uint64_t)before.st_size > budget->bytes)
			return -EFBIG;
		if (lseek(in, 0, SEEK_SET) < 0 || lseek(out, 0, SEEK_SET) < 0 ||
			ftruncate(out, 0) < 0)
			return -errno;
		int r = read_and_write(in, out, budget);
		if (r < 0)
			return r;
		if (fstat(in, st) < 0)
			return -errno;
		if (is_same_moment(&before, st))
			return 0;
	}
	return -EBUSY;
}

static int copy_file(int from, int to, const char *name, const char *path,
	struct copy_budget *budget, struct error *e)
{
	char link[32];
	struct stat st = {0};

	name_of(from, link);
	CLEANUP_FD int in = open(link, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (in < 0 || fstat(in, &st) < 0)
		return error_set(e, errno, "cannot read %s", path);
	CLEANUP_FD int out =
		openat(to, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (out < 0)
		return error_set(e, errno, "cannot make a copy of %s", path);
	int r = copy_content(in, out, budget, &st);
	if (r == -EBUSY)
		return error_say(e, r, "%s does not stop changing while it is copied", path);
	if (r == -EFBIG)
		return error_say(e, r, "%s is too large to be carried (put it on a mount)", path);
	if (r < 0)
		return error_set(e, r, "cannot copy %s", path);
	return copy_metadata(in, out, &st, path, e);
}

static int copy_link(int from, int to, const char *name, const char *path, const struct stat *st,
	struct error *e)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(from, "", target, sizeof(target) - 1);

	if (n < 0)
		return error_set(e, errno, "cannot read the link %s", path);
	target[n] = '\0';
	if (symlinkat(target, to, name) < 0)
		return error_set(e, errno, "cannot make a copy of %s", path);
	CLEANUP_FD int made = openat(to, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (made < 0)
		return error_set(e, errno, "cannot open the copy of %s", path);
	return copy_metadata(from, made, st, path, e);
}

/* Directories */

static int copy_any(int from, int to, const char *name, const char *path, unsigned depth,
	struct copy_budget *budget, struct error *e);

/* Not across a mount: that comes along by itself, and needs only a place. */
static int open_child(int dir, const char *name)
{
	struct open_how how = {.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV};
	int fd = (int)syscall(SYS_openat2, dir, name, &how, sizeof(how));

	return fd < 0 ? -errno : fd;
}

static int copy_child(int dir, int to, const char *name, const char *path, unsigned depth,
	struct copy_budget *budget, struct error *e)
{
	char below[PATH_MAX];

	(void)snprintf(below, sizeof(below), "%s/%s", path, name);
	CLEANUP_FD int child = open_child(dir, name);
	if (child == -ENOENT)
		return 0; /* gone meanwhile */
	if (child == -EXDEV)
		return mkdirat(to, name, 0755) < 0 && errno != EEXIST
			       ? error_set(
					 e, errno, "cannot make a place for the mount at %s", below)
			       : 0;
	if (child < 0)
		return error_set(e, child, "cannot open %s", below);
	return copy_any(child, to, name, below, depth, budget, e);
}

static int copy_children(int in, int out, const char *path, unsigned depth,
	struct copy_budget *budget, struct error *e)
{
	int own = fcntl(in, F_DUPFD_CLOEXEC, 0), r = 0;
	DIR *dir = own < 0 ? NULL : fdopendir(own);
	struct dirent *entry;

	if (!dir) {
		(void)fd_close(own);
		return error_set(e, errno, "cannot read the directory %s", path);
	}
	errno = 0;
	while (r == 0 && (entry = readdir(dir))) {
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			r = copy_child(in, out, entry->d_name, path, depth, budget, e);
		errno = 0;
	}
	if (r == 0 && errno)
		r = error_set(e, errno, "cannot read the directory %s", path);
	(void)closedir(dir);
	return r;
}

static int copy_directory(int from, int to, const char *name, const char *path,
	const struct stat *st, unsigned depth, struct copy_budget *budget, struct error *e)
{
	CLEANUP_FD int in = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (depth > DEPTH_MAX)
		return error_set(e, ELOOP, "cannot copy %s: too deep", path);
	if (in < 0)
		return error_set(e, errno, "cannot read the directory %s", path);
	if (mkdirat(to, name, 0700) < 0)
		return error_set(e, errno, "cannot make a copy of %s", path);
	CLEANUP_FD int out = openat(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (out < 0)
		return error_set(e, errno, "cannot open the copy of %s", path);
	int r = copy_children(in, out, path, depth, budget, e);
	return r < 0 ? r : copy_metadata(in, out, st, path, e);
}

static const char *kind_of(mode_t mode)
{
	return S_ISFIFO(mode)   ? "a fifo"
	       : S_ISSOCK(mode) ? "a socket"
	       : S_ISBLK(mode)  ? "a block device"
	       : S_ISCHR(mode)  ? "a character device"
				: "of an unknown kind";
}

static int copy_any(int from, int to, const char *name, const char *path, unsigned depth,
	struct copy_budget *budget, struct error *e)
{
	struct stat st;

	if (fstat(from, &st) < 0)
		return error_set(e, errno, "cannot look at %s", path);
	if (budget->entries == 0)
		return error_say(
			e, EFBIG, "%s has too many files to be carried (put it on a mount)", path);
	budget->entries--;
	if (S_ISREG(st.st_mode))
		return copy_file(from, to, name, path, budget, e);
	if (S_ISDIR(st.st_mode))
		return copy_directory(from, to, name, path, &st, depth + 1, budget, e);
	if (S_ISLNK(st.st_mode))
		return copy_link(from, to, name, path, &st, e);
	return error_say(e, EINVAL,
		"%s is %s: only files, directories and symbolic links can be carried", path,
		kind_of(st.st_mode));
}

int copy_entry(int from, int to, const char *name, const char *path, struct copy_budget *budget,
	struct error *e)
{
	return copy_any(from, to, name, path, 0, budget, e);
}

int copy_remove_children(int fd)
{
	int own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *dir = own < 0 ? NULL : fdopendir(own);
	struct dirent *entry;

	if (!dir) {
		(void)fd_close(own);
		return -errno;
	}
	while ((entry = readdir(dir)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
			int last = copy_remove(dirfd(dir), entry->d_name);
			r = r ? r : last;
		}
	(void)closedir(dir);
	return r;
}

int copy_remove(int dir, const char *name)
{
	if (unlinkat(dir, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	CLEANUP_FD int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int r = copy_remove_children(fd);
	if (r < 0)
		return r;
	return unlinkat(dir, name, AT_REMOVEDIR) < 0 ? -errno : 0;
}
