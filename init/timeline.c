/* SPDX-License-Identifier: MIT */
#include "init/timeline.h"

#include <stdio.h>
#include <string.h>

#include "kernel/util.h"

static struct timeline_entry entries[TIMELINE_MAX];
static unsigned n_entries;

static struct timeline_entry *find(const char *name)
{
	for (unsigned i = 0; i < n_entries; i++)
		if (strcmp(entries[i].name, name) == 0)
			return &entries[i];
	return NULL;
}

static struct timeline_entry *make(const char *name)
{
	struct timeline_entry *entry = find(name);

	if (!entry && n_entries < TIMELINE_MAX)
		entry = &entries[n_entries++];
	if (entry) {
		*entry = (struct timeline_entry){0};
		(void)snprintf(entry->name, sizeof(entry->name), "%s", name);
	}
	return entry;
}

void timeline_begin(const char *name)
{
	struct timeline_entry *entry = make(name);

	if (entry)
		entry->begin_usec = clock_usec();
}

void timeline_end(const char *name, bool failed)
{
	struct timeline_entry *entry = find(name);

	if (!entry || entry->end_usec)
		return;
	entry->end_usec = clock_usec();
	entry->failed = failed;
}

const struct timeline_entry *timeline_get(unsigned n)
{
	return n < n_entries ? &entries[n] : NULL;
}

void timeline_save(struct record_writer *w)
{
	for (unsigned i = 0; i < n_entries; i++) {
		const struct timeline_entry *entry = &entries[i];
		record_begin(w, "stage", entry->name);
		record_int(w, "begin_usec", (int64_t)entry->begin_usec);
		record_int(w, "end_usec", (int64_t)entry->end_usec);
		record_bool(w, "failed", entry->failed);
		record_end(w);
	}
}

void timeline_load(const struct record *r)
{
	struct timeline_entry *entry = make(r->id);

	if (!entry)
		return;
	entry->begin_usec = (uint64_t)record_get_int(r, "begin_usec", 0);
	entry->end_usec = (uint64_t)record_get_int(r, "end_usec", 0);
	entry->failed = record_get_bool(r, "failed", false);
}
