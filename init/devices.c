/* SPDX-License-Identifier: MIT */
#include "init/devices.h"

#include <stddef.h>
#include <unistd.h>

#include "init/system.h"
#include "kernel/util.h"

#define SERVICES_OF_ONE 3

/* The programs are those of ExecStart= in conf/units/. */
static const struct manager {
	const char *program;
	char *services[SERVICES_OF_ONE];
} MANAGERS[] = {
	{"/lib/systemd/systemd-udevd", {"systemd-udevd.service", "udev-coldplug.service", NULL}},
	{"/sbin/udevd", {"udevd.service", "udev-coldplug.service", NULL}},
	{"/sbin/mdev", {"mdev.service", "mdev-coldplug.service", NULL}},
};

char *const *devices_choose(bool (*is_there)(const char *program))
{
	static char *const none[] = {NULL};

	for (size_t i = 0; i < ARRAY_SIZE(MANAGERS); i++)
		if (is_there(MANAGERS[i].program))
			return MANAGERS[i].services;
	return none;
}

static bool is_program(const char *path)
{
	return access(path, X_OK) == 0;
}

static bool is_nothing(const char *path)
{
	(void)path;
	return false;
}

char *const *devices_services(void)
{
	if (!sys.conf->device_services_auto)
		return sys.conf->device_services;
	/* The devices of a container are those of its host. */
	return devices_choose(sys.real ? is_program : is_nothing);
}

uint64_t devices_limit(void)
{
	return sys.conf->device_timeout_usec;
}
