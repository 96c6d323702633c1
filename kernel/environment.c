/* SPDX-License-Identifier: MIT */
#include "kernel/environment.h"

#include <stdbool.h>
#include <stddef.h>
#include <unistd.h>

#include "kernel/util.h"

#define BIND_NOW "LD_BIND_NOW=1"
#define PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define TERM "TERM=linux"

/* BIND_NOW comes first, so that it can be left out. What comes next matters most, should it be cut
 * short (kernel/inject_exec.h). */
static char *variables[ENVIRONMENT_MAX + 4] = {BIND_NOW, PATH, TERM};
static char *least[ENVIRONMENT_MAX + 4] = {PATH, TERM};

static char *find(const char *name)
{
	for (char **v = environ; v && *v; v++)
		if (starts_with(*v, name))
			return *v;
	return NULL;
}

static bool has_its_place(const char *variable)
{
	return starts_with(variable, "PATH=") || starts_with(variable, "TERM=") ||
	       starts_with(variable, "LD_BIND_NOW=");
}

static bool is_of_the_libraries(const char *variable)
{
	return starts_with(variable, "LD_") || starts_with(variable, "MALLOC_") ||
	       starts_with(variable, "GLIBC_");
}

static void leave_out(void)
{
	size_t n = 0;

	for (char *const *v = variables; *v; v++)
		if (!is_of_the_libraries(*v))
			least[n++] = *v;
	least[n] = NULL;
}

void environment_take(void)
{
	char *path = find("PATH="), *term = find("TERM=");
	size_t n = 0;

	variables[n++] = (char *)BIND_NOW;
	variables[n++] = path ? path : (char *)PATH;
	variables[n++] = term ? term : (char *)TERM;
	for (char **v = environ; v && *v && n < ENVIRONMENT_MAX + 3; v++)
		if (!has_its_place(*v))
			variables[n++] = *v;
	variables[n] = NULL;
	leave_out();
}

char *const *environment_own(void)
{
	return variables + 1;
}

char *const *environment_strict(void)
{
	return variables;
}

char *const *environment_least(void)
{
	return least;
}
