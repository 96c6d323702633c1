/* SPDX-License-Identifier: MIT */
/*
 * From the path of an image to one detached mount of it. A directory is taken with the mount it
 * lies on; a block device or a file is mounted, apart from everybody (kernel/mount_apart.h), so
 * that nothing is left of it when the image is not used: a loop device goes with the last mount of
 * it, and so does a dm-verity. For the judging child.
 */
#ifndef MOLT_UPGRADE_IMAGE_OPEN_H
#define MOLT_UPGRADE_IMAGE_OPEN_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#include "kernel/error.h"
#include "kernel/probe.h"

enum image_kind {
	IMAGE_DIRECTORY, /* below a mount point, or a subvolume of a btrfs */
	IMAGE_MOUNT, /* a mount point: its mount stays with the old root */
	IMAGE_DEVICE, /* a block device */
	IMAGE_FILE, /* behind a loop device */
};

/* What the client asked for besides the path; strings are borrowed, NULL is "not given". */
struct image_options {
	const char *mount_options; /* of a device or a file */
	const char *fstype; /* what a device is mounted as, whatever it looks like */
	const char *default_mount_options; /* [Upgrade] MountOptions=, where those are not given */
	bool read_only;
	const char *verity_hash; /* device or file with the hash tree */
	const char *root_hash; /* hex digits, or the path of a file with them */
	const char *root_hash_signature; /* path; PKCS#7 */
	const char *seen; /* "DEVICE INODE": what the path is in the client's mount namespace, where
			     that is another than PID 1's */
};

struct image {
	enum image_kind kind;
	int root; /* the detached mount */
	bool read_only; /* as it will be the root; a plan mounts nothing for writing */
	bool verity;
	char fstype[64];
	char device[PATH_MAX]; /* what a device or file is mounted from; "" for a directory */
	char leave[PATH_MAX]; /* IMAGE_MOUNT: the mount point, which is not moved; else "" */
};

/*
 * Opens the image at `path`, or on the device with the tag that it is. `plan`: only to look at it.
 * `socket`: warnings go there (answer.h). 0, -EALREADY (it is the image that runs) or another
 * negative errno, with text.
 */
int image_open(const char *path, const struct image_options *o, bool plan, int socket,
	struct image *ret, struct error *e);

const char *image_kind_name(enum image_kind kind);

/* The decisions, for their tests. */

/* Whether it is what the client means. 0, or -ESTALE with text. */
int image_check_seen(const char *seen, const struct stat *st, const char *path, struct error *e);
/* Splits "UUID=VALUE" and the like (conf/protocol.h) into `tag`, and returns the value; NULL: it is
 * none. */
const char *image_parse_tag(const char *text, char tag[16]);
/* What forbids to mount what lies there: 0, or -EINVAL or the like with a text about `path`. */
int image_check_probe(const struct probe *p, const char *path, struct error *e);
/* What does not go together, or is no hash. */
int image_check_options(enum image_kind kind, const struct image_options *o, struct error *e);
/* Into `buf`; -ENAMETOOLONG. A plan mounts read-only; of two words that contradict each other the
 * last one counts, as in mount(8). */
int image_mount_options(enum image_kind kind, const struct image_options *o, bool plan, char *buf,
	size_t size, struct error *e);
/* Whether a mount with these options is one for reading: of "ro" and "rw" the last one counts. */
bool image_options_read_only(const char *options);

#endif
