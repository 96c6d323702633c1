/* SPDX-License-Identifier: MIT */
#include "kernel/verity.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <libmount/libmount.h>
#include <linux/dm-ioctl.h>
#include <linux/major.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/process.h"
#include "kernel/util.h"

#define CRYPTSETUP "libcryptsetup.so.12" /* the name that libmount loads it by */
#define CONTROL "/dev/mapper/control"
#define CONTROL_MINOR 236 /* Documentation/admin-guide/devices.txt */
#define MAPPINGS_MAX 1024

static bool is_built_in(void)
{
	const char **features = NULL;

	(void)mnt_get_library_features(&features);
	for (; features && *features; features++)
		if (strcmp(*features, "verity") == 0)
			return true;
	return false;
}

static bool can_load(const char *name)
{
	void *library = dlopen(name, RTLD_LAZY);

	return library && dlclose(library) == 0;
}

/* A kernel that has it as a module loads it when this node is opened; without udev nobody has made
 * the node. */
static int open_control(void)
{
	int fd = open(CONTROL, O_RDWR | O_CLOEXEC);

	if (fd >= 0 || errno != ENOENT)
		return fd;
	(void)mkdir("/dev/mapper", 0755);
	if (mknod(CONTROL, S_IFCHR | 0600, makedev(MISC_MAJOR, CONTROL_MINOR)) < 0)
		return -1;
	return open(CONTROL, O_RDWR | O_CLOEXEC);
}

/* With room for what the kernel answers. */
struct mapper_request {
	struct dm_ioctl head;
	char answer[512];
};

static int ask(int control, unsigned long request, const char *name, unsigned flags)
{
	struct mapper_request q = {.head = {.version = {DM_VERSION_MAJOR, 0, 0},
					   .data_size = sizeof(q),
					   .data_start = sizeof(q.head),
					   .flags = flags}};

	(void)snprintf(q.head.name, sizeof(q.head.name), "%s", name);
	return ioctl(control, request, &q) < 0 ? -errno : 0;
}

struct verity_support verity_look(void)
{
	struct verity_support s = {.libmount = is_built_in(), .cryptsetup = can_load(CRYPTSETUP)};
	CLEANUP_FD int control = open_control();

	s.mapper = control >= 0;
	/* ENOTTY: a kernel before 5.2 does not know the question. */
	int r = s.mapper ? ask(control, DM_GET_TARGET_VERSION, "verity", 0) : -ENODEV;
	s.target = r == 0 || r == -ENOTTY;
	return s;
}

int verity_check(const struct verity_support *s, struct error *e)
{
	if (!s->libmount)
		return error_say(e, EOPNOTSUPP,
			"the libmount of the running system is built without dm-verity");
	if (!s->cryptsetup)
		return error_say(e, EOPNOTSUPP,
			"the running system has no %s, which libmount needs for dm-verity",
			CRYPTSETUP);
	if (!s->mapper)
		return error_say(e, EOPNOTSUPP,
			"the kernel has no device mapper (is the module dm-mod in /lib/modules?)");
	if (!s->target)
		return error_say(e, EOPNOTSUPP,
			"the kernel has no dm-verity (is the module of that name in /lib/modules?)");
	return 0;
}

/* The watch */

struct mappings {
	unsigned count;
	char names[MAPPINGS_MAX][16]; /* "dm-7" */
};

static bool contains(const struct mappings *m, const char *name)
{
	for (unsigned i = 0; i < m->count; i++)
		if (strcmp(m->names[i], name) == 0)
			return true;
	return false;
}

/* Calls `found` with each "dm-7" there is. */
static void each_mapping(
	struct mappings *m, void (*found)(struct mappings *m, int dir, const char *name))
{
	DIR *dir = opendir("/sys/block");
	struct dirent *entry;

	if (!dir)
		return;
	while ((entry = readdir(dir)))
		if (starts_with(entry->d_name, "dm-"))
			found(m, dirfd(dir), entry->d_name);
	(void)closedir(dir);
}

static void note(struct mappings *m, int dir, const char *name)
{
	(void)dir;
	if (m->count < MAPPINGS_MAX)
		(void)snprintf(m->names[m->count++], sizeof(m->names[0]), "%s", name);
}

static bool read_attribute(int dir, const char *mapping, const char *name, char *buf, size_t size)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "%s/dm/%s", mapping, name);
	if (file_read(dir, path, buf, size) <= 0)
		return false;
	buf[strcspn(buf, "\n")] = '\0';
	return true;
}

/* As libmount names them: up to 2.38 by the file, later by the root hash. */
static bool is_libmounts(const char *name)
{
	return starts_with(name, "libmnt_") || ends_with(name, "-verity");
}

static void remove_if_new(struct mappings *m, int dir, const char *mapping)
{
	char uuid[DM_UUID_LEN + 2], name[DM_NAME_LEN + 2], node[DM_NAME_LEN + 32];

	if (contains(m, mapping) || m->count == MAPPINGS_MAX ||
		!read_attribute(dir, mapping, "uuid", uuid, sizeof(uuid)) ||
		!read_attribute(dir, mapping, "name", name, sizeof(name)) ||
		!starts_with(uuid, "CRYPT-VERITY-") || !is_libmounts(name))
		return;
	CLEANUP_FD int control = open_control();
	if (control < 0 || ask(control, DM_DEV_REMOVE, name, DM_DEFERRED_REMOVE) < 0)
		return;
	/* Without udev libcryptsetup has made the node, and would have removed it. */
	(void)snprintf(node, sizeof(node), "/dev/mapper/%s", name);
	(void)unlink(node);
}

static struct mappings before;

/* Keeps nothing of the other's but the socket: PID 1 sees by the end of a socket that the other is
 * gone. */
static void __attribute__((noreturn)) stand_by(int sign)
{
	char word;
	ssize_t n;

	if (dup2(sign, STDIN_FILENO) < 0)
		_exit(1);
	(void)close_range(STDIN_FILENO + 1, ~0U, 0);
	while ((n = read(STDIN_FILENO, &word, 1)) < 0 && errno == EINTR)
		;
	if (n == 0)
		each_mapping(&before, remove_if_new);
	_exit(0);
}

int verity_watch_begin(struct verity_watch *ret)
{
	int ends[2], pidfd;

	before.count = 0;
	each_mapping(&before, note);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	pid_t pid = process_fork(-1, &pidfd);
	if (pid == 0)
		stand_by(ends[0]);
	(void)fd_close(ends[0]);
	if (pid < 0) {
		(void)fd_close(ends[1]);
		return pid;
	}
	(void)fd_close(pidfd);
	*ret = (struct verity_watch){.pid = pid, .sign = ends[1]};
	return 0;
}

void verity_watch_end(struct verity_watch *w)
{
	siginfo_t info;

	/* One that was killed itself cannot be told. */
	(void)send(w->sign, "", 1, MSG_NOSIGNAL);
	(void)fd_close(w->sign);
	(void)waitid(P_PID, (id_t)w->pid, &info, WEXITED);
}
