/* SPDX-License-Identifier: MIT */
/*
 * The words of the kernel command line that say what the root is, for an initramfs: those of the
 * kernel itself (Documentation/admin-guide/kernel-parameters.txt), of systemd's for dm-verity
 * (systemd-veritysetup-generator(8)), and molt's own. Of a word that is there twice the last one
 * counts, as in the kernel.
 */
#ifndef MOLT_CONF_ROOT_OPTIONS_H
#define MOLT_CONF_ROOT_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "kernel/error.h"

struct root_options {
	char *root; /* root=: a path, "UUID=..." and the like, a tag of virtiofs; NULL: not said */
	char *fstype; /* rootfstype=: one; NULL: what lies there says */
	char *flags; /* rootflags=: mount options; NULL: none */
	bool writable; /* rw */
	uint64_t wait_usec; /* for the root to be there: rootdelay=, rootwait (infinity) */
	char *init; /* init=; NULL: the usual ones */
	char *image; /* molt.image=: a file or directory on the root that is the root then */
	/* molt.images=: a directory there with several, of which molt-image(8) chooses one */
	char *images;
	bool overlay; /* molt.overlay=: what is written is kept apart from the root */
	char *upper; /* on that device, molt.overlay=DEVICE[:/DIRECTORY]; NULL: in a tmpfs */
	char *upper_directory; /* there */
	char *verity_hash; /* molt.verity_hash=, systemd.verity_root_hash= */
	char *root_hash; /* roothash= */
	bool release; /* molt.release=: the root is let go of on the way down; else where it matters
		       */
	bool shell; /* a root shell if there is no root: rd.shell, panic= */
	int64_t panic_sec; /* panic=: >0: reboot so much later, <0: at once, 0: stay */
	bool debug; /* molt.debug */
	char *ignored; /* the last word whose value makes none, "rootdelay=soon"; NULL: there is
			  none */
};

/* Where on its device an overlay is kept, if nothing is said. */
#define ROOT_UPPER_DIRECTORY "/overlay"

/* How long it is waited for the root where nothing is said. */
#define ROOT_WAIT_USEC (30 * 1000000ULL)

/*
 * Reads `line`, as /proc/cmdline has it. 0, or -EINVAL with a text for what makes no sense
 * together, -ENOMEM. *ret is the caller's, root_options_free(), in any case: whether there is to be
 * a shell is said also where the rest is wrong.
 */
int root_options_parse(const char *line, struct root_options *ret, struct error *e);
void root_options_free(struct root_options *o);

/* Whether that word, "molt.initramfs" or "molt.initramfs=1", is in the line. */
bool root_options_has(const char *line, const char *word);

/* Of a file system that has no block device (virtiofs, 9p). */
bool root_options_without_device(const struct root_options *o);

/* Whether the root lies on what only someone outside of it can take apart: an image on a file
 * system, an overlay, dm-verity, a device that is made of others. */
bool root_options_is_layered(const struct root_options *o);

/* "/dev/disk/by-uuid/X" as "UUID=X": without udev there are no such links. In `buf`, or `spec`
 * itself where it is none of them. */
const char *root_options_tag(const char *spec, char *buf, unsigned long size);

#endif
