/* SPDX-License-Identifier: MIT */
#include "init/reexec.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "init/state.h"
#include "init/system.h"
#include "kernel/log.h"
#include "kernel/util.h"
#include "upgrade/upgrade.h"

static char *const ENVIRONMENT[] = {
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=linux", NULL};

static int take_fd(const char *text)
{
	uint64_t fd;

	return text && parse_u64(text, &fd) && fd < 1u << 20 && fcntl((int)fd, F_GETFD) >= 0
		       ? (int)fd
		       : -1;
}

void life_parse(struct life *l, int argc, char **argv)
{
	*l = (struct life){
		.state_fd = -1, .fallback_root = -1, .real_root = -1, .argc = argc, .argv = argv};
	/* Pairs, first in line: a "---" or "single" of the kernel's comes after and never hides
	 * them. */
	while (l->argc >= 3 && starts_with(l->argv[1], "--molt-")) {
		int fd = take_fd(l->argv[2]);
		if (strcmp(l->argv[1], "--molt-state") == 0)
			l->state_fd = fd;
		else if (strcmp(l->argv[1], "--molt-fallback") == 0)
			l->fallback_root = fd;
		else if (strcmp(l->argv[1], "--molt-returned") == 0)
			l->real_root = fd;
		else if (strcmp(l->argv[1], "--molt-end") == 0)
			l->end = l->argv[2];
		l->argv[2] = l->argv[0];
		l->argv += 2;
		l->argc -= 2;
	}
}

int reexec(struct error *e)
{
	char state[16], fallback[16];
	char *argv[] = {"init", "--molt-state", state, "--molt-fallback", fallback, NULL};
	CLEANUP_FD int fd = state_snapshot();
	int root = upgrade_fallback_root();

	if (fd < 0)
		return error_set(e, fd, "cannot write down the state");
	(void)snprintf(state, sizeof(state), "%d", fd);
	(void)snprintf(fallback, sizeof(fallback), "%d", root);
	if (root < 0)
		argv[3] = NULL;
	state_keep_descriptors(true);
	(void)fd_set_cloexec(fd, false);
	(void)execve(INIT_PATH, argv, ENVIRONMENT);
	int r = error_set(e, errno, "cannot execute %s", INIT_PATH);
	state_keep_descriptors(false);
	return r;
}

void reexec_end(const char *how)
{
	char word[16];
	char *argv[] = {"init", "--molt-end", word, NULL};

	(void)snprintf(word, sizeof(word), "%s", how);
	(void)execve(INIT_PATH, argv, ENVIRONMENT);
	log_error("cannot execute %s: %s", INIT_PATH, strerror(errno));
}

void reexec_give_back(const struct life *l)
{
	char state[16], real[16];
	char *argv[] = {"init", "--molt-state", state, "--molt-returned", real, NULL};
	int root = open("/", O_PATH | O_DIRECTORY);

	if (l->fallback_root < 0 || root < 0)
		return;
	(void)snprintf(state, sizeof(state), "%d", l->state_fd);
	(void)snprintf(real, sizeof(real), "%d", root);
	/* The old init with the old libraries: for as long as it takes to load, PID 1 alone stands
	 * on the old root. */
	if (fchdir(l->fallback_root) < 0 || chroot(".") < 0)
		return;
	(void)execve(INIT_PATH, argv, ENVIRONMENT);
	log_error("cannot execute the old %s either: %s", INIT_PATH, strerror(errno));
	if (fchdir(root) < 0 || chroot(".") < 0)
		log_error("cannot get back to the new root: %s", strerror(errno));
}

int reexec_come_back(const struct life *l, struct error *e)
{
	if (fchdir(l->real_root) < 0 || chroot(".") < 0)
		return error_set(e, errno, "cannot get back to the root of the system");
	(void)fd_close(l->real_root);
	return 0;
}
