/* SPDX-License-Identifier: MIT */
/*
 * A service after a crash of PID 1: what was done after the last state was written. A process that
 * was started is in a note. A socket that was closed is opened again. An exit is seen again,
 * because nobody was buried before the state had it (kernel/process.h).
 */
#include <string.h>

#include "kernel/log.h"
#include "kernel/util.h"
#include "services/instance.h"
#include "services/life.h"
#include "services/listen.h"
#include "services/policy.h"
#include "services/service.h"

static const char *const ROLES[] = {
	[FORK_MAIN] = "main", [FORK_CONTROL] = "control", [FORK_INCOMING] = "incoming"};

void service_write_fork(struct record_writer *w, const struct fork_note *n)
{
	record_text(w, "role", ROLES[n->role]);
	record_text(w, "state", service_state_name(n->state));
	record_int(w, "number", (int64_t)n->number);
	record_int(w, "instance", n->instance);
	record_bool(w, "outside", n->outside);
	record_int(w, "index", (int64_t)n->command_index);
	record_int(w, "pid", n->pid);
}

static bool read_fork(const struct record *r, struct fork_note *n)
{
	const char *role = record_get(r, "role"), *state = record_get(r, "state");
	int found = 0;

	n->number = (uint64_t)record_get_int(r, "number", 0);
	n->instance = (unsigned)record_get_int(r, "instance", 0);
	n->outside = record_get_bool(r, "outside", false);
	n->command_index = (size_t)record_get_int(r, "index", 0);
	n->pid = (pid_t)record_get_int(r, "pid", 0);
	for (size_t i = 0; role && i < ARRAY_SIZE(ROLES); i++)
		if (strcmp(ROLES[i], role) == 0) {
			n->role = (enum fork_role)i;
			found |= 1;
		}
	for (int i = 0; state && i < N_STATES; i++)
		if (strcmp(service_state_name((enum service_state)i), state) == 0) {
			n->state = (enum service_state)i;
			found |= 2;
		}
	return found == 3 && n->instance > 0 && n->pid > 0;
}

/* Notes outlive the state that has them for a moment: it knows what has become of that process. */
static bool is_known(const struct service *s, const struct fork_note *n)
{
	return n->number <= s->n_forks;
}

static struct instance *instance_of(struct service *s, const struct fork_note *n, struct error *e)
{
	struct instance **slot = n->role == FORK_INCOMING ? &s->incoming : &s->current;
	struct instance *known = *slot;

	if (known && known->number == n->instance)
		return known;
	if (slot == &s->current)
		life_drop_current(s);
	else
		instance_free(s->incoming);
	*slot = instance_adopt(s, n->instance, n->outside, e);
	if (n->instance > s->last_instance)
		s->last_instance = n->instance;
	return *slot;
}

static int take_process(
	struct service *s, struct instance *i, const struct fork_note *n, struct error *e)
{
	struct process *p = n->role == FORK_CONTROL ? &s->control : &i->main;

	if (n->role == FORK_CONTROL)
		life_forget_control(s);
	else
		process_forget(p);
	(void)instance_adopt_exec_pipe(i, -1);
	int r = process_adopt(p, n->pid, -1, instance_owns(i, n->pid));
	return r < 0 ? error_set(e, r, "%s: cannot watch process %d again", s->unit->name,
			       (int)n->pid)
		     : 0;
}

int service_load_fork(struct service *s, const struct record *r, struct error *e)
{
	struct fork_note n;
	bool stopping;

	if (!read_fork(r, &n))
		return 0;
	if (is_known(s, &n))
		return 0;
	s->n_forks = n.number;
	struct instance *i = instance_of(s, &n, e);
	if (!i)
		return e->code;
	log_info("%s: process %d was started just before the crash", s->unit->name, (int)n.pid);
	if (n.role == FORK_INCOMING) {
		policy_take_incoming(s);
		return take_process(s, i, &n, e);
	}
	stopping = n.state == STATE_STOPPING || n.state == STATE_CLEANUP;
	s->command_index = n.command_index;
	life_set_state(s, n.state,
		n.state == STATE_CHECKING ? CHECK_USEC
		: stopping                ? s->unit->timeout_stop_usec
					  : s->unit->timeout_start_usec);
	s->replayed = n.role == FORK_MAIN;
	return take_process(s, i, &n, e);
}

void service_resume(struct service *s, bool crashed)
{
	struct error e;

	if (!crashed)
		return;
	if (s->listen_lost && listen_open(s, &e) < 0)
		log_error("%s: a socket was lost in the crash: %s", s->unit->name, e.text);
	s->listen_lost = false;
	instance_kill_strays(s);
	if (s->replayed)
		life_resume_start(s);
	s->replayed = false;
}
