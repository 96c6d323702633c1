/* SPDX-License-Identifier: MIT */
#include "initctl/answer.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "initctl/memory.h"

static size_t text_size(const char *text)
{
	return text ? strlen(text) + 1 : 0;
}

static char *append_text(char **end, const char *text)
{
	char *copy = *end;

	if (!text)
		return NULL;
	memcpy(copy, text, text_size(text));
	*end += text_size(text);
	return copy;
}

/* One block: the record, its fields, then all their strings. */
static struct record *copy_record(const struct record *r)
{
	size_t fields = r->n_fields * sizeof(r->fields[0]);
	size_t size = sizeof(*r) + fields + text_size(r->kind) + text_size(r->id);

	for (size_t i = 0; i < r->n_fields; i++)
		size += text_size(r->fields[i].key) + text_size(r->fields[i].value);

	struct record *copy = allocate(size);
	struct record_field *copies = (struct record_field *)(copy + 1);
	char *end = (char *)(copies + r->n_fields);

	*copy = *r;
	copy->kind = append_text(&end, r->kind);
	copy->id = append_text(&end, r->id);
	for (size_t i = 0; i < r->n_fields; i++) {
		copies[i].key = append_text(&end, r->fields[i].key);
		copies[i].value = append_text(&end, r->fields[i].value);
	}
	copy->fields = copies;
	return copy;
}

void answer_keep(void *userdata, const struct record *r)
{
	struct answer *a = userdata;

	if (a->count == a->capacity) {
		a->capacity = a->capacity ? a->capacity * 2 : 64;
		a->records = reallocate(a->records, a->capacity, sizeof(*a->records));
	}
	a->records[a->count++] = copy_record(r);
}

void ask_all(const struct request *q, struct answer *ret)
{
	*ret = (struct answer){0};
	ask(q, answer_keep, ret, &ret->result);
}

const struct record *answer_find(const struct answer *a, const char *kind)
{
	for (size_t i = 0; i < a->count; i++) {
		if (strcmp(a->records[i]->kind, kind) == 0)
			return a->records[i];
	}
	return NULL;
}

/* A process that is gone by the time anybody reads of it is nothing to tell of. */
static bool is_ourselves(const struct record *r)
{
	char pid[16];

	(void)snprintf(pid, sizeof(pid), "%d", (int)getpid());
	return strcmp(r->kind, "holder") == 0 && strcmp(r->id, pid) == 0;
}

const struct record **answer_select(const struct answer *a, const char *kind, size_t *ret_count)
{
	const struct record **found = allocate((a->count + 1) * sizeof(*found));
	size_t n = 0;

	for (size_t i = 0; i < a->count; i++) {
		if (strcmp(a->records[i]->kind, kind) == 0 && !is_ourselves(a->records[i]))
			found[n++] = a->records[i];
	}
	*ret_count = n;
	return found;
}

const char *field(const struct record *r, const char *key)
{
	const char *value = record_get(r, key);

	return value ? value : "";
}

void answer_done(struct answer *a)
{
	for (size_t i = 0; i < a->count; i++)
		free(a->records[i]);
	free(a->records);
	result_done(&a->result);
	*a = (struct answer){0};
}
