/* SPDX-License-Identifier: MIT */
/* The values that only a service file has: text to the members of struct unit. */
#include "conf/unit_values.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/command.h"
#include "conf/environment.h"
#include "conf/number.h"
#include "conf/unit_internal.h"
#include "conf/words.h"

#define UNUSED __attribute__((unused))

int value_type(const struct key_site *site, const char *text, void *field, const void *argument,
	struct error *e)
{
	/* It only asks for tidier output on the console: systemd.service(5). */
	if (strcmp(text, "idle") == 0) {
		key_warn(site, "Type=idle is not supported, taken as simple");
		text = SERVICE_TYPE_NAMES[SERVICE_SIMPLE];
	}
	/* PID 1 is on no bus, so it cannot see when the name is taken. */
	if (strcmp(text, "dbus") == 0) {
		key_warn(site, "Type=dbus is not supported, taken as exec");
		text = SERVICE_TYPE_NAMES[SERVICE_EXEC];
	}
	return key_parse_enum(site, text, field, argument, e);
}

static int append_command(struct commands *list, const struct command *c, struct error *e)
{
	if (list->count >= STRINGS_MAX)
		return error_say(e, -E2BIG, "more than %d commands", STRINGS_MAX);
	struct command *grown = reallocarray(list->items, list->count + 1, sizeof(*grown));
	if (!grown)
		return key_no_memory(e);
	grown[list->count++] = *c;
	list->items = grown;
	return 0;
}

int value_commands(const struct key_site *site, const char *text, void *field,
	UNUSED const void *argument, struct error *e)
{
	struct commands *list = field;

	if (text[0] == '\0')
		commands_done(list);
	for (;;) {
		struct command c;
		int r = command_next(&text, site->unit_name, &c, e);
		if (r <= 0)
			return r;
		r = append_command(list, &c, e);
		if (r < 0) {
			command_done(&c);
			return r;
		}
	}
}

/* One word of Environment=. */
static int set_variable(
	const struct key_site *site, const char *word, char ***list, struct error *e)
{
	char *assignment = NULL;
	int r = key_expand(site, word, &assignment, e);
	if (r < 0)
		return r;

	r = environment_set(list, assignment);
	if (r == -EINVAL)
		(void)error_say(e, r, "%.100s is not NAME=value", assignment);
	else if (r == -E2BIG)
		(void)error_say(e, r, "more than %d variables", STRINGS_MAX);
	else if (r < 0)
		(void)key_no_memory(e);
	free(assignment);
	return r;
}

int value_environment(const struct key_site *site, const char *text, void *field,
	UNUSED const void *argument, struct error *e)
{
	char ***list = field;

	if (text[0] == '\0') {
		strings_free(*list);
		*list = NULL;
	}
	for (;;) {
		char *word;
		int r = word_next(&text, WORD_C_ESCAPES, &word);
		if (r == 0)
			return 0;
		if (r < 0)
			return r == -ENOMEM ? key_no_memory(e)
					    : error_say(e, r,
						      "a quote is not closed, or an "
						      "escape has no meaning");
		r = set_variable(site, word, list, e);
		free(word);
		if (r < 0)
			return r;
	}
}

/* EnvironmentFile=: a path, which may begin with "-". systemd's wildcards are not ours. */
int value_environment_file(const struct key_site *site, const char *text, void *field,
	const void *argument, struct error *e)
{
	char ***list = field;
	char *path = NULL;
	bool optional = text[0] == '-';

	if (text[0] == '\0') {
		strings_free(*list);
		*list = NULL;
		return 0;
	}
	int r = key_parse_path(site, text + optional, &path, argument, e);
	if (r < 0)
		return r;
	if (!path)
		return error_say(e, -EINVAL, "no file is named");
	if (strpbrk(path, "*?[")) {
		free(path);
		return error_say(e, -EINVAL, "wildcards are not supported");
	}
	free(path);

	char *word;
	r = key_expand(site, text, &word, e);
	if (r < 0)
		return r;
	r = key_append(list, word, e);
	free(word);
	return r;
}

int value_working_directory(const struct key_site *site, const char *text, void *field,
	const void *argument, struct error *e)
{
	struct unit *u = site->target;
	bool optional = text[0] == '-';

	if (strcmp(text + optional, "~") == 0)
		return error_say(e, -EINVAL, "~ is not supported: name the directory");
	int r = key_parse_path(site, text + optional, field, argument, e);
	if (r == 0)
		u->working_directory_optional = optional;
	return r;
}

