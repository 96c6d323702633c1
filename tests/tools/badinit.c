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
 *                              swap   says that it can, and puts /sbin/init.next in its place
 *   executed as PID 1          back   gives PID 1 back to the init it came from
 *                              older  is /sbin/init.next, which is told of no guard
 *                              segv   is killed by SIGSEGV
 *                              late   says that it is loaded, and is killed by SIGSEGV
 *                              abort  calls abort(3)
 *                              smash  destroys its stack, and what it thinks is the heap
 *                              exit   exits with code 127, as the loader does
 *                              leave  says that it is loaded, and where its _exit(2) is, and exits
 *                                     with code 3 by that
 *                              raw    the same, without libc
 *                              hang   sleeps for ever
 *                              spin   computes for ever
 *                              bare   closes all descriptors and is killed by SIGSEGV
 *                              clutter  opens others in their place, leaves its root, lowers its
 *                                     limits, and is killed by SIGSEGV
 *                              reboot reboots the system
 */
#include <err.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
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
	if (strcmp(how, "swap") == 0 && rename("/sbin/init.next", "/sbin/init") < 0)
		err(1, "rename");
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

/* As one that does not know an argument sees it. */
static void be_older(char *argv[])
{
	char *fewer[16] = {"init"};
	int n = 1;

	for (int i = 1; argv[i] && argv[i + 1] && n < 14; i += 2)
		if (strcmp(argv[i], "--molt-guard") != 0) {
			fewer[n++] = argv[i];
			fewer[n++] = argv[i + 1];
		}
	(void)execv("/sbin/init.next", fewer);
	err(1, "cannot be another init");
}

static void fault(void)
{
	static volatile uintptr_t nowhere = 8;

	*(volatile int *)nowhere = 1;
}

static void smash(void)
{
#if defined(__x86_64__)
	__asm__ volatile("xor %%esp, %%esp\n\tpush %%rax" ::: "memory");
#else
	__asm__ volatile("mov x0, #0\n\tmov sp, x0\n\tstr x0, [sp, #-16]!" ::: "x0", "memory");
#endif
}

/* As kernel/guard.c does it: --molt-guard FD came in. */
static void say_loaded(char *argv[], unsigned long address)
{
	char text[32] = "l";

	if (address)
		(void)snprintf(text, sizeof(text), "l%lu", address);
	for (int i = 1; argv[i] && argv[i + 1]; i += 2)
		if (strcmp(argv[i], "--molt-guard") == 0 &&
			write(atoi(argv[i + 1]), text, strlen(text)) < 0)
			err(1, "cannot tell the guard");
}

static void leave(const char *how, char *argv[])
{
	say_loaded(argv, (unsigned long)_exit);
	if (strcmp(how, "leave") == 0)
		_exit(3);
	(void)syscall(SYS_exit_group, 3);
}

static void clutter(void)
{
	struct rlimit few;

	for (int fd = 3; fd < 200; fd++)
		(void)dup2(0, fd);
	/* Not the hard one: nobody could raise that again without CAP_SYS_RESOURCE. */
	(void)getrlimit(RLIMIT_NOFILE, &few);
	few.rlim_cur = 3;
	(void)setrlimit(RLIMIT_NOFILE, &few);
	if (chroot("/proc") < 0 || chdir("/") < 0)
		err(1, "chroot");
	fault();
}

static void behave(const char *how, char *argv[])
{
	if (strcmp(how, "late") == 0)
		say_loaded(argv, 0);
	if (strcmp(how, "segv") == 0 || strcmp(how, "late") == 0)
		fault();
	if (strcmp(how, "abort") == 0)
		abort();
	if (strcmp(how, "smash") == 0)
		smash();
	if (strcmp(how, "leave") == 0 || strcmp(how, "raw") == 0)
		leave(how, argv);
	if (strcmp(how, "exit") == 0)
		_exit(127);
	while (strcmp(how, "hang") == 0)
		(void)pause();
	for (volatile unsigned n = 0; strcmp(how, "spin") == 0; n++)
		;
	if (strcmp(how, "bare") == 0) {
		(void)close_range(0, ~0U, 0);
		fault();
	}
	if (strcmp(how, "clutter") == 0)
		clutter();
	if (strcmp(how, "reboot") == 0)
		(void)reboot(RB_AUTOBOOT);
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
	behave(then, argv);
	if (strcmp(then, "older") == 0)
		be_older(argv);
	if (argc >= 5 && strcmp(then, "back") == 0)
		give_back(argv);
	return 1;
}
