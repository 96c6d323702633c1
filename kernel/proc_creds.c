/* SPDX-License-Identifier: MIT */
#include "kernel/proc_creds.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/proc_lines.h"
#include "kernel/util.h"

/* The fourth number: the one that file accesses go by. */
static unsigned file_id(const char *text)
{
	unsigned id = UINT32_MAX;

	(void)sscanf(text, "%*u %*u %*u %u", &id);
	return id;
}

static void parse_groups(struct proc_creds *c, const char *text)
{
	char *end;

	/* A list that was cut may end in the middle of a number. */
	c->more_groups = strlen(text) > PROC_LINE_MAX - 64;
	for (;; text = end) {
		unsigned long id = strtoul(text, &end, 10);
		if (end == text)
			return;
		if (c->n_groups == PROC_GROUPS_MAX) {
			c->more_groups = true;
			return;
		}
		c->groups[c->n_groups++] = (gid_t)id;
	}
}

void proc_creds_parse(struct proc_creds *c, char *line)
{
	if (starts_with(line, "Uid:"))
		c->fsuid = file_id(line + 4);
	else if (starts_with(line, "Gid:"))
		c->fsgid = file_id(line + 4);
	else if (starts_with(line, "Groups:"))
		parse_groups(c, line + 7);
	else if (starts_with(line, "CapEff:"))
		c->capabilities = strtoull(line + 7, NULL, 16);
}

static int take_line(char *line, void *userdata)
{
	proc_creds_parse(userdata, line);
	return 0;
}

int proc_creds_read(pid_t tid, struct proc_creds *ret)
{
	struct proc_creds c = {0};
	struct stat own, theirs;
	char path[48];

	(void)snprintf(path, sizeof(path), "/proc/%d/status", (int)tid);
	int r = proc_lines(path, take_line, &c);
	if (r < 0)
		return r;
	(void)snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)tid);
	c.own_user_ns = stat("/proc/self/ns/user", &own) == 0 && stat(path, &theirs) == 0 &&
			own.st_ino != theirs.st_ino;
	*ret = c;
	return 0;
}

static bool has_capability(const struct proc_creds *c, unsigned number)
{
	return c->capabilities & (1ULL << number);
}

static bool in_group(const struct proc_creds *c, gid_t group)
{
	if (c->fsgid == group)
		return true;
	for (unsigned i = 0; i < c->n_groups; i++)
		if (c->groups[i] == group)
			return true;
	return false;
}

bool proc_creds_may_search(const struct proc_creds *c, const struct stat *directory, bool has_acl)
{
	/* For a directory either of them will do: path_resolution(7), capabilities(7). */
	if (!c->own_user_ns &&
		(has_capability(c, CAP_DAC_OVERRIDE) || has_capability(c, CAP_DAC_READ_SEARCH)))
		return true;
	if (c->fsuid == directory->st_uid)
		return directory->st_mode & S_IXUSR;
	if (has_acl)
		return true;
	if (in_group(c, directory->st_gid))
		return directory->st_mode & S_IXGRP;
	return (directory->st_mode & S_IXOTH) || (c->more_groups && (directory->st_mode & S_IXGRP));
}

bool proc_creds_may_chroot(const struct proc_creds *c)
{
	return has_capability(c, CAP_SYS_CHROOT);
}
