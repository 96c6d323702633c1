/* SPDX-License-Identifier: MIT */
/*
 * The transaction from one generation to the next.
 *
 *     IDLE -> PLANNING -> (blackout) -> EXECING -> SERVICES -> [UNCOMMITTED] -> IDLE
 *
 * PLANNING: a child opens and judges the image (image.h). What it finds unfit, or blockers nobody
 * forced, refuse the upgrade: nothing was touched. The blackout runs through in one call
 * (blackout.h) and fails without a trace. Then the loop is asked to exec the new init
 * (upgrade_exec_wanted()); the new life goes on with SERVICES, each by its policy (rollout.h). All
 * there: commit, or with AutoCommit=no UNCOMMITTED until somebody says so or the deadline rolls
 * back.
 *
 * Rolling back is a blackout the other way, an exec of the old init, and UNDOING: the services that
 * had moved are moved back.
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

enum upgrade_phase {
	UPGRADE_IDLE,
	UPGRADE_PLANNING,
	UPGRADE_EXECING,
	UPGRADE_SERVICES,
	UPGRADE_UNCOMMITTED,
	UPGRADE_UNDOING_EXEC,
	UPGRADE_UNDOING,
};

enum upgrade_mode { MODE_PLAN, MODE_DRY_RUN, MODE_UPGRADE };

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

/* All of it is borrowed for the call. */
struct upgrade_request {
	const char *path; /* of the image */
	struct image_options options;
	enum upgrade_mode mode;
	bool force; /* what forbids it does not */
};

/* Begins; the hooks tell how it ends. -EBUSY: another one is under way. */
int upgrade_begin(const struct upgrade_request *q, struct error *e);
/* Ends an UNCOMMITTED upgrade, one way or the other; the hooks tell. -EINVAL: there is none. */
int upgrade_commit(struct error *e);
int upgrade_rollback(const char *why, struct error *e);

/* The system goes down: a plan under way is refused, an uncommitted upgrade stays as it is (the
 * boot default was not changed). Whatever is past that point must end first: shutdown asks
 * upgrade_phase(). */
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
