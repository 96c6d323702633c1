/* SPDX-License-Identifier: MIT */
/* A line of modules.devname, which depmod(8) writes: the node that a module of the kernel is loaded
 * by when it is opened. */
#ifndef MOLT_CONF_DEVNAME_H
#define MOLT_CONF_DEVNAME_H

#include <stdbool.h>

struct devname {
	char name[128]; /* below /dev: "net/tun" */
	bool block;
	unsigned major, minor;
};

/* False: a comment, an empty line, or none that makes sense, and *ret is untouched. Pure. */
bool devname_parse(const char *line, struct devname *ret);

#endif
