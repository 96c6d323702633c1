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
#include "kernel/same_file.h"
#include "kernel/util.h"
#include "upgrade/answer.h"
#include "upgrade/pins.h"

#define SCOUT_USEC (5 * USEC_PER_SEC)

enum word {
	WORD_FATE, /* of the namespace: `value`, and why */
	WORD_ROOT, /* of a pivot, with its descriptor: */
	WORD_COPY,
	WORD_WATCH,
	WORD_KEEPER,
	WORD_MOUNT, /* id, descriptor, path and place */
	WORD_COVER, /* id, path, and two indices */
	WORD_ASIDE,
	WORD_NAMESPACE, /* one more, that a mount keeps: its id, its descriptor and where that is */
	WORD_FAILED, /* nothing can be planned: errno and why */
	WORD_END,
};

struct packet {
	uint32_t word; /* enum word */
	uint32_t index;
	int32_t value;
	uint64_t id, peers, master;
	uint64_t hides, mount; /* of a cover */
	uint8_t inside, elsewhere, shared; /* of a mount */
	char text[2 * PATH_MAX]; /* the place of a mount comes after its path */
};

/* The child */

struct scout {
	int socket;
	int own; /* PID 1's namespace */
	int proc;
	struct namespaces *n; /* PID 1's, as it was, and what is found since */
	uint32_t index;
};

static void say_packet(const struct scout *s, const struct packet *p, size_t text, int fd)
{
	if (answer_packet(s->socket, p, offsetof(struct packet, text) + text, fd) < 0)
		_exit(1);
}

/* Appends a text to what the packet has already, NUL included. */
static void put_text(struct packet *p, size_t *length, const char *text)
{
	int n = snprintf(p->text + *length, sizeof(p->text) - *length, "%s", text);

	if (n < 0 || (size_t)n >= sizeof(p->text) - *length)
		_exit(1); /* no path is as long */
	*length += (size_t)n + 1;
}

static void say(const struct scout *s, enum word word, int32_t value, int fd, const char *text)
{
	struct packet p = {.word = word, .index = s->index, .value = value};
	size_t length = 0;

	put_text(&p, &length, text);
	say_packet(s, &p, length, fd);
}

static void say_mount(const struct scout *s, const struct pivot_mount *m)
{
	struct packet p = {.word = WORD_MOUNT,
		.index = s->index,
		.id = m->id,
		.inside = m->inside,
		.elsewhere = m->elsewhere,
		.shared = m->shared};
	size_t length = 0;

	put_text(&p, &length, m->path);
	put_text(&p, &length, m->place);
	say_packet(s, &p, length, m->from);
}

static void say_cover(const struct scout *s, const struct pivot_cover *c)
{
	struct packet p = {.word = WORD_COVER,
		.index = s->index,
		.id = c->id,
		.hides = c->hides,
		.mount = c->mount};
	size_t length = 0;

	put_text(&p, &length, c->path);
	say_packet(s, &p, length, -1);
}

