/* SPDX-License-Identifier: MIT */
#include "initctl/holder_order.h"

#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#include "initctl/format.h"
#include "initctl/memory.h"

static int compare_key(const struct record *a, const struct record *b, const char *key)
{
	return strcmp(field(a, key), field(b, key));
}

static int64_t pid_of(const struct record *r)
{
	return strtoll(r->id, NULL, 10);
}

/* Services first, then processes in other cgroups, then those of none. */
static int rank_of(const struct record *r)
{
	const char *unit = field(r, "unit");

	if (is_service(unit))
		return 0;
	return *unit ? 1 : 2;
}

int compare_units(const struct record *a, const struct record *b)
{
	int order = rank_of(a) - rank_of(b);

	return order != 0 ? order : compare_key(a, b, "unit");
}

int compare_processes(const struct record *a, const struct record *b)
{
	int order = compare_units(a, b);

	if (order != 0)
		return order;
	return (pid_of(a) > pid_of(b)) - (pid_of(a) < pid_of(b));
}

int compare_holders(const struct record *a, const struct record *b)
{
	static const char *const keys[] = {"comm", "generation", "action", "what", "mode"};
	int order = compare_processes(a, b);

	for (size_t i = 0; order == 0 && i < sizeof(keys) / sizeof(keys[0]); i++)
		order = compare_key(a, b, keys[i]);
	return order;
}

static int compare_for_sort(const void *a, const void *b)
{
	const struct record *const *left = a;
	const struct record *const *right = b;
	int order = compare_holders(*left, *right);

	return order != 0 ? order : compare_key(*left, *right, "path");
}

const struct record **sorted_holders(const struct answer *a, size_t *ret_count)
{
	const struct record **holders = answer_select(a, "holder", ret_count);

	qsort(holders, *ret_count, sizeof(*holders), compare_for_sort);
	return holders;
}

struct run next_run(
	const struct record **begin, int (*compare)(const struct record *, const struct record *))
{
	struct run run = {begin, begin};

	while (*run.end && compare(*begin, *run.end) == 0)
		run.end++;
	return run;
}

char *holder_user(const struct record *r)
{
	int64_t uid = record_get_int(r, "uid", 0);
	const struct passwd *user = uid > 0 ? getpwuid((uid_t)uid) : NULL;

	if (uid <= 0 || is_service(field(r, "unit")))
		return NULL;
	return user ? copy_text(user->pw_name) : format_text("user %lld", (long long)uid);
}

char *holder_name(const struct record *r)
{
	char *user = holder_user(r);
	char *name = user ? format_text("%s (%s, of %s)", r->id, field(r, "comm"), user)
			  : format_text("%s (%s)", r->id, field(r, "comm"));

	free(user);
	return name;
}
