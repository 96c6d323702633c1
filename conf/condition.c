/* SPDX-License-Identifier: MIT */
#include "conf/condition.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/unit_values.h"
#include "conf/words.h"

static const char *const KIND_NAMES[N_CONDITION_KINDS] = {
	[CONDITION_PATH_EXISTS] = "PathExists",
	[CONDITION_PATH_EXISTS_GLOB] = "PathExistsGlob",
	[CONDITION_PATH_IS_DIRECTORY] = "PathIsDirectory",
	[CONDITION_PATH_IS_SYMBOLIC_LINK] = "PathIsSymbolicLink",
	[CONDITION_PATH_IS_MOUNT_POINT] = "PathIsMountPoint",
	[CONDITION_PATH_IS_READ_WRITE] = "PathIsReadWrite",
	[CONDITION_DIRECTORY_NOT_EMPTY] = "DirectoryNotEmpty",
	[CONDITION_FILE_NOT_EMPTY] = "FileNotEmpty",
	[CONDITION_FILE_IS_EXECUTABLE] = "FileIsExecutable",
	[CONDITION_VIRTUALIZATION] = "Virtualization",
	[CONDITION_KERNEL_COMMAND_LINE] = "KernelCommandLine",
	[CONDITION_AC_POWER] = "ACPower",
	[CONDITION_CAPABILITY] = "Capability",
	[CONDITION_FIRST_BOOT] = "FirstBoot",
	[CONDITION_USER] = "User",
	[CONDITION_GROUP] = "Group",
	[CONDITION_SECURITY] = "Security",
	[CONDITION_HOST] = "Host",
	[CONDITION_ARCHITECTURE] = "Architecture",
};

const char *condition_kind_name(enum condition_kind kind)
{
	return KIND_NAMES[kind];
}

void condition_describe(const struct condition *c, char *buf, size_t size)
{
	(void)snprintf(buf, size, "%s%s=%s%s%.200s", c->assertion ? "Assert" : "Condition",
		KIND_NAMES[c->kind], c->trigger ? "|" : "", c->negate ? "!" : "", c->value);
}

void conditions_done(struct conditions *list)
{
	for (size_t i = 0; i < list->count; i++)
		free(list->items[i].value);
	free(list->items);
	*list = (struct conditions){0};
}

static bool is_met(const struct condition *c, condition_test test, void *userdata)
{
	int r = test(c, userdata);

	return r >= 0 && (r > 0) != c->negate;
}

bool conditions_are_met(const struct conditions *list, bool assertions, condition_test test,
	void *userdata, const struct condition **ret_unmet)
{
	const struct condition *last_trigger = NULL;
	bool triggered = false;

	for (size_t i = 0; i < list->count; i++) {
		const struct condition *c = &list->items[i];
		if (c->assertion != assertions)
			continue;
		bool met = is_met(c, test, userdata);
		if (!c->trigger && !met) {
			*ret_unmet = c;
			return false;
		}
		if (c->trigger)
			last_trigger = c;
		triggered = triggered || (c->trigger && met);
	}
	if (!last_trigger || triggered)
		return true;
	*ret_unmet = last_trigger;
	return false;
}

/* An empty value takes away all that were said before: of whatever kind, but not the assertions
 * with the conditions. */
static void forget(struct conditions *list, bool assertions)
{
	size_t kept = 0;

	for (size_t i = 0; i < list->count; i++) {
		if (list->items[i].assertion == assertions)
			free(list->items[i].value);
		else
			list->items[kept++] = list->items[i];
	}
	list->count = kept;
}

static const char *skip_white_space(const char *text)
{
	while (is_white_space(*text))
		text++;
	return text;
}

static bool is_path(enum condition_kind kind)
{
	return kind <= CONDITION_FILE_IS_EXECUTABLE;
}

static int check_value(const struct condition *c, struct error *e)
{
	bool yes;

	if (c->value[0] == '\0')
		return error_say(e, -EINVAL, "nothing is named");
	if (is_path(c->kind) && c->value[0] != '/')
		return error_say(e, -EINVAL, "not an absolute path");
	if ((c->kind == CONDITION_AC_POWER || c->kind == CONDITION_FIRST_BOOT) &&
		unit_parse_bool(c->value, &yes) < 0)
		return error_say(e, -EINVAL, "neither yes nor no");
	return 0;
}

static int append(struct conditions *list, const struct condition *c, struct error *e)
{
	if (list->count >= STRINGS_MAX)
		return error_say(e, -E2BIG, "more than %d conditions", STRINGS_MAX);
	struct condition *grown = reallocarray(list->items, list->count + 1, sizeof(*grown));
	if (!grown)
		return key_no_memory(e);
	grown[list->count++] = *c;
	list->items = grown;
	return 0;
}

/* The argument is the name of its kind, out of the table above. */
static enum condition_kind kind_of(const char *name)
{
	enum condition_kind kind = CONDITION_PATH_EXISTS;

	while (kind < N_CONDITION_KINDS - 1 && strcmp(KIND_NAMES[kind], name) != 0)
		kind++;
	return kind;
}

int value_condition(const struct key_site *site, const char *text, void *field,
	const void *argument, struct error *e)
{
	struct condition c = {.kind = kind_of(argument)};
	struct conditions *list = field;

	c.assertion = strncmp(site->key, "Assert", strlen("Assert")) == 0;
	if (text[0] == '\0') {
		forget(list, c.assertion);
		return 0;
	}
	c.trigger = text[0] == '|';
	text = skip_white_space(text + c.trigger);
	c.negate = text[0] == '!';
	text = skip_white_space(text + c.negate);
	int r = key_expand(site, text, &c.value, e);
	if (r < 0)
		return r;
	r = check_value(&c, e);
	if (r == 0)
		r = append(list, &c, e);
	if (r < 0)
		free(c.value);
	return r;
}
