/* SPDX-License-Identifier: MIT */
#include "init/device_wait.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "conf/unit.h"
#include "init/waiting.h"
#include "kernel/util.h"

/* The groups of the kernel's own, and of what udev says once it is done with a device. */
#define KERNEL_EVENTS 1
#define UDEV_EVENTS 2
#define APPEARS (IN_CREATE | IN_MOVED_TO | IN_ATTRIB)

/* "UUID=..." and the like; udev makes a link for each, and without it libblkid looks itself. */
static const char *const TAGS[][2] = {
	{"UUID=", "/dev/disk/by-uuid"},
	{"LABEL=", "/dev/disk/by-label"},
	{"PARTUUID=", "/dev/disk/by-partuuid"},
	{"PARTLABEL=", "/dev/disk/by-partlabel"},
	{"ID=", "/dev/disk/by-id"},
};

/* The directory of links that a tag stands for; NULL: it is none. */
static const char *directory_of_tag(const char *source)
{
	for (size_t i = 0; i < ARRAY_SIZE(TAGS); i++)
		if (starts_with(source, TAGS[i][0]))
			return TAGS[i][1];
	return NULL;
}

static bool find_device(const char *source, dev_t *ret)
{
	CLEANUP_FREE char *path = mnt_resolve_spec(source, NULL);
	struct stat st;

	if (!path || path[0] != '/' || stat(path, &st) < 0 || !S_ISBLK(st.st_mode))
		return false;
	*ret = st.st_rdev;
	return true;
}

static bool is_there(const char *source)
{
	dev_t device;

	return find_device(source, &device);
}

/* systemd.device(5), and udev's own record of it: one that has none it has not seen yet. */
static bool udev_is_done_with(dev_t device)
{
	char path[64], text[16384];

	if (access("/run/udev/control", F_OK) < 0)
		return true;
	(void)snprintf(path, sizeof(path), "/run/udev/data/b%u:%u", major(device), minor(device));
	ssize_t n = file_read(AT_FDCWD, path, text, sizeof(text));
	return n == -E2BIG || (n >= 0 && !strstr(text, "\nE:SYSTEMD_READY=0\n"));
}

void device_watch_way(int inotify, const char *source)
{
	const char *directory = directory_of_tag(source);
	char way[512];

	(void)snprintf(way, sizeof(way), "%s/", directory ? directory : source);
	for (char *slash = strchr(way + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		(void)inotify_add_watch(inotify, way, APPEARS | IN_ONLYDIR); /* not there yet */
		*slash = '/';
	}
}

int device_open_uevents(void)
{
	struct sockaddr_nl address = {
		.nl_family = AF_NETLINK, .nl_groups = KERNEL_EVENTS | UDEV_EVENTS};
	int fd =
		socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);

	if (fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		fd = fd_close(fd);
	return fd;
}

/* What it was is found out by looking. */
static void drain(int fd)
{
	char buf[8192] __attribute__((aligned(8)));

	for (;;) {
		ssize_t n = read(fd, buf, sizeof(buf));
		if (n <= 0 && !(n < 0 && (errno == EINTR || errno == ENOBUFS)))
			return;
	}
}

/* Until something has happened, or it is that time. */
static void wait_for_event(int inotify, int uevents, uint64_t until_usec)
{
	struct pollfd fds[] = {
		{.fd = inotify, .events = POLLIN}, {.fd = uevents, .events = POLLIN}};
	uint64_t now = clock_usec(), left = until_usec > now ? until_usec - now : 0;
	struct timespec ts = {(time_t)(left / USEC_PER_SEC), (long)(left % USEC_PER_SEC) * 1000};

	if (ppoll(fds, 2, &ts, NULL) == 0)
		return;
	drain(inotify);
	drain(uevents);
}

static int await(const char *source, uint64_t since_usec, uint64_t deadline_usec)
{
	uint64_t tell_usec = clock_usec(); /* at once, and from then on every few seconds */
	CLEANUP_FD int inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	CLEANUP_FD int uevents = device_open_uevents();

	for (;;) {
		/* First to watch, then to look: what comes in between is heard of. */
		device_watch_way(inotify, source);
		if (is_there(source))
			return 0;
		uint64_t now = clock_usec();
		if (now >= deadline_usec)
			return -ETIME;
		if (now >= tell_usec) {
			waiting_for_device(source, since_usec, deadline_usec);
			tell_usec = now + WAITING_EVERY_USEC;
		}
		wait_for_event(
			inotify, uevents, deadline_usec < tell_usec ? deadline_usec : tell_usec);
	}
}

static bool is_device(struct libmnt_fs *fs, const char *source)
{
	return !mnt_fs_is_pseudofs(fs) && !mnt_fs_is_netfs(fs) &&
	       mnt_fs_get_option(fs, "bind", NULL, NULL) != 0 &&
	       mnt_fs_get_option(fs, "rbind", NULL, NULL) != 0 &&
	       (starts_with(source, "/dev/") || directory_of_tag(source));
}

static uint64_t timeout_of(struct libmnt_fs *fs, uint64_t otherwise)
{
	char *value, text[64];
	size_t length;
	uint64_t usec;

	if (mnt_fs_get_option(fs, "x-systemd.device-timeout", &value, &length) != 0 || !value ||
		length >= sizeof(text))
		return otherwise;
	(void)snprintf(text, sizeof(text), "%.*s", (int)length, value);
	/* systemd.mount(5): 0 is for ever. */
	if (unit_parse_span(text, &usec) < 0)
		return otherwise;
	return usec == 0 ? USEC_INFINITY : usec;
}

int device_await(struct libmnt_fs *fs, uint64_t since_usec, uint64_t otherwise_usec)
{
	const char *source = mnt_fs_get_source(fs);

	if (!source || !is_device(fs, source) || is_there(source))
		return 0;
	return await(source, since_usec, usec_add(since_usec, timeout_of(fs, otherwise_usec)));
}

bool device_is_ready(struct libmnt_fs *fs)
{
	const char *source = mnt_fs_get_source(fs);
	dev_t device;

	if (!source || !is_device(fs, source))
		return true;
	return find_device(source, &device) && udev_is_done_with(device);
}
