/* SPDX-License-Identifier: MIT */
/*
 * Any bytes as a unit's text, an environment file and each of the single values. A unit that is
 * accepted must hold what conf/unit.h promises; a refusal must say why, on one line.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "conf/unit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition)          \
	do {                      \
		if (!(condition)) \
			abort();  \
	} while (0)

static void check_line(const char *text)
{
	CHECK(text[0] != '\0');
	CHECK(!strchr(text, '\n'));
}

static void hear(void *userdata, const char *text)
{
	(void)userdata;
	check_line(text);
}

static void check_commands(const struct commands *list, char *const *environment)
{
	for (size_t i = 0; i < list->count; i++) {
		const struct command *c = &list->items[i];
		char **argv;
		CHECK(c->path[0] == '/');
		CHECK(c->argv && c->argv[0]);
		int r = command_expand(c, environment, &argv);
		CHECK(r == 0 || r == -E2BIG);
		if (r == 0)
			strings_free(argv);
	}
}

static void check_unit(const struct unit *u)
{
	CHECK(u->after && u->before && u->requires && u->wants && u->environment);
	CHECK(u->environment_files && u->description);
	CHECK(u->exec_start.count == 1 || u->type == SERVICE_ONESHOT);
	CHECK(u->policy != POLICY_HANDOVER || u->n_listen > 0);
	CHECK(!u->pid_file || u->pid_file[0] == '/');
	CHECK(!u->working_directory || u->working_directory[0] == '/');
	CHECK(!u->directories[DIRECTORY_RUNTIME].names ||
		u->directories[DIRECTORY_RUNTIME].names[0] != '/');
	CHECK(u->umask <= 0777);
	CHECK(u->kill_signal > 0);
	CHECK(service_type_name(u->type));
	CHECK(upgrade_policy_name(u->policy));
	for (size_t i = 0; i < u->n_listen; i++)
		CHECK(u->listen[i].address && (u->listen[i].host || u->listen[i].port));
	check_commands(&u->exec_start_pre, u->environment);
	check_commands(&u->exec_start, u->environment);
	check_commands(&u->exec_stop, u->environment);
}

static void try_unit(const char *text, size_t size)
{
	struct unit *u = NULL;
	struct error e = {0};
	int r = unit_parse(&u, "x@a-b.service", "x", text, size, hear, NULL, &e);

	if (r == 0) {
		check_unit(u);
		unit_free(u);
		return;
	}
	CHECK(r == -EINVAL || r == -E2BIG);
	CHECK(!u && e.code == r);
	check_line(e.text);
}

static void try_environment(const char *text, size_t size)
{
	char **list = NULL;
	int r = environment_file_parse(text, size, &list);

	CHECK(r == 0 || r == -E2BIG);
	for (size_t i = 0; list && list[i]; i++)
		CHECK(strchr(list[i], '=') > list[i]);
	strings_free(list);
}

static void try_values(const char *text)
{
	struct listen_config l;
	struct command c;
	struct error e = {0};
	uint64_t usec;
	int number;
	bool b;

	(void)unit_parse_bool(text, &b);
	if (unit_parse_span(text, &usec) == 0)
		CHECK(usec == UNIT_USEC_INFINITY || usec <= INT64_MAX);
	if (unit_parse_signal(text, &number) == 0)
		CHECK(number > 0 && number <= 64);
	if (unit_parse_listen(text, &l, &e) == 0) {
		CHECK(strcmp(l.address, text) == 0);
		free(l.address);
		free(l.host);
	}
	if (unit_split_command(text, "x.service", &c, &e) == 0) {
		struct commands one = {&c, 1};
		check_commands(&one, NULL);
		strings_free(c.argv);
		free(c.path);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* A copy of exactly that size: a sanitizer sees the first byte past it. */
	char *exact = malloc(size), *terminated = malloc(size + 1);

	CHECK((exact || size == 0) && terminated);
	if (size > 0)
		memcpy(exact, data, size);
	if (size > 0)
		memcpy(terminated, data, size);
	terminated[size] = '\0';
	try_unit(exact, size);
	try_environment(exact, size);
	try_values(terminated);
	free(exact);
	free(terminated);
	return 0;
}
