/* SPDX-License-Identifier: MIT */
#include "init/system.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <unistd.h>

#include "init/good.h"
#include "kernel/cgroup.h"
#include "kernel/crash.h"
#include "kernel/log.h"
#include "kernel/util.h"
#include "services/notify.h"
#include "services/output.h"
#include "services/service.h"
#include "upgrade/upgrade.h"

struct system sys = {.cgroup = -1, .tree = -1, .storage = -1, .crash_loop_usec = USEC_INFINITY};

static void take_option(const char *word)
{
	uint64_t seconds;

	if (strcmp(word, "single") == 0 || strcmp(word, "s") == 0 || strcmp(word, "S") == 0 ||
		strcmp(word, "1") == 0 || strcmp(word, "rescue") == 0 ||
		strcmp(word, "systemd.unit=rescue.target") == 0)
		sys.single = true;
	else if (strcmp(word, "emergency") == 0 || strcmp(word, "-b") == 0 ||
		 strcmp(word, "systemd.unit=emergency.target") == 0)
		sys.emergency = true;
	else if (strcmp(word, "molt.debug") == 0 || strcmp(word, "molt.debug=1") == 0)
		sys.debug = true;
	else if (starts_with(word, "molt.crash_loop=") &&
		 parse_u64(word + strlen("molt.crash_loop="), &seconds) && seconds <= 3600)
		sys.crash_loop_usec = seconds * USEC_PER_SEC;
}

static void take_command_line(void)
{
	char text[4096], *state = NULL;

	if (file_read(AT_FDCWD, "/proc/cmdline", text, sizeof(text)) <= 0)
		return;
	for (char *word = strtok_r(text, " \t\n", &state); word;
		word = strtok_r(NULL, " \t\n", &state))
		take_option(word);
}

void system_read_options(int argc, char *const *argv)
{
	/* The kernel hands over what it did not know itself, but only up to a "---": the whole line
	 * is in /proc. */
	if (sys.real)
		take_command_line();
	for (int i = 1; i < argc; i++)
		take_option(argv[i]);
	log_set_debug(sys.debug);
}

void system_find_kind(void)
{
	/* reboot(2): in a PID namespace other than the initial one this is EINVAL. It also makes
	 * Ctrl-Alt-Del a SIGINT for us instead of a reboot on the spot. */
	sys.real = reboot(RB_DISABLE_CAD) == 0;
}

int system_open_tree(struct error *e)
{
	char own[128], path[256];
	int r = cgroup_of_pid(getpid(), own, sizeof(own));

	if (r < 0)
		return error_set(e, r,
			"cannot find the cgroup of PID 1 (is cgroup v2 mounted on %s?)",
			CGROUP_ROOT);
	(void)snprintf(path, sizeof(path), "%s%s", CGROUP_ROOT, strcmp(own, "/") == 0 ? "" : own);
	(void)snprintf(
		sys.tree_path, sizeof(sys.tree_path), "%s/tree", strcmp(own, "/") == 0 ? "" : own);
	sys.cgroup = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (sys.cgroup < 0)
		return error_set(e, errno, "cannot open the cgroup %s", path);
	sys.tree = cgroup_make(sys.cgroup, "tree");
	if (sys.tree < 0)
		return error_set(e, sys.tree, "cannot make the cgroup %s/tree", path);
	/* Whoever owns a cgroup could nest others in it too deep for us to follow: no upgrade any
	 * more. */
	r = cgroup_limit_depth(sys.tree);
	if (r < 0)
		log_warning(
			"cannot limit how deep cgroups nest below %s/tree: %s", path, strerror(-r));
	(void)snprintf(sys.storage_path, sizeof(sys.storage_path), "%s/storage",
		strcmp(own, "/") == 0 ? "" : own);
	sys.storage = cgroup_make(sys.cgroup, "storage");
	if (sys.storage < 0)
		return error_set(e, sys.storage, "cannot make the cgroup %s/storage", path);
	/* A life before may have died in its blackout: whatever happens, the tree is thawed. */
	r = cgroup_freeze(sys.tree, false);
	return r < 0 ? error_set(e, r, "cannot thaw the cgroup %s/tree", path) : 0;
}

