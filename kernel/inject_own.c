/* SPDX-License-Identifier: MIT */
/*
 * The call that a task was stopped in, on a processor where the kernel does not give that decision
 * out of its hand: why and how is told in inject_arch.h. On others inject_arch_meets_entry() says
 * no, and nothing here has anything to do.
 */
#include "kernel/inject.h"
#include "kernel/inject_target.h"

/*
 * Its own call, where that has to be met at its entry. A task that sends its calls to itself
 * (syscall user dispatch) is not led there: its call would be one that nobody has dispatched.
 */
static int find_own_call(struct inject_target *t, uint64_t deadline_usec, struct error *e)
{
	t->own = INJECT_OWN_NONE;
	int r = t->dispatch.mode ? 0 : inject_arch_meets_entry(t->tid, &t->saved);
	if (r < 0) {
		t->unable = true;
		return error_say(e, -r, "cannot see whether task %d is in a call", t->tid);
	}
	if (r == 0)
		return 0;
	r = inject_to_syscall_stop(t, deadline_usec, e);
	if (r < 0)
		return r;
	r = inject_arch_learn_entry(t->tid, &t->saved);
	if (r < 0)
		return error_set(e, r, "cannot see what task %d is about to call", t->tid);
	t->own = INJECT_OWN_ENTERED;
	return 0;
}

int inject_leave_own_call(struct inject_target *t, uint64_t deadline_usec, struct error *e)
{
	int r = t->own == INJECT_OWN_UNKNOWN ? find_own_call(t, deadline_usec, e) : 0;

	if (r < 0 || t->own != INJECT_OWN_ENTERED)
		return r;
	r = inject_arch_cancel(t->tid);
	if (r < 0)
		return error_set(e, r, "cannot cancel the call of task %d", t->tid);
	r = inject_to_syscall_stop(t, deadline_usec, e); /* its exit */
	if (r == 0)
		t->own = INJECT_OWN_LEFT;
	return r;
}

static int enter_own_call(struct inject_target *t, uint64_t deadline_usec, struct error *e)
{
	int r = inject_arch_write(t->tid, &t->saved);

	if (r < 0)
		return error_set(e, r, "cannot restore the registers of task %d", t->tid);
	r = inject_to_syscall_stop(t, deadline_usec, e);
	if (r == 0)
		t->own = INJECT_OWN_ENTERED;
	return r;
}

int inject_settle(struct inject_target *t, uint64_t deadline_usec, struct error *e)
{
	if (t->own != INJECT_OWN_LEFT || t->astray)
		return 0;
	int r = enter_own_call(t, deadline_usec, e);
	t->astray = r < 0;
	return r;
}
