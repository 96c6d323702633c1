/* SPDX-License-Identifier: MIT */
/* What a process may do about directories, as far as /proc/TID/status tells. */
#ifndef MOLT_KERNEL_PROC_CREDS_H
#define MOLT_KERNEL_PROC_CREDS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#define PROC_GROUPS_MAX 64

struct proc_creds {
	uid_t fsuid;
	gid_t fsgid;
	gid_t groups[PROC_GROUPS_MAX];
	unsigned n_groups;
	bool more_groups; /* than these */
	uint64_t capabilities; /* effective */
	bool own_user_ns; /* its capabilities do not count for our files */
};

int proc_creds_read(pid_t tid, struct proc_creds *ret);
/* Takes one line of status. */
void proc_creds_parse(struct proc_creds *c, char *line);

/*
 * Whether fchdir(2) or chroot(2) into a directory of that owner and mode would be allowed; where
 * more than the mode decides (an ACL, `has_acl`), what it cannot know is taken for allowed.
 * Security modules are not asked.
 */
bool proc_creds_may_search(const struct proc_creds *c, const struct stat *directory, bool has_acl);
/* chroot(2) asks for the capability in the process's own user name space. */
bool proc_creds_may_chroot(const struct proc_creds *c);

#endif
