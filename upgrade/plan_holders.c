/* SPDX-License-Identifier: MIT */
/* Who holds what, what becomes of it and what to do about it, in words. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "kernel/mount_ns.h"
#include "kernel/mounts.h"
#include "kernel/proc.h"
#include "kernel/proc_creds.h"
#include "kernel/util.h"
#include "services/set.h"
#include "upgrade/answer.h"
#include "upgrade/obstacle.h"
#include "upgrade/pivot.h"
#include "upgrade/plan.h"
#include "upgrade/plan_skew.h"

/* Of each kind of warning that may come once for each process. */
#define WARNINGS_MAX 8

enum upgrade_policy plan_policy_of(const struct holder *h)
{
	char unit[256];

	holder_unit(h, unit, sizeof(unit));
	const struct service *s = set_find(unit);
	return s && s->state == STATE_RUNNING ? s->unit->policy : POLICY_KEEP;
}

/* "process 812 (tmux)" */
static void name_process(const struct holder *h, char *buf, size_t size)
{
	char comm[64];

	proc_comm(h->pid, comm, sizeof(comm));
	if (h->pid > 0)
		(void)snprintf(buf, size, "process %d (%s)", (int)h->pid, comm);
	else
		(void)snprintf(buf, size, "a process that is not in sight");
}

void plan_describe(const struct holder *h, char *buf, size_t size)
{
	char who[128], more[48] = "";

	name_process(h, who, sizeof(who));
	if (h->more > 0)
		(void)snprintf(more, sizeof(more), ", and %u more like it,", h->more);
	if (h->what == HELD_SOCKET)
		(void)snprintf(buf, size, "%s has the unix socket %s%s bound on the old image", who,
			h->path, more);
	else if (h->what == HELD_MAP)
		(void)snprintf(buf, size, "%s has %s%s of the old image mapped shared and writable",
			who, h->path, more);
	else
		(void)snprintf(buf, size, "%s has %s%s open for writing on the old image (fd %d)",
			who, h->path, more, h->fd);
}

void plan_write_holder(struct record_writer *w, const struct holder *h, unsigned generation,
	enum holder_action action, const char *why, const char *remedy)
{
	char comm[64], unit[256], id[16], advice[600];
	int access = h->flags & O_ACCMODE;
	struct proc_creds creds;

	proc_comm(h->pid, comm, sizeof(comm));
	holder_unit(h, unit, sizeof(unit));
	if (h->what == HELD_MOUNT && h->pid == 0)
		comm[0] = '\0';
	plan_advice(h, action, remedy, advice, sizeof(advice));
	(void)snprintf(id, sizeof(id), "%d", (int)h->pid);
	record_begin(w, "holder", id);
	record_text(w, "comm", comm);
	record_text(w, "unit", unit);
	if (h->pid > 0 && proc_creds_read(h->pid, &creds) == 0)
		record_int(w, "uid", creds.fsuid);
	record_int(w, "generation", generation);
	record_text(w, "what", held_name(h->what));
	if (h->fd >= 0)
		record_int(w, "fd", h->fd);
	if (h->fd >= 0 && h->what == HELD_FILE)
		record_text(w, "mode", access == O_RDONLY ? "r" : access == O_WRONLY ? "w" : "rw");
	if (h->what == HELD_MAP && h->shared)
		record_text(w, "mode", "rw");
	if (h->tid != h->pid)
		record_int(w, "tid", h->tid);
	record_text(w, "path", h->path);
	record_text(w, "part", h->part);
	if (h->deleted)
		record_bool(w, "deleted", true);
	if (h->more > 0)
		record_int(w, "more", h->more);
	record_text(w, "action", plan_action_name(action));
	record_text(w, "why", why && *why ? why : NULL);
	record_text(w, "advice", advice[0] ? advice : NULL);
	record_end(w);
}

/* Whether a directory can be exchanged */

struct telling {
	int socket, root;
	struct obstacle obstacle; /* of the task that was looked at last, */
	struct proc_creds creds; /* as these are */
	bool has_creds;
	pid_t stuck; /* a process whose jail cannot be moved: so nothing of it is */
	unsigned n_queued, n_replaced; /* warnings so far */
	size_t n_directories; /* that lie below the root, whatever becomes of them */
	struct stale stale;
};

static void look_at_task(struct telling *t, pid_t tid)
{
	if (t->obstacle.tid == tid)
		return;
	obstacle_look(&t->obstacle, tid);
	t->has_creds = proc_creds_read(tid, &t->creds) == 0;
}

static bool has_acl(int fd)
{
	char path[48];

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return getxattr(path, "system.posix_acl_access", NULL, 0) > 0;
}

/* The system calls are the task's own: what it may not do, it cannot be made to. */
static const char *lacks_permission(const struct telling *t, const struct holder *h, int fd)
{
	struct stat st;

	if (!t->has_creds || h->what == HELD_DIRFD || fstat(fd, &st) < 0)
		return NULL;
	if (h->what == HELD_ROOT && !proc_creds_may_chroot(&t->creds))
		return "it is in a chroot jail and has not the capability to be given another (CAP_SYS_CHROOT)";
	if (!proc_creds_may_search(&t->creds, &st, has_acl(fd)))
		return "it may not search that directory of the new image itself";
	return NULL;
}

