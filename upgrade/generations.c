/* SPDX-License-Identifier: MIT */
#include "upgrade/generations.h"

#include <errno.h>
#include <stdio.h>

#include "kernel/log.h"
#include "kernel/loop.h"
#include "kernel/util.h"
#include "upgrade/holders.h"
#include "upgrade/plan.h"

/* More upgrades than that with a holder left from each: the oldest is no longer watched, and the
 * log says so. */
#define GENERATIONS_MAX 64
#define LOOK_FIRST_USEC (1 * USEC_PER_SEC)
#define LOOK_LATER_USEC (60 * USEC_PER_SEC)

struct old_generation {
	unsigned number;
	uint64_t mount_id;
	int root;
};

static struct old_generation list[GENERATIONS_MAX];
static unsigned count;
static int tree_fd = -1;
static struct loop_timer timer;
static uint64_t wait_usec;

static void drop(unsigned at)
{
	(void)fd_close(list[at].root);
	for (unsigned i = at + 1; i < count; i++)
		list[i - 1] = list[i];
	count--;
}

void generations_let_go(void)
{
	timer_cancel(&timer);
	while (count > 0)
		drop(count - 1);
}

static int scan(struct holders *h, struct error *e)
{
	uint64_t ids[GENERATIONS_MAX];

	for (unsigned i = 0; i < count; i++)
		ids[i] = list[i].mount_id;
	return holders_scan(h, tree_fd, ids, count, false, true, e);
}

static void release_unheld(const struct holders *h)
{
	for (unsigned i = count; i-- > 0;) {
		bool held = false;
		for (size_t j = 0; j < h->count && !held; j++)
			held = h->list[j].image == i;
		if (held)
			continue;
		log_notice("generation %u is released: nothing holds it any more", list[i].number);
		drop(i);
	}
}

static void look(struct loop_timer *t)
{
	struct holders h = {0};
	struct error e;

	(void)t;
	if (count == 0)
		return;
	if (scan(&h, &e) < 0)
		log_warning("%s", e.text);
	else
		release_unheld(&h);
	holders_free(&h);
	if (count > 0) {
		timer_set(&timer, deadline_in(wait_usec));
		wait_usec = wait_usec * 2 > LOOK_LATER_USEC ? LOOK_LATER_USEC : wait_usec * 2;
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

void generations_add(unsigned generation, uint64_t mount_id, int root)
{
	if (count == GENERATIONS_MAX) {
		log_warning("generation %u is still held, but no longer watched", list[0].number);
		drop(0);
	}
	list[count++] = (struct old_generation){generation, mount_id, root};
	generations_resume();
}

unsigned generations_find(uint64_t mount_id)
{
	for (unsigned i = 0; i < count; i++)
		if (list[i].mount_id == mount_id)
			return list[i].number;
	return 0;
}

static int report(void (*emit)(const char *text, size_t length), struct error *e)
{
	struct holders h = {0};
	int r = scan(&h, e);

	for (size_t i = 0; r == 0 && i < h.count; i++) {
		struct record_writer w = {0};
		char advice[400];
		plan_advice(&h.list[i], advice, sizeof(advice));
		plan_write_holder(&w, &h.list[i], list[h.list[i].image].number, "stays", advice);
		if (!w.error)
			emit(w.text, w.length);
		record_writer_done(&w);
	}
	holders_free(&h);
	return r;
}

int generations_report(unsigned other, uint64_t mount_id,
	void (*emit)(const char *text, size_t length), struct error *e)
{
	bool added = other && count < GENERATIONS_MAX;

	if (added)
		list[count++] = (struct old_generation){other, mount_id, -1};
	int r = report(emit, e);
	if (added)
		count--;
	return r;
}

void generations_save(struct record_writer *w)
{
	for (unsigned i = 0; i < count; i++)
		record_format(w, "old", "%u %llu %d", list[i].number,
			(unsigned long long)list[i].mount_id, list[i].root);
}

int generations_load(const struct record *r, struct error *e)
{
	const char *text;

	for (size_t i = 0; count < GENERATIONS_MAX && (text = record_get_nth(r, "old", i)); i++) {
		unsigned long long id;
		struct old_generation g;
		if (sscanf(text, "%u %llu %d", &g.number, &id, &g.root) != 3)
			return error_say(e, EBADMSG,
				"the state's old generation \"%s\" makes no sense", text);
		g.mount_id = id;
		list[count++] = g;
	}
	return 0;
}

void generations_each_fd(int (*visit)(int fd))
{
	for (unsigned i = 0; i < count; i++)
		(void)visit(list[i].root);
}
