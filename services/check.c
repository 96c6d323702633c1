/* SPDX-License-Identifier: MIT */
#include "services/check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <glob.h>
#include <grp.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/netlink.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "conf/cmdline.h"
#include "conf/machine_id.h"
#include "kernel/power_supply.h"
#include "kernel/util.h"
#include "kernel/virtualization.h"

/* Paths. What is not there is not met; a place that cannot be looked at is an error. */

static int absent(void)
{
	return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
}

static int exists(const char *path)
{
	/* A link to nothing is nothing. */
	return access(path, F_OK) == 0 ? 1 : absent();
}

static int matches(const char *pattern)
{
	glob_t found = {0};
	int r = glob(pattern, GLOB_NOSORT | GLOB_BRACE, NULL, &found);

	globfree(&found);
	return r == 0 ? 1 : r == GLOB_NOMATCH ? 0 : r == GLOB_NOSPACE ? -ENOMEM : -EIO;
}

static int is_directory(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? S_ISDIR(st.st_mode) : absent();
}

static int is_symbolic_link(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 ? S_ISLNK(st.st_mode) : absent();
}

static int is_mount_point(const char *path)
{
	struct statx stx;

	if (statx(AT_FDCWD, path, 0, 0, &stx) < 0)
		return absent();
	if (!(stx.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT))
		return -ENOTSUP;
	return !!(stx.stx_attributes & STATX_ATTR_MOUNT_ROOT);
}

static int is_read_write(const char *path)
{
	struct statvfs st;

	return statvfs(path, &st) == 0 ? !(st.f_flag & ST_RDONLY) : absent();
}

static int has_entries(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *entry;
	int found = 0;

	if (!d)
		return absent();
	while (!found && (entry = readdir(d)))
		found = strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
	(void)closedir(d);
	return found;
}

static int has_content(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? S_ISREG(st.st_mode) && st.st_size > 0 : absent();
}

static int is_executable(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? S_ISREG(st.st_mode) && (st.st_mode & 0111) : absent();
}

/* The system */

static int runs_in(const char *value)
{
	struct virtualization v;
	bool yes;

	virtualization_detect(&v);
	if (unit_parse_bool(value, &yes) == 0)
		return yes == (v.machine || v.container);
	return virtualization_is(&v, value);
}

/* A word of the command line, whole; or, without "=", also the name of an assignment there. */
static int on_command_line(const char *value)
{
	char line[8192], word[1024];
	const char *cursor = line;
	size_t length = strlen(value);
	ssize_t n = file_read(AT_FDCWD, "/proc/cmdline", line, sizeof(line));

	if (n < 0)
		return (int)n;
	while (cmdline_next(&cursor, word, sizeof(word)))
		if (strcmp(word, value) == 0 || (!strchr(value, '=') && word[length] == '=' &&
							strncmp(word, value, length) == 0))
			return 1;
	return 0;
}

/* What PID 1, whose child this is, may ever have. */
static int may_have(const char *name)
{
	cap_value_t number;

	if (cap_from_name(name, &number) < 0)
		return -EINVAL;
	int r = prctl(PR_CAPBSET_READ, number, 0, 0, 0);
	return r < 0 ? errno == EINVAL ? 0 : -errno : r; /* EINVAL: this kernel has it not */
}

/* Services are run by root, whatever User= says: it is root's manager that is asked for. */
static int is_root(const char *value)
{
	uint64_t number;

	if (parse_u64(value, &number))
		return number == 0;
	if (strcmp(value, "@system") == 0)
		return 1;
	const struct passwd *pw = getpwnam(value);
	return pw && pw->pw_uid == 0;
}

static int is_roots_group(const char *value)
{
	uint64_t number;

	if (parse_u64(value, &number))
		return number == 0;
	const struct group *gr = getgrnam(value);
	return gr && gr->gr_gid == 0;
}

static int has_audit(void)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_AUDIT);

	if (fd < 0)
		return errno == EAFNOSUPPORT || errno == EPROTONOSUPPORT || errno == EPERM ? 0
											   : -errno;
	(void)fd_close(fd);
	return 1;
}

/* Four bytes of attributes come before the value: efivarfs, Documentation/filesystems. */
static int boots_securely(void)
{
	char bytes[16];
	ssize_t n = file_read(AT_FDCWD,
		"/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c", bytes,
		sizeof(bytes));

	return n == 5 && bytes[4] == 1;
}

static int has_security(const char *value)
{
	char text[16];

	if (strcmp(value, "apparmor") == 0)
		return file_read(AT_FDCWD, "/sys/module/apparmor/parameters/enabled", text,
			       sizeof(text)) > 0 &&
		       text[0] == 'Y';
	if (strcmp(value, "selinux") == 0)
		return exists("/sys/fs/selinux/enforce");
	if (strcmp(value, "smack") == 0)
		return exists("/sys/fs/smackfs/load2");
	if (strcmp(value, "tomoyo") == 0)
		return exists("/sys/kernel/security/tomoyo/version");
	if (strcmp(value, "ima") == 0)
		return exists("/sys/kernel/security/ima");
	if (strcmp(value, "audit") == 0)
		return has_audit();
	if (strcmp(value, "uefi-secureboot") == 0)
		return boots_securely();
	if (strcmp(value, "tpm2") == 0)
		return matches("/sys/class/tpmrm/*");
	return -EINVAL;
}

