/* SPDX-License-Identifier: MIT */
/* Users and files that the image's packages want to be there: by the tools of systemd, which need
 * no systemd to run. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "init/stages/children.h"
#include "init/stages/tools.h"
#include "init/system.h"
#include "kernel/log.h"
#include "kernel/util.h"

/* sysexits.h. To systemd's own services these are success: lines that make no sense, and files that
 * could not be made, such as on a read-only root. */
#define EXIT_DATA 65
#define EXIT_CANNOT_CREATE 73

static int run(const char *path, char *const argv[])
{
	/* Its words by their weight, rather than all on the console. */
	if (sys.real)
		(void)setenv("SYSTEMD_LOG_TARGET", "kmsg", 1);
	int code = tool_run(path, argv);
	if (code == EXIT_DATA || code == EXIT_CANNOT_CREATE) {
		log_info("%s: not all of it could be made (exit code %d)", argv[0], code);
		return 0;
	}
	if (code != 0)
		log_error("%s ended with exit code %d", argv[0], code);
	return code != 0;
}

int stage_make_users(void)
{
	static char *const ARGV[] = {(char *)"systemd-sysusers", NULL};
	const char *path = tool_find(ARGV[0]);

	/* The users of a read-only image are in it. */
	return path && access("/etc", W_OK) == 0 ? run(path, ARGV) : 0;
}

static int make_directory(const char *path, mode_t mode)
{
	struct stat st;

	if (mkdir(path, mode) < 0 && errno != EEXIST)
		return errno == EROFS || errno == ENOENT ? 0 : -errno;
	if (lstat(path, &st) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode) || (st.st_mode & 07777) == mode)
		return 0;
	return chmod(path, mode) < 0 && errno != EROFS ? -errno : 0;
}

/* What programs take for granted, where nobody else makes it. */
static int make_the_least(void)
{
	static const char *const DIRECTORIES[] = {"/tmp", "/var/tmp", "/run/lock"};
	int failed = 0;

	for (size_t i = 0; i < ARRAY_SIZE(DIRECTORIES); i++) {
		int r = make_directory(DIRECTORIES[i], 01777);
		if (r < 0)
			log_error("cannot make %s: %s", DIRECTORIES[i], strerror(-r));
		failed |= r < 0;
	}
	if (symlink("/run", "/var/run") < 0 && errno != EEXIST && errno != EROFS && errno != ENOENT)
		log_warning("cannot make /var/run: %s", strerror(errno));
	return failed;
}

int stage_make_files(void)
{
	static char *const DEVICES[] = {(char *)"systemd-tmpfiles", (char *)"--create",
		(char *)"--boot", (char *)"--prefix=/dev", NULL};
	/* systemd makes nologin(5) early and takes it away once it is up
	 * (systemd-user-sessions.service): here nobody would. It is `shutdown`'s, on the way down.
	 */
	static char *const ALL[] = {(char *)"systemd-tmpfiles", (char *)"--create",
		(char *)"--remove", (char *)"--boot", (char *)"--exclude-prefix=/dev",
		(char *)"--exclude-prefix=/run/nologin", NULL};
	const char *path = tool_find(ALL[0]);

	if (!path)
		return make_the_least();
	return run(path, DEVICES) | run(path, ALL);
}
