/* SPDX-License-Identifier: MIT */
/*
 * The root: its device is waited for, mounted as the options say, with an image on it and dm-verity
 * where they ask for it; the overlay is initramfs_overlay.c. Opening is that of an upgrade
 * (upgrade/image_open.h), in a child as there.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "init/initramfs.h"
#include "kernel/log.h"
#include "kernel/mounts.h"
#include "kernel/probe.h"
#include "kernel/process.h"
#include "kernel/util.h"
#include "upgrade/answer.h"
#include "upgrade/image_open.h"

#define STORE "/run/molt/store" /* the device that the image lies on stays mounted there */

/* Opening, in a child */

static void __attribute__((noreturn))
open_and_answer(const char *path, const struct image_options *o, int socket)
{
	struct image image;
	struct error e;

	if (image_open(path, o, false, socket, &image, &e) < 0)
		answer_unfit(socket, e.text);
	else
		answer_image(socket, image.root, image.leave);
	_exit(0);
}

/* Reads until the child has ended; what it says is its last word. */
static int read_answer(int socket, int *ret_root, struct error *e)
{
	static char packet[65536];
	CLEANUP_FD int root = -1;
	ssize_t n;

	(void)error_say(e, EPROTO, "the child that mounts the root ended without an answer");
	for (;;) {
		struct record_reader *reader = NULL;
		struct record r;
		int fd = -1;

		struct pollfd p = {.fd = socket, .events = POLLIN};
		(void)poll(&p, 1, -1); /* answer_receive() does not wait */
		n = answer_receive(socket, packet, sizeof(packet), &fd);
		if (n == -EINTR || n == -EAGAIN)
			continue;
		if (n <= 0)
			break;
		if (record_reader_new(&reader, packet, (size_t)n) == 0 &&
			record_next(reader, &r) == 1) {
			const char *text = record_get(&r, "text");
			if (strcmp(r.kind, "image") == 0 && fd >= 0)
				root = fd_steal(&fd);
			else if (strcmp(r.kind, "unfit") == 0)
				(void)error_say(e, EINVAL, "%s", text ? text : "");
			else if (text)
				log_warning("%s", text);
		}
		record_reader_free(reader);
		(void)fd_close(fd);
	}
	if (root < 0)
		return e->code;
	*ret_root = fd_steal(&root);
	return 0;
}

static int open_in_child(
	const char *path, const struct image_options *o, int *ret_root, struct error *e)
{
	int ends[2], pidfd = -1;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return error_set(e, errno, "cannot mount the root %s", path);
	pid_t pid = process_fork(-1, &pidfd);
	if (pid == 0) {
		(void)close(ends[0]);
		open_and_answer(path, o, ends[1]);
	}
	(void)fd_close(ends[1]);
	int r = pid < 0 ? error_set(e, (int)pid, "cannot mount the root %s", path)
			: read_answer(ends[0], ret_root, e);
	(void)fd_close(ends[0]);
	(void)fd_close(pidfd);
	while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return r;
}

/* Waiting */

/* Whether the device is there; where it is, in `path`. */
static bool find_device(const char *spec, char path[PATH_MAX])
{
	char tag[16];
	struct stat st;
	const char *value = image_parse_tag(spec, tag);

	if (value)
		return probe_find(tag, value, path) > 0;
	(void)snprintf(path, PATH_MAX, "%s", spec);
	return stat(path, &st) == 0 && S_ISBLK(st.st_mode);
}

/* One word of the kernel command line says more than a list of what it might be. */
static int say_missing(const char *what, const char *spec, uint64_t usec, struct error *e)
{
	char text[4096], names[200] = "";
	size_t used = 0;

	if (file_read(AT_FDCWD, "/proc/partitions", text, sizeof(text)) <= 0)
		text[0] = '\0';
	for (char *line = text, *next; line && *line; line = next) {
		char name[64];
		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		if (sscanf(line, "%*u %*u %*u %63s", name) != 1 || used >= sizeof(names) - 1)
			continue;
		int n = snprintf(names + used, sizeof(names) - used, " %s", name);
		used += n > 0 ? (size_t)n : 0;
	}
	return error_say(e, ENODEV,
		"%s, %.200s, did not come within %llu s (rootdelay=); the block devices are:%s",
		what, spec, (unsigned long long)(usec / USEC_PER_SEC), names[0] ? names : " none");
}

/* A device that comes later is waited for, without end where rootwait says so. */
static int await_device(const char *what, const char *word, const struct root_options *o,
	char path[PATH_MAX], struct error *e)
{
	char buf[512];
	const char *spec = root_options_tag(word, buf, sizeof(buf));
	uint64_t deadline = deadline_in(o->wait_usec), tell_at = deadline_in(5 * USEC_PER_SEC);
	CLEANUP_FD int listener = initramfs_listen(e);

	if (listener < 0)
		return e->code;
	/* Listened first: what comes between the look and the wait is heard. */
	while (!find_device(spec, path)) {
		uint64_t until = tell_at < deadline ? tell_at : deadline;
		(void)initramfs_wait(listener, until);
		if (clock_usec() >= deadline && !find_device(spec, path))
			return say_missing(what, spec, o->wait_usec, e);
		if (clock_usec() >= tell_at) {
			log_warning("waiting for %s, %s", what, spec);
			tell_at = USEC_INFINITY;
		}
	}
	return 0;
}

/* The root's own device */

