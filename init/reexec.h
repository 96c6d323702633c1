/* SPDX-License-Identifier: MIT */
/* One PID 1 becomes another: execve(2) in place, the state in a sealed memfd, descriptors by
 * number. */
#ifndef MOLT_INIT_REEXEC_H
#define MOLT_INIT_REEXEC_H

#include <stdint.h>

#include "kernel/error.h"

#define INIT_PATH "/sbin/init"

/* What a life was begun with, from its arguments. They come before everything else in argv. */
struct life {
	int state_fd; /* --molt-state FD; -1: a boot */
	int fallback_root; /* --molt-fallback FD: the root to go back to if the state cannot be
			      taken; named in the state too, and its; -1 */
	int real_root; /* --molt-returned FD: we are that way back; the root of the system; -1 */
	int guard; /* --molt-guard FD: whom to tell that the state is taken up (guard.h); -1 */
	const char *why; /* --molt-why TEXT: we are brought back, and what the new init did ("was
			    killed by SIGSEGV ..."); NULL */
	const char *
		crashed; /* --molt-crashed "SIGNAL WHERE ADDRESS FAULT": of the life before; NULL */
	int notes_fd; /* --molt-notes FD: what came after that state was written; -1 */
	const char *crashes; /* --molt-crashes USEC,...: when (CLOCK_MONOTONIC); NULL */
	const char *minimal; /* --molt-minimal CONSOLE: reap, and a shell there; NULL */
	const char *shell; /* --molt-shell PATH; NULL */
	const char *end; /* --molt-end poweroff|reboot|halt: all that is left to do; NULL */
	int argc; /* what is left: the kernel's */
	char **argv;
};

void life_parse(struct life *l, int argc, char **argv);

/*
 * Does not return, unless it fails: then everything is as before, -errno with text. The exec is
 * guarded: a new init that does not get as far as taking up the state, within `timeout_usec`, is
 * replaced by this very program, on the root it came from. Without a guard it goes on all the same,
 * and `unguarded` is told why.
 */
int reexec(uint64_t timeout_usec, void (*unguarded)(const char *why), struct error *e);

/* The end of a shutdown, by whatever /sbin/init is now (see unmount.h). Returns only if it fails.
 */
void reexec_end(const char *how);

/* The new init cannot take the state: gives PID 1 back to the init it came from. Returns only if
 * that fails too. */
void reexec_give_back(const struct life *l);
/* We are that init: back into the root of the system. */
int reexec_come_back(const struct life *l, struct error *e);

#endif