/* Why a directory cannot be exchanged; NULL if it can. `fd`: its counterpart. */
static const char *find_obstacle(struct telling *t, const struct holder *h, int fd)
{
	const char *why;

	if (h->deleted)
		return "it has been removed";
	if (h->outside)
		return "it runs through the blackout (SystemStorage=)";
	if (fd < 0)
		return "the new image has no such directory";
	look_at_task(t, h->tid);
	why = t->obstacle.why[0] ? t->obstacle.why : lacks_permission(t, h, fd);
	if (!why && t->stuck == h->pid)
		why = "its chroot jail cannot be exchanged";
	if (why && h->what == HELD_ROOT)
		t->stuck = h->pid;
	return why;
}

/* Telling */

static void warn(const struct telling *t, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
static void warn(const struct telling *t, const char *format, ...)
{
	char text[PATH_MAX + 500];
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	answer_text(t->socket, "warning", text);
}

static void tell_blocker(const struct telling *t, const struct holder *h)
{
	char what[PATH_MAX + 300], text[PATH_MAX + 400];

	plan_describe(h, what, sizeof(what));
	(void)snprintf(text, sizeof(text), "%s: %s", what, plan_stake(h));
	answer_text(t->socket, "blocker", text);
}

static void tell_queued(struct telling *t, const struct holder *h)
{
	char who[128];

	if (t->n_queued++ >= WARNINGS_MAX)
		return;
	name_process(h, who, sizeof(who));
	warn(t, "%u descriptor%s sent to %s wait in its socket (fd %d): of what, the kernel does not tell",
		h->more + 1, h->more ? "s" : "", who, h->fd);
}

/* Its data are not lost while it writes, and stay behind once it is replaced. */
static void tell_replaced_writer(struct telling *t, const struct holder *h)
{
	char what[PATH_MAX + 300];

	if (t->n_replaced++ >= WARNINGS_MAX)
		return;
	plan_describe(h, what, sizeof(what));
	warn(t, "%s until its service is on the new image: what is written there stays with the old one",
		what);
}

static bool is_swapped(const struct holder *h)
{
	CLEANUP_FD int fd = mount_ns_open(h->tid);
	bool ours = false;

	return fd >= 0 && mount_ns_is_ours(fd, &ours) == 0 && ours;
}

static void tell_holder(struct telling *t, const struct holder *h)
{
	struct record_writer w = {0};
	const char *why = NULL, *remedy = NULL;
	bool directory = held_is_directory(h->what);

	if (h->what == HELD_QUEUED) {
		tell_queued(t, h);
		return;
	}
	/* Opening it also brings it into the cache, for the blackout. */
	CLEANUP_FD int fd = directory ? open_in_root(t->root, h->path, O_PATH | O_DIRECTORY) : -1;
	if (directory)
		why = find_obstacle(t, h, fd);
	if (directory && !h->outside)
		t->n_directories += 1 + h->more;
	enum holder_action action = plan_holder_action(h, plan_policy_of(h), fd >= 0, !why);
	if (action == ACTION_BLOCKS)
		tell_blocker(t, h);
	if (action == ACTION_REPLACE && holder_is_writer(h) && !h->deleted)
		tell_replaced_writer(t, h);
	stale_add(&t->stale, h, action);
	if (action == ACTION_MIGRATE && directory)
		why = t->obstacle.delay;
	if (why == t->obstacle.why || why == t->obstacle.delay)
		remedy = t->obstacle.advice;
	if (h->what == HELD_NAMESPACE && is_swapped(h))
		action = ACTION_MIGRATE;
	else if (h->what == HELD_NAMESPACE)
		why = "its mount name space is owned by another user name space: its mounts are locked";
	plan_write_holder(&w, h, 0, action, why, remedy);
	answer_send(t->socket, &w);
}

static void tell_rest(const struct telling *t, const struct holders *h)
{
	if (h->n_more > 0)
		warn(t, "%zu more references to the running image are not listed", h->n_more);
	if (t->n_queued > WARNINGS_MAX)
		warn(t, "descriptors wait in %u more sockets", t->n_queued - WARNINGS_MAX);
	if (t->n_replaced > WARNINGS_MAX)
		warn(t, "%u more files are written to until their service is on the new image",
			t->n_replaced - WARNINGS_MAX);
}

static void tell_too_many(const struct telling *t)
{
	char text[300];

	if (t->n_directories <= HOLDERS_MAX)
		return;
	(void)snprintf(text, sizeof(text),
		"%zu directories below the root are held: more than %d no upgrade can exchange (see who holds them above; --force does not help)",
		t->n_directories, HOLDERS_MAX);
	answer_text(t->socket, "blocker", text);
}

static void tell_sleeper(void *userdata, const char *text)
{
	warn(userdata, "%s", text);
}

int plan_holders(int socket, int tree, int root, const struct plan_roots *others, struct error *e)
{
	struct telling t = {.socket = socket, .root = root};
	struct holders h = {0};
	CLEANUP_FD int own = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct holders_image image = {
		.root = own, .is_root = true, .copies = others->ids, .n_copies = others->count};
	int r = own < 0 ? -errno : mount_id_of_fd(own, &image.mount);

	if (r < 0)
		return error_set(e, r, "cannot identify the root mount");
	r = holders_look(&h, tree, &image, 1, getppid(), e);
	for (size_t i = 0; r == 0 && i < h.count; i++)
		tell_holder(&t, &h.list[i]);
	if (r == 0) {
		tell_rest(&t, &h);
		tell_too_many(&t);
		obstacle_find_sleepers(tree, tell_sleeper, &t);
		plan_skew(socket, root, &t.stale);
	}
	holders_free(&h);
	return r;
}
