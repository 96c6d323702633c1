/* SPDX-License-Identifier: MIT */
/* The socket of sd_notify(3): datagrams of KEY=value lines, believed only from a service's own
 * cgroup. What they do is in notified.c. */
#ifndef MOLT_SERVICES_NOTIFY_H
#define MOLT_SERVICES_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>

#include "kernel/error.h"

#define NOTIFY_SOCKET_PATH "/run/molt/notify"

/*
 * Over a crash (inbox.h): each message is noted with this hook before it counts as taken; NULL:
 * nobody takes notes. How many were, for the state: a note with a higher number is not in it.
 */
struct letter;
extern void (*notify_heard)(const struct letter *l);
uint64_t notify_count(void);
void notify_set_count(uint64_t count);
/* Descriptors that came with a message and that nobody wants are closed only once the state has
 * what it did: the notes may name them till then. */
bool notify_has_spent(void);
void notify_close_spent(void);

/* Opens it at NOTIFY_SOCKET_PATH and watches it. */
int notify_open(struct error *e);
/* Takes up a socket that an exec carried over. */
int notify_adopt(int fd, struct error *e);
int notify_fd(void); /* -1: not open */
/*
 * Whether each message comes with a pidfd of its sender, by which one that has ended since can be
 * told, where the kernel knows that (Linux 6.16). The socket keeps it: not to be left on for a life
 * of another version, which may not know that there is something to close.
 */
void notify_ask_for_pidfds(bool on);

#endif
