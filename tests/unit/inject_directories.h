/* SPDX-License-Identifier: MIT */
/* Directories to pass into children (inject_child.h), and what the children notice of it: nothing.
 */
#ifndef MOLT_TESTS_INJECT_DIRECTORIES_H
#define MOLT_TESTS_INJECT_DIRECTORIES_H

#include "tests/unit/inject_child.h"

#include <sys/mount.h>

/* Two directories on a file system of their own, world-searchable. */
static char base[] = "/tmp/molt-test-inject-XXXXXX";
static int old_dir, new_dir;

static inline void sleep_in_old_dir(struct page *p)
{
	if (fchdir(old_dir) == 0)
		sleep_for_ever(p);
}

static inline bool same_file(pid_t pid, const char *link, int fd)
{
	char path[64];
	struct stat a, b;

	(void)snprintf(path, sizeof(path), "/proc/%d/%s", pid, link);
	assert_int_equal(stat(path, &a), 0);
	assert_int_equal(fstat(fd, &b), 0);
	return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* What must be the same after as before. */
struct traces {
	char fds[16384];
	size_t mappings;
	char mask[128];
	char limits[2048];
};

static inline void look(pid_t pid, struct traces *t)
{
	list_fds(pid, t->fds, sizeof(t->fds));
	t->mappings = count_lines(pid, "maps");
	status_line(pid, "SigBlk:", t->mask, sizeof(t->mask));
	char path[64];
	(void)snprintf(path, sizeof(path), "/proc/%d/limits", pid);
	assert_true(file_read(AT_FDCWD, path, t->limits, sizeof(t->limits)) > 0);
}

static inline void assert_no_traces(pid_t pid, const struct traces *before)
{
	struct traces after;

	look(pid, &after);
	assert_string_equal(after.fds, before->fds);
	assert_int_equal(after.mappings, before->mappings);
	assert_string_equal(after.mask, before->mask);
	assert_string_equal(after.limits, before->limits);
}

/* Moves the cwd of a child that sleeps in pause(), and looks whether that is all that changed. */
static inline void move_cwd(struct child *c)
{
	struct inject_change change = {.action = INJECT_CWD, .fd = new_dir};
	struct traces before;

	look(c->pid, &before);
	assert_int_equal(apply(c->pid, &change, 1), 0);
	assert_int_equal(change.result, 0);
	assert_true(same_file(c->pid, "cwd", new_dir));
	assert_no_traces(c->pid, &before);
	wait_asleep_in(c->pid, CALL_OF_PAUSE);
}

static inline void move_cwd_of(child_main run)
{
	struct child c = child_new(run);

	wait_until(syscall_of(c.pid) == CALL_OF_PAUSE || c.page->done);
	assert_int_equal(c.page->done, 0);
	assert_true(same_file(c.pid, "cwd", old_dir));
	move_cwd(&c);
	child_end(&c);
}

static inline void hold_directories(struct page *p)
{
	if (fchdir(old_dir) < 0)
		return;
	p->fds[0] = openat(AT_FDCWD, ".", O_RDONLY | O_DIRECTORY);
	p->fds[1] = openat(AT_FDCWD, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	sleep_for_ever(p);
}

static inline int make_directories(void **state)
{
	if (!mkdtemp(base) || mount("tmpfs", base, "tmpfs", 0, "mode=0755") < 0)
		return -1;
	int dir = open(base, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (mkdirat(dir, "old", 0755) < 0 || mkdirat(dir, "new", 0755) < 0)
		return -1;
	old_dir = openat(dir, "old", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	new_dir = openat(dir, "new", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	(void)close(dir);
	return old_dir < 0 || new_dir < 0 ? -1 : block_sigchld(state);
}

static inline int remove_directories(void **state)
{
	(void)umount2(base, MNT_DETACH);
	(void)rmdir(base);
	return clean_up(state);
}

#endif