static void warn(void *userdata, const char *text)
{
	(void)userdata;
	log_warning("%s", text);
}

int system_configure(struct error *e)
{
	struct system_conf *conf;
	int r = system_conf_load(&conf, AT_FDCWD, warn, NULL, e);

	if (r < 0 && sys.conf)
		return r;
	if (r < 0) {
		conf = system_conf_default();
		if (!conf)
			return r;
	}
	struct system_conf *old = sys.conf;
	sys.conf = conf;
	system_spread_conf();
	system_conf_free(old);
	return r;
}

void system_spread_conf(void)
{
	log_set_debug(sys.debug || sys.conf->debug);
	world.tree = sys.tree;
	world.tree_path = sys.tree_path;
	world.storage = sys.storage;
	world.storage_path = sys.storage_path;
	world.notify_path = NOTIFY_SOCKET_PATH;
	/* What is started before the local mounts must not keep a file open below one of them. */
	world.log_directory =
		sys.state == SYSTEM_BOOTING ? OUTPUT_FALLBACK_DIRECTORY : sys.conf->log_directory;
	world.log_max_bytes = sys.conf->log_max_bytes;
	world.timeout_start_usec = sys.conf->start_timeout_usec;
	world.timeout_stop_usec = sys.conf->stop_timeout_usec;
	upgrade_configure(sys.conf);
	crash_set_rescue(sys.conf->console, sys.conf->rescue_shell);
	crash_set_interval(sys.crash_loop_usec != USEC_INFINITY ? sys.crash_loop_usec
								: sys.conf->crash_loop_usec);
}

void system_save(struct record_writer *w)
{
	record_begin(w, "system", "");
	record_int(w, "state", sys.state);
	record_bool(w, "debug", sys.debug);
	record_int(w, "boot_usec", (int64_t)sys.boot_usec);
	record_int(w, "initramfs_usec", (int64_t)sys.initramfs_usec);
	record_int(w, "booted_usec", (int64_t)sys.booted_usec);
	record_int(w, "crashes", sys.crashes);
	good_save(w);
	record_text(w, "last_crash", sys.last_crash[0] ? sys.last_crash : NULL);
	/* The kernel's arguments are not handed on by an exec of ours. */
	if (sys.crash_loop_usec != USEC_INFINITY)
		record_int(w, "crash_loop_usec", (int64_t)sys.crash_loop_usec);
	/* Ours is raised, and an exec keeps that: services begin with what the boot gave us. */
	record_int(w, "nofile_soft", (int64_t)world.nofile.rlim_cur);
	record_int(w, "nofile_hard", (int64_t)world.nofile.rlim_max);
	record_end(w);
}

void system_load(const struct record *r)
{
	const char *last_crash = record_get(r, "last_crash");

	sys.state = (enum system_state)record_get_int(r, "state", SYSTEM_RUNNING);
	sys.debug = record_get_bool(r, "debug", false);
	sys.boot_usec = (uint64_t)record_get_int(r, "boot_usec", (int64_t)clock_usec());
	sys.initramfs_usec = (uint64_t)record_get_int(r, "initramfs_usec", 0);
	sys.booted_usec = (uint64_t)record_get_int(r, "booted_usec", 0);
	sys.crashes = (unsigned)record_get_int(r, "crashes", 0);
	good_load(r);
	(void)snprintf(sys.last_crash, sizeof(sys.last_crash), "%s", last_crash ? last_crash : "");
	sys.crash_loop_usec = (uint64_t)record_get_int(r, "crash_loop_usec", -1);
	world.nofile.rlim_cur =
		(rlim_t)record_get_int(r, "nofile_soft", (int64_t)world.nofile.rlim_cur);
	world.nofile.rlim_max =
		(rlim_t)record_get_int(r, "nofile_hard", (int64_t)world.nofile.rlim_max);
}
