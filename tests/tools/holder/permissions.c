/* SPDX-License-Identifier: MIT */
/* Who may not do everything: no privileges, system calls forbidden, a jail. */
#include <err.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "holder.h"

/* Without any privilege */

static const uid_t user = 65534;

static void drop_privileges(void)
{
	for (int capability = 0; prctl(PR_CAPBSET_READ, capability) >= 0; capability++)
		if (prctl(PR_CAPBSET_DROP, capability) < 0)
			err(1, "PR_CAPBSET_DROP");
	if (setresgid(user, user, user) < 0 || setresuid(user, user, user) < 0 ||
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		err(1, "cannot drop privileges");
}

static void nobody_set_up(void)
{
	enter_directory();
	open_fds();
	drop_privileges();
}

static void nobody_check(void)
{
	check_cwd("the process");
	check_fds("the process");
	if (getuid() != user || geteuid() != user)
		fault("became user %u", geteuid());
}

/* A working directory that it may not enter itself: it was there before it became somebody else. */
static void shutout_set_up(void)
{
	enter_directory();
	drop_privileges();
}

static void shutout_check(void)
{
	char path[4096];

	if (syscall(SYS_getcwd, path, sizeof(path)) < 0 && errno != ENOENT)
		fault("getcwd: %s", strerror(errno));
}

/* Anything but what it needs for its last words kills it. */
static void seccomp_set_up(void)
{
	static const int ALLOWED[] = {SYS_read, SYS_write, SYS_statx, SYS_getcwd, SYS_fcntl,
		SYS_exit_group, SYS_restart_syscall};
	struct sock_filter filter[2 + 2 * ARRAY_SIZE(ALLOWED)];
	size_t n = 0;

	filter[n++] = (struct sock_filter)BPF_STMT(
		BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	for (size_t i = 0; i < ARRAY_SIZE(ALLOWED); i++) {
		filter[n++] = (struct sock_filter)BPF_JUMP(
			BPF_JMP | BPF_JEQ | BPF_K, (unsigned)ALLOWED[i], 0, 1);
		filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	}
	filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
	struct sock_fprog program = {.len = (unsigned short)n, .filter = filter};
	enter_directory();
	open_fds();
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
		prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		err(1, "seccomp");
}

static void seccomp_check(void)
{
	check_cwd("the process");
	check_fds("the process");
}

/* A root of its own, a directory of the image */

static void jail_set_up(void)
{
	enter_directory();
	if (chroot(".") < 0)
		err(1, "chroot");
	directory = "/";
}

static void jail_check(void)
{
	check_cwd("the prisoner");
}

static void jailnobody_set_up(void)
{
	jail_set_up();
	drop_privileges();
}

const struct subject PERMISSIONS[] = {
	{"nobody", nobody_set_up, nobody_check},
	{"shutout", shutout_set_up, shutout_check},
	{"seccomp", seccomp_set_up, seccomp_check},
	{"jail", jail_set_up, jail_check},
	{"jailnobody", jailnobody_set_up, jail_check},
	{0},
};
