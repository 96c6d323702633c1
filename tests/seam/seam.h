/* SPDX-License-Identifier: MIT */
/*
 * The seam at the system calls: a library preloaded into PID 1 that stands between it (and the
 * libraries it uses) and libc. It counts the calls that can fail, and does something at the Nth of
 * them: it fails with a chosen errno, ends or crashes the process, or holds it while
 * the test does something to the machine.
 *
 * The test and every life of PID 1 share one file, mapped: struct seam. tests/system/seam.py has
 * the same layout.
 *
 * A life that begins on the root it came from, with --molt-returned, has neither that file nor this
 * library there, in /run: it has the same one from its image, built with SEAM_AWAY, which looks for
 * the file on the root of the system, and is for such a life after a crash alone.
 */
#ifndef MOLT_TESTS_SEAM_H
#define MOLT_TESTS_SEAM_H

#include <stdint.h>

#define SEAM_MAGIC 0x6d6f6c74
#define SEAM_LOG_MAX 65536
#define SEAM_ANY (-1)
#define SEAM_EVERYWHERE (-2)
/* What is farther away from the entry is no place in the program. */
#define SEAM_PROGRAM_BYTES (16 << 20)

enum seam_who { SEAM_INIT = 1, SEAM_CHILDREN = 2 };

enum seam_mode {
	SEAM_COUNT, /* nothing happens */
	SEAM_FAIL, /* the call is not made and fails with `argument` */
	/* The program crashes with the signal `argument` before the call, and once more at call
	 * `again` of the life after that. */
	SEAM_CRASH,
	SEAM_HOLD, /* before the call the process waits until `released` is set, 5 s at most */
	SEAM_EXIT, /* the process ends before the call */
	SEAM_EXIT_AFTER, /* the process ends after the call, before it knows how it ended */
	/* Task `site`, as PID 1 calls it, does not answer when it is to be let go, by any life,
	 * until the seam is disarmed; with `argument` not even its registers can be set. */
	SEAM_MUTE,
	SEAM_STUCK, /* writing the byte `argument` to the file with inode `nth` fails with EIO */
};

/* Which errors can happen to a call. */
enum seam_errors { SEAM_ENOMEM = 1, SEAM_EIO = 2, SEAM_EPERM = 4, SEAM_EBUSY = 8 };

struct seam_call {
	uint16_t name; /* index into names */
	uint16_t errors; /* enum seam_errors */
	int32_t site; /* return address, relative to the program's entry */
};

struct seam {
	uint32_t magic;
	uint32_t armed;
	uint32_t who; /* enum seam_who bits whose calls count */
	uint32_t mode;
	int32_t argument;
	uint32_t hit; /* 1: the Nth call came */
	uint32_t held; /* SEAM_HOLD: it waits */
	uint32_t released;
	uint64_t nth; /* 1 is the first of those that are meant */
	int32_t name; /* only calls of this name and from this place are meant; SEAM_ANY: all */
	int32_t site; /* SEAM_ANY: from within a library; SEAM_EVERYWHERE: from any */
	uint64_t count; /* so far, of all */
	uint64_t n_meant;
	uint64_t again; /* 0: no more */
	uint32_t lives; /* how many programs have mapped it as PID 1 */
	uint32_t n_names;
	char names[128][24];
	struct seam_call log[SEAM_LOG_MAX]; /* the first calls that counted */
};

#endif
