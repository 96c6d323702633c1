/* SPDX-License-Identifier: MIT */
#include "kernel/proc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "kernel/same_file.h"
#include "kernel/util.h"

int proc_stat_read(pid_t pid, struct proc_stat *ret)
{
	char path[32], text[1024];
	struct proc_stat st = {0};
	unsigned long long start;
	int ppid, tty;

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	ssize_t n = file_read(AT_FDCWD, path, text, sizeof(text));
	if (n < 0)
		return (int)n;
	/* The name may contain spaces and parentheses: it ends at the last one. */
	char *open = strchr(text, '('), *close = strrchr(text, ')');
	if (!open || !close || close < open)
		return -EBADMSG;
	size_t length = (size_t)(close - open - 1);
	if (length >= sizeof(st.comm))
		length = sizeof(st.comm) - 1;
	memcpy(st.comm, open + 1, length);
	if (sscanf(close + 1,
		    " %c %d %*d %*d %d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
		    &st.state, &ppid, &tty, &start) != 4)
		return -EBADMSG;
	st.ppid = ppid;
	/* new_encode_dev(), linux/kdev_t.h */
	unsigned dev = (unsigned)tty;
	st.tty = makedev((dev >> 8) & 0xfff, (dev & 0xff) | ((dev >> 12) & 0xfff00));
	st.start_time = start;
	*ret = st;
	return 0;
}

void proc_comm(pid_t pid, char *buf, size_t size)
{
	struct proc_stat st;

	(void)snprintf(buf, size, "%s", proc_stat_read(pid, &st) == 0 ? st.comm : "?");
}

/* As its driver has it: "ttyAMA0", "hvc0". */
static void terminal_of_driver(dev_t dev, char *buf, size_t size)
{
	char path[64], text[512], *name = NULL;

	(void)snprintf(path, sizeof(path), "/sys/dev/char/%u:%u/uevent", major(dev), minor(dev));
	if (file_read(AT_FDCWD, path, text, sizeof(text)) > 0)
		name = strstr(text, "DEVNAME=");
	if (name) {
		name += strlen("DEVNAME=");
		name[strcspn(name, "\n")] = '\0';
	}
	(void)snprintf(buf, size, "%s", name ? name : "its terminal");
}

bool proc_terminal(pid_t pid, char *buf, size_t size)
{
	struct proc_stat st;

	if (proc_stat_read(pid, &st) < 0 || st.tty == 0)
		return false;
	unsigned n = minor(st.tty);
	/* Documentation/admin-guide/devices.txt */
	if (major(st.tty) >= 136 && major(st.tty) <= 143)
		(void)snprintf(buf, size, "pts/%u", (major(st.tty) - 136) * 256 + n);
	else if (major(st.tty) == 4)
		(void)snprintf(buf, size, "tty%s%u", n < 64 ? "" : "S", n < 64 ? n : n - 64);
	else
		terminal_of_driver(st.tty, buf, size);
	return true;
}

void proc_where(pid_t tid, char *buf, size_t size)
{
	char path[32], call[128], wchan[64];

	(void)snprintf(path, sizeof(path), "/proc/%d/syscall", (int)tid);
	if (file_read(AT_FDCWD, path, call, sizeof(call)) <= 0)
		strcpy(call, "?");
	call[strcspn(call, " \n")] = '\0';
	(void)snprintf(path, sizeof(path), "/proc/%d/wchan", (int)tid);
	if (file_read(AT_FDCWD, path, wchan, sizeof(wchan)) <= 0)
		strcpy(wchan, "?");
	(void)snprintf(buf, size, "in syscall %s at %s", call, wchan);
}

static int for_each_number(
	const char *path, int (*visit)(int dirfd, int number, void *userdata), void *userdata)
{
	struct entry {
		uint64_t ino;
		int64_t off;
		unsigned short reclen;
		unsigned char type;
		char name[];
	};
	/* getdents64(2) by hand: no allocation, this runs in the blackout. Static: one thread, no
	 * recursion. */
	static char buf[32768] __attribute__((aligned(8)));
	CLEANUP_FD int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dir < 0)
		return -errno;
	for (;;) {
		long n = syscall(SYS_getdents64, dir, buf, sizeof(buf));
		if (n < 0)
			return -errno;
		if (n == 0)
			return 0;
		for (long at = 0; at < n;) {
			const struct entry *entry = (const struct entry *)(buf + at);
			uint64_t number;
			at += entry->reclen;
			if (!parse_u64(entry->name, &number) || number > INT_MAX)
				continue;
			int r = visit(dir, (int)number, userdata);
			if (r)
				return r;
		}
	}
}