static void say_pivot(const struct scout *s, const struct pivot *p)
{
	struct packet root = {.word = WORD_ROOT,
		.index = s->index,
		.value = p->unbindable,
		.id = p->old_id,
		.peers = p->peers,
		.master = p->master};

	say_packet(s, &root, 1, p->old_root);
	say(s, WORD_COPY, 0, p->new_root, "");
	say(s, WORD_WATCH, 0, p->watch, "");
	if (p->keeper >= 0)
		say(s, WORD_KEEPER, 0, p->keeper, "");
	for (size_t i = 0; i < p->n_mounts; i++)
		say_mount(s, &p->mounts[i]);
	for (size_t i = 0; i < p->n_covers; i++)
		say_cover(s, &p->covers[i]);
	if (p->aside >= 0)
		say(s, WORD_ASIDE, 0, p->aside, "");
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
	int r = same_file(AT_FDCWD, "/", s->n->main->old_root, "");

	if (r < 0)
		fail(s, r, "cannot look at its root");
	return r > 0;
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

/* Mounts that keep namespaces nobody is in, in the one that was entered */

static int add_kept(uint64_t id, const char *path, void *userdata)
{
	struct scout *s = userdata;
	struct packet p = {.word = WORD_NAMESPACE, .index = (uint32_t)s->n->count, .id = id};
	struct namespace like = {.id = id, .held_fd = -1, .mount = (char *)path};

	if (namespaces_know(s->n, id))
		return 0;
	int fd = pin_open_mount(s->proc, path, id);
	if (fd < 0)
		(void)snprintf(like.why, sizeof(like.why), "it cannot be opened there (%s)",
			fd == -ESTALE ? "something else is mounted over it" : strerror(-fd));
	int r = namespaces_add(s->n, &like, fd);
	if (r <= 0)
		return r;
	size_t length = 0;
	put_text(&p, &length, path);
	say_packet(s, &p, length, fd);
	return 0;
}

static void look_for_kept(const struct scout *s, enum namespace_fate fate)
{
	struct error e;
	int watch = mount_watch_open();

	if (watch < 0)
		fail(s, watch, "cannot watch its mount table");
	/* One that is to be pivoted has its watch, of before its table was read. */
	if (fate != NAMESPACE_SWAPPED)
		say(s, WORD_WATCH, 0, watch, "");
	int r = pins_of_mounts(watch, add_kept, (void *)s, &e);
	if (r < 0)
		fail(s, r, "cannot look for mounts of namespaces");
	(void)fd_close(watch);
}

/* What became of it; with it entered, if it could be. */
static enum namespace_fate look_at(const struct scout *s, const struct namespace *ns)
{
	int r = mount_ns_enter(ns->fd);

	if (r < 0 && !*ns->why)
		fail(s, r, "cannot enter it");
	if (r == 0 && !root_is_image(s)) {
		say(s, WORD_FATE, NAMESPACE_OWN_ROOT, -1, "");
		return NAMESPACE_OWN_ROOT;
	}
	if (r < 0 || *ns->why) {
		say(s, WORD_FATE, NAMESPACE_BARRED, -1, ns->why);
		return r < 0 ? NAMESPACE_UNKNOWN : NAMESPACE_BARRED;
	}
	prepare(s, ns);
	return NAMESPACE_SWAPPED;
}

static void __attribute__((noreturn)) scout(struct namespaces *n, int socket)
{
	struct scout s = {.socket = socket, .n = n};
	struct error e;
	bool ours; /* asked so that it is known where there is no /proc */

	/* There may be no /proc where it goes, or another one. */
	s.proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	s.own = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	if (s.proc < 0 || s.own < 0 || mount_ns_is_ours(s.own, &ours) < 0)
		fail(&s, -errno, "cannot open /proc");
	mount_proc_at(s.proc);
	if (n->pinned && pins_of_mounts(n->watch, add_kept, &s, &e) < 0)
		fail(&s, -EIO, e.text);
	for (; s.index < n->count; s.index++) {
		enum namespace_fate fate = look_at(&s, &n->list[s.index]);
		if (fate != NAMESPACE_UNKNOWN)
			look_for_kept(&s, fate);
	}
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

/* Takes over fd. */
static int take_mount(struct namespace *ns, const struct packet *p, size_t text, int fd)
{
	size_t path = strlen(p->text) + 1;
	struct pivot_mount m = {.id = p->id,
		.path = (char *)p->text,
		.place = (char *)p->text + path,
		.from = fd,
		.to = -1,
		.inside = p->inside,
		.elsewhere = p->elsewhere,
		.shared = p->shared};

	if (path < text)
		return pivot_add_mount(&ns->pivot, &m);
	(void)fd_close(fd);
	return -EBADMSG;
}

static int take_cover(struct namespace *ns, const struct packet *p)
{
	return pivot_add_cover(
		&ns->pivot, &(struct pivot_cover){p->id, (char *)p->text, p->hides, p->mount});
}

static int take_fate(struct namespace *ns, const struct packet *p)
{
	ns->fate = (enum namespace_fate)p->value;
	(void)snprintf(ns->why, sizeof(ns->why), "%s", p->text);
	return ns->fate == NAMESPACE_SWAPPED ? pivot_new_journal(&ns->pivot) : 0;
}

/* Takes over fd; `text` is the length of the text. */
static int take_of(struct namespace *ns, const struct packet *p, size_t text, int fd)
{
	if (p->word == WORD_ROOT)
		return take_root(ns, p, fd);
	if (p->word == WORD_COPY)
		return take_copy(ns, fd);
	if (p->word == WORD_WATCH)
		return keep(&ns->pivot.watch, fd);
	if (p->word == WORD_KEEPER)
		return keep(&ns->pivot.keeper, fd);
	if (p->word == WORD_MOUNT)
		return take_mount(ns, p, text, fd);
	if (p->word == WORD_COVER)
		return take_cover(ns, p);
	if (p->word == WORD_ASIDE)
		return keep(&ns->pivot.aside, fd);
	return take_fate(ns, p);
}

static int take_namespace(struct namespaces *n, const struct packet *p, int fd)
{
	struct namespace like = {.id = p->id, .held_fd = -1, .mount = (char *)p->text};

	if (fd < 0)
		(void)snprintf(
			like.why, sizeof(like.why), "it cannot be opened where it is mounted");
	int r = namespaces_add(n, &like, fd);
	return r < 0 ? r : 0;
}

static int take_failure(const struct namespaces *n, const struct packet *p, struct error *e)
{
	char name[NAMESPACE_NAME_MAX] = "of PID 1";

	if (p->index < n->count)
		namespace_name(&n->list[p->index], name, sizeof(name));
	return error_say(
		e, p->value < 0 ? -p->value : EIO, "in the mount namespace %s: %s", name, p->text);
}

/* Takes over fd; `text` is the length of the text. */
static int take(struct namespaces *n, const struct packet *p, size_t text, int fd, struct error *e)
{
	struct namespace *ns = p->index < n->count ? &n->list[p->index] : NULL;

	switch ((enum word)p->word) {
	case WORD_NAMESPACE:
		return take_namespace(n, p, fd);
	case WORD_FAILED:
		return take_failure(n, p, e);
	case WORD_END:
		return 1;
	case WORD_ROOT:
	case WORD_COPY:
	case WORD_WATCH:
	case WORD_KEEPER:
	case WORD_MOUNT:
	case WORD_COVER:
	case WORD_ASIDE:
	case WORD_FATE:
		if (ns)
			return take_of(ns, p, text, fd);
		break;
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
	if (length <= (ssize_t)offsetof(struct packet, text)) {
		(void)fd_close(fd);
		return -EPIPE;
	}
	((char *)&p)[length - 1] = '\0';
	return take(n, &p, (size_t)length - offsetof(struct packet, text), fd, e);
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
