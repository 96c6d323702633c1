/* SPDX-License-Identifier: MIT */
#include "init/late_mounts.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/uevent.h"
#include "init/device_wait.h"
#include "init/fstab.h"
#include "init/keep.h"
#include "init/system.h"
#include "kernel/cgroup.h"
#include "kernel/identity.h"
#include "kernel/log.h"
#include "kernel/loop.h"
#include "kernel/process.h"
#include "kernel/util.h"
#include "services/set.h"

#define TEXT_MAX (1024 * 1024)
/* Messages in one turn of the loop; the rest is there in the next. */
#define MESSAGES_MAX 64

struct late {
	char *source, *target; /* as in fstab; the target of swap is no path. NULL: none is here */
	bool failed; /* its device came, and that was all */
	bool again; /* something has happened since the worker began to look */
	struct process worker;
	pid_t worker_before; /* of the life before, until late_mounts_resume() */
};

static struct late late[LATE_MOUNTS_MAX];
static int notes_fd = -1; /* where the child of the stage notes them */
static struct loop_source appearances = {.fd = -1}, uevents = {.fd = -1};
static struct loop_timer again_timer;
static bool again_told;

static void look_at(struct late *l);
static void look_again(struct loop_timer *t);

/* That place itself as well; not where it is none, as of swap. */
static bool is_at_or_below(const char *path, const char *place)
{
	size_t n = strlen(place);

	while (n > 0 && place[n - 1] == '/')
		n--;
	return place[0] == '/' && strncmp(path, place, n) == 0 &&
	       (path[n] == '\0' || path[n] == '/');
}

static struct late *find_cover(const char *path, const struct late *but)
{
	for (size_t i = 0; i < LATE_MOUNTS_MAX; i++)
		if (late[i].target && &late[i] != but && is_at_or_below(path, late[i].target))
			return &late[i];
	return NULL;
}

bool late_mounts_are_below(const char *source, const char *target)
{
	const struct late *own = NULL;

	for (size_t i = 0; i < LATE_MOUNTS_MAX && !own; i++)
		if (late[i].target && strcmp(late[i].source, source) == 0 &&
			strcmp(late[i].target, target) == 0)
			own = &late[i];
	return find_cover(target, own) ||
	       (source[0] == '/' && !starts_with(source, "/dev/") && find_cover(source, own));
}

/* Taking them */

static void drop(struct late *l)
{
	free(l->source);
	free(l->target);
	l->source = l->target = NULL;
	l->failed = false;
}

static struct late *add(const char *source, const char *target)
{
	for (size_t i = 0; i < LATE_MOUNTS_MAX; i++) {
		struct late *l = &late[i];
		if (l->target)
			continue;
		*l = (struct late){.source = strdup(source), .target = strdup(target)};
		if (l->source && l->target)
			return l;
		drop(l);
		break;
	}
	log_error("%s on %s will not be mounted when it appears: %s", source, target,
		strerror(ENOMEM));
	return NULL;
}

void late_mounts_prepare(void)
{
	for (size_t i = 0; i < LATE_MOUNTS_MAX; i++)
		drop(&late[i]);
	if (notes_fd < 0)
		notes_fd = memfd_create("molt-late", MFD_CLOEXEC);
	else if (ftruncate(notes_fd, 0) < 0)
		notes_fd = fd_close(notes_fd);
	keep_now(); /* a life that hears of the child has to know that descriptor */
}

/* Into the child's own list as well: what comes after it in fstab may lie below. */
void late_mounts_note(const char *source, const char *target)
{
	struct record_writer w = {0};

	record_begin(&w, "late", target);
	record_text(&w, "source", source);
	record_end(&w);
	if (!w.error && notes_fd >= 0 && add(source, target) &&
		write(notes_fd, w.text, w.length) != (ssize_t)w.length)
		log_warning("%s on %s will not be mounted when it appears: %s", source, target,
			strerror(errno));
	record_writer_done(&w);
}

static void take_all(const char *text, size_t length)
{
	struct record_reader *reader;
	struct record r;

	if (record_reader_new(&reader, text, length) < 0)
		return;
	while (record_next(reader, &r) == 1)
		late_mounts_load(&r);
	record_reader_free(reader);
}

