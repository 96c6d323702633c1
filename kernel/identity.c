/* SPDX-License-Identifier: MIT */
#include "kernel/identity.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/util.h"

/* Numbers of one another that were moved, one to the other, in as many lives. */
#define HOPS_MAX 16
#define MARK_NAME "molt-moved"

struct known {
	bool lost;
	bool noted; /* identity_find() has found it */
	bool left; /* to be closed by identity_close_left() */
	int moved_to; /* 0: nowhere */
	char word[47]; /* "" : not asked for yet */
};

static struct known *table;
static size_t size;

static struct known *entry(int fd)
{
	if (fd < 0)
		return NULL;
	if ((size_t)fd >= size) {
		size_t wanted = ((size_t)fd + 64) & ~(size_t)63;
		struct known *grown = reallocarray(table, wanted, sizeof(*grown));
		if (!grown)
			return NULL;
		memset(grown + size, 0, (wanted - size) * sizeof(*grown));
		table = grown;
		size = wanted;
	}
	return &table[fd];
}

static bool look(int fd, char *word, size_t word_size)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return false;
	(void)snprintf(word, word_size, "%llx:%llx:%o", (unsigned long long)st.st_dev,
		(unsigned long long)st.st_ino, (unsigned)(st.st_mode & S_IFMT));
	return true;
}

const char *identity_of(int fd)
{
	struct known *k = entry(fd);

	if (!k || (!k->word[0] && !look(fd, k->word, sizeof(k->word))))
		return NULL;
	return k->word;
}

/* What a crash leaves open it leaves without close-on-exec; whatever has it was opened since, and
 * may well have got the number of one that was closed just before the crash. */
static bool is_own(int fd)
{
	int flags = fcntl(fd, F_GETFD);

	return flags >= 0 && (flags & FD_CLOEXEC);
}

/* What has the number may have been opened since the state was written, and noted. Without
 * close-on-exec: it is swept out with what nobody knows. Returns 0 if there is nothing. */
static int move_aside(int fd)
{
	int to = fcntl(fd, F_DUPFD, 3);

	return to < 0 ? 0 : to;
}

/* What holds the number says where to its owner went: for a life after one that crashes before it
 * has written down what it found. */
static void leave_mark(int fd, int moved_to)
{
	int mark = memfd_create(MARK_NAME, MFD_CLOEXEC);

	if (mark < 0)
		return;
	(void)!pwrite(mark, &moved_to, sizeof(moved_to), 0);
	if (mark == fd) {
		(void)fd_set_cloexec(fd, false);
		return;
	}
	if (dup2(mark, fd) < 0)
		(void)fd_close(fd);
	(void)fd_close(mark);
}

/* A service can send one that looks the same. So whoever follows it has to know what it looks for
 * (identity_find()), and only what is memory is read, which keeps nobody waiting. */
static bool is_mark(int fd, int *ret_moved_to)
{
	static const char NAME[] = "/memfd:" MARK_NAME;
	char path[32], name[64] = "";

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return readlink(path, name, sizeof(name) - 1) > 0 &&
	       strncmp(name, NAME, strlen(NAME)) == 0 && fcntl(fd, F_GET_SEALS) >= 0 &&
	       pread(fd, ret_moved_to, sizeof(*ret_moved_to), 0) == sizeof(*ret_moved_to);
}

static void mark_lost(int fd)
{
	struct known *k = entry(fd);
	int moved_to = 0;

	if (k && k->lost)
		return;
	if (!is_own(fd) && !is_mark(fd, &moved_to)) {
		moved_to = move_aside(fd);
		leave_mark(fd, moved_to);
	}
	if (k)
		*k = (struct known){.lost = true, .moved_to = moved_to};
}

bool identity_is(int fd, const char *word)
{
	char is[sizeof(table->word)];

	return fd > 2 && look(fd, is, sizeof(is)) && strcmp(is, word) == 0;
}

bool identity_check(int fd, const char *word)
{
	if (fd <= 2)
		return false;
	if (!is_own(fd) && identity_is(fd, word))
		return true;
	mark_lost(fd);
	return false;
}

int identity_take(int fd)
{
	return fd < 0 || ((size_t)fd < size && table[fd].lost) ? -1 : fd;
}

int identity_find(int fd, const char *word)
{
	for (unsigned hops = 0; hops < HOPS_MAX && fd > 2; hops++) {
		struct known *k = identity_is(fd, word) ? entry(fd) : NULL;
		if (k) {
			k->noted = true;
			return fd;
		}
		/* Not entry(): a mark may say any number. */
		fd = (size_t)fd < size ? table[fd].moved_to : 0;
	}
	return -1;
}

void identity_forget(int fd)
{
	/* Where something was moved to is asked for when its old number is long in use again. */
	if (fd >= 0 && (size_t)fd < size)
		table[fd] = (struct known){.moved_to = table[fd].moved_to};
}

void identity_each_inherited(void (*visit)(int fd))
{
	CLEANUP_FD int fd = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	uint64_t number;

	if (!dir)
		return;
	(void)fd_steal(&fd);
	for (struct dirent *e; (e = readdir(dir));) {
		int flags = parse_u64(e->d_name, &number) && number > 2
				    ? fcntl((int)number, F_GETFD)
				    : -1;
		if (flags >= 0 && !(flags & FD_CLOEXEC))
			visit((int)number);
	}
	(void)closedir(dir);
}

void identity_leave(int fd)
{
	struct known *k = entry(fd);

	if (!k || (!k->noted && !k->lost)) {
		(void)fd_close(fd);
		return;
	}
	(void)fd_set_cloexec(fd, true);
	k->left = true;
}

void identity_close_left(void)
{
	for (size_t fd = 0; fd < size; fd++)
		if (table[fd].left)
			(void)fd_close((int)fd);
}
