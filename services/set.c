/* SPDX-License-Identifier: MIT */
#include "services/set.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "kernel/cgroup.h"
#include "kernel/log.h"
#include "kernel/util.h"
#include "services/catalog.h"
#include "services/instance.h"
#include "services/listen.h"
#include "services/policy.h"
#include "services/rotate.h"
#include "services/watchdog.h"

static bool stopping_all;
static void (*changed_hook)(void);
static struct loop_timer advance_timer;

enum mount_standing (*set_asks_mount)(const char *path, char *why, size_t size);

static void advance(struct loop_timer *t);

static void service_has_changed(struct service *s)
{
	(void)s;
	/* Not from within a service's own transition: at the loop's next turn, once for many. */
	if (!timer_armed(&advance_timer))
		timer_set(&advance_timer, clock_usec());
}

void set_look_again(void)
{
	service_has_changed(NULL);
}

void set_init(void (*changed)(void))
{
	changed_hook = changed;
	advance_timer.expired = advance;
	service_changed = service_has_changed;
	rotate_begin();
}

struct service *set_first(void)
{
	return catalog_first();
}

struct service *set_find(const char *name)
{
	return catalog_find(name);
}

/* Starting */

static bool idle(const struct service *s)
{
	return s->state == STATE_INACTIVE || s->state == STATE_FAILED || s->state == STATE_BACKOFF;
}

static void want(struct service *s);

/* What was edited since counts for them too; a broken edit is told, and they start as they were. */
static void reload_if_idle(struct service *s)
{
	struct error e;

	if (idle(s) && catalog_reload(s, &e) < 0)
		log_warning("%s", e.text);
}

static void want_names(char *const *names)
{
	for (; *names; names++) {
		struct service *s = catalog_find(*names);
		if (s && s->state != STATE_WAITING && (s->stop_queued || !service_is_active(s))) {
			reload_if_idle(s);
			want(s);
		}
	}
}

/* Bounded by the number of services: each becomes WAITING, or is marked, before it looks further.
 */
static void want(struct service *s)
{
	bool marked = s->restart_wanted, kept = s->stop_queued;

	s->stop_queued = false;
	if (idle(s))
		service_wait(s);
	else if (s->state != STATE_WAITING) /* whose turn comes when it comes */
		service_event(s, EVENT_START); /* on its way down: it comes back once it is there */
	if (!marked && (kept || s->state == STATE_WAITING || s->restart_wanted)) {
		want_names(s->unit->requires);
		want_names(s->unit->wants);
	}
}

int set_start(const char *name, struct error *e)
{
	bool known = catalog_find(name);
	struct service *s;
	int r = catalog_load(name, &s, e);

	if (r < 0)
		return r;
	if (stopping_all)
		return error_say(e, ESHUTDOWN, "cannot start %s: the system is going down", name);
	if (service_is_active(s) && !s->stop_queued)
		return 0;
	if (idle(s)) {
		if (known && (r = catalog_reload(s, e)) < 0)
			return r;
		s->backoff = 0;
	}
	want(s);
	return 0;
}

static bool is_pending(const struct service *s)
{
	return s->state == STATE_WAITING || s->state == STATE_CHECKING || s->state == STATE_PRE ||
	       s->state == STATE_STARTING || s->state == STATE_POST || s->restart_wanted;
}

static bool waits_for_another(const struct service *s)
{
	for (size_t i = 0; i < s->n_after; i++)
		if (is_pending(s->after[i]))
			return true;
	return false;
}

/* Only of those that it is ordered after: with the others it starts side by side. */
static const char *failed_requirement(const struct service *s)
{
	for (size_t i = 0; i < s->n_after; i++) {
		const struct service *o = s->after[i];
		if ((o->state == STATE_FAILED || o->state == STATE_BACKOFF) &&
			strings_contain(s->unit->requires, o->unit->name))
			return o->unit->name;
	}
	return NULL;
}

/* The worst of them, and why. */
static enum mount_standing ask_mounts(const struct service *s, char *why, size_t size)
{
	enum mount_standing worst = MOUNT_THERE;

