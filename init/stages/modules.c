/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conf/words.h"
#include "init/stages/children.h"
#include "init/stages/tools.h"
#include "init/system.h"
#include "kernel/log.h"

/* modprobe's own arguments come first, and a NULL last. */
struct names {
	char **argv;
	size_t count;
	int failed;
};

static void append(struct names *n, const char *word, size_t length)
{
	char **grown = reallocarray(n->argv, n->count + 2, sizeof(*grown));
	char *copy = strndup(word, length);

	if (grown)
		n->argv = grown;
	if (!grown || !copy) {
		log_error("out of memory");
		n->failed = 1;
		free(copy);
		return;
	}
	n->argv[n->count++] = copy;
	n->argv[n->count] = NULL;
}

static void take_line(const char *line, const char *place, void *data)
{
	while (is_white_space(*line))
		line++;
	size_t length = strcspn(line, " \t\r");

	if (!length || *line == '#' || *line == ';')
		return;
	append(data, line, length);
	line += length;
	if (line[strspn(line, " \t\r")])
		log_warning("%s: a module's parameters belong into modprobe.d, these are left out",
			place);
}

static void take_option(struct names *n)
{
	char text[1024];

	if (!boot_option("modules_load", text, sizeof(text)))
		return;
	for (const char *p = text; *p; p += strspn(p, ",")) {
		size_t length = strcspn(p, ",");
		if (length)
			append(n, p, length);
		p += length;
	}
}

int stage_load_modules(void)
{
	struct names n = {0};

	/* The host's business where this is a namespace; and a kernel without modules has none. */
	if (!sys.real || access("/proc/modules", F_OK) < 0)
		return 0;
	append(&n, "modprobe", strlen("modprobe"));
	append(&n, "-a", 2);
	append(&n, "-b", 2); /* no module that modprobe.d has on its blacklist */
	size_t own = n.count;
	dropin_lines("modules-load", take_line, &n);
	take_option(&n);
	if (n.failed || n.count == own)
		return n.failed;
	const char *path = tool_find("modprobe");
	if (!path) {
		log_error("cannot load modules: there is no modprobe");
		return 1;
	}
	return tool_exec(path, n.argv);
}
