/* SPDX-License-Identifier: MIT */
#include "upgrade/plan_skew.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "kernel/proc.h"
#include "kernel/util.h"
#include "upgrade/answer.h"
#include "upgrade/build_id.h"
#include "upgrade/pivot.h"

#define NAMED_MAX 6

#if defined(__aarch64__)
#define TRIPLET "aarch64-linux-gnu"
#elif defined(__x86_64__)
#define TRIPLET "x86_64-linux-gnu"
#else
#error "which directory has the libraries of this architecture?"
#endif

void stale_add(struct stale *s, const struct holder *h, enum holder_action action)
{
	char comm[64], name[128], unit[256];

	bool code = h->what == HELD_EXE || (h->what == HELD_MAP && strstr(h->path, ".so"));

	if (!code || action != ACTION_STAYS || h->pid == s->last)
		return;
	s->last = h->pid;
	s->n_processes++;
	if (s->n_named == NAMED_MAX)
		return;
	s->n_named++;
	proc_comm(h->pid, comm, sizeof(comm));
	holder_unit(h, unit, sizeof(unit));
	(void)snprintf(name, sizeof(name), "%s%d (%s%s%.60s)", s->names[0] ? ", " : "", (int)h->pid,
		comm, *unit ? " of " : "", unit);
	(void)strncat(s->names, name, sizeof(s->names) - strlen(s->names) - 1);
}

/* The loader that the programs of an image ask for. */
static int find_loader(int root, char *path, size_t size)
{
	static const char *const PROGRAMS[] = {"/sbin/init", "/bin/sh"};

	for (size_t i = 0; i < ARRAY_SIZE(PROGRAMS); i++) {
		CLEANUP_FD int fd = open_in_root(root, PROGRAMS[i], O_RDONLY | O_NONBLOCK);
		if (fd >= 0 && elf_interpreter_read(fd, path, size) == 0)
			return open_in_root(root, path, O_RDONLY | O_NONBLOCK);
	}
	return -1;
}

static int find_libc(int root)
{
	static const char *const PLACES[] = {"/lib/" TRIPLET "/libc.so.6",
		"/usr/lib/" TRIPLET "/libc.so.6", "/lib64/libc.so.6", "/usr/lib64/libc.so.6",
		"/lib/libc.so.6", "/usr/lib/libc.so.6"};

	for (size_t i = 0; i < ARRAY_SIZE(PLACES); i++) {
		int fd = open_in_root(root, PLACES[i], O_RDONLY | O_NONBLOCK);
		if (fd >= 0)
			return fd;
	}
	return -1;
}

/* "" where there is none that could be told. */
static void identify(int fd, char id[BUILD_ID_MAX])
{
	if (fd < 0 || build_id_read(fd, id) < 0)
		id[0] = '\0';
}

/* Whether they differ, or may: what cannot be told is no sign of being the same. */
static bool tell(int socket, const char *name, const char *from, const char *to)
{
	struct record_writer w = {0};
	bool same = *from && strcmp(from, to) == 0;

	record_begin(&w, "skew", name);
	record_text(&w, "from", from);
	record_text(&w, "to", to);
	record_bool(&w, "same", same);
	record_end(&w);
	answer_send(socket, &w);
	return !same;
}

static bool compare_loaders(int socket, int own, int root)
{
	char path[PATH_MAX] = "the loader", from[BUILD_ID_MAX], to[BUILD_ID_MAX];
	CLEANUP_FD int new = find_loader(root, path, sizeof(path));
	CLEANUP_FD int old = find_loader(own, path, sizeof(path));
	const char *slash = strrchr(path, '/');

	identify(old, from);
	identify(new, to);
	/* A loader that is a C library too, as that of musl, or programs that need none: nothing to
	 * compare. */
	if (old < 0 && new < 0)
		return false;
	return tell(socket, slash ? slash + 1 : path, from, to);
}

static bool compare_libcs(int socket, int own, int root)
{
	char from[BUILD_ID_MAX], to[BUILD_ID_MAX];
	CLEANUP_FD int old = find_libc(own);
	CLEANUP_FD int new = find_libc(root);

	identify(old, from);
	identify(new, to);
	return (old >= 0 || new >= 0) && tell(socket, "libc.so.6", from, to);
}

void plan_skew(int socket, int root, const struct stale *s)
{
	char text[900], more[48] = "";
	CLEANUP_FD int own = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	bool loader = compare_loaders(socket, own, root), libc = compare_libcs(socket, own, root);

	if ((!loader && !libc) || s->n_processes == 0)
		return;
	if (s->n_processes > s->n_named)
		(void)snprintf(more, sizeof(more), " and %zu more", s->n_processes - s->n_named);
	(void)snprintf(text, sizeof(text),
		"the C library changes, and %s%s will go on with the old one: what they load or execute from then on is the new image's. Restart or end them soon (see `initctl holders`)",
		s->names, more);
	answer_text(socket, "warning", text);
}
