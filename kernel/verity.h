/* SPDX-License-Identifier: MIT */
/*
 * dm-verity, beside what libmount does of it: whether there is any, and that no mapping stays of a
 * mount that was broken off. For a child of PID 1.
 */
#ifndef MOLT_KERNEL_VERITY_H
#define MOLT_KERNEL_VERITY_H

#include <stdbool.h>
#include <sys/types.h>

#include "kernel/error.h"

/* What libmount needs for it, in the order in which it needs it. */
struct verity_support {
	bool libmount; /* was built with it */
	bool cryptsetup; /* the library that it loads for it can be loaded */
	bool mapper; /* the kernel has device mappers */
	bool target; /* ... and this kind of them */
};

/* Looks; has the kernel load the modules. */
struct verity_support verity_look(void);
/* 0, or -EOPNOTSUPP with a text that says what is missing. */
int verity_check(const struct verity_support *s, struct error *e);

/*
 * libmount makes a mapping, mounts it, and only then tells the kernel to remove it with its last
 * user. Whoever is killed in between leaves it behind. So another process stands by that knows what
 * mappings there were, and has those that libmount has made since removed, as soon as nobody uses
 * them.
 */
struct verity_watch {
	pid_t pid;
	int sign; /* the end of this socket is the sign */
};

/* 0 or negative errno. */
int verity_watch_begin(struct verity_watch *ret);
/* It was not broken off. */
void verity_watch_end(struct verity_watch *w);

#endif
