/* SPDX-License-Identifier: MIT */
#include "upgrade/strays.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "kernel/close_apart.h"
#include "kernel/log.h"
#include "kernel/loop.h"
#include "kernel/util.h"
#include "upgrade/generations.h"
#include "upgrade/look.h"

#define STRAYS_MAX 256

struct stray {
	unsigned generation;
	uint64_t namespace; /* whose root it was */
	uint64_t mount_id; /* nobody else's as long as `root` is open */
	int root;
};

static struct stray list[STRAYS_MAX];
static unsigned count;

/* A while after there are more of them it is looked who holds them: upgrades that are rolled back
 * again and again would add one each time. */
#define LOOK_USEC (1 * USEC_PER_SEC)

static int tree_fd = -1;
static struct loop_timer timer;
static bool looking; /* one at a time: what comes meanwhile has to wait for the next */
static bool held[STRAYS_MAX + 1]; /* what the look has found, by the number it was given */
static uint64_t looked_at[STRAYS_MAX + 1]; /* their mount ids; 0: none */

static void drop(unsigned at)
{
	for (unsigned i = at + 1; i < count; i++)
		list[i - 1] = list[i];
	count--;
}

static void add(const struct stray *s)
{
	if (count == STRAYS_MAX) {
		log_warning(
			"what is held of an old root of generation %u in a mount namespace is no longer watched",
			list[0].generation);
		(void)fd_close_apart(list[0].root);
		drop(0);
	}
	list[count++] = *s;
}

static void found(unsigned id, unsigned number, const char *text, size_t length)
{
	(void)id;
	(void)text;
	(void)length;
	if (number <= STRAYS_MAX)
		held[number] = true;
}

static void looked(unsigned id, const char *why)
{
	(void)id;
	looking = false;
	for (unsigned number = 1; !why && number <= STRAYS_MAX; number++) {
		for (unsigned i = count; !held[number] && i-- > 0;) {
			if (list[i].mount_id != looked_at[number])
				continue;
			(void)fd_close_apart(list[i].root);
			drop(i);
		}
	}
}

/* As generations of their own: 1, 2, ... */
static void look(struct loop_timer *t)
{
	static const struct look_hooks HOOKS = {found, looked};
	struct look_image images[STRAYS_MAX];
	struct error e;

	if (looking) {
		timer_set(t, deadline_in(LOOK_USEC));
		return;
	}
	(void)memset(held, 0, sizeof(held));
	(void)memset(looked_at, 0, sizeof(looked_at));
	for (unsigned i = 0; i < count; i++) {
		images[i] = (struct look_image){
			i + 1, {.mount = list[i].mount_id, .root = list[i].root}};
		looked_at[i + 1] = list[i].mount_id;
	}
	looking = count > 0 && look_begin(0, tree_fd, images, count, &HOOKS, &e) == 0;
	if (count > 0 && !looking)
		timer_set(t, deadline_in(LOOK_USEC));
}

void strays_init(int tree)
{
	tree_fd = tree;
	timer.expired = look;
}

void strays_add(struct namespaces *n, unsigned generation)
{
	for (size_t i = 0; i < n->count; i++) {
		struct namespace *ns = &n->list[i];
		if (ns->fate != NAMESPACE_SWAPPED)
			continue;
		struct stray s = {
			generation, ns->id, ns->pivot.old_id, fd_steal(&ns->pivot.old_root)};
		add(&s);
	}
	if (count > 0)
		timer_set(&timer, deadline_in(LOOK_USEC));
}

size_t strays_roots(const struct namespaces *n, uint64_t *ids, int *new_roots)
{
	size_t found = 0;

	for (unsigned i = 0; i < count; i++) {
		for (size_t j = 0; j < n->count; j++) {
			const struct namespace *ns = &n->list[j];
			if (ns->fate != NAMESPACE_SWAPPED || ns->id != list[i].namespace)
				continue;
			if (ids) {
				ids[found] = list[i].mount_id;
				new_roots[found] = ns->copy;
			}
			found++;
		}
	}
	return found;
}

void strays_let_go(unsigned generation)
{
	for (unsigned i = count; i-- > 0;) {
		if (list[i].generation != generation)
			continue;
		generations_add(generation, list[i].mount_id, list[i].root, NULL);
		drop(i);
	}
}

void strays_save(struct record_writer *w)
{
	for (unsigned i = 0; i < count; i++)
		record_format(w, "stray", "%u %llu %llu %d", list[i].generation,
			(unsigned long long)list[i].namespace, (unsigned long long)list[i].mount_id,
			list[i].root);
}

int strays_load(const struct record *r, struct error *e)
{
	const char *text;

	for (size_t i = 0; count < STRAYS_MAX && (text = record_get_nth(r, "stray", i)); i++) {
		unsigned long long namespace, mount_id;
		struct stray s;
		if (sscanf(text, "%u %llu %llu %d", &s.generation, &namespace, &mount_id,
			    &s.root) != 4)
			return error_say(
				e, EBADMSG, "the state's stray root \"%s\" makes no sense", text);
		s.namespace = namespace;
		s.mount_id = mount_id;
		list[count++] = s;
	}
	if (count > 0)
		timer_set(&timer, deadline_in(LOOK_USEC));
	return 0;
}

void strays_each_fd(int (*visit)(int fd))
{
	for (unsigned i = 0; i < count; i++)
		(void)visit(list[i].root);
}
