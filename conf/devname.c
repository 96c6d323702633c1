/* SPDX-License-Identifier: MIT */
#include "conf/devname.h"

#include <stdio.h>
#include <string.h>

/* mknod(2) would take any, but the kernel's numbers end there (include/linux/kdev_t.h). */
#define MAJOR_MAX 0xfffu
#define MINOR_MAX 0xfffffu

bool devname_parse(const char *line, struct devname *ret)
{
	struct devname d = {0};
	char type, end;

	if (*line == '#' || sscanf(line, "%*127s %127s %c%u:%u %c", d.name, &type, &d.major,
				    &d.minor, &end) != 4)
		return false;
	/* A name that leaves /dev is none. */
	if ((type != 'c' && type != 'b') || d.name[0] == '/' || strstr(d.name, "..") ||
		d.major > MAJOR_MAX || d.minor > MINOR_MAX)
		return false;
	d.block = type == 'b';
	*ret = d;
	return true;
}
