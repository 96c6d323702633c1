/* SPDX-License-Identifier: MIT */
/*
 * From a system that runs to single-user mode, as `telinit 1` asks for: every service is stopped,
 * but for those of devices and those that file systems are on, and what is left of them in the
 * tree, and of who was logged in, gets SIGTERM and then SIGKILL; then there is the root shell that
 * "single" on the kernel command line brings, and at its end the services are started again.
 */
#ifndef MOLT_INIT_SINGLE_H
#define MOLT_INIT_SINGLE_H

#include <stdbool.h>

#include "conf/record.h"
#include "kernel/error.h"

/* Returns at once. Fails with -EBUSY where an upgrade or a shutdown is under way. */
int single_begin(struct error *e);
/* Services are being stopped for it. */
bool single_is_coming(void);
void single_services_changed(void);

/* In the boot's record: it is a part of that, from the first moment on. */
void single_save(struct record_writer *w);
void single_load(const struct record *r);
/* A life after a crash goes on with it; or finds that the shell is there already. */
void single_resume(void);
void single_has_come(void);

#endif
