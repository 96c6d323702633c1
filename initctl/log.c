/* SPDX-License-Identifier: MIT */
#include "initctl/log.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "initctl/json.h"
#include "initctl/memory.h"
#include "initctl/terminal.h"
#include "initctl/text.h"

#define BLOCK 65536U

struct log {
	const char *path;
	const struct log_options *options;
	int fd; /* -1: there is no file yet */
	off_t position; /* what is before it was read */
	char *line; /* read and not printed yet: a line whose end is still to come */
	size_t length; /* of it, less than BLOCK */
};

/* ---- lines ---- */

static void print_line_as_json(const char *line, size_t length)
{
	struct json j = {0};

	json_object_begin(&j, NULL);
	json_string(&j, "event", "line");
	json_string_n(&j, "text", line, length);
	json_object_end(&j);
	json_document_end(&j);
}

/* A file or a pipe gets the bytes as they are; a terminal would obey them. */
static void print_line(const struct log *log, const char *line, size_t length, bool whole)
{
	if (log->options->json) {
		print_line_as_json(line, length);
		return;
	}
	if (terminal()->is_terminal)
		text_put(stdout, line, length, "\t");
	else
		(void)fwrite(line, 1, length, stdout);
	if (whole)
		(void)putchar('\n');
}

static void flush_line(struct log *log)
{
	if (log->length > 0)
		print_line(log, log->line, log->length, false);
	log->length = 0;
}

/* Keeps the beginning of a line. One without an end is printed in pieces. */
static void keep_rest(struct log *log, const char *bytes, size_t n)
{
	if (log->length + n > BLOCK)
		flush_line(log);
	memcpy(log->line + log->length, bytes, n);
	log->length += n;
}

static void take_bytes(struct log *log, const char *bytes, size_t n)
{
	const char *end;

	while ((end = memchr(bytes, '\n', n))) {
		size_t length = (size_t)(end - bytes);

		keep_rest(log, bytes, length);
		print_line(log, log->line, log->length, true);
		log->length = 0;
		bytes = end + 1;
		n -= length + 1;
	}
	keep_rest(log, bytes, n);
}

/* ---- the file ---- */

/* Where the last `lines` lines begin. */
static int find_tail(int fd, off_t size, long lines, off_t *ret)
{
	char *block = allocate(BLOCK);
	off_t at = size > 0 ? size - 1 : 0; /* a newline at the very end begins no line */
	off_t found = lines == 0 ? size : 0;
	ssize_t n = 0;

	while (lines > 0 && at > 0) {
		size_t want = at < BLOCK ? (size_t)at : BLOCK;
		const char *newline;

		at -= (off_t)want;
		n = pread(fd, block, want, at);
		if (n < 0)
			break;
		while (lines > 0 && (newline = memrchr(block, '\n', (size_t)n))) {
			n = newline - block;
			if (--lines == 0)
				found = at + n + 1;
		}
	}
	int code = n < 0 ? -errno : 0;
	free(block);
	if (code == 0)
		*ret = found;
	return code;
}

/* Prints from the position to the end of the file. */
static int read_on(struct log *log)
{
	char *block = allocate(BLOCK);
	ssize_t n = 0;

	while (log->fd >= 0 && (n = pread(log->fd, block, BLOCK, log->position)) > 0) {
		log->position += n;
		take_bytes(log, block, (size_t)n);
	}
	int code = n < 0 ? -errno : 0;
	free(block);
	return code;
}

