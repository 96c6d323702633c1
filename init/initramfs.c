/* SPDX-License-Identifier: MIT */
#include "init/initramfs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "init/boot.h"
#include "init/shell.h"
#include "kernel/crash.h"
#include "kernel/log.h"
#include "kernel/modules.h"
#include "kernel/mounts.h"
#include "kernel/process.h"
#include "kernel/util.h"

#define CONSOLE "/dev/console"
#define SHELL "/bin/sh"
#define LINE_MAX_BYTES 4096 /* COMMAND_LINE_SIZE of most architectures is less */

static bool read_command_line(char line[LINE_MAX_BYTES])
{
	if (file_read(AT_FDCWD, "/proc/cmdline", line, LINE_MAX_BYTES) >= 0)
		return true;
	line[0] = '\0';
	return false;
}

static bool is_asked_for(void)
{
	char line[LINE_MAX_BYTES];

	/* It will be mounted there in any case. */
	if (!read_command_line(line)) {
		(void)mkdir("/proc", 0755);
		(void)mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
		(void)read_command_line(line);
	}
	return root_options_has(line, "molt.initramfs");
}

bool initramfs_is_here(void)
{
	struct statfs fs;

	if (statfs("/", &fs) < 0 || (fs.f_type != RAMFS_MAGIC && fs.f_type != TMPFS_MAGIC))
		return false;
	return access("/etc/initrd-release", F_OK) == 0 || is_asked_for();
}

/* Modules */

int initramfs_modprobe(int argc, char **argv)
{
	struct error e;
	int failed = 0;

	for (int i = 1; i < argc; i++)
		if (argv[i][0] != '-' && modules_load(argv[i], &e) < 0)
			failed = 1;
	return failed;
}

static void load_listed(void)
{
	static char text[65536];
	char *state = NULL;
	struct error e;

	if (file_read(AT_FDCWD, INITRAMFS_MODULES, text, sizeof(text)) <= 0)
		return;
	for (char *name = strtok_r(text, "\n", &state); name; name = strtok_r(NULL, "\n", &state))
		if (name[0] != '#' && modules_load(name, &e) < 0)
			log_warning("%s", e.text);
}

/* The end that a person has to see */

static void __attribute__((noreturn)) end(const struct root_options *o)
{
	if (o->panic_sec > 0) {
		log_error("rebooting in %lld s, as panic= says", (long long)o->panic_sec);
		(void)sleep((unsigned)o->panic_sec);
	}
	sync();
	if (o->panic_sec != 0)
		(void)reboot(RB_AUTOBOOT);
	log_error("nothing more can be done here: switch it off, or boot with rd.shell");
	for (;;)
		(void)pause();
}

/* Returns when the person has left it. */
static void run_shell(const struct root_options *o, const char *why)
{
	char text[1024];
	int pidfd, status;

	(void)snprintf(text, sizeof(text),
		"%s\r\nA root shell in the initramfs: `exit` tries again, or goes on with what is mounted on " INITRAMFS_ROOT
		".",
		why);
	if (access(SHELL, X_OK) < 0) {
		log_error("there is no " SHELL " in this initramfs for a root shell");
		end(o);
	}
	pid_t pid = process_fork(-1, &pidfd);
	if (pid == 0)
		shell_run(CONSOLE, SHELL, text);
	if (pid < 0) {
		log_error("cannot start a root shell: %s", strerror((int)-pid));
		end(o);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	(void)fd_close(pidfd);
	/* A console that is not there is no person who is done. */
	if (WIFEXITED(status) && (WEXITSTATUS(status) == 127 || WEXITSTATUS(status) == 1))
		(void)sleep(1);
}

static void fail(const struct root_options *o, const char *why)
{
	log_error("%s", why);
	if (!o->shell)
		end(o);
	run_shell(o, why);
}

/* The way there */

static bool root_is_mounted(void)
{
	struct stat here, root;

	return stat("/", &here) == 0 && stat(INITRAMFS_ROOT, &root) == 0 &&
	       here.st_dev != root.st_dev;
}

static int mount_root(const struct root_options *o, struct error *e)
{
	int root, r;

	if (root_is_mounted())
		return 0; /* by a person, in the shell */
	if ((r = initramfs_open_root(o, &root, e)) < 0)
		return r;
	int at = open(INITRAMFS_ROOT, O_PATH | O_DIRECTORY | O_CLOEXEC);
	r = at < 0 ? -errno : mount_move(root, at);
	(void)fd_close(at);
	(void)fd_close(root);
	return r < 0 ? error_set(e, r, "cannot mount the root on " INITRAMFS_ROOT) : 0;
}

/* A root that is not released on the way down is a root all the same. */
static void leave(void)
{
	struct error e;

	if (initramfs_leave(&e) < 0)
		log_warning(
			"%s: what the root lies on will not be released on the way down", e.text);
}

static void tell_time(uint64_t began)
{
	char text[32];

	(void)snprintf(text, sizeof(text), "%llu", (unsigned long long)began);
	(void)setenv(INITRAMFS_USEC, text, 1);
}

void initramfs_run(char **argv)
{
	static char line[LINE_MAX_BYTES];
	struct root_options o = {.shell = true};
	struct error e = {0};
	uint64_t began = clock_usec();

	boot_mount_kernel_file_systems();
	crash_find_program();
	log_lift_kmsg_limit();
	log_open_kmsg();
	(void)mkdir(INITRAMFS_ROOT, 0755);
	(void)read_command_line(line);
	int wrong = root_options_parse(line, &o, &e);
	log_set_debug(o.debug);
	if (o.ignored)
		log_warning(
			"%s on the kernel command line makes no sense, and is ignored", o.ignored);
	log_notice("molt %s: in the initramfs, looking for the root %s", MOLT_VERSION,
		o.root ? o.root : "");
	load_listed();
	modules_load_for_devices();
	tell_time(began);
	for (;;) {
		/* What a person mounts in spite of a wrong command line is taken. */
		if ((wrong == 0 || root_is_mounted()) && mount_root(&o, &e) == 0) {
			if (o.release)
				leave();
			(void)initramfs_switch(o.init, argv, &e);
		}
		fail(&o, e.text);
	}
}
