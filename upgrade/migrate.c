/* SPDX-License-Identifier: MIT */
#include "upgrade/migrate.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel/cgroup.h"
#include "kernel/inject.h"
#include "kernel/log.h"
#include "kernel/proc.h"
#include "kernel/util.h"
#include "upgrade/limbo.h"
#include "upgrade/pivot.h"

#define RELEASE_USEC (50 * USEC_PER_MSEC)

/* One task that holds something, with its changes and what takes them back. */
struct task {
	pid_t pid, tid;
	struct inject_target *target; /* borrowed from `seized` */
	struct inject_change *changes, *inverse;
	size_t n, n_done;
};

struct leaf {
	char *path;    /* relative to the tree; "" is the tree itself */
	bool affected; /* runs while we inject: all its tasks are seized */
	bool frozen;   /* by us, by its own flag */
	bool by_user;  /* somebody froze it before us: so it is to be afterwards */
};

struct migration {
	int tree; /* borrowed */
	struct task *tasks;
	size_t n_tasks;
	struct leaf *leaves;
	size_t n_leaves;
	struct inject_target **seized;
	size_t n_seized, capacity_seized;
	bool thawed; /* the tree, by us */
};

/* Planning */

static struct task *task_of(struct migration *m, const struct holder *h)
{
	for (size_t i = 0; i < m->n_tasks; i++)
		if (m->tasks[i].tid == h->tid)
			return &m->tasks[i];
	struct task *grown = reallocarray(m->tasks, m->n_tasks + 1, sizeof(*grown));
	if (!grown)
		return NULL;
	m->tasks = grown;
	grown[m->n_tasks] = (struct task){.pid = h->pid, .tid = h->tid};
	return &m->tasks[m->n_tasks++];
}

