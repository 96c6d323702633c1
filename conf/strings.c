/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "conf/unit.h"

int strings_append(char ***list, const char *value)
{
	size_t count = strings_count(*list);
	if (count >= STRINGS_MAX)
		return -E2BIG;

	char *copy = strdup(value);
	if (!copy)
		return -ENOMEM;

	char **grown = reallocarray(*list, count + 2, sizeof(*grown));
	if (!grown) {
		free(copy);
		return -ENOMEM;
	}
	grown[count] = copy;
	grown[count + 1] = NULL;
	*list = grown;
	return 0;
}

int strings_ensure(char ***list)
{
	if (!*list)
		*list = calloc(1, sizeof(**list));
	return *list ? 0 : -ENOMEM;
}

void strings_free(char **list)
{
	for (size_t i = 0; list && list[i]; i++)
		free(list[i]);
	free(list);
}

size_t strings_count(char *const *list)
{
	size_t n = 0;

	while (list && list[n])
		n++;
	return n;
}

bool strings_contain(char *const *list, const char *value)
{
	for (size_t i = 0; list && list[i]; i++) {
		if (strcmp(list[i], value) == 0)
			return true;
	}
	return false;
}
