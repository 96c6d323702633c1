/* SPDX-License-Identifier: MIT */
/*
 * A process that holds something of the image, does what processes do meanwhile, and checks itself.
 *
 * Prints "ready", goes on until its standard input ends, and then says what it saw: "ok", or "bad:"
 * with everything that should not have been. Whether it has moved to another image along with the
 * system it knows by mount ids: what it holds must lie on the same mount as "/".
 *
 * usage: holder SUBJECT DIRECTORY [MSEC]      (DIRECTORY: one of the image, not its root; MSEC: how
 *                                              long "vfork" keeps its parents waiting)
 */
#include <err.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "holder.h"

static const struct subject *subject;

static void say(const char *text)
{
	/* Not by stdio, which asks the kernel more than a filter may allow. */
	if (write(STDOUT_FILENO, text, strlen(text)) < 0 || write(STDOUT_FILENO, "\n", 1) < 0)
		_exit(3);
}

static void wait_for_end_of_input(void)
{
	char byte;
	ssize_t n;

	while ((n = read(STDIN_FILENO, &byte, 1)) > 0)
		;
	if (n < 0)
		fault("read of the standard input: %s (%d)", strerror(errno), errno);
}

/* Not by returning: some subjects forbid themselves more than that needs. */
void go_on(void)
{
	say("ready");
	wait_for_end_of_input();
	over = true;
	subject->check();
	if (*faults)
		say("bad: ");
	say(*faults ? faults : "ok");
	_exit(*faults ? 1 : 0);
}

static const struct subject *find_subject(const char *name)
{
	static const struct subject *const LISTS[] = {
		DIRECTORIES, THREADS, WAITS, PERMISSIONS, CHILDREN, ODD};

	for (size_t i = 0; i < ARRAY_SIZE(LISTS); i++)
		for (const struct subject *s = LISTS[i]; s->name; s++)
			if (strcmp(s->name, name) == 0)
				return s;
	return NULL;
}

int main(int argc, char *argv[])
{
	subject = argc >= 3 ? find_subject(argv[1]) : NULL;
	if (!subject)
		errx(2, "usage: holder SUBJECT DIRECTORY [MSEC]");
	directory = argv[2];
	if (argc > 3)
		vfork_msec = atol(argv[3]);
	subject->set_up();
	go_on();
}
