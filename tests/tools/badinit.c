/* SPDX-License-Identifier: MIT */
/*
 * An init that is not what it seems, in the place of an image's /sbin/init. What it does stands in
 * the image's /etc/badinit, two words:
 *
 *   asked with --check-state   yes    says that it can take over
 *                              no     says that it cannot, and why
 *                              crash  is killed by SIGSEGV
 *                              hang   does not answer
 *                              spoil  says that it can, and makes itself not executable
 *   executed as PID 1          back   gives PID 1 back to the init it came from
 */
#include <err.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static int answer(const char *how)
{
	struct rlimit none = {0, 0};

	if (strcmp(how, "no") == 0) {
		(void)fprintf(stderr, "a first line\nit is too cold in here\n");
		return 1;
	}
	if (strcmp(how, "crash") == 0) {
		(void)setrlimit(RLIMIT_CORE, &none);
		(void)raise(SIGSEGV);
	}
	while (strcmp(how, "hang") == 0)
		(void)pause();
	if (strcmp(how, "spoil") == 0 && chmod("/sbin/init", 0644) < 0)
		err(1, "chmod");
	(void)fprintf(stderr, "molt: this init can take over\n");
	return 0;
}

/* As init/reexec.c does it: --molt-state FD --molt-fallback FD came in, --molt-returned FD goes
 * out. */
static void give_back(char *const argv[])
{
	char root[16];
	char *back[] = {"init", argv[1], argv[2], "--molt-returned", root, NULL};
	char *environment[] = {NULL};

	(void)snprintf(root, sizeof(root), "%d", open("/", O_PATH | O_DIRECTORY));
	if (fchdir(atoi(argv[4])) < 0 || chroot(".") < 0)
		err(1, "cannot go back");
	(void)execve("/sbin/init", back, environment);
	err(1, "cannot go back to the old init");
}

int main(int argc, char *argv[])
{
	char how[16] = "yes", then[16] = "back";
	FILE *file = fopen("/etc/badinit", "re");

	if (file) {
		(void)!fscanf(file, "%15s %15s", how, then);
		(void)fclose(file);
	}
	if (argc == 3 && strcmp(argv[1], "--check-state") == 0)
		return answer(how);
	if (argc == 5 && strcmp(then, "back") == 0)
		give_back(argv);
	return 1;
}
