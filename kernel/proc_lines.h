/* SPDX-License-Identifier: MIT */
/* Files of /proc of any length, line by line in bounded memory. */
#ifndef MOLT_KERNEL_PROC_LINES_H
#define MOLT_KERNEL_PROC_LINES_H

/* What a line is cut to: a path, and the columns before it. */
#define PROC_LINE_MAX 8192

/*
 * Calls `visit` for each line of `path`, without its newline and free to write into; a longer one
 * is cut. Stops at the first non-zero return and gives it back. Otherwise 0 or negative errno. Not
 * to be nested: the buffer is static.
 */
int proc_lines(const char *path, int (*visit)(char *line, void *userdata), void *userdata);

#endif
