/* SPDX-License-Identifier: MIT */
/* The entries in utmp(5) of services that are logins. */
#ifndef MOLT_SERVICES_SESSION_H
#define MOLT_SERVICES_SESSION_H

/* Whoever was logged in on that terminal has gone: noted by a child, which nobody waits for. */
void session_note_end(const char *line);

#endif
