/* SPDX-License-Identifier: MIT */
/* The other end of initramfs_exit.c: molt as /shutdown. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "init/detach.h"
#include "init/initramfs.h"
#include "init/initramfs_exit.h"
#include "init/shutdown.h"
#include "init/system.h"
#include "init/unmount.h"
#include "kernel/log.h"
#include "kernel/mounts.h"
#include "kernel/process.h"
#include "kernel/util.h"

#define KILL_USEC (5 * USEC_PER_SEC)
#define RELEASE_USEC (10 * USEC_PER_SEC) /* for devices that go when the last user has */
#define CHILD_USEC (60 * USEC_PER_SEC) /* a disk may not answer at all */

struct names {
	char text[700];
	unsigned count;
};

static void add_name(struct names *n, const char *name, const char *more)
{
	size_t used = strlen(n->text);

	(void)snprintf(n->text + used, sizeof(n->text) - used, "%s%s%s%s%s", used ? ", " : "", name,
		more[0] ? " (" : "", more, more[0] ? ")" : "");
	n->count++;
}

/* What it is called or made of: "" where it is a disk, or nothing at present. */
static void describe(const char *name, char *buf, size_t size)
{
	static const char *const ATTRIBUTES[] = {"dm/name", "loop/backing_file", "md/array_state"};
	char path[400];

	for (size_t i = 0; i < ARRAY_SIZE(ATTRIBUTES); i++) {
		(void)snprintf(path, sizeof(path), "/sys/class/block/%s/%s", name, ATTRIBUTES[i]);
		if (file_read(AT_FDCWD, path, buf, size) > 0) {
			buf[strcspn(buf, "\n")] = '\0';
			if (strcmp(buf, "clear") != 0)
				return;
		}
	}
	buf[0] = '\0';
}

/* By a file system, or by a device that is made of it (open(2): O_EXCL without O_CREAT). */
static bool is_held(const char *name)
{
	char path[300];

	(void)snprintf(path, sizeof(path), "/dev/%s", name);
	CLEANUP_FD int fd = open(path, O_RDONLY | O_EXCL | O_NONBLOCK | O_CLOEXEC);
	return fd < 0 && errno == EBUSY;
}

/* Disks and partitions that are in use: a mount that nobody sees (below an overlay, or under the
 * file behind a loop device) shows by them alone. And what is made of others, used or not. */
static struct names list_devices(void)
{
	struct names n = {0};
	char more[256];
	/* In a namespace they are the world's. */
	DIR *d = sys.real ? opendir("/sys/class/block") : NULL;

	for (const struct dirent *entry; d && (entry = readdir(d));) {
		if (entry->d_name[0] == '.' || starts_with(entry->d_name, "ram"))
			continue;
		describe(entry->d_name, more, sizeof(more));
		if (more[0] || is_held(entry->d_name))
			add_name(&n, entry->d_name, more);
	}
	if (d)
		(void)closedir(d);
	return n;
}

static struct names list_mounts(void)
{
	struct mount_table t = {0};
	struct names n = {0};
	struct error e;

	if (mount_table_read(&t, &e) < 0) {
		add_name(&n, e.text, "");
		return n;
	}
	for (size_t i = 0; i < t.count; i++)
		if (!unmount_leaves(&t.mounts[i]))
			add_name(&n, t.mounts[i].target, t.mounts[i].fstype);
	mount_table_free(&t);
	return n;
}

/*
 * In rounds, since each may lie on another. What goes with its last user (a loop device, a deferred
 * removal, the file system under the file of a loop device) goes a moment later, in a thread of the
 * kernel, and the last of these tells nobody: it has to be looked for.
 */
