/* SPDX-License-Identifier: MIT */
#include "init/gettys.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "conf/unit.h"
#include "init/system.h"
#include "kernel/log.h"
#include "kernel/util.h"
#include "services/set.h"

/* "tty1", and not "ttyS0": what has a screen and a keyboard. */
static bool is_virtual(const char *terminal)
{
	return starts_with(terminal, "tty") && isdigit((unsigned char)terminal[strlen("tty")]);
}

/* The templates of conf/units/; NULL: no program for any. */
static const char *template_for(const struct gettys_world *w, const char *terminal)
{
	if (w->is_there("/sbin/agetty"))
		return is_virtual(terminal) ? "getty" : "serial-getty";
	return w->is_there("/sbin/getty") ? "busybox-getty" : NULL;
}

/* systemd-escape(1), as far as the name of a terminal can need it. */
static void escape(char *out, size_t size, const char *text)
{
	size_t n = 0;

	for (; *text && n + 5 < size; text++) {
		if (*text == '-')
			n += (size_t)snprintf(out + n, size - n, "\\x2d");
		else
			out[n++] = *text;
	}
	out[n] = '\0';
}

static int add(const struct gettys_world *w, const char *terminal, char ***list)
{
	const char *template = template_for(w, terminal);
	char instance[80], name[120];

	if (!template)
		return 0;
	escape(instance, sizeof(instance), terminal);
	(void)snprintf(name, sizeof(name), "%s@%s.service", template, instance);
	return strings_contain(*list, name) ? 0 : strings_append(list, name);
}

static int add_if_there(const struct gettys_world *w, const char *terminal, char ***list)
{
	char path[120];

	/* tty0 is whichever is in front. */
	if (strcmp(terminal, "tty0") == 0)
		terminal = "tty1";
	(void)snprintf(path, sizeof(path), "/dev/%s", terminal);
	return w->is_there(path) ? add(w, terminal, list) : 0;
}

static int add_consoles(const struct gettys_world *w, char ***list)
{
	char copy[256], *state = NULL;
	int r = w->is_there("/dev/tty0") ? add_if_there(w, "tty1", list) : 0;

	(void)snprintf(copy, sizeof(copy), "%s", w->consoles ? w->consoles : "");
	for (char *word = strtok_r(copy, " \t\n", &state); r == 0 && word;
		word = strtok_r(NULL, " \t\n", &state))
		if (strcmp(word, "ttynull") != 0)
			r = add_if_there(w, word, list);
	return r;
}

int gettys_choose(const struct gettys_world *w, char *const *terminals, char ***ret)
{
	char **list = NULL;
	int r = strings_ensure(&list);

	if (r == 0 && !terminals)
		r = add_consoles(w, &list);
	for (; r == 0 && terminals && *terminals; terminals++)
		r = add(w, *terminals, &list);
	if (r < 0) {
		strings_free(list);
		return r;
	}
	*ret = list;
	return 0;
}

static bool is_there(const char *path)
{
	return access(path, F_OK) == 0;
}

void gettys_start(void)
{
	char consoles[256];
	struct gettys_world w = {.consoles = consoles, .is_there = is_there};
	char **list = NULL;
	struct error e;

	/* In a container the console is its host's business. */
	if (sys.conf->gettys_auto && !sys.real)
		return;
	if (file_read(AT_FDCWD, "/sys/class/tty/console/active", consoles, sizeof(consoles)) < 0)
		consoles[0] = '\0';
	int r = gettys_choose(&w, sys.conf->gettys_auto ? NULL : sys.conf->gettys, &list);
	if (r < 0) {
		log_error("cannot start the gettys: %s", strerror(-r));
		return;
	}
	for (char **name = list; *name; name++)
		if (set_start(*name, &e) < 0)
			log_error("%s", e.text);
	strings_free(list);
}
