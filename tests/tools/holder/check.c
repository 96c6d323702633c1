/* SPDX-License-Identifier: MIT */
/* What all subjects hold, and the checks of it. */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "holder.h"

const char *directory;
char faults[4096];
static pthread_mutex_t faults_lock = PTHREAD_MUTEX_INITIALIZER;
atomic_bool over;

void fault(const char *format, ...)
{
	va_list ap;

	(void)pthread_mutex_lock(&faults_lock);
	size_t used = strlen(faults);
	va_start(ap, format);
	(void)vsnprintf(faults + used, sizeof(faults) - used, format, ap);
	va_end(ap);
	(void)strncat(faults, "; ", sizeof(faults) - strlen(faults) - 1);
	(void)pthread_mutex_unlock(&faults_lock);
}

/* What is on which mount */

static uint64_t mount_of(int fd, const char *path)
{
	struct statx st = {0};

	if (statx(fd, path, *path ? 0 : AT_EMPTY_PATH, STATX_MNT_ID, &st) < 0)
		fault("statx of %d \"%s\": %s", fd, path, strerror(errno));
	return st.stx_mnt_id;
}

void check_cwd(const char *whose)
{
	char path[4096];

	if (mount_of(AT_FDCWD, ".") != mount_of(AT_FDCWD, "/"))
		fault("%s: the working directory is on another mount than /", whose);
	if (syscall(SYS_getcwd, path, sizeof(path)) < 0)
		fault("%s: getcwd: %s", whose, strerror(errno));
	else if (strcmp(path, directory) != 0)
		fault("%s: the working directory is %s", whose, path);
}

void enter_directory(void)
{
	if (chdir(directory) < 0)
		err(1, "chdir %s", directory);
}

/* Descriptors of a directory, with their flags */

static const int FLAGS[N_FDS] = {O_RDONLY, O_RDONLY | O_CLOEXEC, O_PATH, O_PATH | O_CLOEXEC};
int fds[N_FDS];

void open_fds(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(FLAGS); i++) {
		fds[i] = open(directory, FLAGS[i] | O_DIRECTORY);
		if (fds[i] < 0)
			err(1, "open %s", directory);
	}
}

void check_fds(const char *whose)
{
	for (size_t i = 0; i < ARRAY_SIZE(FLAGS); i++) {
		int cloexec = fcntl(fds[i], F_GETFD), mode = fcntl(fds[i], F_GETFL);

		if (mount_of(fds[i], "") != mount_of(AT_FDCWD, "/"))
			fault("%s: descriptor %d is on another mount than /", whose, fds[i]);
		if (cloexec != (FLAGS[i] & O_CLOEXEC ? FD_CLOEXEC : 0))
			fault("%s: descriptor %d has flags %d", whose, fds[i], cloexec);
		if (mode < 0 || (mode & O_PATH) != (FLAGS[i] & O_PATH))
			fault("%s: descriptor %d has status flags %o", whose, fds[i], mode);
	}
}
