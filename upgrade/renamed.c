/* SPDX-License-Identifier: MIT */
#include "upgrade/renamed.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/log.h"

#define RENAMED_MAX 256

static struct renamed {
	unsigned generation;
	uint64_t mount_id;
	char *was, *now;
} list[RENAMED_MAX];
static size_t count;

static int add(unsigned generation, uint64_t mount_id, char *was, char *now)
{
	if (was && now && count < RENAMED_MAX) {
		list[count++] = (struct renamed){generation, mount_id, was, now};
		return 0;
	}
	free(was);
	free(now);
	return -ENOMEM;
}

void renamed_add(unsigned generation, const struct pivot *p)
{
	for (size_t i = 0; i < p->n_mounts; i++) {
		const struct pivot_mount *m = &p->mounts[i];
		if (strcmp(m->path, m->place) != 0 &&
			add(generation, m->id, strdup(m->path), strdup(m->place)) < 0)
			log_warning(
				"a rollback will leave the mount of %s at %s", m->path, m->place);
	}
}

const char *renamed_from(unsigned generation, uint64_t mount_id, const char *now)
{
	for (size_t i = 0; i < count; i++)
		if (list[i].generation == generation && list[i].mount_id == mount_id &&
			strcmp(list[i].now, now) == 0)
			return list[i].was;
	return NULL;
}

void renamed_forget(unsigned generation)
{
	size_t kept = 0;

	for (size_t i = 0; i < count; i++) {
		if (list[i].generation != generation) {
			list[kept++] = list[i];
			continue;
		}
		free(list[i].was);
		free(list[i].now);
	}
	count = kept;
}

void renamed_save(struct record_writer *w)
{
	for (size_t i = 0; i < count; i++)
		record_format(w, "renamed", "%u %llu %zu %s%s", list[i].generation,
			(unsigned long long)list[i].mount_id, strlen(list[i].was), list[i].was,
			list[i].now);
}

int renamed_load(const struct record *r, struct error *e)
{
	const char *text;

	for (size_t i = 0; (text = record_get_nth(r, "renamed", i)); i++) {
		unsigned generation;
		unsigned long long id;
		size_t length;
		int at = 0;
		if (sscanf(text, "%u %llu %zu %n", &generation, &id, &length, &at) != 3 ||
			strlen(text + at) <= length)
			return error_say(
				e, EBADMSG, "the state's moved mount \"%s\" makes no sense", text);
		if (add(generation, id, strndup(text + at, length), strdup(text + at + length)) < 0)
			return error_set(e, ENOMEM, "cannot take up the state");
	}
	return 0;
}
