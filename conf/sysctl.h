/* SPDX-License-Identifier: MIT */
/* The lines of sysctl.d(5): what is to be written where below /proc/sys, and what wins. */
#ifndef MOLT_CONF_SYSCTL_H
#define MOLT_CONF_SYSCTL_H

#include <stdbool.h>
#include <stddef.h>

struct sysctl {
	char *path; /* below /proc/sys: "net/ipv4/conf/eth0.1/rp_filter"; may be a glob */
	char *value; /* NULL: that path is only kept from what globs say */
	bool glob;
	bool may_fail; /* "-": no word about it if it cannot be set */
};

struct sysctls {
	struct sysctl *items; /* in the order in which they are to be set; owned */
	size_t count;
};

/*
 * Adds one line; a comment or an empty line adds nothing. A path that is there already is replaced,
 * in its new place. Returns 0, -EINVAL for a line that makes no sense, -ENOMEM.
 */
int sysctls_add(struct sysctls *s, const char *line);
/* A path that a glob has matched is left to the line that names it. */
bool sysctls_names(const struct sysctls *s, const char *path);
void sysctls_done(struct sysctls *s);

#endif
