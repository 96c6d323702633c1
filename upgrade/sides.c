/* SPDX-License-Identifier: MIT */
#include "upgrade/sides.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>

#include "kernel/cgroup.h"
#include "kernel/log.h"
#include "kernel/mounts.h"
#include "kernel/util.h"
#include "services/watchdog.h"
#include "upgrade/blackout.h"
#include "upgrade/generations.h"
#include "upgrade/grafts.h"
#include "upgrade/listeners.h"
#include "upgrade/namespaces.h"
#include "upgrade/pivot.h"
#include "upgrade/renamed.h"
#include "upgrade/report.h"
#include "upgrade/strays.h"
#include "upgrade/vault.h"

struct sides sides = {.current.root = -1, .other.root = -1, .former.root = -1};

static int tree_fd = -1, events_fd = -1, flag_fd = -1;

int sides_init(int tree, struct error *e)
{
	tree_fd = tree;
	sides.current.generation = 1;
	events_fd = cgroup_open_events(tree);
	if (events_fd < 0)
		return error_set(e, events_fd, "cannot watch the tree");
	flag_fd = openat(tree, "cgroup.freeze", O_WRONLY | O_CLOEXEC);
	if (flag_fd < 0)
		return error_set(e, errno, "cannot open the freezer of the tree");
	int r = mount_id_at(AT_FDCWD, "/", &sides.current.mount_id);
	return r < 0 ? error_set(e, r, "cannot identify the root mount (Linux 5.12 is needed)") : 0;
}

unsigned sides_generation_of(uint64_t mount_id)
{
	if (mount_id == sides.current.mount_id)
		return sides.current.generation;
	if (sides.other.generation && mount_id == sides.other.mount_id)
		return sides.other.generation;
	return 0;
}

/* The mount id of an upgrade's new root that is in its slot of the vault; 0: there is none. */
static uint64_t parked;

/* A detached mount cannot be copied (before Linux 6.15), one in the vault can; and what is not
 * detached any more cannot be detached again where a pivot is taken back. */
static int park(const struct side *to, struct error *e)
{
	if (parked == to->mount_id)
		return 0;
	CLEANUP_FD int slot = vault_slot(to->generation, e);
	if (slot < 0)
		return slot;
	int r = mount_move(to->root, slot);
	if (r < 0)
		return error_set(e, r, "cannot put the new root into the vault");
	parked = to->mount_id;
	return 0;
}

void sides_forget_new(unsigned generation)
{
	struct error e;

	if (parked && vault_release(generation, &e) < 0)
		log_warning("%s", e.text);
	parked = 0;
}

/* One exchange of the sides. */
struct swap {
	struct pivot pivot;
	struct namespaces *namespaces;
	struct listeners listeners;
	struct side to;
	const struct swap_request *request;
	bool done;
};

/* What now stands elsewhere, for the way back; for what has come back nothing is to be remembered.
 */
static void remember_places(const struct swap *s)
{
	renamed_forget(s->to.generation);
	renamed_add(sides.current.generation, &s->pivot);
	for (size_t i = 0; i < s->namespaces->count; i++)
		renamed_add(sides.current.generation, &s->namespaces->list[i].pivot);
}

/* Comes twice if PID 1 crashes in it. */
static void swapped(void *userdata)
{
	struct swap *s = userdata;

	if (!s->done) {
		s->done = true;
		remember_places(s);
		strays_add(s->namespaces, sides.current.generation);
		/* Attached still since its own upgrade. Not to be let go here: this may be the
		 * way out of a crash. */
		if (sides.other.generation && sides.other.mount_id != s->to.mount_id)
			sides.former = sides.other;
		sides.other = sides.current;
		sides.other.root = fd_steal(&s->pivot.old_root);
		sides.current = s->to;
		sides.current.root = fd_close(s->to.root);
	}
	s->request->swapped();
}

static uint64_t times(unsigned n, uint64_t usec)
{
	uint64_t product;

	return __builtin_mul_overflow(n, usec, &product) ? USEC_INFINITY : product;
}

static int run_blackout(struct swap *s, struct error *e)
{
	const struct swap_request *q = s->request;
	struct blackout_report report;
	struct blackout_request request = {.tree = tree_fd,
		.events_fd = events_fd,
		.flag_fd = flag_fd,
		.pivot = &s->pivot,
		.namespaces = s->namespaces,
		.listeners = &s->listeners,
		.freeze_usec = times(q->patience, q->conf->freeze_timeout_usec),
		.blackout_usec = times(q->patience, q->conf->blackout_timeout_usec),
		.tries = q->tries,
		.force = q->force,
		.swapped = swapped,
		.userdata = s};

	report_end_phase("prepare", false);
	int r = blackout_run(&request, &report, e);
	report_blackout(&report);
	/* While it was frozen no service could say WATCHDOG=1. */
	watchdog_rearm_all();
	return r;
}

/* The empty slot: namespaces that were made meanwhile have a copy of what was in it, which goes
 * with the directory. */