/* The very thing it holds, to give it back: the open file itself for a descriptor, offset and all. */
static int open_held(const struct holder *h)
{
	char path[64];

	if (h->what == HELD_DIRFD) {
		CLEANUP_FD int pidfd = (int)syscall(SYS_pidfd_open, h->pid, 0);
		int fd = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, h->fd, 0);
		return fd < 0 ? -errno : fd;
	}
	(void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)h->tid, h->what == HELD_CWD ? "cwd" : "root");
	int fd = open(path, O_PATH | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int open_counterpart(const struct holder *h, int new_root)
{
	bool path_only = h->what != HELD_DIRFD || (h->flags & O_PATH);
	int fd = open_in_root(new_root, h->path, path_only ? O_PATH | O_DIRECTORY : O_RDONLY | O_DIRECTORY);

	/* A reader in the middle of the directory goes on there as far as the two file systems count alike. */
	if (fd >= 0 && h->what == HELD_DIRFD && !path_only && h->offset > 0)
		(void)lseek(fd, h->offset, SEEK_SET);
	return fd;
}

static enum inject_action action_of(enum held what)
{
	return what == HELD_CWD ? INJECT_CWD : what == HELD_ROOT ? INJECT_ROOT : INJECT_FD;
}

static int add_change(struct migration *m, const struct holder *h, int fd, int held)
{
	struct task *t = task_of(m, h);
	struct inject_change *changes = t ? reallocarray(t->changes, t->n + 1, sizeof(*changes)) : NULL;
	struct inject_change *inverse;

	if (!changes)
		return -ENOMEM;
	t->changes = changes;
	inverse = reallocarray(t->inverse, t->n + 1, sizeof(*inverse));
	if (!inverse)
		return -ENOMEM;
	t->inverse = inverse;
	changes[t->n] = (struct inject_change){.action = action_of(h->what), .fd = fd, .target_fd = h->fd,
		.cloexec = h->flags & O_CLOEXEC, .result = -ECANCELED};
	inverse[t->n] = changes[t->n];
	inverse[t->n].fd = held;
	t->n++;
	return 0;
}

static struct leaf *find_leaf(struct migration *m, const char *path, size_t length)
{
	for (size_t i = 0; i < m->n_leaves; i++)
		if (strlen(m->leaves[i].path) == length && strncmp(m->leaves[i].path, path, length) == 0)
			return &m->leaves[i];
	return NULL;
}

/* The cgroup itself and each above it: thawing one thaws what it is in. */
static void mark_affected(struct migration *m, const char *path)
{
	for (size_t length = strlen(path); length > 0;) {
		struct leaf *l = find_leaf(m, path, length);
		if (l)
			l->affected = true;
		while (length > 0 && path[length - 1] != '/')
			length--;
		if (length > 0)
			length--;
	}
}

static int plan_holder(struct migration *m, const struct holder *h, int new_root, size_t *left)
{
	CLEANUP_FD int fd = -1;
	CLEANUP_FD int held = -1;

	if (h->what == HELD_FILE || h->what == HELD_EXE || h->deleted) {
		(*left)++;
		return 0;
	}
	fd = open_counterpart(h, new_root);
	if (fd == -ENOMEM || fd == -EMFILE || fd == -ENFILE)
		return fd;
	if (fd < 0) {
		(*left)++; /* the directory is not there: the plan has said so */
		return 0;
	}
	held = open_held(h);
	if (held == -ESRCH || held == -ENOENT)
		return 0; /* gone */
	if (held < 0)
		return held;
	int r = add_change(m, h, fd, held);
	if (r < 0)
		return r;
	(void)fd_steal(&fd);
	(void)fd_steal(&held);
	mark_affected(m, h->cgroup);
	return 0;
}

static int add_leaf(int cgroup, const char *path, void *userdata)
{
	struct migration *m = userdata;
	struct leaf *grown = reallocarray(m->leaves, m->n_leaves + 1, sizeof(*grown));
	bool top = !*path;
	char flag[8];

	if (!grown)
		return -ENOMEM;
	m->leaves = grown;
	/* Who lives in the tree itself (we put nobody there) thaws with it. */
	grown[m->n_leaves] = (struct leaf){.path = strdup(path), .affected = top};
	if (!top && file_read(cgroup, "cgroup.freeze", flag, sizeof(flag)) > 0)
		grown[m->n_leaves].by_user = flag[0] == '1';
	if (!grown[m->n_leaves].path)
		return -ENOMEM;
	m->n_leaves++;
	return 0;
}

int migration_plan(struct migration **ret, const struct holders *h, int new_root, int tree, size_t *ret_left,
	struct error *e)
{
	struct migration *m = calloc(1, sizeof(*m));
	size_t left = 0;

	if (!m)
		return error_set(e, ENOMEM, "cannot plan the migration");
	m->tree = tree;
	int r = cgroup_walk(tree, add_leaf, m);
	for (size_t i = 0; r == 0 && i < h->count; i++)
		r = plan_holder(m, &h->list[i], new_root, &left);
	if (r < 0 || m->n_tasks == 0) {
		migration_free(m);
		m = NULL;
	}
	if (r < 0)
		return error_set(e, r, "cannot plan the migration");
	*ret = m;
	*ret_left = left;
	return 0;
}

size_t migration_tasks(const struct migration *m)
{
	return m ? m->n_tasks : 0;
}

/* Seizing */

static struct task *find_task(struct migration *m, pid_t tid)
{
	for (size_t i = 0; i < m->n_tasks; i++)
		if (m->tasks[i].tid == tid)
			return &m->tasks[i];
	return NULL;
}

static int remember(struct migration *m, struct inject_target *target)
{
	if (m->n_seized == m->capacity_seized) {
		size_t capacity = m->capacity_seized ? m->capacity_seized * 2 : 64;
		struct inject_target **grown = reallocarray(m->seized, capacity, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		m->seized = grown;
		m->capacity_seized = capacity;
	}
	m->seized[m->n_seized++] = target;
	return 0;
}

static int seize_thread(struct migration *m, pid_t tid, struct error *e)
{
	struct inject_target *target;
	struct task *task = find_task(m, tid);
	int r = inject_seize(&target, tid, e);

	if (r == -ESRCH)
		return 0; /* a zombie runs nothing and holds nothing */
	if (r == -EBUSY && !task)
		return 0; /* a vfork parent stands still until its child, which is here too, goes on */
	if (r < 0)
		return r;
	r = remember(m, target);
	if (r < 0) {
		limbo_release(target);
		return error_set(e, r, "cannot hold task %d", (int)tid);
	}
	if (task)
		task->target = target;
	return 0;
}

static int seize_process(struct migration *m, pid_t pid, struct error *e)
{
	struct pid_array threads = {0};
	int r = proc_threads(pid, &threads);

	if (r == -ENOENT || r == -ESRCH)
		r = 0;
	else if (r < 0)
		(void)error_set(e, r, "cannot list the threads of process %d", (int)pid);
	for (size_t i = 0; r == 0 && i < threads.count; i++)
		r = seize_thread(m, threads.pids[i], e);
	pid_array_free(&threads);
	return r;
}

static int open_leaf(const struct migration *m, const struct leaf *l)
{
	int fd = openat(m->tree, *l->path ? l->path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	return fd < 0 ? -errno : fd;
}

static int seize_leaf(struct migration *m, const struct leaf *l, struct error *e)
{
	struct pid_array list = {0};
	CLEANUP_FD int fd = open_leaf(m, l);
	int r = fd < 0 ? fd : cgroup_pids(fd, "cgroup.procs", &list);

	if (r < 0 && r != -ENOENT && r != -ENODEV)
		(void)error_set(e, r, "cannot list the processes of %s", l->path);
	else
		r = 0;
	for (size_t i = 0; r == 0 && i < list.count; i++)
		r = seize_process(m, list.pids[i], e);
	pid_array_free(&list);
	return r;
}

static bool is_holder(struct migration *m, const struct inject_target *target)
{
	return find_task(m, inject_tid(target)) != NULL;
}

int migration_seize(struct migration *m, uint64_t deadline_usec, struct error *e)
{
	for (size_t i = 0; i < m->n_leaves; i++) {
		int r = m->leaves[i].affected ? seize_leaf(m, &m->leaves[i], e) : 0;
		if (r < 0)
			return r;
	}
	/* All are asked before the first is waited for. */
	for (size_t i = 0; i < m->n_seized; i++) {
		int r = inject_wait_stopped(m->seized[i], deadline_usec, e);
		/* A bystander need not be able to run our syscalls, only to stand still. */
		if ((r == -ENOTSUP || r == -ENOEXEC) && !is_holder(m, m->seized[i]))
			r = 0;
		if (r < 0 && r != -ESRCH)
			return r;
	}
	return 0;
}

/* Running */

static int freeze_others(struct migration *m, bool freeze, struct error *e)
{
	int result = 0;

	for (size_t i = 0; i < m->n_leaves; i++) {
		struct leaf *l = &m->leaves[i];
		if (l->affected || l->by_user || l->frozen == freeze)
			continue;
		CLEANUP_FD int fd = open_leaf(m, l);
		int r = fd < 0 ? fd : cgroup_freeze(fd, freeze);
		if (r == -ENOENT || r == -ENODEV)
			r = 0;
		if (r == 0)
			l->frozen = freeze;
		else
			result = error_set(e, r, "cannot %s the cgroup %s", freeze ? "freeze" : "thaw", l->path);
		if (result < 0 && freeze)
			return result; /* thawing goes on with the rest, whatever happens */
	}
	return result;
}

/* A cgroup that somebody froze: its tasks are all in our hands, so it may thaw while we inject. */
static void lift_users_freeze(struct migration *m, bool lift)
{
	for (size_t i = 0; i < m->n_leaves; i++) {
		struct leaf *l = &m->leaves[i];
		if (!l->affected || !l->by_user)
			continue;
		CLEANUP_FD int fd = open_leaf(m, l);
		int r = fd < 0 ? fd : cgroup_freeze(fd, !lift);
		if (r < 0 && r != -ENOENT)
			log_error("cannot %s the cgroup %s: %s", lift ? "thaw" : "freeze", l->path, strerror(-r));
	}
}

static int apply(struct task *t, uint64_t deadline_usec, struct error *e)
{
	if (!t->target)
		return 0; /* it has ended since */
	int r = inject_apply(t->target, t->changes, t->n, deadline_usec, e);
	while (t->n_done < t->n && t->changes[t->n_done].result == 0)
		t->n_done++;
	if (r == -ESRCH)
		return 0;
	return r < 0 ? error_prefix(e, "cannot migrate process %d", (int)t->pid) : 0;
}

static void take_back(struct migration *m, uint64_t deadline_usec)
{
	for (size_t i = 0; i < m->n_tasks; i++) {
		struct task *t = &m->tasks[i];
		struct error e;
		if (!t->target || t->n_done == 0)
			continue;
		if (inject_apply(t->target, t->inverse, t->n_done, deadline_usec, &e) < 0)
			log_error("process %d could not be put back: %s", (int)t->pid, e.text);
		t->n_done = 0;
	}
}

static void freeze_again(struct migration *m)
{
	struct error e;
	int r = cgroup_freeze(m->tree, true);

	if (r < 0)
		log_error("cannot freeze the tree again: %s", strerror(-r));
	else
		m->thawed = false;
	lift_users_freeze(m, false);
	if (freeze_others(m, false, &e) < 0)
		log_error("%s", e.text);
}

int migration_run(struct migration *m, uint64_t deadline_usec, struct error *e)
{
	int r = freeze_others(m, true, e);

	if (r == 0) {
		r = cgroup_freeze(m->tree, false);
		if (r < 0)
			(void)error_set(e, r, "cannot thaw the tree for the migration");
		else
			m->thawed = true;
		lift_users_freeze(m, true);
	}
	for (size_t i = 0; r == 0 && i < m->n_tasks; i++)
		r = apply(&m->tasks[i], deadline_usec, e);
	if (r < 0) {
		take_back(m, deadline_in(RELEASE_USEC * 4));
		freeze_again(m);
	}
	return r;
}

/* The end */

static void release_all(struct migration *m)
{
	for (size_t i = 0; i < m->n_seized; i++)
		limbo_release(m->seized[i]);
	m->n_seized = 0;
}

static void free_task(struct task *t)
{
	for (size_t i = 0; i < t->n; i++) {
		(void)fd_close(t->changes[i].fd);
		(void)fd_close(t->inverse[i].fd);
	}
	free(t->changes);
	free(t->inverse);
}

void migration_free(struct migration *m)
{
	struct error e;

	if (!m)
		return;
	if (m->thawed)
		lift_users_freeze(m, false);
	release_all(m);
	if (freeze_others(m, false, &e) < 0)
		log_error("%s", e.text);
	for (size_t i = 0; i < m->n_tasks; i++)
		free_task(&m->tasks[i]);
	for (size_t i = 0; i < m->n_leaves; i++)
		free(m->leaves[i].path);
	free(m->tasks);
	free(m->leaves);
	free(m->seized);
	free(m);
}
