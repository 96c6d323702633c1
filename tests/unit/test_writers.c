/* SPDX-License-Identifier: MIT */
/* Whether a mount has writers: of every kind that the kernel counts; and it stays as writable. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/writers.h"

static int place = -1; /* root of a small file system */

static int set_up(void **state)
{
	char path[] = "/tmp/molt-unit-XXXXXX";

	(void)state;
	if (geteuid() != 0)
		return 0;
	if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		!mkdtemp(path) || mount("test", path, "tmpfs", 0, NULL) < 0)
		return -1;
	place = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return place < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
	char link[32], path[256];

	(void)state;
	if (place < 0)
		return 0;
	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", place);
	ssize_t n = readlink(link, path, sizeof(path) - 1);
	close(place);
	path[n < 0 ? 0 : n] = '\0';
	return umount2(path, MNT_DETACH) < 0 || rmdir(path) < 0 ? -1 : 0;
}

static int open_file(int flags)
{
	int fd = openat(place, "file", flags | O_CREAT | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	return fd;
}

static void assert_nobody_writes(void)
{
	assert_int_equal(mount_has_writers(place), 0);
	/* It is asked by a trial, which is taken back. */
	assert_int_equal(close(open_file(O_RDWR)), 0);
}

static void test_open_files(void **state)
{
	(void)state;
	if (place < 0)
		skip(); /* not root */
	assert_nobody_writes();
	int fd = open_file(O_RDONLY);
	assert_nobody_writes();
	close(fd);
	fd = open_file(O_WRONLY);
	assert_int_equal(mount_has_writers(place), 1);
	close(fd);
	assert_nobody_writes();
}

static void test_maps(void **state)
{
	(void)state;
	if (place < 0)
		skip();
	int fd = open_file(O_RDWR);
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	assert_int_equal(mount_has_writers(place), 1);
	munmap(page, 4096);
	assert_nobody_writes();
}

static void test_descriptors_under_way(void **state)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr head;
	} control = {.head = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
	struct iovec iov = {"x", 1};
	struct msghdr message = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};
	int ends[2];

	(void)state;
	if (place < 0)
		skip();
	int fd = open_file(O_WRONLY);
	memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	assert_int_equal(sendmsg(ends[0], &message, 0), 1);
	close(fd);
	assert_int_equal(mount_has_writers(place), 1);
	close(ends[0]);
	close(ends[1]);
	assert_nobody_writes();
}

static void test_read_only(void **state)
{
	char path[64];

	(void)state;
	if (place < 0)
		skip();
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", place);
	assert_int_equal(mount(NULL, path, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL), 0);
	assert_int_equal(mount_has_writers(place), 0);
	/* It was read-only, and is. */
	assert_int_equal(openat(place, "file", O_WRONLY), -1);
	assert_int_equal(errno, EROFS);
	assert_int_equal(mount(NULL, path, NULL, MS_REMOUNT | MS_BIND, NULL), 0);
	assert_nobody_writes();
	assert_true(mount_has_writers(-1) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_open_files),
		cmocka_unit_test(test_maps),
		cmocka_unit_test(test_descriptors_under_way),
		cmocka_unit_test(test_read_only),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
