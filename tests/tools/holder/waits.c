/* SPDX-License-Identifier: MIT */
/* Calls that wait: none may end early, none with an error. */
#include <err.h>
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "holder.h"

/* Sleeps of a known length: none may end early, none with an error. */

#define SLEEP_MSEC 1500

static int64_t now_usec(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static const struct timespec SPAN = {SLEEP_MSEC / 1000, SLEEP_MSEC % 1000 * 1000000L};

static int sleep_relative(void)
{
	return nanosleep(&SPAN, NULL);
}

static int sleep_absolute(void)
{
	int64_t until = now_usec() + SLEEP_MSEC * 1000;
	struct timespec at = {until / 1000000, until % 1000000 * 1000};

	errno = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
	return errno ? -1 : 0;
}

static int sleep_poll(void)
{
	return poll(NULL, 0, SLEEP_MSEC);
}

static int sleep_select(void)
{
	struct timeval span = {SLEEP_MSEC / 1000, SLEEP_MSEC % 1000 * 1000};

	return select(0, NULL, NULL, NULL, &span);
}

static int sleep_futex(void)
{
	int word = 0;
	long r = syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &SPAN, NULL, 0);

	return r < 0 && errno == ETIMEDOUT ? 0 : -1;
}

static struct sleeper {
	const char *name;
	int (*sleep)(void);
	pthread_t thread;
} sleepers[] = {
	{.name = "nanosleep", .sleep = sleep_relative},
	{.name = "clock_nanosleep", .sleep = sleep_absolute},
	{.name = "poll", .sleep = sleep_poll},
	{.name = "select", .sleep = sleep_select},
	{.name = "futex", .sleep = sleep_futex},
};

static void *sleep_once(void *userdata)
{
	struct sleeper *s = userdata;
	int64_t begin = now_usec();
	int r = s->sleep();
	int code = errno;
	int64_t took = (now_usec() - begin) / 1000;

	if (r != 0)
		fault("%s: %s (%d) after %lld ms", s->name, strerror(code), code, (long long)took);
	if (took < SLEEP_MSEC || took > SLEEP_MSEC + 1000)
		fault("%s took %lld ms, not %d", s->name, (long long)took, SLEEP_MSEC);
	return NULL;
}

static void sleeper_set_up(void)
{
	enter_directory();
	for (size_t i = 0; i < ARRAY_SIZE(sleepers); i++)
		if (pthread_create(&sleepers[i].thread, NULL, sleep_once, &sleepers[i]) != 0)
			errx(1, "pthread_create");
}

static void sleeper_check(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(sleepers); i++)
		(void)pthread_join(sleepers[i].thread, NULL);
	check_cwd("the process");
}

/* Waits without end that end well, with what they waited for and nothing else. */

static int quiet_pipe[2], epoll_pipe[2];
static pthread_t readers[2];

static void *read_once(void *unused)
{
	char byte;
	ssize_t n = read(quiet_pipe[0], &byte, 1);

	(void)unused;
	if (n != 1)
		fault("read of a pipe: %zd, %s (%d)", n, strerror(errno), errno);
	return NULL;
}

static void *epoll_once(void *unused)
{
	struct epoll_event event = {.events = EPOLLIN};
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	(void)unused;
	if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, epoll_pipe[0], &event) < 0)
		err(1, "epoll");
	int n = epoll_wait(epoll, &event, 1, -1);
	if (n != 1)
		fault("epoll_wait without a timeout: %d, %s (%d)", n, strerror(errno), errno);
	return NULL;
}

static void waiter_set_up(void)
{
	enter_directory();
	if (pipe(quiet_pipe) < 0 || pipe(epoll_pipe) < 0 ||
		pthread_create(&readers[0], NULL, read_once, NULL) != 0 ||
		pthread_create(&readers[1], NULL, epoll_once, NULL) != 0)
		err(1, "cannot set up");
}

static void waiter_check(void)
{
	(void)!write(quiet_pipe[1], "", 1);
	(void)!write(epoll_pipe[1], "", 1);
	(void)pthread_join(readers[0], NULL);
	(void)pthread_join(readers[1], NULL);
	check_cwd("the process");
}

const struct subject WAITS[] = {
	{"sleeper", sleeper_set_up, sleeper_check},
	{"waiter", waiter_set_up, waiter_check},
	{0},
};
