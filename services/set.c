/* SPDX-License-Identifier: MIT */
#include "services/set.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/cgroup.h"
#include "kernel/log.h"
#include "kernel/util.h"
#include "services/graph.h"
#include "services/instance.h"
#include "services/policy.h"

/* More than any machine runs; what bounds a circle of generated names. */
#define SERVICES_MAX 4096

static struct service *first;
static size_t count;
static bool stopping_all;
static void (*changed_hook)(void);
static struct loop_timer advance_timer;

static void advance(struct loop_timer *t);

static void service_has_changed(struct service *s)
{
	(void)s;
	/* Not from within a service's own transition: at the loop's next turn, once for many. */
	if (!timer_armed(&advance_timer))
		timer_set(&advance_timer, clock_usec());
}

void set_init(void (*changed)(void))
{
	changed_hook = changed;
	advance_timer.expired = advance;
	service_changed = service_has_changed;
}

struct service *set_first(void)
{
	return first;
}

static bool same_name(const char *full, const char *asked)
{
	size_t length = strlen(asked);

	return strcmp(full, asked) == 0 || (strncmp(full, asked, length) == 0 && strcmp(full + length, ".service") == 0);
}

struct service *set_find(const char *name)
{
	for (struct service *s = first; s; s = s->next)
		if (same_name(s->unit->name, name))
			return s;
	return NULL;
}

static void insert(struct service *s)
{
	struct service **at = &first;

	while (*at && strcmp((*at)->unit->name, s->unit->name) < 0)
		at = &(*at)->next;
	s->next = *at;
	*at = s;
	count++;
}

static void warn_unit(void *userdata, const char *text)
{
	(void)userdata;
	log_warning("%s", text);
}

static int load_unit(const char *name, struct unit **ret, struct error *e)
{
	int r = unit_load(ret, AT_FDCWD, UNIT_PATH, name, warn_unit, NULL, e);

	if (r < 0)
		return r;
	if (!(*ret)->timeout_start_set && (*ret)->type != SERVICE_ONESHOT)
		(*ret)->timeout_start_usec = world.timeout_start_usec;
	if (!(*ret)->timeout_stop_set)
		(*ret)->timeout_stop_usec = world.timeout_stop_usec;
	return 0;
}

static void report_circle(const struct unit *u, void *userdata)
{
	(void)userdata;
	log_warning("%s: After= and Before= go round in circles; %s goes first", u->source, u->name);
}

static int rank_all(struct error *e)
{
	const struct unit **units = calloc(count ? count : 1, sizeof(*units));
	unsigned *rank = calloc(count ? count : 1, sizeof(*rank));
	size_t n = 0;
	int r = units && rank ? 0 : -ENOMEM;

	for (struct service *s = first; r == 0 && s; s = s->next)
		units[n++] = s->unit;
	if (r == 0)
		r = graph_rank(units, n, rank, report_circle, NULL);
	n = 0;
	for (struct service *s = first; r == 0 && s; s = s->next)
		s->order = rank[n++];
	free(units);
	free(rank);
	return r < 0 ? error_set(e, r, "cannot order the services") : 0;
}

static int load_one(const char *name, struct service **ret, struct error *e)
{
	struct unit *u;

	if (count >= SERVICES_MAX)
		return error_say(e, ENOSPC, "cannot load %s: there are %d services already", name, SERVICES_MAX);
	int r = load_unit(name, &u, e);
	if (r < 0)
		return r;
	struct service *s = service_new(u);
	if (!s)
		return error_set(e, ENOMEM, "cannot load %s", name);
	insert(s);
	*ret = s;
	return 0;
}

/* Units that exist for their ordering alone; with nothing to start they count as reached. */
static bool is_service_name(const char *name)
{
	const char *dot = strrchr(name, '.');

	return !dot || strcmp(dot, ".service") == 0;
}