void late_mounts_take(bool wanted)
{
	struct stat st;

	if (wanted && notes_fd >= 0 && fstat(notes_fd, &st) == 0 && st.st_size > 0 &&
		st.st_size < TEXT_MAX) {
		CLEANUP_FREE char *text = malloc((size_t)st.st_size);
		if (text && pread(notes_fd, text, (size_t)st.st_size, 0) == st.st_size)
			take_all(text, (size_t)st.st_size);
		else
			log_error("cannot read which devices are still to come");
	}
	notes_fd = fd_close(notes_fd);
	keep_now(); /* from here on nobody else knows of them */
}

/* Listening */

#define AGAIN_USEC (2 * USEC_PER_SEC)

/* What there was no memory or descriptor for is tried again, and told once until it worked. */
static void try_again(const char *what, int error)
{
	log_line(again_told ? LEVEL_DEBUG : LEVEL_WARNING, "cannot %s yet: %s", what,
		strerror(error));
	again_told = true;
	again_timer.expired = look_again;
	timer_set(&again_timer, deadline_in(AGAIN_USEC));
}

static void stop_listening(struct loop_source *s)
{
	int fd = s->fd;

	if (fd < 0)
		return;
	loop_remove(s);
	(void)fd_close(fd);
}

static bool any_awaited(void)
{
	for (size_t i = 0; i < LATE_MOUNTS_MAX; i++)
		if (late[i].target && !late[i].failed)
			return true;
	return false;
}

static void watch_ways(void)
{
	for (size_t i = 0; appearances.fd >= 0 && i < LATE_MOUNTS_MAX; i++)
		if (late[i].target && !late[i].failed)
			device_watch_way(appearances.fd, late[i].source);
}

static void look_at_all(void)
{
	watch_ways(); /* first to watch, then to look */
	for (size_t i = 0; i < LATE_MOUNTS_MAX; i++)
		if (late[i].target && !late[i].failed)
			look_at(&late[i]);
}

static void appeared(struct loop_source *s, uint32_t events)
{
	char buf[8192] __attribute__((aligned(8)));
	unsigned n = 0;

	(void)events;
	while (n++ < MESSAGES_MAX && read(s->fd, buf, sizeof(buf)) > 0)
		; /* what it was is found out by looking */
	look_at_all();
}

static void uevent_came(struct loop_source *s, uint32_t events)
{
	char buf[8192];
	bool matters = false;
	ssize_t n;

	(void)events;
	for (unsigned i = 0; i < MESSAGES_MAX; i++) {
		n = recv(s->fd, buf, sizeof(buf), MSG_DONTWAIT);
		/* ENOBUFS: some were lost. */
		if (n < 0 && errno != EINTR && errno != ENOBUFS)
			break;
		matters = matters || n < 0 || uevent_is_of_disk(buf, (size_t)n);
	}
	if (matters)
		look_at_all();
}

static void listen_to(
	struct loop_source *s, int fd, void (*ready)(struct loop_source *s, uint32_t events))
{
	s->ready = ready;
	int r = fd < 0 ? -errno : loop_add(s, fd, EPOLLIN);
	if (r < 0) {
		(void)fd_close(fd);
		try_again("hear of devices that appear", -r);
	}
}

static void listen_while_awaited(void)
{
	if (!any_awaited()) {
		stop_listening(&appearances);
		stop_listening(&uevents);
		return;
	}
	if (appearances.fd < 0)
		listen_to(&appearances, inotify_init1(IN_CLOEXEC | IN_NONBLOCK), appeared);
	if (uevents.fd < 0)
		listen_to(&uevents, device_open_uevents(), uevent_came);
}

/* Looking */

static void done(struct late *l)
{
	drop(l);
	listen_while_awaited();
	set_look_again();
	look_at_all(); /* what lies below it */
}

static void fail(struct late *l)
{
	l->failed = true;
	listen_while_awaited();
	set_look_again();
}

static void name_cgroup(const struct late *l, char *buf, size_t size)
{
	(void)snprintf(buf, size, "late-mount-%zu", (size_t)(l - late));
}

static int make_cgroup(const struct late *l)
{
	char name[32];

	name_cgroup(l, name, sizeof(name));
	return cgroup_make(sys.tree, name);
}

static int move_out(pid_t pid, void *userdata)
{
	char text[16];

	(void)userdata;
	(void)snprintf(text, sizeof(text), "%d", (int)pid);
	int r = file_write(sys.cgroup, "cgroup.procs", text);
	if (r < 0 && r != -ESRCH)
		log_warning("process %s backs a mount and will freeze with the tree: %s", text,
			strerror(-r));
	return 0;
}

