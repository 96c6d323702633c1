/* SPDX-License-Identifier: MIT */
#include "conf/environment.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "conf/unit.h"
#include "conf/words.h"

static bool is_name_character(char c)
{
	return c == '_' || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
	       (c >= '0' && c <= '9');
}

bool environment_name_is_valid(const char *name, size_t length)
{
	if (length == 0 || (name[0] >= '0' && name[0] <= '9'))
		return false;
	for (size_t i = 0; i < length; i++) {
		if (!is_name_character(name[i]))
			return false;
	}
	return true;
}

/* The place of NAME's assignment in the list, or NULL. */
static char *const *find_name(char *const *list, const char *name, size_t length)
{
	for (; list && *list; list++) {
		if (strncmp(*list, name, length) == 0 && (*list)[length] == '=')
			return list;
	}
	return NULL;
}

const char *environment_get(char *const *list, const char *name, size_t name_length)
{
	char *const *found = find_name(list, name, name_length);

	return found ? *found + name_length + 1 : NULL;
}

int environment_set(char ***list, const char *assignment)
{
	const char *equals = strchr(assignment, '=');

	if (!equals || !environment_name_is_valid(assignment, (size_t)(equals - assignment)))
		return -EINVAL;
	char *const *found = find_name(*list, assignment, (size_t)(equals - assignment));
	if (!found)
		return strings_append(list, assignment);

	char *copy = strdup(assignment);
	if (!copy)
		return -ENOMEM;
	char **place = *list + (found - *list);
	free(*place);
	*place = copy;
	return 0;
}

/*
 * The reader of EnvironmentFile= texts, after systemd's own: quotes count where a value begins (or
 * a quoted part of it just ended), else they are characters; they may span lines. White space
 * around an unquoted value is none of it.
 */
struct file_reader {
	const char *next, *end;
	char *assignment; /* room for the whole text: what is read is never longer */
	size_t length;
	size_t kept; /* `length` without the unquoted white space at the end */
};

static bool at_end(const struct file_reader *f)
{
	return f->next == f->end;
}

static void put(struct file_reader *f, char c)
{
	f->assignment[f->length++] = c;
}

/* A byte that counts even if it is white space. */
static void put_kept(struct file_reader *f, char c)
{
	put(f, c);
	f->kept = f->length;
}

static void skip_line(struct file_reader *f)
{
	while (!at_end(f) && *f->next != '\n')
		f->next++;
}

static void skip_white_space(struct file_reader *f)
{
	while (!at_end(f) && is_white_space(*f->next))
		f->next++;
}

static void read_single_quoted(struct file_reader *f)
{
	for (; !at_end(f) && *f->next != '\''; f->next++)
		put_kept(f, *f->next);
	f->next += !at_end(f);
}

/* Between double quotes a backslash is one, unless it escapes what a shell would act on. */
static void read_double_quoted(struct file_reader *f)
{
	for (; !at_end(f) && *f->next != '"'; f->next++) {
		if (*f->next != '\\' || f->end - f->next < 2) {
			put_kept(f, *f->next);
			continue;
		}
		f->next++;
		if (*f->next == '\n')
			continue;
		if (!strchr("\"\\`$", *f->next) || *f->next == '\0')
			put_kept(f, '\\');
		put_kept(f, *f->next);
	}
	f->next += !at_end(f);
}

/* An escaped newline continues the value; any other escaped byte is that byte. */
static void read_escaped(struct file_reader *f)
{
	if (at_end(f))
		return;
	if (*f->next != '\n')
		put_kept(f, *f->next);
	f->next++;
}

static void read_unquoted(struct file_reader *f)
{
	while (!at_end(f) && *f->next != '\n') {
		char c = *f->next++;

		if (c == '\\')
			read_escaped(f);
		else if (is_white_space(c))
			put(f, c);
		else
			put_kept(f, c);
	}
	f->length = f->kept;
}

static void skip_blanks(struct file_reader *f)
{
	while (!at_end(f) && *f->next != '\n' && is_white_space(*f->next))
		f->next++;
}

static void read_value(struct file_reader *f)
{
	for (skip_blanks(f); !at_end(f); skip_blanks(f)) {
		if (*f->next == '\'') {
			f->next++;
			read_single_quoted(f);
		} else if (*f->next == '"') {
			f->next++;
			read_double_quoted(f);
		} else {
			read_unquoted(f);
			return;
		}
	}
}

/* NAME and the '='. Returns false for a line without one, which is skipped. */
static bool read_name(struct file_reader *f)
{
	f->length = 0;
	while (!at_end(f) && *f->next != '\n' && *f->next != '=')
		put(f, *f->next++);
	while (f->length > 0 && is_white_space(f->assignment[f->length - 1]))
		f->length--;
	if (at_end(f) || *f->next != '=')
		return false;
	put_kept(f, *f->next++);
	return true;
}

/* A value with a NUL byte in it could only be passed on in part. */
static int keep_assignment(const struct file_reader *f, char ***list)
{
	f->assignment[f->length] = '\0';
	if (strlen(f->assignment) != f->length)
		return 0;
	int r = environment_set(list, f->assignment);
	return r == -EINVAL ? 0 : r;
}

static int read_assignments(struct file_reader *f, char ***list)
{
	for (skip_white_space(f); !at_end(f); skip_white_space(f)) {
		if (*f->next == '#' || *f->next == ';') {
			skip_line(f);
			continue;
		}
		if (!read_name(f))
			continue;
		read_value(f);
		int r = keep_assignment(f, list);
		if (r < 0)
			return r;
	}
	return 0;
}

int environment_file_parse(const char *text, size_t length, char ***list)
{
	struct file_reader f = {
		.next = text, .end = text + length, .assignment = calloc(length + 1, 1)};

	if (!f.assignment)
		return -ENOMEM;
	int r = read_assignments(&f, list);
	free(f.assignment);
	return r;
}