static int load_wanted(char *const *names, bool required, struct error *e)
{
	for (; *names; names++) {
		struct error inner;
		struct service *s;
		if (!is_service_name(*names) || set_find(*names))
			continue;
		int r = load_one(*names, &s, &inner);
		if (r < 0 && required)
			return error_say(e, r, "%s", inner.text);
		if (r < 0 && r != -ENOENT)
			log_warning("%s", inner.text);
	}
	return 0;
}

/* Breadth first over the growing list: no recursion on what files say. */
static int load_dependencies(struct error *e)
{
	size_t before;

	do {
		before = count;
		for (struct service *s = first; s; s = s->next) {
			int r = load_wanted(s->unit->wants, false, e);
			if (r == 0)
				r = load_wanted(s->unit->requires, true, e);
			if (r < 0)
				return error_prefix(e, "%s needs a service that cannot be loaded", s->unit->name);
		}
	} while (count > before);
	return 0;
}

int set_load(const char *name, struct service **ret, struct error *e)
{
	struct service *s = set_find(name);

	if (!s) {
		int r = load_one(name, &s, e);
		if (r == 0)
			r = load_dependencies(e);
		if (r == 0)
			r = rank_all(e);
		if (r < 0)
			return r;
	}
	if (ret)
		*ret = s;
	return 0;
}

/* What was edited since counts from the next start on; a broken edit leaves what runs as it is. */
static int reload_unit(struct service *s, struct error *e)
{
	struct unit *u;
	int r = load_unit(s->unit->name, &u, e);

	if (r < 0)
		return r;
	unit_free(s->unit);
	s->unit = u;
	r = load_dependencies(e);
	return r < 0 ? r : rank_all(e);
}

/* Starting */

static bool idle(const struct service *s)
{
	return s->state == STATE_INACTIVE || s->state == STATE_FAILED || s->state == STATE_BACKOFF;
}

static void want(struct service *s);

static void want_names(char *const *names)
{
	for (; *names; names++) {
		struct service *s = set_find(*names);
		if (s && idle(s))
			want(s);
	}
}

/* Bounded by the number of services: each becomes WAITING before it looks further. */
static void want(struct service *s)
{
	s->stop_queued = false;
	service_wait(s);
	want_names(s->unit->requires);
	want_names(s->unit->wants);
}

int set_start(const char *name, struct error *e)
{
	struct service *s;
	bool known = set_find(name);
	int r = set_load(name, &s, e);

	if (r < 0)
		return r;
	if (stopping_all)
		return error_say(e, ESHUTDOWN, "cannot start %s: the system is going down", name);
	if (idle(s)) {
		if (known && (r = reload_unit(s, e)) < 0)
			return r;
		want(s);
	} else if (!service_is_active(s)) {
		s->stop_queued = false;
		service_event(s, EVENT_START);
	}
	return 0;
}

static bool is_pending(const struct service *s)
{
	return s->state == STATE_WAITING || s->state == STATE_PRE || s->state == STATE_STARTING ||
		s->state == STATE_POST || s->restart_wanted;
}

static bool waits_for_another(const struct service *s)
{
	for (const struct service *o = first; o; o = o->next)
		if (o->order < s->order && is_pending(o) && graph_is_after(s->unit, o->unit))
			return true;
	return false;
}

static const char *failed_requirement(const struct service *s)
{
	for (char **name = s->unit->requires; *name; name++) {
		struct service *o = set_find(*name);
		bool ordered = o && graph_is_after(s->unit, o->unit);
		if (o && ordered && (o->state == STATE_FAILED || o->state == STATE_BACKOFF))
			return o->unit->name;
	}
	return NULL;
}

static void advance_start(struct service *s)
{
	const char *failed;

	if (waits_for_another(s))
		return;
	failed = failed_requirement(s);
	if (failed)
		service_fail_dependency(s, failed);
	else
		service_event(s, EVENT_START);
}

/* Stopping */

static bool must_wait_to_stop(const struct service *s)
{
	for (const struct service *o = first; o; o = o->next)
		if (o->order > s->order && !service_is_down(o) && (o->stop_queued || o->stop_wanted) &&
			graph_is_after(o->unit, s->unit))
			return true;
	return false;
}

