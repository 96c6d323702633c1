/* SPDX-License-Identifier: MIT */
#include "conf/machine_id.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "init/stages/children.h"
#include "init/stages/tools.h"
#include "init/system.h"
#include "kernel/log.h"
#include "kernel/util.h"
#include "upgrade/carry.h"

static bool read_id(const char *path, char ret[MACHINE_ID_SIZE])
{
	char text[128];

	return file_read(AT_FDCWD, path, text, sizeof(text)) > 0 && machine_id_parse(text, ret);
}

/* Missing, empty, "uninitialized": machine-id(5). What is anything else is somebody's. */
static bool is_to_be_made(void)
{
	char text[128];
	ssize_t n = file_read(AT_FDCWD, MACHINE_ID_PATH, text, sizeof(text));

	return n == -ENOENT || n == 0 || (n > 0 && strspn(text, " \t\n") == (size_t)n) ||
	       (n > 0 && starts_with(text, "uninitialized"));
}

static bool told(char ret[MACHINE_ID_SIZE])
{
	static const char *const KEYS[] = {"molt.machine_id", "systemd.machine_id"};
	char text[128];

	for (size_t i = 0; i < ARRAY_SIZE(KEYS); i++) {
		if (!boot_option(KEYS[i], text, sizeof(text)))
			continue;
		if (machine_id_parse(text, ret))
			return true;
		log_warning("%s=%s is no machine ID: it is not used", KEYS[i], text);
	}
	return false;
}

/* A virtual machine that is moved or restored stays who it is, by the UUID that its host gives it.
 * Hardware's is often nobody's, or that of all boards. */
static bool of_virtual_machine(char ret[MACHINE_ID_SIZE])
{
	char text[128];

	if (read_id("/sys/firmware/devicetree/base/vm,uuid", ret))
		return true;
	return file_read(AT_FDCWD, "/sys/class/dmi/id/sys_vendor", text, sizeof(text)) > 0 &&
	       machine_id_trusts_vendor(text) && read_id("/sys/class/dmi/id/product_uuid", ret);
}

static bool of_container(char ret[MACHINE_ID_SIZE])
{
	const char *text = getenv("container_uuid");

	return text && machine_id_parse(text, ret);
}

static bool make_random(char ret[MACHINE_ID_SIZE])
{
	uint8_t bytes[16];
	/* Once in a machine's life, and for ever: it may wait until the kernel's generator can be
	 * relied on. The stage's limit says how long. */
	ssize_t n = getrandom(bytes, sizeof(bytes), 0);

	if (n != (ssize_t)sizeof(bytes))
		return false;
	machine_id_from_random(bytes, ret);
	return true;
}

static bool find(char ret[MACHINE_ID_SIZE], const char **ret_from)
{
	/* The first is of a boot stage that ended in the middle. */
	*ret_from = MACHINE_ID_MADE;
	if (read_id(MACHINE_ID_MADE, ret))
		return true;
	*ret_from = "D-Bus";
	if (read_id("/var/lib/dbus/machine-id", ret))
		return true;
	*ret_from = "the virtual machine";
	if (sys.real ? of_virtual_machine(ret) : of_container(ret))
		return true;
	*ret_from = "random numbers";
	return make_random(ret);
}

static int write_id(const char *path, const char *id)
{
	char text[MACHINE_ID_SIZE + 1];
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY, 0444);

	if (fd < 0)
		return -errno;
	(void)snprintf(text, sizeof(text), "%s\n", id);
	ssize_t n = write(fd, text, strlen(text));
	if (n < 0)
		return -errno;
	if ((size_t)n != strlen(text))
		return -EIO;
	if (ftruncate(fd, n) < 0 || fchmod(fd, 0444) < 0 || fsync(fd) < 0)
		return -errno;
	return 0;
}

/* Over the file of a read-only image, until the next boot. */
static int cover(const char *id)
{
	int r = write_id(MACHINE_ID_MADE, id);

	if (r < 0) {
		log_error("cannot write %s: %s", MACHINE_ID_MADE, strerror(-r));
		return 1;
	}
	if (mount(MACHINE_ID_MADE, MACHINE_ID_PATH, NULL, MS_BIND, NULL) < 0) {
		log_error("cannot mount %s over %s: %s%s", MACHINE_ID_MADE, MACHINE_ID_PATH,
			strerror(errno),
			errno == ENOENT
				? " (make an empty file there when building a read-only image)"
				: "");
		return 1;
	}
	if (mount(NULL, MACHINE_ID_PATH, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) < 0)
		log_warning("cannot make %s read-only: %s", MACHINE_ID_PATH, strerror(errno));
	return 0;
}

static void note_first_boot(void)
{
	CLEANUP_FD int fd = open(FIRST_BOOT_PATH, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY, 0444);

	if (fd < 0)
		log_warning("cannot make %s: %s: ConditionFirstBoot= will not see it",
			FIRST_BOOT_PATH, strerror(errno));
}

/* What is carried is this machine's for good: the next boot finds it where all of that is. */
static void tell_for_how_long(const char *id, const char *from)
{
	struct error e;
	int r = carry_keep(sys.conf->carry, sys.conf->carry_directory, MACHINE_ID_PATH, &e);

	if (r > 0) {
		log_notice("this machine is %s now, by %s: kept in CarryDirectory=%s", id, from,
			sys.conf->carry_directory);
		return;
	}
	if (r < 0)
		log_warning("%s is not kept: %s", MACHINE_ID_PATH, e.text);
	log_notice("this machine is %s until the next boot, by %s: %s cannot be written to", id,
		from, MACHINE_ID_PATH);
}

int stage_set_machine_id(void)
{
	char id[MACHINE_ID_SIZE], present[MACHINE_ID_SIZE] = "";
	const char *from = "the command line";
	bool have = read_id(MACHINE_ID_PATH, present), asked = told(id);
	int r;

	if (have && (!asked || strcmp(id, present) == 0))
		return 0;
	bool first = !have && is_to_be_made();
	if (!have && !asked && !first) {
		log_warning("%s is no machine ID: it is left as it is", MACHINE_ID_PATH);
		return 0;
	}
	if (!asked && !find(id, &from)) {
		log_error("cannot make a machine ID: no random numbers");
		return 1;
	}
	if (first)
		note_first_boot();
	r = write_id(MACHINE_ID_PATH, id);
	if (r == 0) {
		log_notice("this machine is %s now, by %s", id, from);
		return 0;
	}
	if (r != -EROFS && r != -EACCES && r != -EPERM) {
		log_error("cannot write %s: %s", MACHINE_ID_PATH, strerror(-r));
		return 1;
	}
	if (cover(id) != 0)
		return 1;
	tell_for_how_long(id, from);
	return 0;
}
