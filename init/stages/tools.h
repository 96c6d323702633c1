/* SPDX-License-Identifier: MIT */
/* What the children of the boot's stages have in common: the distribution's programs, the lines of
 * its drop-in directories, and the words of the kernel command line. Only boot_option() is for PID
 * 1 itself. */
#ifndef MOLT_INIT_STAGES_TOOLS_H
#define MOLT_INIT_STAGES_TOOLS_H

#include <stdbool.h>
#include <stddef.h>

/* Where a program is, in the directories that every system has; NULL: it is not there. The answer
 * holds until the next call. */
const char *tool_find(const char *name);
/* Becomes it. Returns an exit code if it cannot, and has said so. */
int tool_exec(const char *path, char *const argv[]);
/* Runs it, waits for its end, and takes it along if this process is killed. Returns its exit code,
 * 128 + the signal that has killed it, or -1, and has said so, if it could not be run. */
int tool_run(const char *path, char *const argv[]);

/* The last KEY=VALUE of the kernel command line, or of PID 1's arguments in a namespace. */
bool boot_option(const char *key, char *buf, size_t size);
/* Those arguments, to be taken along into the next life; "" on a real machine. */
const char *boot_arguments(void);
void boot_set_arguments(const char *text);

/*
 * Every line of the *.conf files of NAME.d below /etc, /run, /usr/local/lib, /usr/lib and /lib, in
 * the order of the files' names; of files with the same name the first of these counts, and one
 * that is empty or a link to /dev/null hides the others. A file that cannot be read is a warning.
 */
void dropin_lines(const char *name, void (*visit)(const char *line, const char *place, void *data),
	void *data);
/* The lines of one file; one that is not there has none. */
void file_lines(const char *path, void (*visit)(const char *line, const char *place, void *data),
	void *data);

#endif