static int add_number(int dirfd, int number, void *userdata)
{
	(void)dirfd;
	return pid_array_add(userdata, (pid_t)number);
}

int proc_has_threads(pid_t pid)
{
	char path[32];
	struct stat st;

	(void)snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	/* One directory for each thread: proc_task_getattr() counts them as links. */
	return stat(path, &st) == 0 ? st.st_nlink > 3 : -errno;
}

int proc_threads(pid_t pid, struct pid_array *list)
{
	char path[32];

	(void)snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	return for_each_number(path, add_number, list);
}

int proc_processes(struct pid_array *list)
{
	return for_each_number("/proc", add_number, list);
}

static bool same(pid_t a, pid_t b, int type)
{
	return syscall(SYS_kcmp, a, b, type, 0UL, 0UL) == 0;
}

bool proc_same_fs(pid_t a, pid_t b)
{
	return same(a, b, KCMP_FS);
}

bool proc_same_files(pid_t a, pid_t b)
{
	return same(a, b, KCMP_FILES);
}

uint64_t proc_rss(pid_t pid)
{
	char path[32], text[128];
	unsigned long long pages;

	(void)snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid);
	if (file_read(AT_FDCWD, path, text, sizeof(text)) < 0 ||
		sscanf(text, "%*u %llu", &pages) != 1)
		return 0;
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static int link_statx(int dirfd, const char *path, unsigned mask, struct statx *ret)
{
	if (statx(dirfd, path, AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC, mask | STATX_MNT_ID, ret) < 0)
		return -errno;
	return 0;
}

int proc_link_mount(pid_t pid, const char *link, uint64_t *ret_mount_id)
{
	char path[64];
	struct statx st;

	(void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, link);
	int r = link_statx(AT_FDCWD, path, 0, &st);
	if (r < 0)
		return r;
	*ret_mount_id = st.stx_mnt_id;
	return 0;
}

bool proc_runs_from_copy_of_root(pid_t pid)
{
	uint64_t exe, root;
	char path[48];

	(void)snprintf(path, sizeof(path), "/proc/%d/root", (int)pid);
	return proc_link_mount(pid, "exe", &exe) == 0 && proc_link_mount(pid, "root", &root) == 0 &&
	       exe == root && same_file(AT_FDCWD, path, AT_FDCWD, "/") == 1;
}

int proc_link_text(pid_t pid, const char *link, char *buf, size_t size)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, link);
	ssize_t n = readlink(path, buf, size - 1);
	if (n < 0)
		return -errno;
	buf[n] = '\0';
	return 0;
}

bool proc_is_gone(int r)
{
	return r == -ENOENT || r == -ESRCH;
}

struct fd_job {
	proc_fd_visit visit;
	void *userdata;
};

static int visit_fd(int dirfd, int number, void *userdata)
{
	struct fd_job *job = userdata;
	struct statx st;
	char name[16];

	(void)snprintf(name, sizeof(name), "%d", number);
	int r = link_statx(dirfd, name, STATX_TYPE | STATX_MODE | STATX_INO | STATX_NLINK, &st);
	if (r == -ENOMEM || r == -EIO || r == -EPERM)
		return r; /* it may hold anything */
	if (r < 0)
		return 0; /* closed meanwhile, or of a kind that cannot be followed: holds no mount
			   */
	struct proc_fd fd = {
		.fd = number,
		.mount_id = st.stx_mask & STATX_MNT_ID ? st.stx_mnt_id : 0,
		.mode = st.stx_mode,
		.dev = makedev(st.stx_dev_major, st.stx_dev_minor),
		.ino = st.stx_ino,
		.nlink = st.stx_nlink,
	};
	return job->visit(&fd, job->userdata);
}

int proc_fds(pid_t tid, proc_fd_visit visit, void *userdata)
{
	struct fd_job job = {visit, userdata};
	char path[32];

	(void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)tid);
	return for_each_number(path, visit_fd, &job);
}

int proc_fd_info(pid_t tid, int fd, int64_t *ret_offset, int *ret_flags)
{
	char path[64], text[256];
	long long offset;
	unsigned flags;

	(void)snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", (int)tid, fd);
	CLEANUP_FD int info = open(path, O_RDONLY | O_CLOEXEC);
	if (info < 0)
		return -errno;
	/* Only the first lines: locks, watches and the like follow without end. */
	ssize_t n = read(info, text, sizeof(text) - 1);
	if (n < 0)
		return -errno;
	text[n] = '\0';
	if (sscanf(text, "pos: %lld flags: %o", &offset, &flags) != 2)
		return -EBADMSG;
	*ret_offset = offset;
	*ret_flags = (int)flags;
	return 0;
}