static int open_file(struct log *log)
{
	/* O_NONBLOCK, for the case that somebody put a FIFO there; a file does not care. */
	int fd = open(log->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	if (fd < 0)
		return -errno;
	log->fd = fd;
	log->position = 0;
	return 0;
}

static int print_tail(struct log *log)
{
	struct stat st;
	int r = 0;

	if (fstat(log->fd, &st) < 0)
		return -errno;
	if (log->options->lines != LOG_ALL)
		r = find_tail(log->fd, st.st_size, log->options->lines, &log->position);
	return r < 0 ? r : read_on(log);
}

/* ---- following ---- */

static bool same_file(int fd, const char *path, bool *ret_exists)
{
	struct stat ours;
	struct stat named;

	*ret_exists = stat(path, &named) == 0;
	return *ret_exists && fd >= 0 && fstat(fd, &ours) == 0 && ours.st_dev == named.st_dev &&
	       ours.st_ino == named.st_ino;
}

static int rewind_if_cut(struct log *log)
{
	struct stat st;

	if (log->fd < 0 || fstat(log->fd, &st) < 0 || st.st_size >= log->position)
		return 0;
	flush_line(log);
	log->position = 0;
	return read_on(log);
}

/* Brings the output up to what the path names now. */
static int catch_up(struct log *log)
{
	bool exists;
	int r = read_on(log);

	if (r < 0)
		return r;
	if (same_file(log->fd, log->path, &exists))
		return rewind_if_cut(log);
	/* Renamed, and the new one is not there yet: its writer may still go on here. */
	if (!exists)
		return 0;
	if (log->fd >= 0)
		(void)close(log->fd);
	log->fd = -1;
	flush_line(log);
	r = open_file(log);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	return read_on(log);
}

/*
 * Watches the file for what is written, and its directory for a new one of that name. The watch is
 * by path: should the path come to name another file in between, the next catch_up() sees it.
 */
static int watch(int notify, const char *path)
{
	char *copy = copy_text(path);
	const char *directory = dirname(copy);
	int r = inotify_add_watch(notify, directory, IN_CREATE | IN_MOVED_TO);
	int code = r < 0 ? -errno : 0;

	free(copy);
	if (code == 0 && inotify_add_watch(notify, path, IN_MODIFY) < 0 && errno != ENOENT)
		code = -errno;
	return code;
}

/* Returns 1 when something happened to the file, 0 when the reader of our output is gone. */
static int wait_for_change(int notify)
{
	char events[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
	struct pollfd fds[] = {
		{.fd = notify, .events = POLLIN},
		{.fd = STDOUT_FILENO, .events = 0}, /* only POLLERR: a pipe without a reader */
	};

	if (poll(fds, 2, -1) < 0)
		return errno == EINTR ? 1 : -errno;
	if (fds[1].revents & (POLLERR | POLLHUP | POLLNVAL))
		return 0;
	/* What happened is looked up in the file itself; the events only wake us. */
	return read(notify, events, sizeof(events)) < 0 ? -errno : 1;
}

static int follow(struct log *log, int notify)
{
	for (;;) {
		/* First the watch, then the look: what comes between the two is not missed. */
		int r = watch(notify, log->path);

		if (r == 0)
			r = catch_up(log);
		if (r == 0)
			r = output_flush();
		if (r == 0)
			r = wait_for_change(notify);
		if (r <= 0)
			return r;
	}
}

static int print_and_follow(struct log *log, struct error *e)
{
	int r = open_file(log);

	if (r == 0)
		r = print_tail(log);
	if (r == -ENOENT && !log->options->follow)
		return error_say(e, r, "nothing has been written yet: there is no %s", log->path);
	if (r < 0 && !(r == -ENOENT && log->options->follow))
		return error_set(e, r, "cannot read %s", log->path);
	if (!log->options->follow) {
		flush_line(log);
		return 0;
	}
	int notify = inotify_init1(IN_CLOEXEC);
	if (notify < 0)
		return error_set(e, errno, "cannot watch %s", log->path);
	r = follow(log, notify);
	(void)close(notify);
	return r < 0 ? error_set(e, r, "cannot follow %s", log->path) : 0;
}

int log_print(const char *path, const struct log_options *options, struct error *e)
{
	struct log log = {.path = path, .options = options, .fd = -1, .line = allocate(BLOCK)};
	int r = print_and_follow(&log, e);

	if (log.fd >= 0)
		(void)close(log.fd);
	free(log.line);
	return r;
}
