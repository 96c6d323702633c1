/* SPDX-License-Identifier: MIT */
/* Parents, and children that are not as others. */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "holder.h"

/* A stopped child: stays stopped, and its parent hears nothing of it. */

static pid_t child;

static void stopped_set_up(void)
{
	siginfo_t info;

	enter_directory();
	child = fork();
	if (child == 0) {
		(void)raise(SIGSTOP);
		check_cwd("the stopped process");
		_exit(*faults ? 1 : 0);
	}
	if (child < 0 || waitid(P_PID, (id_t)child, &info, WSTOPPED) < 0)
		err(1, "cannot stop a child");
}

static char state_of(pid_t pid)
{
	char path[64], text[256] = "";

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0)
		fault("cannot read %s", path);
	close(fd);
	char *end = strrchr(text, ')');
	return end ? end[2] : '?';
}

static void stopped_check(void)
{
	siginfo_t info = {0};
	int status;

	if (state_of(child) != 'T')
		fault("the stopped process is in state %c", state_of(child));
	if (waitid(P_PID, (id_t)child, &info, WEXITED | WSTOPPED | WCONTINUED | WNOHANG) < 0 ||
		info.si_pid != 0)
		fault("the parent of the stopped process heard %d", info.si_code);
	check_cwd("its parent");
	(void)kill(child, SIGCONT);
	if (waitpid(child, &status, 0) != child || status != 0)
		fault("the stopped process ended with %#x", status);
}

/* Parents in vfork(2) at any moment one may look */

long vfork_msec = 3;

/* In a thread that stands in the directory by itself: who is to be moved is who waits. */
static void *vfork_for_ever(void *unused)
{
	struct timespec pause = {0, vfork_msec < 3000 ? vfork_msec * 300000 : 0};

	(void)unused;
	if (unshare(CLONE_FS) < 0)
		err(1, "unshare");
	enter_directory();
	(void)pthread_barrier_wait(&barrier);
	while (!over) {
		int status;
		pid_t pid = vfork();
		if (pid == 0) {
			struct timespec span = {vfork_msec / 1000, vfork_msec % 1000 * 1000000};
			(void)nanosleep(&span, NULL);
			(void)execl("/bin/true", "true", NULL);
			_exit(127);
		}
		if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
			fault("vfork: pid %d, %s, status %#x", (int)pid, strerror(errno), status);
		(void)nanosleep(&pause, NULL);
	}
	check_cwd("the parent");
	return NULL;
}

static void vfork_set_up(void)
{
	begin_thread(vfork_for_ever);
}

const struct subject CHILDREN[] = {
	{"stopped", stopped_set_up, stopped_check},
	{"vfork", vfork_set_up, thread_check},
	{0},
};
