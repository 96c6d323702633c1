/* SPDX-License-Identifier: MIT */
#include "conf/exit_set.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "conf/number.h"
#include "conf/unit_values.h"
#include "conf/words.h"

#define UNUSED __attribute__((unused))

struct exit_name {
	const char *name;
	int code;
};

/* systemd.exec(5), "PROCESS EXIT CODES": those of libc, of init scripts (LSB), of sysexits.h, and
 * the one that a service of ours ends with if its program cannot be executed. */
static const struct exit_name exit_names[] = {
	{"SUCCESS", 0},
	{"FAILURE", 1},
	{"INVALIDARGUMENT", 2},
	{"NOTIMPLEMENTED", 3},
	{"NOPERMISSION", 4},
	{"NOTINSTALLED", 5},
	{"NOTCONFIGURED", 6},
	{"NOTRUNNING", 7},
	{"USAGE", 64},
	{"DATAERR", 65},
	{"NOINPUT", 66},
	{"NOUSER", 67},
	{"NOHOST", 68},
	{"UNAVAILABLE", 69},
	{"SOFTWARE", 70},
	{"OSERR", 71},
	{"OSFILE", 72},
	{"CANTCREAT", 73},
	{"IOERR", 74},
	{"TEMPFAIL", 75},
	{"PROTOCOL", 76},
	{"NOPERM", 77},
	{"CONFIG", 78},
	{"EXEC", 203},
};

bool exit_set_has(const struct exit_set *set, bool signal, int status)
{
	if (signal)
		return status >= 1 && status <= 64 && set->signals >> (status - 1) & 1;
	return status >= 0 && status <= 255 && set->codes[status / 64] >> (status % 64) & 1;
}

/* A number is an exit code, never a signal. */
static int parse_code(const char *word)
{
	int64_t number;

	if (number_parse(word, &number) == 0)
		return number >= 0 && number <= 255 ? (int)number : -ERANGE;
	for (size_t i = 0; i < sizeof(exit_names) / sizeof(exit_names[0]); i++)
		if (strcmp(exit_names[i].name, word) == 0)
			return exit_names[i].code;
	return -EINVAL;
}

static int add_word(struct exit_set *set, const char *word, struct error *e)
{
	int code = parse_code(word), signal;

	if (code >= 0)
		set->codes[code / 64] |= UINT64_C(1) << (code % 64);
	else if (code == -EINVAL && unit_parse_signal(word, &signal) == 0)
		set->signals |= UINT64_C(1) << (signal - 1);
	else
		return error_say(e, -EINVAL,
			"%.64s is no exit code (0 to 255, or a name such as TEMPFAIL) and no signal",
			word);
	return 0;
}

/* Lines add up, an empty one starts anew. */
int value_exit_set(UNUSED const struct key_site *site, const char *text, void *field,
	UNUSED const void *argument, struct error *e)
{
	struct exit_set *set = field;

	if (text[0] == '\0')
		*set = (struct exit_set){0};
	for (;;) {
		char *word;
		int r = word_next(&text, WORD_KEEP_BACKSLASH, &word);
		if (r <= 0)
			return r == -ENOMEM ? key_no_memory(e)
			       : r < 0      ? error_say(e, r, "a quote is not closed")
					    : 0;
		r = add_word(set, word, e);
		free(word);
		if (r < 0)
			return r;
	}
}
