/* SPDX-License-Identifier: MIT */
#include "conf/fsck.h"

#include <stddef.h>
#include <string.h>

/* fsck(8), EXIT STATUS */
#define CODE_CORRECTED 1
#define CODE_REBOOT 2

bool fsck_wish_parse(const char *mode, const char *repair, struct fsck_wish *ret)
{
	bool known = true;

	*ret = (struct fsck_wish){.repair = "-a"};
	if (mode && strcmp(mode, "skip") == 0)
		ret->skip = true;
	else if (mode && strcmp(mode, "force") == 0)
		ret->force = true;
	else if (mode && strcmp(mode, "auto") != 0)
		known = false;
	if (repair && strcmp(repair, "yes") == 0)
		ret->repair = "-y";
	else if (repair && strcmp(repair, "no") == 0)
		ret->repair = "-n";
	else if (repair && strcmp(repair, "preen") != 0)
		known = false;
	return known;
}

enum fsck_verdict fsck_judge(int code)
{
	if (code == 0)
		return FSCK_CLEAN;
	if (code < 0 || (code & ~(CODE_CORRECTED | CODE_REBOOT)))
		return FSCK_FAILED;
	return code & CODE_REBOOT ? FSCK_REBOOT : FSCK_CORRECTED;
}

const char *fsck_note_of(const char *target)
{
	if (strcmp(target, "/") == 0)
		return "/run/initramfs/fsck-root";
	if (strcmp(target, "/usr") == 0)
		return "/run/initramfs/fsck-usr";
	return NULL;
}
