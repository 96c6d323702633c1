/* SPDX-License-Identifier: MIT */
/*
 * Families that multiply without pause, to race with whoever walks over all processes. A family
 * that was left behind on an old root stays there, child after child, and can be seen from outside.
 *
 *   FORKS    families in which each process forks its successor and ends
 *   SPAWNS   the same by posix_spawn(3): vfork(2) and an exec
 *   BURSTS   parents that stay, whose children come and go
 *
 * Prints "ready", and at the end of its standard input "forks NUMBER"; then all of it ends.
 *
 * usage: forkstorm FORKS SPAWNS BURSTS
 */
#include <err.h>
#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define COUNTER_FD 3

extern char **environ;
static _Atomic uint64_t *counter;

/* Shared by descriptor, not by inheritance: it has to outlive an exec. */
static void open_counter(void)
{
	counter = mmap(NULL, sizeof(*counter), PROT_READ | PROT_WRITE, MAP_SHARED, COUNTER_FD, 0);
	if (counter == MAP_FAILED)
		err(1, "mmap");
}

static void make_counter(void)
{
	int fd = memfd_create("forks", 0);

	if (fd < 0 || ftruncate(fd, sizeof(*counter)) < 0)
		err(1, "memfd_create");
	if (fd != COUNTER_FD && dup2(fd, COUNTER_FD) < 0)
		err(1, "dup2");
	open_counter();
}

static void fork_for_ever(void)
{
	for (;;) {
		pid_t pid = fork();

		if (pid > 0)
			_exit(0);
		if (pid == 0)
			(*counter)++;
	}
}

static void spawn_successor(char *program)
{
	char *argv[] = {program, "successor", NULL};
	pid_t pid;

	while (posix_spawn(&pid, program, NULL, NULL, argv, environ) != 0)
		;
	(*counter)++;
	_exit(0);
}

static void burst_for_ever(void)
{
	for (;;) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(0);
		(*counter)++;
		while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
}

enum kind { FORKS, SPAWNS, BURSTS };

static void begin_family(enum kind kind, char *program)
{
	if (fork() != 0)
		return;
	switch (kind) {
	case FORKS:
		fork_for_ever();
		return;
	case SPAWNS:
		spawn_successor(program);
		return;
	case BURSTS:
		burst_for_ever();
		return;
	}
}

/* Their parents end at once, so all of them become children of ours: nobody else's work. */
static void reap(int signal)
{
	int saved = errno;

	(void)signal;
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
	errno = saved;
}

static void wait_for_end_of_input(void)
{
	char byte;
	ssize_t n;

	do
		n = read(STDIN_FILENO, &byte, 1);
	while (n > 0 || (n < 0 && errno == EINTR));
}

int main(int argc, char *argv[])
{
	struct sigaction action = {.sa_handler = reap, .sa_flags = SA_RESTART};

	if (argc == 2 && strcmp(argv[1], "successor") == 0) {
		open_counter();
		spawn_successor(argv[0]);
	}
	if (argc != 4)
		errx(2, "usage: forkstorm FORKS SPAWNS BURSTS");
	if (setpgid(0, 0) < 0 || prctl(PR_SET_CHILD_SUBREAPER, 1) < 0 ||
		sigaction(SIGCHLD, &action, NULL) < 0)
		err(1, "cannot set up");
	make_counter();
	for (int kind = FORKS; kind <= BURSTS; kind++)
		for (int i = 0; i < atoi(argv[1 + kind]); i++)
			begin_family((enum kind)kind, argv[0]);
	(void)!write(STDOUT_FILENO, "ready\n", 6);
	wait_for_end_of_input();
	(void)printf("forks %llu\n", (unsigned long long)*counter);
	(void)fflush(stdout);
	(void)kill(0, SIGKILL);
}
