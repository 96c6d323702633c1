/* SPDX-License-Identifier: MIT */
#include "init/reexec.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "init/state.h"
#include "init/system.h"
#include "kernel/crash.h"
#include "kernel/environment.h"
#include "kernel/guard.h"
#include "kernel/log.h"
#include "kernel/util.h"
#include "services/notify.h"
#include "upgrade/upgrade.h"

static int take_fd(const char *text)
{
	uint64_t fd;

	return text && parse_u64(text, &fd) && fd < 1u << 20 && fcntl((int)fd, F_GETFD) >= 0
		       ? (int)fd
		       : -1;
}

static void take_word(struct life *l, const char *option, const char *value)
{
	if (strcmp(option, "--molt-notes") == 0)
		l->notes_fd = take_fd(value);
	else if (strcmp(option, "--molt-crashed") == 0)
		l->crashed = value;
	else if (strcmp(option, "--molt-crashes") == 0)
		l->crashes = value;
	else if (strcmp(option, "--molt-minimal") == 0)
		l->minimal = value;
	else if (strcmp(option, "--molt-shell") == 0)
		l->shell = value;
	else if (strcmp(option, "--molt-why") == 0)
		l->why = value;
	else if (strcmp(option, "--molt-end") == 0)
		l->end = value;
}

void life_parse(struct life *l, int argc, char **argv)
{
	*l = (struct life){.state_fd = -1,
		.fallback_root = -1,
		.real_root = -1,
		.guard = -1,
		.notes_fd = -1,
		.argc = argc,
		.argv = argv};
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
		else if (strcmp(l->argv[1], "--molt-guard") == 0)
			l->guard = fd;
		else
			take_word(l, l->argv[1], l->argv[2]);
		l->argv[2] = l->argv[0];
		l->argv += 2;
		l->argc -= 2;
	}
}

/*
 * The way back if the new init fails: this program, even if its file has been replaced, on the root
 * that it came from. `root` as upgrade_fallback_root().
 */
static int begin_guard(
	struct guard *ret, const char *state, int root, uint64_t timeout_usec, struct error *e)
{
	char real[16];
	char *argv[] = {"init", "--molt-state", (char *)state, "--molt-why", "", "--molt-guard", "",
		"--molt-returned", real, NULL};
	CLEANUP_FD int exe = open("/proc/self/exe", O_PATH | O_CLOEXEC);
	CLEANUP_FD int here = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct guard_fallback fallback = {.exe = exe,
		.root = root < 0 ? here : root,
		.kept = root < 0 ? -1 : here,
		.argv = argv,
		.why = 4,
		.channel = 6,
		.environment = environment_strict()};

	if (exe < 0 || here < 0)
		return error_set(e, errno, "cannot open %s", exe < 0 ? "/proc/self/exe" : "/");
	(void)snprintf(real, sizeof(real), "%d", here);
	if (root < 0)
		argv[7] = NULL;
	return guard_begin(ret, &fallback, timeout_usec, e);
}

int reexec(uint64_t timeout_usec, void (*unguarded)(const char *why), struct error *e)
{
	char state[16], fallback[16], channel[16];
	char *argv[] = {"init", "--molt-state", state, NULL, NULL, NULL, NULL, NULL};
	size_t n = 3;
	CLEANUP_FD int fd = state_snapshot();
	int root = upgrade_fallback_root();
	struct guard guard = {.channel = -1, .pidfd = -1};

	if (fd < 0)
		return error_set(e, fd, "cannot write down the state");
	state_keep_descriptors(true);
	(void)fd_set_cloexec(fd, false);
	(void)snprintf(state, sizeof(state), "%d", fd);
	(void)snprintf(fallback, sizeof(fallback), "%d", root);
	if (begin_guard(&guard, state, root, timeout_usec, e) < 0)
		unguarded(e->text);
	(void)snprintf(channel, sizeof(channel), "%d", guard.channel);
	if (root >= 0) {
		argv[n++] = "--molt-fallback";
		argv[n++] = fallback;
	}
	if (guard.channel >= 0) {
		argv[n++] = "--molt-guard";
		argv[n++] = channel;
	}
	notify_ask_for_pidfds(false);
	(void)execve(INIT_PATH, argv, environment_strict());
	notify_ask_for_pidfds(true);
	int r = error_set(e, errno, "cannot execute %s", INIT_PATH);
	guard_cancel(&guard);
	state_keep_descriptors(false);
	return r;
}

void reexec_end(const char *how)
{
	char word[16];
	char *argv[] = {"init", "--molt-end", word, NULL};

	(void)snprintf(word, sizeof(word), "%s", how);
	(void)execve(INIT_PATH, argv, environment_strict());
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
	(void)execve(INIT_PATH, argv, environment_strict());
	log_error("cannot execute the old %s either: %s", INIT_PATH, strerror(errno));
	if (fchdir(root) < 0 || chroot(".") < 0)
		log_error("cannot get back to the new root: %s", strerror(errno));
}

int reexec_come_back(const struct life *l, struct error *e)
{
	if (fchdir(l->real_root) < 0 || chroot(".") < 0)
		return error_set(e, errno, "cannot get back to the root of the system");
	crash_is_away_from(-1);
	(void)fd_close(l->real_root);
	return 0;
}
