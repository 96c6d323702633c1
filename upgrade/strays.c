/* SPDX-License-Identifier: MIT */
#include "upgrade/strays.h"

#include <errno.h>
#include <stdio.h>

#include "kernel/close_apart.h"
#include "kernel/log.h"
#include "kernel/util.h"
#include "upgrade/generations.h"

#define STRAYS_MAX 256

struct stray {
	unsigned generation;
	uint64_t namespace; /* whose root it was */
	uint64_t mount_id; /* nobody else's as long as `root` is open */
	int root;
};

static struct stray list[STRAYS_MAX];
static unsigned count;

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
	return 0;
}

void strays_each_fd(int (*visit)(int fd))
{
	for (unsigned i = 0; i < count; i++)
		(void)visit(list[i].root);
}
