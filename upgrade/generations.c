/* SPDX-License-Identifier: MIT */
#include "upgrade/generations.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/close_apart.h"
#include "kernel/log.h"
#include "kernel/loop.h"
#include "kernel/util.h"

/* More upgrades than that with a holder left from each: the oldest is no longer watched, and the
 * log says so. */
#define GENERATIONS_MAX 256
#define LOOK_FIRST_USEC (1 * USEC_PER_SEC)
#define LOOK_LATER_USEC (60 * USEC_PER_SEC)

struct old_generation {
	unsigned number;
	uint64_t mount_id;
	int root;
	char *base; /* NULL: not known */
};

static struct old_generation list[GENERATIONS_MAX];
static unsigned count;
static int tree_fd = -1;
static struct loop_timer timer;
static uint64_t wait_usec;
/* The look of the timer. */
static bool looking;
static unsigned held[GENERATIONS_MAX]; /* what it has found a holder of */
static unsigned n_held;

static void drop(unsigned at)
{
	/* The last that held on to the file system may be us. */
	(void)fd_close_apart(list[at].root);
	free(list[at].base);
	for (unsigned i = at + 1; i < count; i++)
		list[i - 1] = list[i];
	count--;
}

void generations_let_go(void)
{
	timer_cancel(&timer);
	look_cancel_all();
	looking = false;
	while (count > 0) {
		(void)fd_close(list[--count].root);
		free(list[count].base);
	}
}

static bool is_held(unsigned number)
{
	for (unsigned i = 0; i < n_held; i++)
		if (held[i] == number)
			return true;
	return false;
}

static void found(unsigned id, unsigned generation, const char *text, size_t length)
{
	(void)id;
	(void)text;
	(void)length;
	if (generation && !is_held(generation) && n_held < GENERATIONS_MAX)
		held[n_held++] = generation;
}

static void look_later(void)
{
	if (count == 0)
		return;
	timer_set(&timer, deadline_in(wait_usec));
	wait_usec = wait_usec * 2 > LOOK_LATER_USEC ? LOOK_LATER_USEC : wait_usec * 2;
}

static bool generations_has(unsigned number)
{
	for (unsigned i = 0; i < count; i++)
		if (list[i].number == number)
			return true;
	return false;
}

/* What came while it looked was not looked for: `newest` is the last that was. */
static unsigned newest;

static void looked(unsigned id, const char *why)
{
	(void)id;
	looking = false;
	if (why)
		log_warning("who holds older generations is not known: %s", why);
	for (unsigned i = why ? 0 : count; i-- > 0;) {
		if (list[i].number > newest || is_held(list[i].number))
			continue;
		unsigned number = list[i].number;
		drop(i);
		if (!generations_has(number)) /* it may have had a root in several namespaces */
			log_notice("generation %u is released: nothing holds it any more", number);
	}
	look_later();
}

static unsigned describe(struct look_image images[GENERATIONS_MAX])
{
	for (unsigned i = 0; i < count; i++)
		images[i] = (struct look_image){list[i].number,
			{.mount = list[i].mount_id, .root = list[i].root, .base = list[i].base}};
	return count;
}

static void look(struct loop_timer *t)
{
	static const struct look_hooks HOOKS = {found, looked};
	struct look_image images[GENERATIONS_MAX];
	struct error e;

	(void)t;
	if (count == 0 || looking)
		return;
	n_held = 0;
	newest = list[count - 1].number;
	if (look_begin(0, tree_fd, images, describe(images), &HOOKS, &e) < 0) {
		log_warning("%s", e.text);
		look_later();
	} else {
		looking = true;
	}
}

void generations_init(int tree)
{
	tree_fd = tree;
	timer.expired = look;
}

void generations_resume(void)
{
	wait_usec = LOOK_FIRST_USEC;
	timer_set(&timer, clock_usec());
}

void generations_add(unsigned generation, uint64_t mount_id, int root, const char *base)
{
	if (count == GENERATIONS_MAX) {
		log_warning("generation %u is still held, but no longer watched", list[0].number);
		drop(0);
	}
	/* Without memory for it less is told. */
	list[count++] =
		(struct old_generation){generation, mount_id, root, base ? strdup(base) : NULL};
	generations_resume();
}

unsigned generations_find(uint64_t mount_id)
{
	for (unsigned i = 0; i < count; i++)
		if (list[i].mount_id == mount_id)
			return list[i].number;
	return 0;
}

int generations_report(const struct look_image *other, unsigned id, const struct look_hooks *hooks,
	struct error *e)
{
	struct look_image images[GENERATIONS_MAX + 1];
	unsigned n = describe(images);

	if (other)
		images[n++] = *other;
	return look_begin(id, tree_fd, images, n, hooks, e);
}

void generations_save(struct record_writer *w)
{
	for (unsigned i = 0; i < count; i++)
		record_format(w, "old", "%u %llu %d%s%s", list[i].number,
			(unsigned long long)list[i].mount_id, list[i].root, list[i].base ? " " : "",
			list[i].base ? list[i].base : "");
}

int generations_load(const struct record *r, struct error *e)
{
	const char *text;

	for (size_t i = 0; count < GENERATIONS_MAX && (text = record_get_nth(r, "old", i)); i++) {
		unsigned long long id;
		struct old_generation g = {0};
		int at = 0;
		if (sscanf(text, "%u %llu %d %n", &g.number, &id, &g.root, &at) != 3)
			return error_say(e, EBADMSG,
				"the state's old generation \"%s\" makes no sense", text);
		g.mount_id = id;
		if (text[at] == '/') /* versions before did not say it */
			g.base = strdup(text + at);
		list[count++] = g;
	}
	return 0;
}

void generations_each_fd(int (*visit)(int fd))
{
	for (unsigned i = 0; i < count; i++)
		(void)visit(list[i].root);
}
