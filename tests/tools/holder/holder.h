/* SPDX-License-Identifier: MIT */
/* What the subjects of holder share. */
#ifndef HOLDER_H
#define HOLDER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* Each sets up, and checks at the end. */
struct subject {
	const char *name;
	void (*set_up)(void);
	void (*check)(void);
};

/* Each list ends with one without a name. */
extern const struct subject DIRECTORIES[], THREADS[], WAITS[], PERMISSIONS[], CHILDREN[], ODD[];

extern const char *directory; /* the one of the image that is held */
extern atomic_bool over; /* the time to check has come */
extern long vfork_msec;

/* Says "ready", waits for the end of the standard input, checks, tells, and ends the process. */
void go_on(void) __attribute__((noreturn));

/* check.c */

#define N_FDS 4
extern char faults[4096]; /* what should not have been; empty if all is well */
extern int fds[N_FDS];

void fault(const char *format, ...) __attribute__((format(printf, 1, 2)));
void enter_directory(void);
void check_cwd(const char *whose);
void open_fds(void); /* of the directory, with different flags */
void check_fds(const char *whose);

/* threads.c: one thread more, which waits at the barrier when it is set up. */

extern pthread_barrier_t barrier;
void begin_thread(void *(*run)(void *));
void thread_check(void);

#endif
