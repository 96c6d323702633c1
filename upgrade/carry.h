/* SPDX-License-Identifier: MIT */
/*
 * [Upgrade] Carry=: files of the running system that are taken over into the new image. Into an
 * image that can be written to they are copied: all of them first as temporaries beside their
 * places, and only when all are there, each is renamed into place. For one that cannot, they are
 * copied into the state directory, and mounted from there over the image's own (grafts.h). What
 * lies there already is this machine's, and counts, unless the running root can be written to:
 * then the file on that is younger.
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

/*
 * In a child, of a read-only root: copies a file that is listed into the state directory, so that
 * the next boot has it. 1, or 0: it is not listed, or there is one already; or negative errno with
 * text.
 */
int carry_keep(char *const *patterns, const char *directory, const char *path, struct error *e);

/* The decisions, for their tests. */

enum carry_action {
	CARRY_COPY,
	CARRY_BIND,
	CARRY_STAYS, /* lies on a mount, which is moved to the new image with all on it */
	CARRY_SAME, /* a link that the read-only image has as well */
	CARRY_MISSING, /* no such file: nothing to do */
};

const char *carry_action_name(enum carry_action action);

/* What is seen of a listed file in the running system. */
enum carry_seen {
	CARRY_SEEN_NOT,
	CARRY_SEEN_ON_ROOT, /* the running image's own */
	CARRY_SEEN_CARRIED, /* mounted over it from the state directory */
	CARRY_SEEN_ON_MOUNT, /* of somebody else */
	CARRY_SEEN_MADE, /* the machine ID of this boot, mounted over a read-only root's */
};

/* Whether one that lies in the state directory counts, and not what is seen. */
bool carry_takes_stored(enum carry_seen seen, bool root_read_only, bool image_read_only);

struct carry_list {
	struct carry_entry {
		char *path;
		enum carry_action action;
		bool stored; /* the one in the state directory counts */
		bool keep; /* of one that stays: the state directory gets it for the next boot */
	} * list;
	size_t count;
};

/* All that a pattern matches below the directory `root`, no symbolic link leading out of it,
 * sorted; then what it matches below `other` (-1: none) alone. One without a match is an entry
 * CARRY_MISSING. 0 or negative errno with text. */
int carry_expand(
	struct carry_list *ret, int root, int other, char *const *patterns, struct error *e);
/* Leaves out what is there twice, or lies below another entry. */
void carry_reduce(struct carry_list *l);
void carry_list_free(struct carry_list *l);

/* What can be mounted over what: two directories, or two that are none. */
bool carry_kinds_match(mode_t source, mode_t place);

#endif