	for (char **path = s->unit->mounts_for; set_asks_mount && *path && worst != MOUNT_FAILED;
		path++) {
		enum mount_standing standing = set_asks_mount(*path, why, size);
		worst = standing > worst ? standing : worst;
	}
	return worst;
}

static void wait_for_mount(struct service *s, const char *why)
{
	if (strcmp(s->why, why) == 0)
		return;
	(void)snprintf(s->why, sizeof(s->why), "%s", why);
	log_notice("%s: %s", s->unit->name, why);
}

static void advance_start(struct service *s)
{
	const char *failed;
	char why[sizeof(s->why)] = "";

	if (waits_for_another(s))
		return;
	failed = failed_requirement(s);
	if (failed) {
		(void)snprintf(why, sizeof(why), "%s, which it Requires=, has failed", failed);
		service_fail_dependency(s, why);
		return;
	}
	switch (ask_mounts(s, why, sizeof(why))) {
	case MOUNT_THERE:
		service_event(s, EVENT_START);
		return;
	case MOUNT_AWAITED:
		wait_for_mount(s, why);
		return;
	case MOUNT_FAILED:
		service_fail_dependency(s, why);
		return;
	}
}

/* Stopping */

static bool must_wait_to_stop(const struct service *s)
{
	for (size_t i = 0; i < s->n_before; i++) {
		const struct service *o = s->before[i];
		if (!service_is_down(o) && (o->stop_queued || o->stop_wanted))
			return true;
	}
	return false;
}

static void advance_stop(struct service *s)
{
	if (must_wait_to_stop(s))
		return;
	s->stop_queued = false;
	s->restart_wanted = false;
	s->backoff = 0;
	/* Nobody is to queue for what is meant to be gone. What the service itself still holds, it
	 * may serve. */
	listen_close(s);
	service_event(s, EVENT_STOP);
}

static void advance(struct loop_timer *t)
{
	(void)t;
	for (struct service *s = catalog_first(); s; s = s->next) {
		if (s->stop_queued)
			advance_stop(s);
		else if (s->state == STATE_WAITING)
			advance_start(s);
	}
	if (changed_hook)
		changed_hook();
}

static void queue_stop(struct service *s)
{
	if (service_is_down(s) || s->stop_queued)
		return;
	s->stop_queued = true;
	service_has_changed(s);
	for (struct service *o = catalog_first(); o; o = o->next)
		if (strings_contain(o->unit->requires, s->unit->name))
			queue_stop(o);
}

static struct service *find_or_error(const char *name, struct error *e)
{
	struct service *s = set_find(name);

	if (!s)
		(void)error_say(e, ENOENT, "no service %s is loaded (`initctl` lists them)", name);
	return s;
}

int set_stop(const char *name, struct error *e)
{
	struct service *s = find_or_error(name, e);

	if (!s)
		return -ENOENT;
	queue_stop(s);
	return 0;
}

int set_restart(const char *name, struct error *e)
{
	struct service *s = set_find(name);
	int r;

	if (!s || idle(s))
		return set_start(name, e);
	if (stopping_all)
		return error_say(e, ESHUTDOWN, "cannot restart %s: the system is going down", name);
	r = catalog_reload(s, e);
	if (r < 0)
		return error_prefix(e, "not restarted, it goes on as it is");
	if (s->state == STATE_WAITING)
		return 0;
	s->stop_queued = false;
	service_event(s, EVENT_STOP);
	if (service_is_down(s))
		return set_start(name, e);
	s->restart_wanted = true;
	return 0;
}

int set_reload(const char *name, struct error *e)
{
	struct service *s = find_or_error(name, e);

	if (!s)
		return -ENOENT;
	if (s->state != STATE_RUNNING)
		return error_say(e, EINVAL, "cannot reload %s: it is %s", s->unit->name,
			service_state_name(s->state));
	if (s->unit->exec_reload.count == 0 && s->unit->type != SERVICE_NOTIFY_RELOAD)
		return error_say(e, EINVAL,
			"cannot reload %s: %s has no ExecReload=", s->unit->name, s->unit->source);
	service_event(s, EVENT_RELOAD);
	return 0;
}

void set_stop_all(void)
{
	stopping_all = true;
	for (struct service *s = catalog_first(); s; s = s->next)
		if (!service_is_down(s))
			s->stop_queued = true;
	timer_set(&advance_timer, clock_usec());
}