static void advance_stop(struct service *s)
{
	if (must_wait_to_stop(s))
		return;
	s->stop_queued = false;
	s->restart_wanted = false;
	service_event(s, EVENT_STOP);
}

static void advance(struct loop_timer *t)
{
	(void)t;
	for (struct service *s = first; s; s = s->next) {
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
	for (struct service *o = first; o; o = o->next)
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
	r = reload_unit(s, e);
	if (r < 0)
		return error_prefix(e, "not restarted, it goes on as it is");
	if (s->state == STATE_WAITING)
		return 0;
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
		return error_say(e, EINVAL, "cannot reload %s: it is %s", s->unit->name, service_state_name(s->state));
	if (s->unit->exec_reload.count == 0)
		return error_say(e, EINVAL, "cannot reload %s: %s has no ExecReload=", s->unit->name, s->unit->source);
	service_event(s, EVENT_RELOAD);
	return 0;
}

void set_stop_all(void)
{
	stopping_all = true;
	for (struct service *s = first; s; s = s->next)
		if (!service_is_down(s))
			s->stop_queued = true;
	timer_set(&advance_timer, clock_usec());
}

bool set_all_down(void)
{
	for (struct service *s = first; s; s = s->next)
		if (!service_is_down(s))
			return false;
	return true;
}

void set_kill_all(void)
{
	int r = cgroup_kill(world.tree);

	if (r < 0)
		log_error("cannot kill what is left: %s", strerror(-r));
}

/* TREE/NAME/NUMBER or deeper. */
struct service *set_of_pid(pid_t pid, unsigned *ret_instance)
{
	char path[1024];
	size_t prefix = strlen(world.tree_path);
	char *name, *number;
	uint64_t value;

	if (cgroup_of_pid(pid, path, sizeof(path)) < 0 || strncmp(path, world.tree_path, prefix) != 0 ||
		path[prefix] != '/')
		return NULL;
	name = path + prefix + 1;
	number = strchr(name, '/');
	if (!number)
		return NULL;
	*number++ = '\0';
	number[strcspn(number, "/")] = '\0';
	if (!parse_u64(number, &value))
		return NULL;
	*ret_instance = (unsigned)value;
	return set_find(name);
}

/* State */

void set_save(struct record_writer *w)
{
	for (struct service *s = first; s; s = s->next) {
		record_begin(w, "service", s->unit->name);
		service_save(s, w);
		record_end(w);
	}
}

/* A service whose file has gone from the image still runs: keep it in hand, with what every unit has. */
static int load_bare(const char *name, struct service **ret, struct error *e)
{
	static const char text[] = "[Service]\nExecStart=/bin/false\n[Upgrade]\nPolicy=keep\n";
	struct unit *u;

	int r = unit_parse(&u, name, "(no file)", text, sizeof(text) - 1, warn_unit, NULL, e);
	if (r < 0)
		return r;
	struct service *s = service_new(u);
	if (!s)
		return error_set(e, ENOMEM, "cannot keep %s", name);
	insert(s);
	*ret = s;
	return 0;
}

int set_load_record(const struct record *r, struct error *e)
{
	struct service *s = NULL;
	int result = load_one(r->id, &s, e);

	if (result < 0) {
		log_warning("%s; it is kept as it runs", e->text);
		result = load_bare(r->id, &s, e);
	}
	return result < 0 ? result : service_load(s, r, e);
}

void set_each_fd(int (*visit)(int fd))
{
	for (struct service *s = first; s; s = s->next)
		service_each_fd(s, visit);
}

void set_resume(void)
{
	struct error e;

	if (load_dependencies(&e) < 0 || rank_all(&e) < 0)
		log_warning("%s", e.text);
	for (struct service *s = first; s; s = s->next)
		policy_resume(s);
	timer_set(&advance_timer, clock_usec());
}