static bool release_all(struct names *ret_mounts, struct names *ret_devices)
{
	uint64_t deadline = deadline_in(RELEASE_USEC);
	unsigned left;

	for (long pause_nsec = 1000000;;
		pause_nsec = pause_nsec < 100000000 ? 2 * pause_nsec : pause_nsec) {
		unsigned done = unmount_round(&left);
		if (sys.real)
			done += detach_devices();
		*ret_mounts = list_mounts();
		*ret_devices = list_devices();
		if (ret_mounts->count == 0 && ret_devices->count == 0)
			return true;
		if (done == 0 && clock_usec() >= deadline)
			return false;
		if (done == 0)
			(void)nanosleep(&(struct timespec){.tv_nsec = pause_nsec}, NULL);
	}
}

static void __attribute__((noreturn)) release_as_child(void)
{
	struct names before = list_devices(), mounts, devices;

	log_notice("in the initramfs again, to let go of the root and of what it lies on: %s",
		before.count ? before.text : "no disk");
	bool done = release_all(&mounts, &devices);
	sync();
	if (done)
		log_notice("the root is released: nothing is mounted, and no disk is in use");
	if (mounts.count)
		log_error("the root is not released: still mounted: %s", mounts.text);
	if (devices.count)
		log_error("the root is not released: still in use: %s", devices.text);
	_exit(done ? 0 : 1);
}

/* Whoever is left has its program or its directory there. */
static void end_processes(void)
{
	uint64_t deadline = deadline_in(KILL_USEC);
	sigset_t child;

	(void)sigemptyset(&child);
	(void)sigaddset(&child, SIGCHLD);
	(void)sigprocmask(SIG_BLOCK, &child, NULL);
	(void)kill(-1, SIGKILL);
	for (;;) {
		pid_t pid = waitpid(-1, NULL, WNOHANG);
		if (pid > 0)
			continue;
		uint64_t now = clock_usec();
		if (pid < 0 || now >= deadline)
			break;
		struct timespec left = {.tv_sec = (time_t)((deadline - now) / USEC_PER_SEC),
			.tv_nsec = (long)((deadline - now) % USEC_PER_SEC * 1000)};
		(void)sigtimedwait(&child, NULL, &left);
	}
}

/* A PID 1 that is killed by a fault is a kernel that panics. */
static int last_resort = RB_AUTOBOOT;

static void fault(int signal)
{
	(void)signal;
	(void)reboot(last_resort);
}

static void catch_faults(const char *how)
{
	static const int FAULTS[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGSYS};
	struct sigaction action = {.sa_handler = fault};

	last_resort = strcmp(how, "poweroff") == 0 ? RB_POWER_OFF
		      : strcmp(how, "halt") == 0   ? RB_HALT_SYSTEM
						   : RB_AUTOBOOT;
	for (size_t i = 0; i < ARRAY_SIZE(FAULTS); i++)
		(void)sigaction(FAULTS[i], &action, NULL);
}

/* What PID 1 was started with may lie on the old root. */
static void replace_streams(void)
{
	int fd = open("/dev/console", O_RDWR | O_NOCTTY | O_CLOEXEC);

	if (fd < 0)
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int stream = STDIN_FILENO; stream <= STDERR_FILENO; stream++)
		if (fd < 0)
			(void)close(stream);
		else if (fd != stream)
			(void)dup2(fd, stream);
	if (fd > STDERR_FILENO)
		(void)fd_close(fd);
}

bool initramfs_is_shutdown(const char *program)
{
	const char *slash = strrchr(program, '/');

	return strcmp(slash ? slash + 1 : program, "shutdown") == 0;
}

void initramfs_shutdown(const char *how)
{
	int pidfd = -1;

	catch_faults(how);
	if (sys.real)
		log_open_kmsg();
	log_open_file();
	replace_streams();
	end_processes();
	pid_t pid = process_fork(-1, &pidfd);
	if (pid == 0)
		release_as_child();
	struct pollfd p = {.fd = pidfd, .events = POLLIN};
	if (pid > 0 && poll(&p, 1, (int)(CHILD_USEC / USEC_PER_MSEC)) == 0)
		log_error("the root is not released after %llu s, and is given up",
			(unsigned long long)(CHILD_USEC / USEC_PER_SEC));
	shutdown_end(how);
}
