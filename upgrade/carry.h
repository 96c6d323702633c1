/* SPDX-License-Identifier: MIT */
/*
 * [Upgrade] Carry=: files of the running system that are taken over into the new image. Into an
 * image that can be written to they are copied: all of them first as temporaries beside their
 * places, and only when all are there, each is renamed into place. For one that cannot, they are
 * copied into the state directory, and mounted from there over the image's own (grafts.h).
 *
 * Of an upgrade that is refused or rolled back after that, copies stay in an image that does not
 * run: the next attempt replaces them.
 */
#ifndef MOLT_UPGRADE_CARRY_H
#define MOLT_UPGRADE_CARRY_H

#include <stdbool.h>
#include <sys/stat.h>

#include "kernel/error.h"
#include "upgrade/image.h"

/* In the judging child: says what is carried (records of kind "carry") and, unless it is a plan,
 * does it. Sends the grafts. 0, or negative errno with text and nothing of it left. */
int carry(const struct image_request *q, const struct image *image, int socket, struct error *e);

/*
 * At boot, in a child, when local file systems are mounted: what the state directory has of the
 * listed files is mounted over those of a read-only root. Writes a record for each to `fd`
 * (grafts_read()). What cannot be is logged.
 */
void carry_at_boot(char *const *patterns, const char *directory, int fd);

/* The decisions, for their tests. */

enum carry_action {
	CARRY_COPY,
	CARRY_BIND,
	CARRY_STAYS, /* lies on a mount, which is moved to the new image with all on it */
	CARRY_SAME, /* a link that the read-only image has as well */
	CARRY_MISSING, /* no such file: nothing to do */
};

const char *carry_action_name(enum carry_action action);

struct carry_list {
	struct carry_entry {
		char *path;
		enum carry_action action;
	} * list;
	size_t count;
};

/* All that a pattern matches below the directory `root`, no symbolic link leading out of it,
 * sorted. One without a match is an entry CARRY_MISSING. 0 or negative errno with text. */
int carry_expand(struct carry_list *ret, int root, char *const *patterns, struct error *e);
/* Leaves out what is there twice, or lies below another entry. */
void carry_reduce(struct carry_list *l);
void carry_list_free(struct carry_list *l);

/* What can be mounted over what: two directories, or two that are none. */
bool carry_kinds_match(mode_t source, mode_t place);

#endif
