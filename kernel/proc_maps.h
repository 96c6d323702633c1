/* SPDX-License-Identifier: MIT */
/* The files that a process has mapped into its memory: /proc/PID/maps, proc_pid_maps(5). */
#ifndef MOLT_KERNEL_PROC_MAPS_H
#define MOLT_KERNEL_PROC_MAPS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct proc_map {
	uint64_t start, end;
	bool writable, shared; /* of the permissions */
	uint64_t dev, ino; /* as the text has them: on an overlay they need not be stat(2)'s */
	char *path; /* " (deleted)" and all; inside the line */
	/* Told by proc_maps(), not by the text: */
	uint64_t mount_id; /* the mount that it was opened on */
	bool file_writable; /* it was opened for writing: if shared, mprotect(2) may make it so */
};

/* One line of maps. 1: a file is mapped; 0: memory without one; -EBADMSG: it makes no sense. */
int proc_map_parse(char *line, struct proc_map *ret);

/*
 * Calls `visit` for each file that is mapped: once for each kind of mapping of it, not for each
 * mapping. maps names files by device and inode, which several mounts may have in common and an
 * overlay does not have at all, so the mount is asked of /proc/PID/map_files (CAP_SYS_ADMIN or
 * CAP_CHECKPOINT_RESTORE). A mapping that goes away meanwhile is left out. Stops at the first
 * non-zero return and gives it back. 0 or negative errno; -ENOENT, -ESRCH: the process is gone.
 */
typedef int (*proc_map_visit)(const struct proc_map *map, void *userdata);
int proc_maps(pid_t pid, proc_map_visit visit, void *userdata);

#endif
