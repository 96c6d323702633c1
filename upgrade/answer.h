/* SPDX-License-Identifier: MIT */
/* What the judging child sends to PID 1: records, one a packet; the last carries the new root's
 * mount. */
#ifndef MOLT_UPGRADE_ANSWER_H
#define MOLT_UPGRADE_ANSWER_H

#include <sys/types.h>

#include "conf/record.h"

/* Sends what was written and empties the writer. A PID 1 that does not listen ends the child. */
void answer_send(int socket, struct record_writer *w);
void answer_text(int socket, const char *kind, const char *text);
void answer_unfit(int socket, const char *why);
/* A detached mount that is to be put onto the image's root at `path` (grafts.h). */
void answer_graft(int socket, const char *path, int mount);
/* How many records of kind "blocker" have been sent. */
unsigned answer_blockers(void);
/* The image is the one that runs; instead of "unfit", with the sentence that says so. */
void answer_same(int socket, const char *text);
void answer_image(int socket, int root, const char *leave);

/* One packet of any kind, with a descriptor (-1: none). 0 or negative errno. */
int answer_packet(int socket, const void *data, size_t length, int fd);

/*
 * For PID 1: receives one packet. Returns its length (0: the child has ended), -EAGAIN,
 * -EMFILE where a descriptor that came along could not be taken, or another negative errno; *ret_fd
 * is a descriptor that came along, the caller's, or -1.
 */
ssize_t answer_receive(int socket, char *buf, size_t size, int *ret_fd);

#endif