static int is_host(const char *value)
{
	char id[MACHINE_ID_SIZE], own[MACHINE_ID_SIZE], text[128];
	struct utsname u;

	if (machine_id_parse(value, id))
		return file_read(AT_FDCWD, "/etc/machine-id", text, sizeof(text)) > 0 &&
		       machine_id_parse(text, own) && strcmp(id, own) == 0;
	return uname(&u) == 0 && fnmatch(value, u.nodename, FNM_CASEFOLD) == 0;
}

/* systemd's names, which are nobody else's. */
static int is_architecture(const char *value)
{
	static const char *const NAMES[][2] = {
		{"x86_64", "x86-64"}, {"aarch64", "arm64"}, {"i686", "x86"}};
	struct utsname u;

	if (strcmp(value, "native") == 0)
		return 1;
	if (uname(&u) < 0)
		return -errno;
	for (size_t i = 0; i < ARRAY_SIZE(NAMES); i++)
		if (strcmp(u.machine, NAMES[i][0]) == 0)
			return strcmp(value, NAMES[i][1]) == 0;
	return strcmp(value, u.machine) == 0;
}

static int is_as_said(const char *value, bool is)
{
	bool yes;
	int r = unit_parse_bool(value, &yes);

	return r < 0 ? r : yes == is;
}

int check_one(const struct condition *c, void *unused)
{
	(void)unused;
	switch (c->kind) {
	case CONDITION_PATH_EXISTS:
		return exists(c->value);
	case CONDITION_PATH_EXISTS_GLOB:
		return matches(c->value);
	case CONDITION_PATH_IS_DIRECTORY:
		return is_directory(c->value);
	case CONDITION_PATH_IS_SYMBOLIC_LINK:
		return is_symbolic_link(c->value);
	case CONDITION_PATH_IS_MOUNT_POINT:
		return is_mount_point(c->value);
	case CONDITION_PATH_IS_READ_WRITE:
		return is_read_write(c->value);
	case CONDITION_DIRECTORY_NOT_EMPTY:
		return has_entries(c->value);
	case CONDITION_FILE_NOT_EMPTY:
		return has_content(c->value);
	case CONDITION_FILE_IS_EXECUTABLE:
		return is_executable(c->value);
	case CONDITION_VIRTUALIZATION:
		return runs_in(c->value);
	case CONDITION_KERNEL_COMMAND_LINE:
		return on_command_line(c->value);
	case CONDITION_AC_POWER:
		return is_as_said(c->value, power_supply_is_mains("/sys/class/power_supply"));
	case CONDITION_CAPABILITY:
		return may_have(c->value);
	case CONDITION_FIRST_BOOT:
		return is_as_said(c->value, access(FIRST_BOOT_PATH, F_OK) == 0);
	case CONDITION_USER:
		return is_root(c->value);
	case CONDITION_GROUP:
		return is_roots_group(c->value);
	case CONDITION_SECURITY:
		return has_security(c->value);
	case CONDITION_HOST:
		return is_host(c->value);
	case CONDITION_ARCHITECTURE:
		return is_architecture(c->value);
	case N_CONDITION_KINDS:
		break;
	}
	return -EINVAL;
}

/* Why it cannot be told is asked once more: what is wrong with it then is what a person wants to
 * know. */
static void tell(const struct condition *c, int pipe)
{
	char text[300];
	int r = check_one(c, NULL);

	condition_describe(c, text, sizeof(text));
	if (r < 0)
		(void)dprintf(pipe, "%s cannot be told: %s", text, strerror(-r));
	else
		(void)dprintf(pipe, "%s is not met", text);
}

void check_run(const struct unit *u, int pipe)
{
	const struct condition *unmet;

	/* The reader may be gone, in a crash: the exit code is what counts. */
	(void)signal(SIGPIPE, SIG_IGN);
	/* It may wait for a file system for long, and is not to keep anything of PID 1's meanwhile.
	 */
	(void)close_range(STDERR_FILENO + 1, (unsigned)pipe - 1, 0);
	(void)close_range((unsigned)pipe + 1, UINT_MAX, 0);
	if (!conditions_are_met(&u->conditions, false, check_one, NULL, &unmet)) {
		tell(unmet, pipe);
		_exit(CHECK_UNMET);
	}
	if (!conditions_are_met(&u->conditions, true, check_one, NULL, &unmet)) {
		tell(unmet, pipe);
		_exit(CHECK_ASSERTION);
	}
	_exit(CHECK_MET);
}
