/* SPDX-License-Identifier: MIT */
/*
 * What becomes of a PID 1 that crashes: SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGTRAP and
 * SIGSYS end in a handler that executes the running program anew, with every descriptor open and
 * the last state that was written down. It runs on a stack of its own, makes system calls and
 * nothing else, and reads no memory but this file's.
 *
 * Where the crash has to be cleaned up after first (the blackout), a recovery point takes it
 * instead. A signal that somebody sent (kill(2) by root, or from outside of a PID namespace) is no
 * fault of what is being done: it waits for the end of the loop's turn, so that nothing is lost
 * half-way. A second one does not wait: PID 1 may hang in that turn.
 *
 * Too many crashes in too short a time (crash_set_interval()) execute the program with
 * --molt-minimal: reap, offer a shell, and nothing that could crash.
 */
#ifndef MOLT_KERNEL_CRASH_H
#define MOLT_KERNEL_CRASH_H

#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>

/* So many within the interval are a crash loop. */
#define CRASH_LOOP_TIMES 3
#define CRASH_LOOP_USEC 10000000ULL

/*
 * Takes the signals; before anything else in a life. Remembers "/" as the root whose libraries this
 * program runs with. `give_up` is where it ends if nothing can be executed: it must not return.
 */
void crash_open(void (*give_up)(void));
/* Opens the running program, to be executed even when its file has gone or is another by now.
 * crash_open() does, and whoever mounts /proc. */
void crash_find_program(void);

/* What the next life begins with: descriptors of the state and of the notes written since; -1. */
void crash_set_state(int state_fd, int notes_fd);
/* Until further notice a crash gives PID 1 back to /sbin/init below `root`, with --molt-returned: a
 * new init that has not taken up its state yet. -1: no more. */
void crash_give_back_to(int root);
/* The program stands on another root than the system, to which this one is open: --molt-returned.
 * So does the next life, if this one crashes before it has gone back. -1: no more. */
void crash_is_away_from(int root);
/* For the shell of a minimal life. */
void crash_set_rescue(const char *console, const char *shell);
/* The system is going down, "poweroff", "reboot" or "halt": a life that begins without a state, or
 * after too many crashes, gets --molt-end with that word. */
void crash_set_end(const char *how);
/* The kernel's, from argv[1] on: for a life that begins without a state. Copied; what is too long
 * or too many is left out. */
void crash_set_arguments(int argc, char *const *argv);
/* 0: no loop is one. */
void crash_set_interval(uint64_t usec);
/* The times of former crashes, as they came with --molt-crashes; NULL: none. */
void crash_set_history(const char *text);
/* What the life before ended by, as it came with --molt-crashed: for crash_start_over(); NULL: of a
 * crash that was none. */
void crash_set_cause(const char *text);

/* A descriptor that is readable once crash_asked(); -1 if there is none. */
int crash_wake_fd(void);
/* Somebody has sent such a signal: call crash_now() at the end of this turn. The signal; 0: no. */
int crash_asked(void);
void crash_now(int signal) __attribute__((noreturn));
/* The whole program again, with the state there is and no history: out of a minimal life. Returns
 * if it cannot be executed. */
void crash_start_over(void);

/*
 * Recovery: `if (sigsetjmp(point, 1) == 0) { crash_recover_at(&point); ... } else { crashed }`. The
 * point is used once and then gone. NULL: no point. Returns the one that was in place.
 */
sigjmp_buf *crash_recover_at(sigjmp_buf *point);
/* The signal that led to the recovery point. */
int crash_signal(void);

/* Descriptors of cgroup.freeze files, each of which gets a "0" before anything is executed. Past
 * the most that it can remember they are ignored. */
void crash_thaw_add(int freeze_fd);
void crash_thaw_remove(int freeze_fd);

#endif
