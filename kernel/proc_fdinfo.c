/* SPDX-License-Identifier: MIT */
#include "kernel/proc_fdinfo.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "kernel/proc_lines.h"
#include "kernel/util.h"

/* The number behind "NAME:" in base 16; false if the line has no such word. */
static bool word_hex(const char *line, const char *name, uint64_t *ret)
{
	const char *at = strstr(line, name);

	if (!at)
		return false;
	at += strlen(name);
	char *end;
	*ret = strtoull(at, &end, 16);
	return end > at;
}

static unsigned hex_digit(char c)
{
	return c >= '0' && c <= '9'   ? (unsigned)(c - '0')
	       : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a' + 10)
				      : 16;
}

/* "fhandle-bytes:8 fhandle-type:1 f_handle:1dc5030000000000"; none, or one cut short: size 0. */
static void parse_handle(const char *line, struct fdinfo_entry *m)
{
	uint64_t size, type;
	const char *text = strstr(line, " f_handle:");

	if (!text || !word_hex(line, " fhandle-bytes:", &size) ||
		!word_hex(line, " fhandle-type:", &type) || size > FDINFO_HANDLE_MAX)
		return;
	text += strlen(" f_handle:");
	for (uint64_t i = 0; i < size; i++) {
		unsigned high = hex_digit(text[2 * i]);
		unsigned low = high < 16 ? hex_digit(text[2 * i + 1]) : 16;
		if (low > 15)
			return;
		m->handle[i] = (unsigned char)(high << 4 | low);
	}
	m->handle_size = (unsigned)size;
	m->handle_type = (unsigned)type;
}

static int parse_inode(const char *line, enum fdinfo_kind kind, struct fdinfo_entry *m)
{
	uint64_t dev;

	if (!word_hex(line, " ino:", &m->ino) || !word_hex(line, " sdev:", &dev))
		return 0;
	m->kind = kind;
	m->dev = (uint32_t)dev;
	parse_handle(line, m);
	return 1;
}

static int parse_fanotify(const char *line, struct fdinfo_entry *m)
{
	uint64_t dev;

	if (word_hex(line, "fanotify mnt_id:", &m->mount_id)) {
		m->kind = FDINFO_MARK_MOUNT;
		return 1;
	}
	if (word_hex(line, "fanotify sdev:", &dev)) {
		m->kind = FDINFO_MARK_FILESYSTEM;
		m->dev = (uint32_t)dev;
		return 1;
	}
	return parse_inode(line, FDINFO_MARK_INODE, m);
}

/* "    0: /usr"; "    1: <none>" for a slot that is empty. */
static int parse_ring_file(char *line, struct fdinfo_entry *m)
{
	char *colon = strchr(line, ':');

	if (!colon || strncmp(colon, ": ", 2) != 0 || strcmp(colon + 2, "<none>") == 0)
		return 0;
	m->kind = FDINFO_RING_FILE;
	m->path = colon + 2;
	return 1;
}

int fdinfo_parse(struct fdinfo_reader *r, char *line, struct fdinfo_entry *ret)
{
	struct fdinfo_entry m = {0};
	int found = 0;

	if (r->n_ring_files > 0 && line[0] == ' ') {
		r->n_ring_files--;
		found = parse_ring_file(line, &m);
	} else if (starts_with(line, "UserFiles:")) {
		r->n_ring_files = (unsigned)strtoul(line + strlen("UserFiles:"), NULL, 10);
	} else if (starts_with(line, "inotify ")) {
		found = parse_inode(line, FDINFO_WATCH, &m);
	} else if (starts_with(line, "fanotify ")) {
		found = parse_fanotify(line, &m);
	} else if (starts_with(line, "scm_fds:")) {
		m.kind = FDINFO_QUEUED;
		m.count = (uint32_t)strtoul(line + strlen("scm_fds:"), NULL, 10);
		found = m.count > 0;
	}
	if (found)
		*ret = m;
	return found;
}

struct entries_job {
	struct fdinfo_reader reader;
	int (*visit)(const struct fdinfo_entry *entry, void *userdata);
	void *userdata;
};

static int visit_line(char *line, void *userdata)
{
	struct entries_job *job = userdata;
	struct fdinfo_entry entry;

	return fdinfo_parse(&job->reader, line, &entry) ? job->visit(&entry, job->userdata) : 0;
}

int fdinfo_entries(pid_t tid, int fd,
	int (*visit)(const struct fdinfo_entry *entry, void *userdata), void *userdata)
{
	struct entries_job job = {.visit = visit, .userdata = userdata};
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", (int)tid, fd);
	return proc_lines(path, visit_line, &job);
}

static int take_dev(const struct fdinfo_entry *entry, void *userdata)
{
	if (entry->kind != FDINFO_WATCH)
		return 0;
	*(uint32_t *)userdata = entry->dev;
	return 1;
}

int kernel_dev(int fd, uint32_t *ret_dev)
{
	char path[48];
	/* A mark of our own, since it is marks that the kernel shows the number of. */
	CLEANUP_FD int inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);

	if (inotify < 0)
		return -errno;
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (inotify_add_watch(inotify, path, IN_DELETE_SELF) < 0)
		return -errno;
	int r = fdinfo_entries(getpid(), inotify, take_dev, ret_dev);
	return r == 1 ? 0 : r < 0 ? r : -ENODATA;
}