static int mount_without_device(const struct root_options *o, int *ret_root, struct error *e)
{
	const char *flags = o->flags ? o->flags : "";

	if (mount(o->root, INITRAMFS_ROOT, o->fstype, o->writable ? 0 : MS_RDONLY, flags) < 0)
		return error_set(e, errno, "cannot mount the root %s (%s)", o->root, o->fstype);
	int root = mount_clone(INITRAMFS_ROOT, e);
	(void)umount2(INITRAMFS_ROOT, MNT_DETACH);
	if (root < 0)
		return root;
	*ret_root = root;
	return 0;
}

/* "rw" or "ro", and rootflags=. */
static void mount_options(const struct root_options *o, bool writable, char *buf, size_t size)
{
	(void)snprintf(buf, size, "%s%s%s", writable ? "rw" : "ro", o->flags ? "," : "",
		o->flags ? o->flags : "");
}

/* Where the hashes are: beside the image, or a device that is waited for as well. */
static int find_hashes(const struct root_options *o, char path[PATH_MAX], struct error *e)
{
	if (o->image && o->verity_hash[0] == '/' && !starts_with(o->verity_hash, "/dev/")) {
		(void)snprintf(path, PATH_MAX, STORE "%s", o->verity_hash);
		return 0;
	}
	return await_device("the device with the hashes of the root", o->verity_hash, o, path, e);
}

static int open_verified(const char *path, const struct root_options *o,
	const struct image_options *options, int *ret_root, struct error *e)
{
	struct image_options verified = *options;
	char hashes[PATH_MAX];

	if (o->verity_hash) {
		int r = find_hashes(o, hashes, e);
		if (r < 0)
			return r;
		verified.verity_hash = hashes;
		verified.root_hash = o->root_hash;
	}
	return open_in_child(path, &verified, ret_root, e);
}

static int open_device(const struct root_options *o, bool verified, int *ret_root, struct error *e)
{
	char path[PATH_MAX], text[4096];
	struct image_options options = {.mount_options = text, .fstype = o->fstype};

	if (root_options_without_device(o))
		return mount_without_device(o, ret_root, e);
	int r = await_device("the root", o->root, o, path, e);
	if (r < 0)
		return r;
	mount_options(o, o->writable, text, sizeof(text));
	return verified ? open_verified(path, o, &options, ret_root, e)
			: open_in_child(path, &options, ret_root, e);
}

/* Images on it */

/* What boots next is written down there, whatever is read-only of the image. */
static int open_store(const struct root_options *o, struct error *e)
{
	struct root_options of_store = *o;
	CLEANUP_FD int store = -1;

	of_store.writable = o->writable || o->images;
	int r = open_device(&of_store, false, &store, e);
	return r < 0 ? r : initramfs_attach(store, STORE, e);
}

static int find_image(const struct root_options *o, char path[PATH_MAX], struct error *e)
{
	char directory[PATH_MAX];

	if (!o->images) {
		(void)snprintf(path, PATH_MAX, STORE "/%s", o->image);
		return 0;
	}
	(void)snprintf(
		directory, sizeof(directory), STORE "/%s", o->images + strspn(o->images, "/"));
	return initramfs_choose(directory, path, e);
}

/* The options of the device are not the image's: a file of its own has its own file system. */
static int open_image(const struct root_options *o, int *ret_root, struct error *e)
{
	char path[PATH_MAX];
	struct stat st;
	struct image_options options = {0};
	int r = open_store(o, e);

	if (r < 0)
		return r;
	r = find_image(o, path, e);
	if (r == 0 && stat(path, &st) < 0)
		r = error_set(e, errno, "cannot open molt.image=%s on the root %s",
			o->images ? path + strlen(STORE) : o->image, o->root);
	if (r == 0) {
		if (!S_ISDIR(st.st_mode))
			options.mount_options = o->writable ? "rw" : "ro";
		options.read_only = S_ISDIR(st.st_mode) && !o->writable;
		r = open_verified(path, o, &options, ret_root, e);
	}
	/* Tried again, it is mounted anew. */
	if (r < 0)
		(void)umount2(STORE, MNT_DETACH);
	return r;
}

/* What is written */

/* The device that an overlay is kept on; -1: in memory. */
static int open_upper(const struct root_options *o, int *ret_upper, struct error *e)
{
	char path[PATH_MAX];
	struct image_options options = {.mount_options = "rw"};

	if (!o->upper)
		return 0;
	int r = await_device(
		"the device for what is written (molt.overlay=)", o->upper, o, path, e);
	return r < 0 ? r : open_in_child(path, &options, ret_upper, e);
}

static int add_overlay(const struct root_options *o, int lower, int *ret_root, struct error *e)
{
	CLEANUP_FD int upper = -1;
	int r = open_upper(o, &upper, e);

	return r < 0 ? r : initramfs_lay_over(lower, upper, o->upper_directory, ret_root, e);
}

int initramfs_open_root(const struct root_options *o, int *ret_root, struct error *e)
{
	struct root_options below = *o;
	CLEANUP_FD int root = -1;

	/* What is above is what is written to. */
	if (o->overlay)
		below.writable = false;
	int r = o->image || o->images ? open_image(&below, &root, e)
				      : open_device(&below, true, &root, e);
	if (r == 0 && o->overlay) {
		CLEANUP_FD int lower = fd_steal(&root);
		r = add_overlay(o, lower, &root, e);
	}
	if (r == 0)
		*ret_root = fd_steal(&root);
	return r;
}
