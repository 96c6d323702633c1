/* SPDX-License-Identifier: MIT */
/* From the initramfs to the root: switch_root(8). */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "init/initramfs.h"
#include "kernel/log.h"
#include "kernel/util.h"

#define DEPTH_MAX 64

static const char *const MOVED[] = {"/proc", "/sys", "/dev", "/run"};

/* The init, without leaving the root by an absolute symbolic link. */
static bool is_program(int root, const char *path)
{
	struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT};
	struct stat st;
	CLEANUP_FD int fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));

	return fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 0111);
}

static const char *find_init(int root, const char *wanted, struct error *e)
{
	static const char *const USUAL[] = {"/sbin/init", "/etc/init", "/bin/init"};

	if (wanted) {
		if (is_program(root, wanted))
			return wanted;
		(void)error_say(e, ENOENT, "the root has no program %.200s (init=)", wanted);
		return NULL;
	}
	for (size_t i = 0; i < ARRAY_SIZE(USUAL); i++)
		if (is_program(root, USUAL[i]))
			return USUAL[i];
	(void)error_say(
		e, ENOENT, "the root has no init: neither /sbin/init, /etc/init nor /bin/init");
	return NULL;
}

/* Whoever runs in the root mounts its own then; the old one must not stay below. */
static void move_mounts(int root)
{
	char target[64];

	for (size_t i = 0; i < ARRAY_SIZE(MOVED); i++) {
		(void)mkdirat(root, MOVED[i] + 1, 0755);
		(void)snprintf(target, sizeof(target), INITRAMFS_ROOT "%s", MOVED[i]);
		if (mount(MOVED[i], target, NULL, MS_MOVE, NULL) == 0)
			continue;
		log_warning("cannot move %s to the root: %s (has it that directory?)", MOVED[i],
			strerror(errno));
		(void)umount2(MOVED[i], MNT_DETACH);
	}
}

/* What lies in memory is of no use any more. Not across mounts, whatever may be left there. */
static void delete_below(int dir, dev_t device, unsigned depth)
{
	DIR *d = fdopendir(dir);
	struct dirent *entry;
	struct stat st;

	if (!d) {
		(void)fd_close(dir);
		return;
	}
	while ((entry = readdir(d))) {
		const char *name = entry->d_name;
		if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
			fstatat(dirfd(d), name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
			st.st_dev != device)
			continue;
		if (!S_ISDIR(st.st_mode)) {
			(void)unlinkat(dirfd(d), name, 0);
			continue;
		}
		int below = openat(dirfd(d), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (below >= 0 && depth < DEPTH_MAX)
			delete_below(below, device, depth + 1);
		else
			(void)fd_close(below);
		(void)unlinkat(dirfd(d), name, AT_REMOVEDIR);
	}
	(void)closedir(d);
}

static int enter(int root, struct error *e)
{
	if (fchdir(root) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 ||
		chdir("/") < 0)
		return error_set(e, errno, "cannot make it the root");
	return 0;
}

int initramfs_switch(const char *init, char **argv, struct error *e)
{
	CLEANUP_FD int here = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CLEANUP_FD int root = open(INITRAMFS_ROOT, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st;

	if (here < 0 || root < 0 || fstat(here, &st) < 0)
		return error_set(e, errno, "cannot open the root");
	const char *program = find_init(root, init, e);
	if (!program) {
		/* It is not what it should be: tried again, it is mounted anew. */
		(void)umount2(INITRAMFS_ROOT, MNT_DETACH);
		return e->code;
	}
	log_notice("making way for %s of the root", program);
	move_mounts(root);
	int r = enter(root, e);
	if (r < 0)
		return r;
	delete_below(fd_steal(&here), st.st_dev, 0);
	argv[0] = (char *)program;
	(void)execv(program, argv);
	return error_set(e, errno, "cannot execute %s of the root", program);
}