/* The daemon of a file system in user space goes where those are that the boot has mounted: PID 1
 * would wait for it for ever where it is frozen. */
static void empty_cgroup(const struct late *l)
{
	char name[32];

	CLEANUP_FD int cgroup = make_cgroup(l);
	if (cgroup >= 0)
		(void)cgroup_each_process(cgroup, move_out, NULL);
	name_cgroup(l, name, sizeof(name));
	(void)cgroup_remove(sys.tree, name);
}

static void worker_exited(struct process *p, const struct process_exit *ended)
{
	struct late *l = CONTAINER_OF(p, struct late, worker);
	bool again = l->again || !ended->known;

	l->again = false;
	empty_cgroup(l);
	if (!l->target)
		return;
	if (ended->known && !ended->signal && ended->status == FSTAB_LATE_DONE)
		done(l);
	else if (ended->known && !ended->signal && ended->status == FSTAB_LATE_FAILED)
		fail(l);
	else if (again)
		look_at(l);
}

static void __attribute__((noreturn)) work(const struct late *l)
{
	/* Nothing of PID 1's is to be held by a process that lives in the tree. */
	log_close_others();
	_exit(fstab_mount_late(l->source, l->target));
}

static void look_at(struct late *l)
{
	int pidfd;

	if (sys.state != SYSTEM_RUNNING || late_mounts_are_below(l->source, l->target))
		return;
	if (l->worker.pid) {
		l->again = true;
		return;
	}
	CLEANUP_FD int cgroup = make_cgroup(l);
	pid_t pid = cgroup < 0 ? cgroup : process_fork(cgroup, &pidfd);
	if (pid == 0)
		work(l);
	l->worker.exited = worker_exited;
	int r = pid < 0 ? (int)pid : process_watch(&l->worker, pid, pidfd);
	if (r < 0)
		try_again("look for devices that are to be mounted", -r);
	else
		again_told = false;
	keep_now(); /* no second one beside it: two would get into each other's way */
}

static void look_again(struct loop_timer *t)
{
	(void)t;
	late_mounts_begin();
}

static enum mount_standing stands(const char *path, char *why, size_t size)
{
	const struct late *l = find_cover(path, NULL);

	if (!l)
		return MOUNT_THERE;
	(void)snprintf(why, size,
		l->failed ? "%s could not be mounted on %s" : "waiting for %s, to be mounted on %s",
		l->source, l->target);
	return l->failed ? MOUNT_FAILED : MOUNT_AWAITED;
}

void late_mounts_begin(void)
{
	set_asks_mount = stands;
	listen_while_awaited();
	look_at_all();
}

void late_mounts_retry(void)
{
	for (size_t i = 0; i < LATE_MOUNTS_MAX; i++)
		late[i].failed = false;
	late_mounts_begin();
}

/* State */

void late_mounts_save(struct record_writer *w)
{
	for (size_t i = 0; i < LATE_MOUNTS_MAX; i++) {
		const struct late *l = &late[i];
		if (!l->target)
			continue;
		record_begin(w, "late", l->target);
		record_text(w, "source", l->source);
		record_bool(w, "failed", l->failed);
		record_int(w, "pid", l->worker.pid);
		record_end(w);
	}
}

void late_mounts_load(const struct record *r)
{
	const char *source = record_get(r, "source");
	struct late *l = source ? add(source, r->id) : NULL;

	if (!l)
		return;
	l->failed = record_get_bool(r, "failed", false);
	l->worker_before = (pid_t)record_get_int(r, "pid", 0);
}

void late_mounts_resume(void)
{
	for (size_t i = 0; i < LATE_MOUNTS_MAX; i++) {
		struct late *l = &late[i];
		pid_t pid = l->worker_before;
		l->worker_before = 0;
		l->worker.exited = worker_exited;
		if (l->target && pid && process_adopt(&l->worker, pid, -1, true) < 0)
			log_debug("whoever looked for %s is gone", l->source);
	}
	late_mounts_begin();
}

void late_mounts_save_stage(struct record_writer *w)
{
	record_int(w, "late_fd", notes_fd);
}

void late_mounts_load_stage(const struct record *r)
{
	notes_fd = identity_take((int)record_get_int(r, "late_fd", -1));
}

void late_mounts_each_fd(int (*visit)(int fd))
{
	if (notes_fd >= 0)
		(void)visit(notes_fd);
}
