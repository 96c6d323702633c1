/* SPDX-License-Identifier: MIT */
/*
 * The least that PID 1 can be, for when everything else crashes or cannot begin: it reads no state
 * and no configuration, allocates nothing, keeps every descriptor it was left with (so that the
 * services' sockets stay open), thaws the tree, buries the dead, and keeps a root shell on the
 * console. When that shell ends well, or on SIGTERM, the whole init is tried again with the state
 * there is. A crash in here begins it again, a second later.
 *
 * Ctrl-Alt-Del, and the signals that ask for it, power off or reboot: by SIGTERM and SIGKILL to
 * all.
 */
#ifndef MOLT_INIT_MINIMAL_H
#define MOLT_INIT_MINIMAL_H

/* `why` is for the person at the console; NULL for any of the three is the default. */
void minimal_run(const char *why, const char *console, const char *shell) __attribute__((noreturn));
/* SIGTERM to all but us, two seconds later SIGKILL: for an end that is all that is left to do. */
void minimal_end_processes(void);

#endif
