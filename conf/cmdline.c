/* SPDX-License-Identifier: MIT */
#include "conf/cmdline.h"

#include <stdio.h>
#include <string.h>

#include "conf/words.h"

bool cmdline_next(const char **cursor, char *buf, size_t size)
{
	const char *p = *cursor;
	bool quoted = false;
	size_t n = 0;

	while (is_white_space(*p))
		p++;
	if (!*p)
		return false;
	for (; *p && (quoted || !is_white_space(*p)); p++) {
		if (*p == '"')
			quoted = !quoted;
		else if (n + 1 < size)
			buf[n++] = *p;
	}
	buf[n] = '\0';
	*cursor = p;
	return true;
}

bool cmdline_get(const char *line, const char *key, char *buf, size_t size)
{
	char word[1024];
	size_t length = strlen(key);
	bool found = false;

	while (cmdline_next(&line, word, sizeof(word))) {
		if (strncmp(word, key, length) != 0 || word[length] != '=')
			continue;
		(void)snprintf(buf, size, "%s", word + length + 1);
		found = true;
	}
	return found;
}
