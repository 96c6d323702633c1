/* SPDX-License-Identifier: MIT */
#include "kernel/proc_lines.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "kernel/util.h"

struct lines {
	char buf[2 * PROC_LINE_MAX + 1];
	size_t used;
	bool skipping; /* the rest of a line that was cut */
};

/* Hands out the complete lines of the buffer and keeps what follows them. */
static int hand_out(
	struct lines *l, bool end, int (*visit)(char *line, void *userdata), void *userdata)
{
	char *line = l->buf, *stop = l->buf + l->used;
	int r = 0;

	while (r == 0 && line < stop) {
		char *newline = memchr(line, '\n', (size_t)(stop - line));
		if (!newline && !end && (size_t)(stop - line) < PROC_LINE_MAX)
			break;
		char *next = newline ? newline + 1 : stop;
		*(newline ? newline : stop) = '\0';
		if ((size_t)(next - line) > PROC_LINE_MAX)
			line[PROC_LINE_MAX] = '\0';
		if (!l->skipping)
			r = visit(line, userdata);
		l->skipping = !newline;
		line = next;
	}
	l->used = (size_t)(stop - line);
	memmove(l->buf, line, l->used);
	return r;
}

int proc_lines(const char *path, int (*visit)(char *line, void *userdata), void *userdata)
{
	static struct lines l;
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	l.used = 0;
	l.skipping = false;
	for (;;) {
		ssize_t n = read(fd, l.buf + l.used, sizeof(l.buf) - 1 - l.used);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		l.used += (size_t)n;
		int r = hand_out(&l, n == 0, visit, userdata);
		if (r != 0 || n == 0)
			return r;
	}
}