/* systemd puts a relative one below /run. */
int value_pid_file(const struct key_site *site, const char *text, void *field, const void *argument,
	struct error *e)
{
	char *path = NULL, *absolute;
	int r = key_parse_text(site, text, &path, argument, e);
	if (r < 0)
		return r;

	if (path && path[0] != '/') {
		if (asprintf(&absolute, "/run/%s", path) < 0)
			absolute = NULL;
		free(path);
		if (!absolute)
			return key_no_memory(e);
		path = absolute;
	}
	free(*(char **)field);
	*(char **)field = path;
	return 0;
}

/* Whether one of the path's parts is "..". */
static bool leaves_directory(const char *path)
{
	for (; *path; path += strcspn(path, "/")) {
		path += strspn(path, "/");
		if (strcspn(path, "/") == 2 && memcmp(path, "..", 2) == 0)
			return true;
	}
	return false;
}

/* RuntimeDirectory= and its like: relative paths, which add up. */
int value_directories(const struct key_site *site, const char *text, void *field,
	UNUSED const void *argument, struct error *e)
{
	char **names = field, *added = NULL, *joined;

	for (const char *at = text; *at; at += strcspn(at, " \t"), at += strspn(at, " \t"))
		if (*at == '/')
			return error_say(e, -EINVAL, "must be a relative path");
	if (strchr(text, ':'))
		return error_say(e, -EINVAL, "DIRECTORY:LINK is not supported");
	if (leaves_directory(text))
		return error_say(e, -EINVAL, "must not contain ..");
	int r = key_expand(site, text, &added, e);
	if (r < 0)
		return r;
	if (asprintf(&joined, "%s%s%s", *names && *added ? *names : "", *names ? " " : "", added) <
		0)
		joined = NULL;
	free(*names);
	*names = joined && *added ? joined : NULL;
	if (joined && !*added)
		free(joined);
	free(added);
	return joined ? 0 : key_no_memory(e);
}

/* User= and Group=: a name or a number; whether there is such a user is not our subject. */
int value_user(const struct key_site *site, const char *text, void *field, const void *argument,
	struct error *e)
{
	if (strlen(text) > 255 || strpbrk(text, " \t:/,") || text[0] == '-')
		return error_say(e, -EINVAL, "not the name or number of a user or group");
	return key_parse_text(site, text, field, argument, e);
}

/* SupplementaryGroups=: several lines add up. */
int value_groups(const struct key_site *site, const char *text, void *field, const void *argument,
	struct error *e)
{
	char ***list = field;

	if (text[0] == '\0') {
		strings_free(*list);
		*list = NULL;
	}
	for (;;) {
		char *word, *group = NULL;
		int r = word_next(&text, WORD_KEEP_BACKSLASH, &word);
		if (r <= 0)
			return r == 0         ? 0
			       : r == -ENOMEM ? key_no_memory(e)
					      : error_say(e, r, "a quote is not closed");
		r = value_user(site, word, &group, argument, e);
		if (r == 0 && group)
			r = key_append(list, group, e);
		free(group);
		free(word);
		if (r < 0)
			return r;
	}
}

int value_nice(const struct key_site *site, const char *text, void *field,
	UNUSED const void *argument, struct error *e)
{
	struct unit *u = site->target;
	int64_t level;

	if (number_parse(text, &level) < 0 || level < -20 || level > 19)
		return error_say(e, -EINVAL, "not a number from -20 to 19");
	*(int *)field = (int)level;
	u->nice_set = true;
	return 0;
}

static int parse_octal(const char *text, mode_t most, mode_t *ret, struct error *e)
{
	mode_t mode = 0;
	bool octal = text[0] && strlen(text) <= (most > 0777 ? 5 : 4) &&
		     text[strspn(text, "01234567")] == '\0';

	for (; octal && *text; text++)
		mode = mode * 8 + (mode_t)(*text - '0');
	if (!octal || mode > most)
		return error_say(e, -EINVAL, "not an octal number up to 0%o", most);
	*ret = mode;
	return 0;
}

int value_umask(UNUSED const struct key_site *site, const char *text, void *field,
	UNUSED const void *argument, struct error *e)
{
	return parse_octal(text, 0777, field, e);
}