static void clear_slot(unsigned generation)
{
	struct error e;

	parked = 0;
	if (vault_release(generation, &e) < 0)
		log_warning("%s", e.text);
}

static int swap_once(struct side to, int slot, struct namespaces *n, const struct swap_request *q,
	struct error *e)
{
	struct swap s = {.to = to, .namespaces = n, .listeners.off = true, .request = q};
	int r = pivot_prepare(
		&s.pivot, &(struct pivot_request){to.root, slot, to.generation, q->leave}, e);

	if (r == 0)
		r = namespaces_prepare(n, &s.pivot, e);
	if (r == 0 && !q->force)
		r = listeners_prepare(&s.listeners, tree_fd, s.pivot.old_root, e);
	if (r == 0)
		r = run_blackout(&s, e);
	if (r == 0) {
		clear_slot(to.generation);
		sides_let_go_of_former();
	}
	listeners_done(&s.listeners);
	pivot_done(&s.pivot);
	return r;
}

/* `to` is in its slot of the vault. */
static int swap_to(struct side to, const struct swap_request *q, struct error *e)
{
	CLEANUP_FD int slot = vault_slot(sides.current.generation, e);
	int r = -ESTALE;

	if (slot < 0)
		return slot;
	tries_begin_row(q->tries, clock_usec());
	/* Stale: namespaces that came between the look at them and the freeze. */
	while (r == -ESTALE && tries_at_once(q->tries, clock_usec())) {
		struct namespaces n;
		r = namespaces_find(&n, tree_fd, e);
		if (r == 0)
			r = swap_once(to, slot, &n, q, e);
		namespaces_done(&n);
	}
	return r == -ESTALE ? -EBUSY : r;
}

int sides_swap_to_new(struct side to, const struct swap_request *q, struct error *e)
{
	int r = mount_id_of_fd(to.root, &to.mount_id);

	if (r < 0)
		return error_set(e, r, "cannot identify the new root");
	r = vault_open(e);
	if (r == 0)
		q->prepared(); /* of the vault's mounts only its descriptor tells */
	if (r == 0)
		r = park(&to, e);
	if (r == 0 && grafts_waiting())
		r = grafts_plant(to.generation, to.root, e);
	return r < 0 ? r : swap_to(to, q, e);
}

int sides_swap_back(const struct swap_request *q, struct error *e)
{
	return swap_to(sides.other, q, e);
}

/* Where in its file system the root of that mount is; "": it is not mounted here. */
static void find_base(uint64_t mount_id, char *buf, size_t size)
{
	struct mount_table table = {0};
	struct error e;

	if (mount_table_read(&table, &e) < 0)
		log_warning("%s", e.text);
	const struct mount *m = mount_table_find(&table, mount_id);
	(void)snprintf(buf, size, "%s", m ? m->root : "");
	mount_table_free(&table);
}

static void let_go(struct side *s)
{
	struct error e;
	char base[PATH_MAX];

	if (!s->generation)
		return;
	find_base(s->mount_id, base, sizeof(base));
	if (vault_release(s->generation, &e) < 0)
		log_error("%s", e.text);
	strays_let_go(s->generation);
	grafts_forget(s->generation);
	renamed_forget(s->generation);
	generations_add(s->generation, s->mount_id, s->root, base[0] ? base : NULL);
	*s = (struct side){.root = -1};
}

void sides_let_go_of_former(void)
{
	let_go(&sides.former);
}

void sides_let_go_of_other(void)
{
	let_go(&sides.other);
}

static void save_side(struct record_writer *w, const char *key, const struct side *s)
{
	if (s->generation)
		record_format(w, key, "%u %llu %d", s->generation, (unsigned long long)s->mount_id,
			s->root);
}

static int load_side(const char *text, struct side *s, struct error *e)
{
	unsigned long long id;

	if (!text)
		return 0;
	if (sscanf(text, "%u %llu %d", &s->generation, &id, &s->root) != 3)
		return error_say(e, EBADMSG, "the state's generation \"%s\" makes no sense", text);
	s->mount_id = id;
	return 0;
}

void sides_save(struct record_writer *w)
{
	save_side(w, "current", &sides.current);
	save_side(w, "other", &sides.other);
	save_side(w, "former", &sides.former);
	record_int(w, "vault", vault_fd());
	strays_save(w);
}

int sides_load(const struct record *r, struct error *e)
{
	int result = load_side(record_get(r, "current"), &sides.current, e);

	if (result == 0)
		result = load_side(record_get(r, "other"), &sides.other, e);
	if (result == 0)
		result = load_side(record_get(r, "former"), &sides.former, e);
	if (result == 0)
		result = strays_load(r, e);
	if (result == 0)
		vault_adopt((int)record_get_int(r, "vault", -1));
	return result;
}

void sides_each_fd(int (*visit)(int fd))
{
	if (sides.other.root >= 0)
		(void)visit(sides.other.root);
	if (sides.former.root >= 0)
		(void)visit(sides.former.root);
	if (vault_fd() >= 0)
		(void)visit(vault_fd());
	strays_each_fd(visit);
}
