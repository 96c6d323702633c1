/* SPDX-License-Identifier: MIT */
/*
 * Which hooks an image has: the executables of /etc/molt/NAME.d and /usr/lib/molt/NAME.d, in
 * lexical order of their names. A name in /etc hides the same one in /usr/lib; a link to /dev/null
 * masks it. Hidden files, editors' and package managers' backups are no hooks.
 */
#ifndef MOLT_UPGRADE_HOOK_LIST_H
#define MOLT_UPGRADE_HOOK_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "kernel/error.h"

enum hook_kind {
	HOOK_PRE_UPGRADE, /* of the running image, before anything is touched */
	HOOK_POST_PIVOT, /* of the new image, when the services are on it */
	HOOK_COMMIT, /* of the image that is kept: makes it the boot default */
	HOOK_BOOT_GOOD, /* of the image that was booted, once its services are up */
};

#define HOOKS_MAX 256

struct hook_list {
	char *paths[HOOKS_MAX]; /* on the image, owned */
	size_t count;
};

const char *hook_kind_name(
	enum hook_kind kind); /* "pre-upgrade", "post-pivot", "commit", "boot-good" */

/* Whether the running image has a directory for them. One call or two: PID 1 may ask. */
bool hook_list_may_have(enum hook_kind kind);

/*
 * Reads the list of the image at `root`, for a child: it may take long. `warn` is called for each
 * file that was meant as a hook and cannot be one. 0 or negative errno with text; freed by
 * hook_list_free() in any case.
 */
int hook_list_read(struct hook_list *ret, int root, enum hook_kind kind,
	void (*warn)(void *userdata, const char *text), void *userdata, struct error *e);
void hook_list_free(struct hook_list *l);

#endif
