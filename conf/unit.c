/* SPDX-License-Identifier: MIT */
/* Where units come from: the directories, their drop-ins, and what a name stands for. */
#include "conf/unit.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "conf/command.h"
#include "conf/files.h"
#include "conf/keys.h"
#include "conf/unit_internal.h"

const char *const UNIT_PATH[] = {
	"/etc/molt/system",
	"/run/molt/system",
	"/usr/lib/molt/system",
	"/etc/systemd/system",
	"/run/systemd/system",
	"/usr/local/lib/systemd/system",
	"/usr/lib/systemd/system",
	"/lib/systemd/system",
	NULL,
};

#define SUFFIX ".service"
#define SECONDS(n) (UINT64_C(1000000) * (n))

/* A unit with every default. `name` has its suffix. NULL: no memory. */
static struct unit *unit_new(const char *name, const char *source)
{
	struct unit *u = malloc(sizeof(*u));
	if (!u)
		return NULL;

	*u = (struct unit){
		.name = strdup(name),
		.source = strdup(source ? source : name),
		.restart_usec = SECONDS(1) / 10,
		.timeout_start_usec = SECONDS(90),
		.timeout_stop_usec = SECONDS(90),
		.kill_signal = SIGTERM,
		.watchdog_signal = SIGABRT,
		.reload_signal = SIGHUP,
		.umask = 0022,
		.ignore_sigpipe = true,
		.socket.mode = 0666,
		.policy = POLICY_KEEP,
		.ready_timeout_usec = SECONDS(30),
		.prepare_timeout_usec = UNIT_PREPARE_TIMEOUT_USEC,
	};
	for (size_t i = 0; i < N_UNIT_DIRECTORIES; i++)
		u->directories[i].mode = 0755;
	if (!u->name || !u->source) {
		unit_free(u);
		return NULL;
	}
	return u;
}

static void free_strings(struct unit *u)
{
	char *const texts[] = {u->name, u->source, u->description, u->pid_file, u->user, u->group,
		u->working_directory, u->utmp_line};
	char **const lists[] = {u->after, u->before, u->requires, u->wants, u->environment,
		u->environment_files, u->socket_units, u->sandbox, u->mounts_for, u->groups};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		free(texts[i]);
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
		strings_free(lists[i]);
	for (size_t i = 0; i < N_UNIT_DIRECTORIES; i++)
		free(u->directories[i].names);
}

static void free_sockets(struct unit *u)
{
	unit_clear_listen(u);
	socket_options_done(&u->socket);
	for (size_t i = 0; i < u->n_borrowed; i++)
		socket_options_done(&u->borrowed[i]);
	free(u->borrowed);
}

static void free_commands(struct unit *u)
{
	struct commands *const lists[] = {&u->exec_start_pre, &u->exec_start, &u->exec_start_post,
		&u->exec_reload, &u->exec_stop, &u->exec_stop_post};

	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
		commands_done(lists[i]);
}

void unit_free(struct unit *u)
{
	if (!u)
		return;
	free_strings(u);
	free_commands(u);
	free_sockets(u);
	conditions_done(&u->conditions);
	free(u);
}

/* The name a person gave and what follows from it. */
struct unit_name {
	char full[256]; /* "x@y.service" */
	char templates[256]; /* "x@.service"; "" if it is no instance */
};

static int read_name(const char *name, struct unit_name *ret, struct error *e)
{
	size_t length = strlen(name);
	bool has_suffix =
		length >= strlen(SUFFIX) && strcmp(name + length - strlen(SUFFIX), SUFFIX) == 0;

	*ret = (struct unit_name){0};
	if (length + strlen(SUFFIX) >= sizeof(ret->full))
		return error_say(e, -EINVAL, "%.64s...: too long for a unit's name", name);
	(void)stpcpy(stpcpy(ret->full, name), has_suffix ? "" : SUFFIX);
	if (!unit_name_is_valid(ret->full))
		return error_say(e, -EINVAL, "%s is not a unit's name", name);

	const char *at = strchr(ret->full, '@');
	if (!at)
		return 0;
	if (strcmp(at + 1, SUFFIX) == 0)
		return error_say(e, -EINVAL, "%s is a template: put an instance's name after the @",
			ret->full);
	(void)stpcpy(mempcpy(ret->templates, ret->full, (size_t)(at - ret->full) + 1), SUFFIX);
	return 0;
}

/* What unit_load() was called with. */
struct loader {
	int root;
	const char *const *path;
	unit_warn warn;
	void *userdata;
	struct error *error;
	/* What reads the texts: those of services, or of .socket units. */
	int (*apply)(struct unit *u, const char *source, const char *text, size_t length,
		unit_warn warn, void *userdata, struct error *e);
};

static int no_memory(struct error *e, const char *name)
{
	return error_set(e, -ENOMEM, "cannot load %s", name);
}

/* A unit file as found. */
struct unit_file {
	char *path;
	char *text;
	size_t length;
};

static void unit_file_done(struct unit_file *f)
{
	free(f->path);
	free(f->text);
}

static int find_file(const struct loader *l, const char *name, struct unit_file *ret)
{
	for (size_t i = 0; l->path[i]; i++) {
		struct unit_file f = {.path = conf_path(l->path[i], name, "")};
		if (!f.path)
			return no_memory(l->error, name);
		int r = conf_file_read(l->root, f.path, &f.text, &f.length, l->error);
		if (r == 0) {
			*ret = f;
			return 0;
		}
		if (r == -ERFKILL)
			r = error_say(l->error, r, "%s is masked", f.path);
		unit_file_done(&f);
		if (r != -ENOENT)
			return r;
	}
	return -ENOENT;
}

