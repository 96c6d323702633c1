/* SPDX-License-Identifier: MIT */
#include "services/catalog.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/log.h"
#include "kernel/util.h"
#include "services/graph.h"

/* More than any machine runs; what bounds a circle of generated names. */
#define SERVICES_MAX 4096

static struct service *by_name[SERVICES_MAX]; /* sorted; the list in ->next has the same order */
static size_t count;

struct service *catalog_first(void)
{
	return count ? by_name[0] : NULL;
}

/* Where a unit of that full name is, or would have to be put in. */
static size_t place_of(const char *full)
{
	size_t low = 0, high = count;

	while (low < high) {
		size_t middle = (low + high) / 2;
		if (strcmp(by_name[middle]->unit->name, full) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct service *find_full(const char *full)
{
	size_t at = place_of(full);

	return at < count && strcmp(by_name[at]->unit->name, full) == 0 ? by_name[at] : NULL;
}

struct service *catalog_find(const char *name)
{
	char full[300];

	if (ends_with(name, ".service"))
		return find_full(name);
	if (strlen(name) + sizeof(".service") > sizeof(full))
		return NULL;
	(void)stpcpy(stpcpy(full, name), ".service");
	return find_full(full);
}

static void relink(size_t from)
{
	for (size_t i = from; i < count; i++)
		by_name[i]->next = i + 1 < count ? by_name[i + 1] : NULL;
}

static void insert(struct service *s)
{
	size_t at = place_of(s->unit->name);

	memmove(by_name + at + 1, by_name + at, (count - at) * sizeof(*by_name));
	by_name[at] = s;
	count++;
	relink(at > 0 ? at - 1 : 0);
}

static void take_out(struct service *s)
{
	size_t at = place_of(s->unit->name);

	count--;
	memmove(by_name + at, by_name + at + 1, (count - at) * sizeof(*by_name));
	relink(at > 0 ? at - 1 : 0);
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

/* Order */

static void report_circle(const struct unit *u, void *userdata)
{
	struct service *s = find_full(u->name);

	(void)userdata;
	if (s->circle_told)
		return;
	s->circle_told = true;
	log_warning(
		"%s: After= and Before= go round in circles; %s goes first", u->source, u->name);
}

static int append_edge(struct service ***list, size_t *n, struct service *s)
{
	struct service **grown = reallocarray(*list, *n + 1, sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	grown[(*n)++] = s;
	*list = grown;
	return 0;
}

static int take_edges(const struct graph *g, size_t i)
{
	struct service *s = by_name[i];
	int r = 0;

	s->order = g->rank[i];
	for (size_t k = g->first[i]; r == 0 && k < g->first[i + 1]; k++) {
		struct service *earlier = by_name[g->after[k]];
		r = append_edge(&s->after, &s->n_after, earlier);
		if (r == 0)
			r = append_edge(&earlier->before, &earlier->n_before, s);
	}
	return r;
}

static int rank_all(struct error *e)
{
	const struct unit **units = calloc(count + 1, sizeof(*units));
	struct graph g = {0};
	int r = -ENOMEM;

	for (size_t i = 0; i < count; i++) {
		by_name[i]->n_after = by_name[i]->n_before = 0;
		if (units)
			units[i] = by_name[i]->unit;
	}
	if (units)
		r = graph_build(&g, units, count, report_circle, NULL);
	for (size_t i = 0; r == 0 && i < count; i++)
		r = take_edges(&g, i);
	graph_free(&g);
	free(units);
	return r < 0 ? error_set(e, r, "cannot order the services") : 0;
}

/* Loading */

static int load_one(const char *name, struct service **ret, struct error *e)
{
	struct unit *u;

	if (count >= SERVICES_MAX)
		return error_say(e, ENOSPC, "cannot load %s: there are %d services already", name,
			SERVICES_MAX);
	int r = load_unit(name, &u, e);
	if (r < 0)
		return r;
	struct service *s = service_new(u);
	if (!s)
		return error_set(e, ENOMEM, "cannot load %s", name);
	s->is_new = true;
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

static void load_names(char *const *names, bool required)
{
	for (; *names; names++) {
		struct error e;
		struct service *s;
		if (!is_service_name(*names) || catalog_find(*names))
			continue;
		int r = load_one(*names, &s, &e);
		if (r < 0 && (required || r != -ENOENT))
			log_warning("%s", e.text);
	}
}

static struct service *next_incomplete(void)
{
	for (size_t i = 0; i < count; i++)
		if (!by_name[i]->needs_loaded)
			return by_name[i];
	return NULL;
}

/* Once for each service: no recursion on what files say, and no looking twice for a file that is
 * not there. */
static void load_needs(void)
{
	struct service *s;

	while ((s = next_incomplete())) {
		s->needs_loaded = true;
		load_names(s->unit->wants, false);
		load_names(s->unit->requires, true);
	}
}

static const char *missing_requirement(const struct service *s)
{
	for (char **name = s->unit->requires; *name; name++)
		if (is_service_name(*name) && !catalog_find(*name))
			return *name;
	return NULL;
}

static struct service *next_unmet(void)
{
	for (size_t i = 0; i < count; i++)
		if (by_name[i]->is_new && missing_requirement(by_name[i]))
			return by_name[i];
	return NULL;
}

static void drop(struct service *s)
{
	take_out(s);
	service_free(s);
}

static int say_missing(struct error *e, const char *name, const char *missing)
{
	struct error why = {0};
	struct unit *u = NULL;

	if (load_unit(missing, &u, &why) == 0)
		(void)error_say(&why, EINVAL, "it needs another that cannot be loaded");
	unit_free(u);
	return error_say(e, EINVAL, "%s needs %s: %s", name, missing, why.text);
}

/* Of what came in just now, whatever misses something goes out again. */
static int drop_unmet(const char *asked, struct error *e)
{
	struct service *s;
	int result = 0;

	while ((s = next_unmet())) {
		struct error why;
		int r = say_missing(&why, s->unit->name, missing_requirement(s));
		if (asked && strcmp(s->unit->name, asked) == 0) {
			*e = why;
			result = r;
		} else {
			log_warning("%s", why.text);
		}
		drop(s);
	}
	return result;
}

static void settle(bool keep)
{
	for (size_t i = count; i-- > 0;) {
		if (by_name[i]->is_new && !keep)
			drop(by_name[i]);
		else
			by_name[i]->is_new = false;
	}
}

static int load_with_needs(const char *name, struct service **ret, struct error *e)
{
	struct service *s = NULL;
	char full[300];
	int r = load_one(name, &s, e);

	if (r < 0 || !s)
		return r;
	(void)stpcpy(full, s->unit->name); /* a name has at most 255 bytes: unit_load() */
	*ret = s;
	load_needs();
	r = drop_unmet(full, e);
	settle(r == 0);
	/* Also after a failure: the ranks have room for those that went. */
	struct error order;
	int ranked = rank_all(&order);
	if (r == 0 && ranked < 0)
		*e = order;
	return r < 0 ? r : ranked;
}

int catalog_load(const char *name, struct service **ret, struct error *e)
{
	*ret = catalog_find(name);
	return *ret ? 0 : load_with_needs(name, ret, e);
}

int catalog_reload(struct service *s, struct error *e)
{
	struct unit *u, *old = s->unit;
	const char *missing;
	int r = load_unit(old->name, &u, e);

	if (r < 0)
		return r;
	s->unit = u;
	s->needs_loaded = false;
	load_needs();
	(void)drop_unmet(NULL, e);
	missing = missing_requirement(s);
	if (missing) {
		r = say_missing(e, s->unit->name, missing);
		s->unit = old;
		unit_free(u);
		settle(false);
		return r;
	}
	unit_free(old);
	settle(true);
	s->circle_told = false;
	return rank_all(e);
}

/* A service whose file has gone from the image still runs: keep it in hand, with what every unit
 * has. */
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

int catalog_adopt(const char *name, bool bare, struct service **ret, struct error *e)
{
	int r = load_one(name, ret, e);

	if (r == 0) {
		(*ret)->is_new = false; /* it runs: it stays, whatever is missing */
		return 0;
	}
	if (!bare)
		return r;
	log_warning("%s; it is kept as it runs", e->text);
	return load_bare(name, ret, e);
}

void catalog_complete(void)
{
	struct error e;

	load_needs();
	(void)drop_unmet(NULL, &e);
	settle(true);
	if (rank_all(&e) < 0)
		log_warning("%s", e.text);
}
