/* SPDX-License-Identifier: MIT */
/*
 * What the boot does before the services, one stage after the other: a table that can be read from
 * top to bottom. A stage is a quick function of PID 1, a child that does something slow or risky
 * within a time, or services that have to be up by a deadline; each may be done twice, for a life
 * after a crash begins it anew if it cannot know how it ended.
 */
#ifndef MOLT_INIT_STAGES_H
#define MOLT_INIT_STAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf/record.h"

struct stage {
	const char *name; /* one word: in the state, the log and `initctl blame` */
	const char *what; /* "mounting the local file systems" */
	void (*here)(void); /* in PID 1: before the child, or alone; may be NULL */
	int (*child)(void); /* its exit code is the result; NULL: there is no child */
	void (*after)(void); /* in PID 1, whatever became of the child; may be NULL */
	/* Names of services, ended by a NULL, that are started and waited for; instead of a child.
	 * They go on being services whatever becomes of the stage. May be NULL. */
	char *const *(*services)(void);
	/* of the child or the services; past it the boot goes on without waiting */
	uint64_t limit_usec;
	uint64_t (*limit)(void); /* what init.conf says instead; may be NULL */
	bool must; /* if it fails or is late, a person is asked for */
	bool tells; /* its child says by itself what it waits for */
};

extern const struct stage STAGES[];
extern const size_t N_STAGES;

/* Whether the person who booted has said so: molt.skip= on the kernel command line. */
bool stage_is_skipped(const struct stage *s);
/* For the child of a shutdown: what the next boot's stages take up. */
void stages_before_unmount(void);
/* N_STAGES: there is none of that name. */
size_t stage_find(const char *name);

/* What the stages keep themselves over a crash in the boot. */
void stages_save(struct record_writer *w); /* fields of the boot's record */
void stages_load(const struct record *r);
void stages_each_fd(int (*visit)(int fd));

#endif
