/* SPDX-License-Identifier: MIT */
#include "kernel/identity.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/util.h"

struct known {
	bool lost;
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

static void replace(int fd)
{
	int inert = eventfd(0, EFD_CLOEXEC);

	/* Without close-on-exec: it is swept out with what nobody knows. */
	if (inert >= 0 && inert != fd && dup2(inert, fd) < 0)
		(void)fd_close(fd);
	if (inert != fd)
		(void)fd_close(inert);
	else
		(void)fd_set_cloexec(fd, false);
}

static void mark_lost(int fd)
{
	struct known *k = entry(fd);

	if (!is_own(fd))
		replace(fd);
	if (k)
		*k = (struct known){.lost = true};
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

void identity_forget(int fd)
{
	if (fd >= 0 && (size_t)fd < size)
		table[fd] = (struct known){0};
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
