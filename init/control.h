/* SPDX-License-Identifier: MIT */
/*
 * The socket that initctl talks to (conf/protocol.h). A client asks once; its answer may take as
 * long as an upgrade does, through an exec of PID 1. Clients are carried over by descriptor.
 */
#ifndef MOLT_INIT_CONTROL_H
#define MOLT_INIT_CONTROL_H

#include <stdbool.h>
#include <stddef.h>

#include "conf/record.h"
#include "kernel/error.h"

struct client; /* opaque */

int control_open(struct error *e);

/* Sends one record; queued where the client is slow, within bounds: one that does not read is
 * dropped. */
void control_send(struct client *c, const char *text, size_t length);
/* Writes out and empties the writer. */
void control_send_record(struct client *c, struct record_writer *w);
/* The last record: ends the conversation. */
void control_finish(struct client *c, const char *result, const char *text);

/* Keeps the client until the service it asked about has settled. */
void control_wait(struct client *c, const char *verb, const char *unit);
/* The one that waits with just these; NULL: it has gone. */
struct client *control_waiting_client(const char *verb, const char *unit);
/* The clients that wait for the end of an upgrade, one after the other, from NULL to NULL: who
 * asked for it, and who has asked to roll it back meanwhile. */
struct client *control_next_upgrade_client(struct client *after);
void control_set_upgrade_client(struct client *c);

/* A service has changed: some client may have waited for that. */
void control_services_changed(void);

bool control_is_root(const struct client *c);

void control_save(struct record_writer *w);
int control_load(const struct record *r, struct error *e);
int control_load_client(const struct record *r, struct error *e);
/* After a crash: takes a descriptor that no state names if it is a client's; says whether it was.
 */
bool control_adopt_stray(int fd);
/* And this request was being worked on when PID 1 crashed: answered, not tried again. */
void control_load_request(const struct record *r);
/* A new life, everything loaded: answers those who asked for just that. `why` is not NULL if the
 * exec failed. */
void control_resume(const char *why);
/* After a crash, and before that: an upgrade that was not begun is not begun again. */
void control_crashed(void);
void control_each_fd(int (*visit)(int fd));

#endif
