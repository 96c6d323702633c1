/* SPDX-License-Identifier: MIT */
#include "conf/sysctl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "conf/words.h"

static char *copy_trimmed(const char *from, const char *end)
{
	while (from < end && is_white_space(*from))
		from++;
	while (end > from && is_white_space(end[-1]))
		end--;
	return strndup(from, (size_t)(end - from));
}

/* sysctl.d(5): the first separator decides. "net/ipv4/conf/eth0.1" is a path as it is; in
 * "net.ipv4.conf.eth0/1" dots are slashes, and the slashes dots of a name. */
static void make_path(char *key)
{
	char *first = strpbrk(key, "./");

	if (!first || *first == '/')
		return;
	for (char *p = first; *p; p++) {
		if (*p == '.')
			*p = '/';
		else if (*p == '/')
			*p = '.';
	}
}

static bool has_dots_as_part(const char *path)
{
	for (const char *p = path; p; p = strchr(p, '/')) {
		while (*p == '/')
			p++;
		size_t n = strcspn(p, "/");
		if ((n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
			return true;
	}
	return false;
}

/* Out of /proc/sys nothing of this leads. */
static bool is_path(const char *path)
{
	size_t n = strlen(path);

	return n > 0 && path[0] != '/' && path[n - 1] != '/' && !has_dots_as_part(path);
}

static void release(struct sysctl *s)
{
	free(s->path);
	free(s->value);
}

static void forget(struct sysctls *s, const char *path)
{
	for (size_t i = 0; i < s->count; i++) {
		if (strcmp(s->items[i].path, path) != 0)
			continue;
		release(&s->items[i]);
		memmove(&s->items[i], &s->items[i + 1], (s->count - i - 1) * sizeof(s->items[0]));
		s->count--;
		return;
	}
}

static int append(struct sysctls *s, const struct sysctl *item)
{
	struct sysctl *grown = reallocarray(s->items, s->count + 1, sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	s->items = grown;
	forget(s, item->path);
	s->items[s->count++] = *item;
	return 0;
}

int sysctls_add(struct sysctls *s, const char *line)
{
	struct sysctl item = {0};
	int r;

	while (is_white_space(*line))
		line++;
	if (!*line || *line == '#' || *line == ';')
		return 0;
	if (*line == '-') {
		item.may_fail = true;
		line++;
	}
	const char *equals = strchr(line, '=');
	if (!equals && !item.may_fail)
		return -EINVAL;
	item.path = copy_trimmed(line, equals ? equals : line + strlen(line));
	if (equals)
		item.value = copy_trimmed(equals + 1, equals + strlen(equals));
	if (!item.path || (equals && !item.value)) {
		release(&item);
		return -ENOMEM;
	}
	make_path(item.path);
	item.glob = strpbrk(item.path, "*?[") != NULL;
	r = is_path(item.path) ? append(s, &item) : -EINVAL;
	if (r < 0)
		release(&item);
	return r;
}

bool sysctls_names(const struct sysctls *s, const char *path)
{
	for (size_t i = 0; i < s->count; i++)
		if (!s->items[i].glob && strcmp(s->items[i].path, path) == 0)
			return true;
	return false;
}

void sysctls_done(struct sysctls *s)
{
	for (size_t i = 0; i < s->count; i++)
		release(&s->items[i]);
	free(s->items);
	*s = (struct sysctls){0};
}
