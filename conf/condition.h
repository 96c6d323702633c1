/* SPDX-License-Identifier: MIT */
/*
 * Condition...= and Assert...= of a unit: what must be so for it to be started. systemd.unit(5),
 * "CONDITIONS AND ASSERTS". Here they are read and put together; whether one holds is found out by
 * services/check.h.
 */
#ifndef MOLT_CONF_CONDITION_H
#define MOLT_CONF_CONDITION_H

#include <stdbool.h>
#include <stddef.h>

enum condition_kind {
	CONDITION_PATH_EXISTS,
	CONDITION_PATH_EXISTS_GLOB,
	CONDITION_PATH_IS_DIRECTORY,
	CONDITION_PATH_IS_SYMBOLIC_LINK,
	CONDITION_PATH_IS_MOUNT_POINT,
	CONDITION_PATH_IS_READ_WRITE,
	CONDITION_DIRECTORY_NOT_EMPTY,
	CONDITION_FILE_NOT_EMPTY,
	CONDITION_FILE_IS_EXECUTABLE,
	CONDITION_VIRTUALIZATION,
	CONDITION_KERNEL_COMMAND_LINE,
	CONDITION_AC_POWER,
	CONDITION_CAPABILITY,
	CONDITION_FIRST_BOOT,
	CONDITION_USER,
	CONDITION_GROUP,
	CONDITION_SECURITY,
	CONDITION_HOST,
	CONDITION_ARCHITECTURE,
	N_CONDITION_KINDS,
};

struct condition {
	enum condition_kind kind;
	bool assertion; /* Assert...=: if it is not met the start has failed */
	bool trigger; /* "|": of those one is enough */
	bool negate; /* "!" */
	char *value; /* specifiers replaced; a path is absolute */
};

struct conditions {
	struct condition *items;
	size_t count;
};

void conditions_done(struct conditions *list);

/* "PathExists", as in ConditionPathExists= and AssertPathExists=. */
const char *condition_kind_name(enum condition_kind kind);
/* "ConditionPathExists=!/etc/x", as its line in the file was. */
void condition_describe(const struct condition *c, char *buf, size_t size);

/* Whether its value is so, without the "!": 1, 0, or a negative errno if that cannot be told. */
typedef int (*condition_test)(const struct condition *c, void *userdata);

/*
 * Whether all those without "|" are met, and one of those with, if there are any: of the
 * assertions, or of the others. What cannot be told is not met, with "!" neither. If not,
 * *ret_unmet is the one to blame.
 */
bool conditions_are_met(const struct conditions *list, bool assertions, condition_test test,
	void *userdata, const struct condition **ret_unmet);

#endif
