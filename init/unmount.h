/* SPDX-License-Identifier: MIT */
/* The last child of a shutdown: swap off, unmount what can be, the rest read-only, sync. */
#ifndef MOLT_INIT_UNMOUNT_H
#define MOLT_INIT_UNMOUNT_H

void unmount_everything(void) __attribute__((noreturn));

#endif
