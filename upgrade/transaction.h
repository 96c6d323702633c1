/* SPDX-License-Identifier: MIT */
/*
 * What the parts of the transaction (upgrade.h) share: where it stands, and the steps that lead
 * from one part into the next. For the files named here alone.
 */
#ifndef MOLT_UPGRADE_TRANSACTION_H
#define MOLT_UPGRADE_TRANSACTION_H

#include "kernel/loop.h"
#include "upgrade/hooks.h"
#include "upgrade/sides.h"
#include "upgrade/upgrade.h"

struct transaction {
	int tree;
	struct upgrade_hooks hooks;
	const struct system_conf *conf;

	enum upgrade_phase phase;
	enum upgrade_mode mode;
	bool force;
	enum commit_choice commit;
	uint64_t commit_within_usec; /* 0: as configured */
	bool exec_wanted;
	unsigned last_generation; /* the highest number ever given */
	char *path; /* of the image */
	char why[512]; /* it is rolled back */
	bool committed; /* what is rolled back was committed */
	bool restore; /* commit hooks have begun: a rollback ends with those of the other image */
	unsigned rollback_tries;
	struct loop_timer commit_timer; /* UNCOMMITTED: past it, back */
	struct loop_timer release_timer; /* IDLE: past it, the generation before is let go */
	struct loop_timer exec_timer; /* past it, what bars the exec is given up */
	struct loop_timer retry_timer; /* of a rollback that could not be done yet */
};

extern struct transaction tx;

/* planning.c: is it fit? */
/* tx.path, tx.mode and tx.force say what; -> PLANNING. `options` is borrowed for the call. */
int planning_begin(const struct image_options *options, struct error *e);
void planning_cancel(void);

/* preparing.c: what is asked before the swap, and the swap. */
/* Takes over both: the detached mount of the new root, and a mount that stays on the old one. */
void preparing_begin(int image, char *leave); /* -> PRE */
void preparing_cancel(void);

/* forwards.c: the services onto the new image, and its health checks. */
void forwards_begin(void); /* -> SERVICES */
void forwards_resume(void); /* after an exec in SERVICES */
void checks_begin(void); /* -> POST */

/* committing.c */
void commit_or_wait(void); /* -> COMMITTING or UNCOMMITTED */
void commit_begin(void); /* -> COMMITTING */
void commit_timer_expired(struct loop_timer *t);
void release_timer_expired(struct loop_timer *t);

/* backwards.c: the same transaction back; tx.why says why. */
void rollback_begin(void); /* -> UNDOING_EXEC, or tries again later */
/* The new init could not take over, and the one before is PID 1 again, with the state as it was
 * when it exec'ed. `why` is a predicate; NULL: it gave back the state that it could not take. */
void rollback_after_return(const char *why);
void rollback_retry(struct loop_timer *t);
void backwards_begin(void); /* the services, -> UNDOING */
void backwards_resume(void);
void restore_begin(void); /* the boot default, -> RESTORING */

/* ending.c */
/* The loop is to exec the init of the new root, now or, where that would lose something
 * (limbo_bars_exec()), RetryTimeoutSec= later at the latest. */
void begin_exec(enum upgrade_phase phase);
void exec_timer_expired(struct loop_timer *t);
void finish(const char *result, const char *text); /* -> IDLE, and the client is told */
/* The hooks of one kind, with what they are told; hooks_begin() has the rest. */
int run_hooks(
	enum hook_kind kind, int new_root, void (*done)(const char *failure), struct error *e);
void refuse(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