int value_mode(UNUSED const struct key_site *site, const char *text, void *field,
	UNUSED const void *argument, struct error *e)
{
	return parse_octal(text, 07777, field, e);
}

int value_limit(const struct key_site *site, const char *text, void *field,
	UNUSED const void *argument, struct error *e)
{
	size_t length = strcspn(text, ":");
	char soft[24] = "";
	int64_t limit;

	if (strcmp(text, "infinity") == 0) {
		*(uint64_t *)field = UINT64_MAX;
		return 0;
	}
	if (length < sizeof(soft))
		memcpy(soft, text, length);
	if (number_parse(soft, &limit) < 0 || limit < 1)
		return error_say(e, -EINVAL, "not a number from 1 on, or infinity");
	if (text[length] == ':')
		key_warn(site, "LimitNOFILE=SOFT:HARD is not supported, both become %s", soft);
	*(uint64_t *)field = (uint64_t)limit;
	return 0;
}

int value_oom_score(const struct key_site *site, const char *text, void *field,
	UNUSED const void *argument, struct error *e)
{
	struct unit *u = site->target;
	int64_t score;

	if (number_parse(text, &score) < 0 || score < -1000 || score > 1000)
		return error_say(e, -EINVAL, "not a number from -1000 to 1000");
	*(int *)field = (int)score;
	u->oom_score_adjust_set = true;
	return 0;
}

/* An infinite watchdog is none. */
int value_watchdog(const struct key_site *site, const char *text, void *field, const void *argument,
	struct error *e)
{
	uint64_t *usec = field;
	int r = key_parse_span(site, text, field, argument, e);

	if (r == 0 && *usec == UNIT_USEC_INFINITY)
		*usec = 0;
	return r;
}

int value_fd_store_max(const struct key_site *site, const char *text, void *field,
	UNUSED const void *argument, struct error *e)
{
	int64_t count;

	if (number_parse(text, &count) < 0 || count < 0 || count > INT32_MAX)
		return error_say(e, -EINVAL, "not a number from 0 to %d", INT32_MAX);
	if (count > UNIT_FD_STORE_MAX) {
		key_warn(site, "FileDescriptorStoreMax=%s: no more than %d are kept", text,
			UNIT_FD_STORE_MAX);
		count = UNIT_FD_STORE_MAX;
	}
	*(unsigned *)field = (unsigned)count;
	return 0;
}

bool unit_fd_name_is_valid(const char *name)
{
	size_t n = 0;

	/* $LISTEN_FDNAMES puts colons between them. */
	for (; name[n]; n++)
		if (name[n] < 0x20 || name[n] > 0x7E || name[n] == ':')
			return false;
	return n > 0 && n <= 255;
}

int value_fd_name(const struct key_site *site, const char *text, void *field, const void *argument,
	struct error *e)
{
	char *name = NULL;
	int r = key_parse_text(site, text, &name, argument, e);

	if (r == 0 && name && !unit_fd_name_is_valid(name)) {
		free(name);
		return error_say(
			e, -EINVAL, "not a name of up to 255 ASCII characters without a colon");
	}
	if (r == 0) {
		free(*(char **)field);
		*(char **)field = name;
	}
	return r;
}

int value_timeout_start(const struct key_site *site, const char *text, void *field,
	const void *argument, struct error *e)
{
	struct unit *u = site->target;

	u->timeout_start_set = true;
	return key_parse_timeout(site, text, field, argument, e);
}

int value_timeout_stop(const struct key_site *site, const char *text, void *field,
	const void *argument, struct error *e)
{
	struct unit *u = site->target;

	u->timeout_stop_set = true;
	return key_parse_timeout(site, text, field, argument, e);
}

int value_timeout_both(const struct key_site *site, const char *text, UNUSED void *field,
	const void *argument, struct error *e)
{
	struct unit *u = site->target;
	int r = value_timeout_start(site, text, &u->timeout_start_usec, argument, e);

	return r < 0 ? r : value_timeout_stop(site, text, &u->timeout_stop_usec, argument, e);
}

int value_policy(const struct key_site *site, const char *text, void *field, const void *argument,
	struct error *e)
{
	struct unit *u = site->target;

	u->policy_set = true;
	return key_parse_enum(site, text, field, argument, e);
}
