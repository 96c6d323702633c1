/* SPDX-License-Identifier: MIT */
/*
 * What it takes to do something useful inside a stopped target: calls with memory for their
 * arguments, a way to its descriptor table, room in it. Internal to the injection.
 */
#ifndef MOLT_KERNEL_INJECT_SESSION_H
#define MOLT_KERNEL_INJECT_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "kernel/inject_target.h"

/* Descriptors in one message. Below the kernel's SCM_MAX_FD, 253. */
#define INJECT_CHUNK_MAX 200

/* Of the scratch memory, where it is a page of its own; on the stack it is less. */
#define INJECT_SCRATCH_BYTES 4096

/* What the scratch memory of the target holds; the pointers in it are the target's. */
struct inject_scratch {
	struct msghdr message;
	struct iovec iov;
	int pair[2];
	char here[4]; /* "." */
	char byte[4];
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(INJECT_CHUNK_MAX * sizeof(int))];
	} control;
};

struct inject_session {
	struct inject_target *t;
	uint64_t deadline_usec;
	struct error *e;
	int lost; /* the errno after which the target answers no more calls */
	uint64_t scratch; /* address in the target */
	bool on_stack; /* it is below the target's stack pointer, not a page of its own */
	char before[sizeof(struct inject_scratch)]; /* what was on the stack there */
	int pidfd;
	bool limit_raised;
	struct rlimit limit;
};

/*
 * Clean-up is safe after a failed open as well; what goes wrong in it is an error only if `r`, what
 * came before, is none.
 */
int inject_session_open(struct inject_session *s, int highest_target_fd);
int inject_session_close(struct inject_session *s, int r);

/* The raw result of a call in the target. Once that is lost, at once its errno: clean-up goes on.
 */
int64_t inject_call(
	struct inject_session *s, long number, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3);
/* The text of a call that failed; a lost target has its text already. Returns the errno. */
int inject_call_failed(struct inject_session *s, int64_t result, const char *what);
/* What goes wrong while cleaning up after a failure must not hide it. */
void inject_keep_first_error(struct inject_session *s, int r);

/* `size` bytes at `offset` of the scratch memory; all of it. 0 or -errno, with text. */
int inject_scratch_read(struct inject_session *s, void *buf, size_t size, size_t offset);
int inject_scratch_write(struct inject_session *s, const struct inject_scratch *scratch);
/* Something else into it, from its beginning: at most as large. */
int inject_scratch_put(struct inject_session *s, void *buf, size_t size);

/* The target's limit on descriptors as it was; inject_session_close() does it as well. */
int inject_session_restore_limit(struct inject_session *s);

#endif
