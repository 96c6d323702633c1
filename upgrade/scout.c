/* SPDX-License-Identifier: MIT */
#include "upgrade/scout.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel/mount_ns.h"
#include "kernel/mounts.h"
#include "kernel/proc.h"
#include "kernel/process.h"
#include "kernel/util.h"
#include "upgrade/answer.h"

#define SCOUT_USEC (5 * USEC_PER_SEC)

enum word {
	WORD_FATE, /* of the namespace: `value`, and why */
	WORD_ROOT, /* of a pivot, with its descriptor: */
	WORD_COPY,
	WORD_WATCH,
	WORD_KEEPER,
	WORD_MOUNT, /* id, descriptor and path */
	WORD_FAILED, /* nothing can be planned: errno and why */
	WORD_END,
};

struct packet {
	uint32_t word; /* enum word */
	uint32_t index;
	int32_t value;
	uint64_t id, peers, master;
	char text[PATH_MAX];
};

/* The child */

struct scout {
	int socket;
	int own; /* PID 1's namespace */
	const struct namespaces *n;
	uint32_t index;
};

static void say_packet(const struct scout *s, const struct packet *p, int fd)
{
	size_t length = offsetof(struct packet, text) + strlen(p->text) + 1;

	if (answer_packet(s->socket, p, length, fd) < 0)
		_exit(1);
}

static void say(const struct scout *s, enum word word, int32_t value, int fd, const char *text)
{
	struct packet p = {.word = word, .index = s->index, .value = value};

	(void)snprintf(p.text, sizeof(p.text), "%s", text);
	say_packet(s, &p, fd);
}

static void say_pivot(const struct scout *s, const struct pivot *p)
{
	struct packet root = {.word = WORD_ROOT,
		.index = s->index,
		.value = p->unbindable,
		.id = p->old_id,
		.peers = p->peers,
		.master = p->master};

	say_packet(s, &root, p->old_root);
	say(s, WORD_COPY, 0, p->new_root, "");
	say(s, WORD_WATCH, 0, p->watch, "");
	if (p->keeper >= 0)
		say(s, WORD_KEEPER, 0, p->keeper, "");
	for (size_t i = 0; i < p->n_mounts; i++) {
		struct packet m = {.word = WORD_MOUNT, .index = s->index, .id = p->mounts[i].id};
		(void)snprintf(m.text, sizeof(m.text), "%s", p->mounts[i].path);
		say_packet(s, &m, p->mounts[i].from);
	}
	say(s, WORD_FATE, NAMESPACE_SWAPPED, -1, "");
}

static void fail(const struct scout *s, int r, const char *why)
{
	say(s, WORD_FAILED, r, -1, why);
	_exit(1);
}

/* The same directory of the same file system; what it is mounted as does not matter. */
static bool root_is_image(const struct scout *s)
{
	struct stat here, image;

	if (stat("/", &here) < 0 || fstat(s->n->main->old_root, &image) < 0)
		fail(s, -errno, "cannot look at its root");
	return here.st_dev == image.st_dev && here.st_ino == image.st_ino;
}

static void prepare(const struct scout *s, const struct namespace *ns)
{
	struct pivot p = {0};
	struct error e = {0};
	int r = mount_ns_enter(s->own);
	int copy = r;

	if (r == 0 && s->n->look_only)
		copy = fcntl(s->n->main->new_root, F_DUPFD_CLOEXEC, 3);
	else if (r == 0)
		copy = mount_copy(s->n->main->new_root, true);
	if (copy < 0)
		fail(s, copy, "cannot copy the mount of the new root");
	r = mount_ns_enter(ns->fd);
	if (r == 0)
		r = pivot_prepare_like(&p, s->n->main, copy, !s->n->look_only, &e);
	if (r < 0)
		fail(s, r, e.text);
	say_pivot(s, &p);
	pivot_done(&p);
	(void)fd_close(copy);
}

static void look_at(const struct scout *s, const struct namespace *ns)
{
	int r = mount_ns_enter(ns->fd);

	if (r < 0 && !*ns->why)
		fail(s, r, "cannot enter it");
	if (r < 0 || (*ns->why && root_is_image(s)))
		say(s, WORD_FATE, NAMESPACE_BARRED, -1, ns->why);
	else if (!root_is_image(s))
		say(s, WORD_FATE, NAMESPACE_OWN_ROOT, -1, "");
	else
		prepare(s, ns);
}

