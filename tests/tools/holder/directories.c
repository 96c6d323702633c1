/* SPDX-License-Identifier: MIT */
/* What can be held, and nothing more. */
#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "holder.h"

static void cwd_set_up(void)
{
	enter_directory();
}

static void cwd_check(void)
{
	check_cwd("the process");
}

static DIR *stream;
static char first_name[256];

static void fds_set_up(void)
{
	struct dirent *entry;

	open_fds();
	stream = opendir(directory);
	if (!stream || !(entry = readdir(stream)))
		err(1, "readdir %s", directory);
	(void)snprintf(first_name, sizeof(first_name), "%s", entry->d_name);
}

static void fds_check(void)
{
	bool found = false;
	struct dirent *entry;

	check_fds("the process");
	rewinddir(stream);
	while ((entry = readdir(stream)))
		found = found || strcmp(entry->d_name, first_name) == 0;
	if (!found)
		fault("the directory stream has lost %s", first_name);
}

/* A file of the image, open for writing */
static void writer_set_up(void)
{
	enter_directory();
	if (open("data", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644) < 0)
		err(1, "data");
}

static void nothing(void)
{
}

const struct subject DIRECTORIES[] = {
	{"cwd", cwd_set_up, cwd_check},
	{"fds", fds_set_up, fds_check},
	{"writer", writer_set_up, nothing},
	{0},
};
