/* SPDX-License-Identifier: MIT */
#include "upgrade/relocate.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel/log.h"
#include "kernel/util.h"
#include "upgrade/pivot.h"

/*
 * From the table that has it: that of a thread with one of its own is reached by PIDFD_THREAD
 * (which is O_EXCL), since Linux 6.9.
 */
static int take_descriptor(const struct holder *h)
{
	CLEANUP_FD int pidfd = (int)syscall(SYS_pidfd_open, h->tid, h->tid == h->pid ? 0 : O_EXCL);

	if (pidfd < 0)
		return errno == EINVAL ? -ENOENT : -errno;
	int fd = (int)syscall(SYS_pidfd_getfd, pidfd, h->fd, 0);
	return fd < 0 ? -errno : fd;
}

/* The very thing it holds, to give it back: the open file itself for a descriptor, offset and all.
 */
static int open_held(const struct holder *h)
{
	char path[64];

	if (h->what == HELD_DIRFD)
		return take_descriptor(h);
	(void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)h->tid,
		h->what == HELD_CWD ? "cwd" : "root");
	int fd = open(path, O_PATH | O_CLOEXEC);
	return fd >= 0 ? fd : errno == ENOENT ? -ESRCH : -errno;
}

static int open_counterpart(const struct holder *h, int new_root)
{
	bool path_only = h->what != HELD_DIRFD || (h->flags & O_PATH);
	int fd = open_in_root(
		new_root, h->path, path_only ? O_PATH | O_DIRECTORY : O_RDONLY | O_DIRECTORY);

	/* A reader in the middle of the directory goes on there as far as the two file systems
	 * count alike. */
	if (fd >= 0 && h->what == HELD_DIRFD && !path_only && h->offset > 0)
		(void)lseek(fd, h->offset, SEEK_SET);
	return fd;
}

static enum inject_action action_of(enum held what)
{
	return what == HELD_CWD ? INJECT_CWD : what == HELD_ROOT ? INJECT_ROOT : INJECT_FD;
}

static int append(struct relocation *t, const struct holder *h, int fd, int held)
{
	struct inject_change *changes = reallocarray(t->changes, t->n + 1, sizeof(*changes));
	struct inject_change *inverse;

	if (!changes)
		return -ENOMEM;
	t->changes = changes;
	inverse = reallocarray(t->inverse, t->n + 1, sizeof(*inverse));
	if (!inverse)
		return -ENOMEM;
	t->inverse = inverse;
	changes[t->n] = (struct inject_change){.action = action_of(h->what),
		.fd = fd,
		.target_fd = h->fd,
		.cloexec = h->flags & O_CLOEXEC,
		.result = -ECANCELED};
	inverse[t->n] = changes[t->n];
	inverse[t->n].fd = held;
	t->n++;
	t->jailed = t->jailed || h->what == HELD_ROOT;
	return 0;
}

int relocation_add(struct relocation *t, const struct holder *h, int new_root)
{
	CLEANUP_FD int fd = open_counterpart(h, new_root);

	if (fd == -ENOTDIR || fd == -ELOOP)
		return -ENOENT;
	if (fd < 0)
		return fd;
	CLEANUP_FD int held = open_held(h);
	if (held < 0)
		return held == -ESRCH ? 0 : held;
	int r = append(t, h, fd, held);
	if (r < 0)
		return r;
	(void)fd_steal(&fd);
	(void)fd_steal(&held);
	return 1;
}

static bool is_denied(const struct inject_change *c)
{
	return c->result == -EACCES || c->result == -EPERM;
}

int relocation_apply(struct relocation *t, uint64_t deadline_usec, size_t *left, struct error *e)
{
	for (size_t at = 0; at < t->n;) {
		int r = inject_apply(t->target, t->changes + at, t->n - at, deadline_usec, e);
		while (at < t->n && t->changes[at].result == 0)
			at++;
		if (at == t->n || !is_denied(&t->changes[at]))
			return r;
		log_warning("process %d stays on the old image: %s", (int)t->pid, e->text);
		if (t->jailed) {
			*left += t->n;
			r = relocation_take_back(t, deadline_usec, e);
			return r < 0 ? r : -EACCES;
		}
		(*left)++;
		at++;
	}
	return 0;
}

int relocation_take_back(struct relocation *t, uint64_t deadline_usec, struct error *e)
{
	int result = 0;

	for (size_t at = 0, end; at < t->n; at = end) {
		end = at + 1;
		if (t->changes[at].result != 0)
			continue;
		while (end < t->n && t->changes[end].result == 0)
			end++;
		int r = inject_apply(t->target, t->inverse + at, end - at, deadline_usec, e);
		result = r < 0 ? r : result;
	}
	for (size_t i = 0; i < t->n; i++)
		t->changes[i].result = -ECANCELED;
	return result;
}

void relocation_assume_done(struct relocation *t)
{
	/* A whole message of them is made at once: all that are left, and the one that got no
	 * answer. */
	for (size_t i = 0; i < t->n; i++)
		if (!is_denied(&t->changes[i]))
			t->changes[i].result = 0;
}

void relocation_done(struct relocation *t)
{
	for (size_t i = 0; i < t->n; i++) {
		(void)fd_close(t->changes[i].fd);
		(void)fd_close(t->inverse[i].fd);
	}
	free(t->changes);
	free(t->inverse);
}
