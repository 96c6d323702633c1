/* SPDX-License-Identifier: MIT */
/*
 * What /proc/TID/fdinfo/FD tells of a descriptor that stands for other files: the marks of
 * inotify(7) and fanotify(7), the files registered with io_uring(7), the descriptors queued in a
 * unix socket.
 */
#ifndef MOLT_KERNEL_PROC_FDINFO_H
#define MOLT_KERNEL_PROC_FDINFO_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* As much of a file handle as the kernel prints: name_to_handle_at(2). */
#define FDINFO_HANDLE_MAX 128

enum fdinfo_kind {
	FDINFO_WATCH, /* inotify: an inode */
	FDINFO_MARK_INODE, /* fanotify: an inode */
	FDINFO_MARK_MOUNT, /* fanotify: a mount */
	FDINFO_MARK_FILESYSTEM, /* fanotify: a whole file system */
	FDINFO_RING_FILE, /* a file registered with io_uring */
	FDINFO_QUEUED, /* descriptors that were sent and not received; of what, nobody tells */
};

struct fdinfo_entry {
	enum fdinfo_kind kind;
	uint64_t ino; /* of an inode's mark */
	uint32_t dev; /* of an inode's or file system's mark: the kernel's number, see kernel_dev()
		       */
	uint64_t mount_id; /* of a mount's mark */
	uint32_t count; /* FDINFO_QUEUED */
	/* FDINFO_RING_FILE: the path; before Linux 6.13 only the name. Inside the line. */
	char *path;
	unsigned handle_size, handle_type;
	unsigned char handle[FDINFO_HANDLE_MAX];
};

/* State of a reader that goes through the lines of one file; zero it before the first. */
struct fdinfo_reader {
	unsigned n_ring_files; /* still to come */
};

/* 1 and *ret if the line says something of that kind; 0 if not. Writes into the line. */
int fdinfo_parse(struct fdinfo_reader *r, char *line, struct fdinfo_entry *ret);

/* Calls `visit` for each entry; stops at the first non-zero return and gives it back. 0 or negative
 * errno. */
int fdinfo_entries(pid_t tid, int fd,
	int (*visit)(const struct fdinfo_entry *entry, void *userdata), void *userdata);

/*
 * The number that the kernel itself has for the file system that `fd` lies on, in its own encoding
 * (major << 20 | minor): what fdinfo and sock_diag(7) print. stat(2) gives subvolumes of btrfs
 * numbers of their own, and mountinfo has no mount that was detached. 0 or negative errno.
 */
int kernel_dev(int fd, uint32_t *ret_dev);

#endif