bool set_all_down(void)
{
	for (struct service *s = catalog_first(); s; s = s->next)
		if (!service_is_down(s))
			return false;
	return true;
}

void set_kill_all(void)
{
	int r = cgroup_kill(world.tree);

	int storage = world.storage_path ? cgroup_kill(world.storage) : 0;

	r = r < 0 ? r : storage;
	if (r < 0)
		log_error("cannot kill what is left: %s", strerror(-r));
}

/* What follows "PREFIX/"; NULL: it is not below that. */
static char *below(char *path, const char *prefix)
{
	size_t n = strlen(prefix);

	return strncmp(path, prefix, n) == 0 && path[n] == '/' ? path + n + 1 : NULL;
}

/* NAME/NUMBER or deeper. */
static struct service *find_instance(char *path, unsigned *ret_instance)
{
	char *number = strchr(path, '/');
	uint64_t value;

	if (!number)
		return NULL;
	*number++ = '\0';
	number[strcspn(number, "/")] = '\0';
	if (!parse_u64(number, &value))
		return NULL;
	*ret_instance = (unsigned)value;
	return set_find(path);
}

/* In the tree, or in the cgroup of system storage. */
static struct service *of_pid(pid_t pid, unsigned *ret_instance)
{
	char path[1024];
	char *name;

	if (cgroup_of_pid(pid, path, sizeof(path)) < 0)
		return NULL;
	name = below(path, world.tree_path);
	if (!name && world.storage_path)
		name = below(path, world.storage_path);
	return name ? find_instance(name, ret_instance) : NULL;
}

/* -EBUSY: it is not dead, or that cannot be told. */
static int of_dead(int pidfd, struct service **ret, unsigned *ret_instance)
{
	char path[1024];
	int r = pidfd < 0 ? -EBUSY : cgroup_of_dead(pidfd, world.tree, path, sizeof(path));

	if (r == -EXDEV && world.storage_path)
		r = cgroup_of_dead(pidfd, world.storage, path, sizeof(path));
	if (r == -EBUSY || r == -ENOTSUP)
		return -EBUSY;
	*ret = r == 0 ? find_instance(path, ret_instance) : NULL;
	return 0;
}

struct service *set_of_sender(pid_t pid, int pidfd, unsigned *ret_instance)
{
	struct service *s;

	/* First: its number may be a stranger's by now. And again: it may have ended meanwhile. */
	if (of_dead(pidfd, &s, ret_instance) == 0)
		return s;
	s = pid > 0 ? of_pid(pid, ret_instance) : NULL;
	if (!s && of_dead(pidfd, &s, ret_instance) < 0)
		s = NULL;
	return s;
}

/* State */

void set_settle(void)
{
	for (struct service *s = catalog_first(); s; s = s->next)
		policy_ask_to_drain(s);
}

void set_save(struct record_writer *w)
{
	for (struct service *s = catalog_first(); s; s = s->next) {
		record_begin(w, "service", s->unit->name);
		service_save(s, w);
		record_end(w);
	}
}

static bool strict;

void set_be_strict(void)
{
	strict = true;
}

int set_load_record(const struct record *r, struct error *e)
{
	struct service *s;
	const char *state = record_get(r, "state");
	bool is_down = !state || strcmp(state, "inactive") == 0 || strcmp(state, "failed") == 0;
	int result = catalog_adopt(r->id, is_down || !strict, &s, e);

	return result < 0 ? result : service_load(s, r, e);
}

int set_load_fork(const struct record *r, struct error *e)
{
	struct service *s = catalog_find(r->id);

	/* Loaded and started in the same turn: the start is for whoever asked to ask again. */
	return s ? service_load_fork(s, r, e) : 0;
}

void set_each_fd(int (*visit)(int fd))
{
	for (struct service *s = catalog_first(); s; s = s->next)
		service_each_fd(s, visit);
}

void set_resume(bool crashed)
{
	catalog_complete();
	for (struct service *s = catalog_first(); s; s = s->next) {
		service_resume(s, crashed);
		policy_resume(s);
		instance_sweep(s);
	}
	watchdog_rearm_all();
	timer_set(&advance_timer, clock_usec());
}
