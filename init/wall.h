/* SPDX-License-Identifier: MIT */
/* A word to everybody who is logged in: on each terminal that utmp(5) has a person at, and on each
 * other that a process has, gettys aside. */
#ifndef MOLT_INIT_WALL_H
#define MOLT_INIT_WALL_H

/* By a child, which nobody waits for: a terminal may be slow. `by`: who says it; "" or NULL: the
 * system. `extra`: their own words after ours; "" or NULL: none. */
void wall_send(const char *text, const char *by, const char *extra);

#endif
