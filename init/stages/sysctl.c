/* SPDX-License-Identifier: MIT */
#include "conf/sysctl.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <string.h>

#include "init/stages/children.h"
#include "init/stages/tools.h"
#include "init/system.h"
#include "kernel/log.h"
#include "kernel/util.h"

#define PROC_SYS "/proc/sys/"

static int set(const struct sysctl *s, const char *path)
{
	char text[4096];
	int r;

	(void)snprintf(text, sizeof(text), "%s\n", s->value);
	r = file_write(AT_FDCWD, path, text);
	/* One that a kernel of another version or configuration does not have. */
	if (r == -ENOENT) {
		log_info("there is no %s to be set to %s", path, s->value);
		return 0;
	}
	if (r < 0 && !s->may_fail) {
		log_warning("cannot set %s to %s: %s", path, s->value, strerror(-r));
		return 1;
	}
	return 0;
}

static int set_matches(const struct sysctls *all, const struct sysctl *s, const char *pattern)
{
	glob_t found;
	int failed = 0;

	if (glob(pattern, GLOB_NOSORT, NULL, &found) != 0)
		return 0;
	for (size_t i = 0; i < found.gl_pathc; i++)
		if (!sysctls_names(all, found.gl_pathv[i] + strlen(PROC_SYS)))
			failed |= set(s, found.gl_pathv[i]);
	globfree(&found);
	return failed;
}

static int set_all(const struct sysctls *all)
{
	char path[512];
	int failed = 0;

	for (size_t i = 0; i < all->count; i++) {
		const struct sysctl *s = &all->items[i];
		if (!s->value)
			continue;
		(void)snprintf(path, sizeof(path), PROC_SYS "%s", s->path);
		failed |= s->glob ? set_matches(all, s, path) : set(s, path);
	}
	return failed;
}

static void take_line(const char *line, const char *place, void *data)
{
	int r = sysctls_add(data, line);

	if (r < 0)
		log_warning("%s: %s; it is left out", place,
			r == -EINVAL ? "no line of the form KEY=VALUE" : strerror(-r));
}

int stage_set_sysctls(void)
{
	struct sysctls all = {0};
	int failed;

	if (!sys.real) /* most of them are the whole machine's */
		return 0;
	dropin_lines("sysctl", take_line, &all);
	file_lines("/etc/sysctl.conf", take_line, &all);
	failed = set_all(&all);
	sysctls_done(&all);
	return failed;
}