static int find_unit(const struct loader *l, const struct unit_name *name, struct unit_file *ret)
{
	int r = find_file(l, name->full, ret);

	if (r == -ENOENT && name->templates[0] != '\0')
		r = find_file(l, name->templates, ret);
	if (r == -ENOENT)
		return error_say(l->error, r, "no directory of units has %s", name->full);
	return r;
}

static int collect_dropins(
	const struct loader *l, const struct unit_name *name, struct dropins *list)
{
	const char *const names[] = {name->full, name->templates};

	for (size_t n = 0; n < 2; n++) {
		for (size_t i = 0; names[n][0] && l->path[i]; i++) {
			int r = dropins_collect(list, l->root, l->path[i], names[n], l->error);
			if (r < 0)
				return r;
		}
	}
	dropins_sort(list);
	return 0;
}

static int apply_dropin(const struct loader *l, struct unit *u, const char *path)
{
	char *text;
	size_t length;
	int r = conf_file_read(l->root, path, &text, &length, l->error);

	/* Masked, it is there to hide one further down the path; a link to nothing says nothing. */
	if (r == -ERFKILL || r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	r = l->apply(u, path, text, length, l->warn, l->userdata, l->error);
	free(text);
	return r;
}

static int apply_dropins(const struct loader *l, struct unit *u, const struct unit_name *name)
{
	struct dropins list = {0};
	int r = collect_dropins(l, name, &list);

	for (size_t i = 0; r == 0 && i < list.count; i++)
		r = apply_dropin(l, u, list.items[i].path);
	dropins_done(&list);
	return r;
}

static int read_socket_unit(const struct loader *l, const struct unit_name *name, struct unit **ret)
{
	struct unit_file file = {0};
	int r = find_file(l, name->full, &file);

	if (r < 0)
		return r;
	struct unit *u = unit_new(name->full, file.path);
	if (!u)
		r = no_memory(l->error, name->full);
	if (r == 0)
		r = l->apply(u, file.path, file.text, file.length, l->warn, l->userdata, l->error);
	if (r == 0)
		r = apply_dropins(l, u, name);
	unit_file_done(&file);
	if (r == 0)
		*ret = u;
	else
		unit_free(u);
	return r;
}

/* A broken .socket unit costs the service its sockets, which most can open themselves, and no more.
 */
static int take_socket_unit(const struct loader *services, const char *socket, struct unit *u)
{
	struct error e = {0};
	struct loader l = *services;
	struct unit_name name = {0};
	struct unit *from = NULL;

	l.apply = unit_apply_socket_text;
	l.error = &e;
	(void)stpcpy(name.full, socket); /* at most 255 bytes: unit_name_is_valid() */
	int r = read_socket_unit(&l, &name, &from);
	if (r == -ENOMEM) {
		*services->error = e;
		return r;
	}
	if (r < 0) {
		if (l.warn && r != -ENOENT && r != -ERFKILL)
			l.warn(l.userdata, e.text);
		return 0;
	}
	r = unit_take_sockets(u, from, services->error);
	unit_free(from);
	return r;
}

/* What the service's own [Socket] lists is all there is: so an administrator replaces the others.
 */
static int take_socket_units(const struct loader *l, struct unit *u)
{
	const char *name;
	size_t i = 0;
	int r = 0;

	if (u->n_listen > 0)
		return 0;
	while (r == 0 && (name = unit_next_socket_unit(u, &i)))
		r = take_socket_unit(l, name, u);
	return r;
}

/* From the text of its own file to the finished unit. `l->path` NULL: nothing else is read. */
static int build(const struct loader *l, const struct unit_name *name, const char *source,
	const char *text, size_t length, struct unit **ret)
{
	struct unit *u = unit_new(name->full, source);
	if (!u)
		return no_memory(l->error, name->full);

	int r = l->apply(u, source, text, length, l->warn, l->userdata, l->error);
	if (r == 0 && l->path)
		r = apply_dropins(l, u, name);
	if (r == 0 && l->path)
		r = take_socket_units(l, u);
	if (r == 0)
		r = unit_finish(u, l->warn, l->userdata, l->error);
	if (r < 0) {
		unit_free(u);
		return r;
	}
	*ret = u;
	return 0;
}

int unit_load(struct unit **ret, int root, const char *const *path, const char *name,
	unit_warn warn, void *userdata, struct error *e)
{
	struct loader l = {.root = root,
		.path = path,
		.warn = warn,
		.userdata = userdata,
		.error = e,
		.apply = unit_apply_text};
	struct unit_name full;
	struct unit_file file = {0};
	int r = read_name(name, &full, e);

	if (r == 0)
		r = find_unit(&l, &full, &file);
	if (r < 0)
		return r;
	r = build(&l, &full, file.path, file.text, file.length, ret);
	unit_file_done(&file);
	return r;
}

int unit_parse(struct unit **ret, const char *name, const char *source, const char *text,
	size_t length, unit_warn warn, void *userdata, struct error *e)
{
	struct loader l = {
		.warn = warn, .userdata = userdata, .error = e, .apply = unit_apply_text};
	struct unit_name full;
	int r = read_name(name, &full, e);

	return r < 0 ? r : build(&l, &full, source, text, length, ret);
}
