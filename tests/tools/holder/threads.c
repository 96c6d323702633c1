/* SPDX-License-Identifier: MIT */
/* Threads: some that share less than usual, many, and one that is left alone. */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "holder.h"

/* Threads that share less than usual */

static pthread_t thread;
pthread_barrier_t barrier;

static void wait_until_over(void)
{
	while (!over)
		(void)usleep(1000);
}

static void *own_fs_thread(void *unused)
{
	(void)unused;
	if (unshare(CLONE_FS) < 0)
		err(1, "unshare");
	enter_directory();
	(void)pthread_barrier_wait(&barrier);
	wait_until_over();
	check_cwd("the thread");
	return NULL;
}

static void *own_files_thread(void *unused)
{
	(void)unused;
	if (unshare(CLONE_FILES) < 0)
		err(1, "unshare");
	open_fds();
	(void)pthread_barrier_wait(&barrier);
	wait_until_over();
	check_fds("the thread");
	return NULL;
}

void begin_thread(void *(*run)(void *))
{
	(void)pthread_barrier_init(&barrier, NULL, 2);
	if (pthread_create(&thread, NULL, run, NULL) != 0)
		errx(1, "pthread_create");
	(void)pthread_barrier_wait(&barrier);
}

static void fsthread_set_up(void)
{
	begin_thread(own_fs_thread);
}

static void filesthread_set_up(void)
{
	begin_thread(own_files_thread);
	if (fcntl(fds[0], F_GETFD) >= 0)
		errx(1, "the table is not the thread's own");
}

void thread_check(void)
{
	(void)pthread_join(thread, NULL);
}

/* Many threads, some busy: what they compute is right, in whichever registers they do it */

#define N_THREADS 60
#define N_BUSY 4

static pthread_t crowd[N_THREADS];

static double compute(void)
{
	double x = 0.25;
	uint64_t y = 1;

	for (int i = 0; i < 100000; i++) {
		x = 3.9 * x * (1 - x);
		y = y * 6364136223846793005u + 1442695040888963407u;
	}
	return x + (double)y;
}

static void *busy(void *unused)
{
	double expected = compute();

	(void)unused;
	while (!over)
		if (compute() != expected)
			fault("a busy thread has computed nonsense");
	return NULL;
}

static void *idle(void *unused)
{
	struct timespec span = {0, 20000000};

	(void)unused;
	while (!over)
		if (nanosleep(&span, NULL) < 0)
			fault("an idle thread: %s (%d)", strerror(errno), errno);
	return NULL;
}

static void threads_set_up(void)
{
	enter_directory();
	open_fds();
	for (size_t i = 0; i < N_THREADS; i++)
		if (pthread_create(&crowd[i], NULL, i < N_BUSY ? busy : idle, NULL) != 0)
			errx(1, "pthread_create");
}

static void threads_check(void)
{
	for (size_t i = 0; i < N_THREADS; i++)
		(void)pthread_join(crowd[i], NULL);
	check_cwd("the process");
	check_fds("the process");
}

/* The first thread has ended: a zombie without anything, until the other one, which has it all,
 * ends too. */

static void check_leader(void)
{
	char path[64], text[256] = "";

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)getpid());
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0)
		fault("cannot read %s", path);
	close(fd);
	const char *end = strrchr(text, ')');
	if (!end || end[2] != 'Z')
		fault("the first thread is no zombie: %s", text);
}

static void *outlive_leader(void *unused)
{
	(void)unused;
	go_on();
	return NULL;
}

static void leaderless_set_up(void)
{
	enter_directory();
	open_fds();
	if (pthread_create(&thread, NULL, outlive_leader, NULL) != 0)
		errx(1, "pthread_create");
	(void)syscall(SYS_exit, 0);
}

static void leaderless_check(void)
{
	check_leader();
	check_cwd("the thread");
	check_fds("the thread");
}

const struct subject THREADS[] = {
	{"fsthread", fsthread_set_up, thread_check},
	{"filesthread", filesthread_set_up, thread_check},
	{"threads", threads_set_up, threads_check},
	{"leaderless", leaderless_set_up, leaderless_check},
	{0},
};
