/* SPDX-License-Identifier: MIT */
/* One question to PID 1 and its answer, over the control socket (conf/protocol.h). */
#ifndef MOLT_INITCTL_CONNECTION_H
#define MOLT_INITCTL_CONNECTION_H

#include <stdbool.h>
#include <stddef.h>

#include "conf/protocol.h"
#include "conf/record.h"
#include "conf/when.h"

/* The strings are the caller's; a NULL or false field is not sent. */
struct request {
	const char *verb;
	const char *unit;
	const char *path;
	/* of the image */
	const char *mount_options, *verity_hash, *root_hash, *root_hash_signature;
	bool read_only;
	bool force;
	bool dry_run;
	const char *commit; /* "auto", "hand" */
	const char *commit_within;
	/* of a shutdown */
	const char *kind, *by, *message;
	const struct when *when;
	bool no_wall, only_warn;
};

/* Result ids of our own, beside those of conf/protocol.h. */
#define RESULT_UNREACHABLE "unreachable"
#define RESULT_LOST "lost" /* PID 1 took the request; how it ended is not known */

/* How a request ended. There always is one, also when PID 1 was never reached. */
struct result {
	enum control_exit exit;
	char *id; /* RESULT_*, or what a newer PID 1 said */
	char *text; /* "" if there is nothing to say */
};

void result_done(struct result *r);

/* Gets each record of the answer but the result, as it arrives; it lives until the call returns. */
typedef void (*record_handler)(void *userdata, const struct record *r);

/*
 * Connects, asks, and hands over records until the result is there or the connection ends. It waits
 * as long as PID 1 takes: an upgrade takes minutes, and PID 1 execs itself in it and carries this
 * connection across. *ret is always filled; result_done().
 */
void ask(const struct request *q, record_handler handler, void *userdata, struct result *ret);

#endif