static void __attribute__((noreturn)) scout(const struct namespaces *n, int socket)
{
	struct scout s = {.socket = socket, .n = n};

	/* There may be no /proc where it goes, or another one. */
	int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	s.own = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	if (proc < 0 || s.own < 0)
		fail(&s, -errno, "cannot open /proc");
	mount_proc_at(proc);
	for (; s.index < n->count; s.index++)
		look_at(&s, &n->list[s.index]);
	say(&s, WORD_END, 0, -1, "");
	_exit(0);
}

/* PID 1 */

static int keep(int *place, int fd)
{
	(void)fd_close(*place);
	*place = fd;
	return 0;
}

static int take_root(struct namespace *ns, const struct packet *p, int fd)
{
	ns->pivot.old_id = p->id;
	ns->pivot.peers = p->peers;
	ns->pivot.master = p->master;
	ns->pivot.unbindable = p->value;
	return keep(&ns->pivot.old_root, fd);
}

static int take_copy(struct namespace *ns, int fd)
{
	ns->pivot.new_root = fd;
	return keep(&ns->copy, fd);
}

static int take_fate(struct namespace *ns, const struct packet *p)
{
	ns->fate = (enum namespace_fate)p->value;
	(void)snprintf(ns->why, sizeof(ns->why), "%s", p->text);
	return ns->fate == NAMESPACE_SWAPPED ? pivot_new_journal(&ns->pivot) : 0;
}

/* Takes over fd. */
static int take(struct namespaces *n, const struct packet *p, int fd, struct error *e)
{
	struct namespace *ns = &n->list[p->index];
	char comm[64];

	switch ((enum word)p->word) {
	case WORD_ROOT:
		return take_root(ns, p, fd);
	case WORD_COPY:
		return take_copy(ns, fd);
	case WORD_WATCH:
		return keep(&ns->pivot.watch, fd);
	case WORD_KEEPER:
		return keep(&ns->pivot.keeper, fd);
	case WORD_MOUNT:
		return pivot_add_mount(&ns->pivot, p->id, p->text, fd, -1);
	case WORD_FATE:
		return take_fate(ns, p);
	case WORD_FAILED:
		proc_comm(ns->pid, comm, sizeof(comm));
		return error_say(e, p->value < 0 ? -p->value : EIO,
			"in the mount namespace of process %d (%s): %s", (int)ns->pid, comm,
			p->text);
	case WORD_END:
		return 1;
	}
	(void)fd_close(fd);
	return -EBADMSG;
}

static int receive(struct namespaces *n, int socket, uint64_t deadline_usec, struct error *e)
{
	static struct packet p;
	struct pollfd ready = {.fd = socket, .events = POLLIN};
	uint64_t now = clock_usec();
	int fd;

	if (now >= deadline_usec)
		return -ETIMEDOUT;
	if (poll(&ready, 1, (int)((deadline_usec - now) / USEC_PER_MSEC) + 1) <= 0)
		return 0;
	ssize_t length = answer_receive(socket, (char *)&p, sizeof(p), &fd);
	if (length == -EAGAIN || length == -EINTR)
		return 0;
	if (length < 0)
		return error_set(e, (int)length,
			"cannot receive what the child that looks at the mount namespaces found");
	if (length <= (ssize_t)offsetof(struct packet, text) || p.index > n->count ||
		(p.index == n->count && p.word != WORD_END)) {
		(void)fd_close(fd);
		return -EPIPE;
	}
	((char *)&p)[length - 1] = '\0';
	return take(n, &p, fd, e);
}

static void end_child(int pidfd)
{
	(void)syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
	(void)fd_close(pidfd);
}

int scout_run(struct namespaces *n, struct error *e)
{
	uint64_t deadline_usec = deadline_in(SCOUT_USEC);
	int ends[2], pidfd, r = 0;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return error_set(e, errno, "cannot look at the mount namespaces");
	pid_t pid = process_fork(-1, &pidfd);
	if (pid == 0) {
		(void)close(ends[0]);
		scout(n, ends[1]);
	}
	(void)fd_close(ends[1]);
	(void)error_say(
		e, EPIPE, "the child that looks at the mount namespaces ended without an answer");
	while (pid > 0 && r == 0)
		r = receive(n, ends[0], deadline_usec, e);
	(void)fd_close(ends[0]);
	if (pid < 0)
		return error_set(
			e, pid, "cannot look at the mount namespaces%s", process_fork_hint(pid));
	end_child(pidfd);
	if (r == -ETIMEDOUT)
		return error_say(e, ETIMEDOUT, "looking at the mount namespaces took too long");
	return r < 0 ? r : 0;
}
