/* SPDX-License-Identifier: MIT */
/* What fsck.mode= and fsck.repair= of the kernel command line ask for, and what fsck(8) answers. */
#ifndef MOLT_CONF_FSCK_H
#define MOLT_CONF_FSCK_H

#include <stdbool.h>

struct fsck_wish {
	bool skip, force;
	const char *repair; /* fsck's own option: "-a", "-y", "-n" */
};

/* NULL: it is not on the command line. False if a value has no meaning: it counts as not said. */
bool fsck_wish_parse(const char *mode, const char *repair, struct fsck_wish *ret);

enum fsck_verdict {
	FSCK_CLEAN,
	FSCK_CORRECTED,
	FSCK_REBOOT, /* the root has changed under the system that runs from it */
	FSCK_FAILED, /* errors are left, or it could not do its work: a person is asked for */
};

/* Of fsck's exit code, a sum of flags; one that no fsck has is a failure. */
enum fsck_verdict fsck_judge(int code);

/* What an initramfs leaves for the file system at `target` if it has checked that, and found or
 * made it whole (initramfs-tools(7), FILES). NULL: it checks none there. */
const char *fsck_note_of(const char *target);

#endif
