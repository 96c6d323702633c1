/* SPDX-License-Identifier: MIT */
/*
 * The transaction from one generation to the next.
 *
 *     IDLE -> PLANNING -> PRE -> PREPARING -> (blackout) -> EXECING -> SERVICES -> POST
 *          -> [UNCOMMITTED] -> COMMITTING -> IDLE, with the generation before attached
 *
 * PLANNING: a child opens and judges the image (image.h). What it finds unfit, or blockers nobody
 * forced, refuse the upgrade: nothing was touched. PRE: so do the pre-upgrade hooks (hooks.h) of
 * the running image. PREPARING: whoever else has a say before everything stands still. The blackout
 * runs through in one call (blackout.h) and fails without a trace. Then the loop is asked to exec
 * the new init (upgrade_exec_wanted()); the new life goes on with SERVICES, each by its policy
 * (rollout.h), and with POST, the health checks of the new image. All well: commit, or without
 * automatic commit UNCOMMITTED until somebody says so or the deadline rolls back. COMMITTING: the
 * commit hooks make the new image the boot default; one that fails rolls back.
 *
 * After the commit the root of the generation before stays attached in the vault for
 * RollbackWindowSec=, or until the next upgrade has swapped: so long there is a way back to it.
 *
 * Rolling back is a blackout the other way, an exec of the old init, and UNDOING: the services that
 * had moved are moved back. Where commit hooks have run, RESTORING runs those of the image gone
 * back to, so that the boot default is what runs.
 */
#ifndef MOLT_UPGRADE_UPGRADE_H
#define MOLT_UPGRADE_UPGRADE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf/record.h"
#include "conf/system.h"
#include "kernel/error.h"
#include "upgrade/image_open.h"
#include "upgrade/look.h"

/* The numbers are in the state: a new one goes to the end. */
enum upgrade_phase {
	UPGRADE_IDLE,
	UPGRADE_PLANNING,
	UPGRADE_EXECING,
	UPGRADE_SERVICES,
	UPGRADE_UNCOMMITTED,
	UPGRADE_UNDOING_EXEC,
	UPGRADE_UNDOING,
	UPGRADE_PRE,
	UPGRADE_PREPARING,
	UPGRADE_POST,
	UPGRADE_COMMITTING,
	UPGRADE_RESTORING,
};

enum upgrade_mode { MODE_PLAN, MODE_UPGRADE };

enum commit_choice {
	COMMIT_AS_CONFIGURED, /* AutoCommit= */
	COMMIT_AT_ONCE,
	COMMIT_BY_HAND,
};

/* All of it is borrowed for the call. */
struct upgrade_request {
	const char *path; /* of the image */
	struct image_options options;
	enum upgrade_mode mode;
	bool force; /* blockers do not forbid it */
	enum commit_choice commit;
	uint64_t commit_within_usec; /* 0: CommitTimeoutSec=; infinity: no deadline */
};

struct upgrade_hooks {
	/* A record for whoever asked; nobody may be there any more. */
	void (*emit)(const char *text, size_t length);
	/* The end: a RESULT_* of conf/protocol.h and the last line. */
	void (*finished)(const char *result, const char *text);
	/* A sealed copy of PID 1's whole state: a descriptor, the caller's, or negative errno. */
	int (*snapshot)(void);
	/* The state is to be written down now, for a life after a crash. */
	void (*keep)(void);
};

/* `conf` may be exchanged by another call. `tree` is borrowed. */
int upgrade_init(int tree, const struct upgrade_hooks *hooks, struct error *e);
void upgrade_configure(const struct system_conf *conf);

enum upgrade_phase upgrade_phase(void);
/* For `initctl status`: "running", "upgrading", "uncommitted". */
const char *upgrade_state_name(void);
unsigned upgrade_generation(void);
/* Which generation a mount is the root of, as far back as one is held; 0: none of ours. */
unsigned upgrade_generation_of(uint64_t mount_id);

/* Begins; the hooks tell how it ends. -EBUSY: another one is under way. */
int upgrade_begin(const struct upgrade_request *q, struct error *e);
/* Ends an UNCOMMITTED upgrade; the hooks tell. -EINVAL: there is none; -EBUSY. */
int upgrade_commit(struct error *e);
/*
 * Goes back: from an upgrade that is not committed, from one that is as long as the generation
 * before is attached, or in the middle of one. The hooks tell how it ends. -EINVAL: there is
 * nothing to go back to; -EBUSY: a moment at which it cannot be.
 */
int upgrade_rollback(const char *why, struct error *e);
/* Lets go of the generation that is attached since its upgrade was committed. -EINVAL: none is;
 * -EBUSY. */
int upgrade_release(struct error *e);

/* What there is to decide about, for a person. */
struct upgrade_choice {
	unsigned attached; /* the generation that a rollback goes to; 0: none */
	bool committed; /* a rollback undoes what was committed */
	uint64_t deadline_usec; /* CLOCK_MONOTONIC: then it is let go (or, not committed, rolled
				   back); 0: never */
};
struct upgrade_choice upgrade_choice(void);

/* Whether PID 1 could exec itself now and go on: not in the middle of what a child does for it. */
bool upgrade_can_be_carried(void);
/* Whether the system may go down now: not where things are half done that another boot needs. */
bool upgrade_can_be_cancelled(void);
/* The system goes down: what has not swapped yet is refused; what is past it and not committed
 * stays as it is (the boot default was not changed). Only if upgrade_can_be_cancelled(). */
void upgrade_cancel(void);
/* No process is left: unmounts what there is of other generations, so that their file systems are
 * clean. */
void upgrade_let_go(void);

/* The loop asks after each event. */
bool upgrade_exec_wanted(void);
/* It could not exec: undoes the pivot, PID 1 lives on as it is. */
void upgrade_exec_failed(const char *why);
/* A descriptor of the root that a new init which cannot take the state goes back to; -1: none. */
int upgrade_fallback_root(void);

/* Looks for references to older generations: the hooks get a record of kind "holder" for each. */
int upgrade_report_holders(unsigned id, const struct look_hooks *hooks, struct error *e);

/* State across an exec. */
void upgrade_save(struct record_writer *w);
int upgrade_load(const struct record *r, struct error *e);
void upgrade_each_fd(int (*visit)(int fd));
/*
 * How this life came about: by an exec that was meant, because a new init gave PID 1 back, or after
 * a crash. AWAY: of an init that is not the root's own, as between a swap and the exec that follows
 * it, and from a return to the rollback.
 */
enum life_kind { LIFE_NEXT, LIFE_RETURNED, LIFE_CRASHED, LIFE_CRASHED_AWAY };
/* Everything is loaded: go on. RETURNED: `why` is what the new init did, as a predicate; NULL: it
 * gave back the state that it could not take. */
void upgrade_resume(enum life_kind kind, const char *why);

#endif
