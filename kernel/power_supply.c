/* SPDX-License-Identifier: MIT */
#include "kernel/power_supply.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>

#include "kernel/util.h"

struct supplies {
	bool online, offline, discharging;
};

static bool says(int device, const char *file, const char *text)
{
	char buf[64];

	if (file_read(device, file, buf, sizeof(buf)) <= 0)
		return false;
	buf[strcspn(buf, "\n")] = '\0';
	return strcmp(buf, text) == 0;
}

static void look_at(int device, struct supplies *found)
{
	if (says(device, "type", "Mains") || says(device, "type", "USB")) {
		/* 2 is a supply whose voltage can be set. */
		if (says(device, "online", "1") || says(device, "online", "2"))
			found->online = true;
		/* A USB port that nothing is plugged into says nothing of the others. */
		else if (says(device, "type", "Mains") && says(device, "online", "0"))
			found->offline = true;
	} else if (says(device, "type", "Battery") && !says(device, "scope", "Device")) {
		found->discharging = found->discharging || says(device, "status", "Discharging");
	}
}

bool power_supply_is_mains(const char *directory)
{
	struct supplies found = {0};
	DIR *d = opendir(directory);
	struct dirent *entry;

	while (d && (entry = readdir(d))) {
		CLEANUP_FD int device =
			entry->d_name[0] == '.'
				? -1
				: openat(dirfd(d), entry->d_name, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (device >= 0)
			look_at(device, &found);
	}
	if (d)
		(void)closedir(d);
	return found.online || (!found.offline && !found.discharging);
}
