/* SPDX-License-Identifier: MIT */
/*
 * Device nodes of modules that are loaded when somebody opens them: /dev/fuse, /dev/net/tun. The
 * kernel makes no node for what it has not loaded; which they are stands in modules.devname, as
 * depmod(8) writes it ("fuse fuse c10:229"). A manager of devices gives them their owners when it
 * starts.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "conf/devname.h"
#include "init/stages/children.h"
#include "init/stages/tools.h"
#include "init/system.h"
#include "kernel/log.h"

static void make_directories(char *path)
{
	for (char *slash = strchr(path + strlen("/dev/"), '/'); slash;
		slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		(void)mkdir(path, 0755); /* mknod() says what is wrong */
		*slash = '/';
	}
}

static void make_node(const char *line, const char *place, void *failed)
{
	struct devname d;
	char path[sizeof(d.name) + sizeof("/dev/")];

	if (!devname_parse(line, &d))
		return;
	(void)snprintf(path, sizeof(path), "/dev/%s", d.name);
	make_directories(path);
	if (mknod(path, (d.block ? S_IFBLK : S_IFCHR) | 0600, makedev(d.major, d.minor)) == 0 ||
		errno == EEXIST)
		return;
	log_warning("%s: cannot make %s: %s", place, path, strerror(errno));
	*(int *)failed = 1;
}

int stage_make_nodes(void)
{
	struct utsname name;
	char path[sizeof(name.release) + 64];
	int failed = 0;

	/* The devices of a container are those of its host. */
	if (!sys.real || uname(&name) < 0)
		return 0;
	(void)umask(0022);
	(void)snprintf(path, sizeof(path), "/lib/modules/%s/modules.devname", name.release);
	file_lines(path, make_node, &failed);
	return failed;
}
