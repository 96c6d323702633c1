/* SPDX-License-Identifier: MIT */
#include "upgrade/image.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "kernel/features.h"
#include "kernel/mounts.h"
#include "kernel/util.h"
#include "upgrade/answer.h"
#include "upgrade/carry.h"
#include "upgrade/check_state.h"
#include "upgrade/pivot.h"
#include "upgrade/plan.h"

static int read_in_root(int root, const char *path, char *buf, size_t size)
{
	CLEANUP_FD int fd = open_in_root(root, path, O_RDONLY | O_NONBLOCK);

	if (fd < 0)
		return fd;
	ssize_t n = pread(fd, buf, size - 1, 0);
	if (n < 0)
		return -errno;
	buf[n] = '\0';
	return (int)n;
}

void image_name(int root, char *buf, size_t size)
{
	char text[4096];
	char *line, *end;

	(void)snprintf(buf, size, "unknown");
	if (read_in_root(root, "/etc/os-release", text, sizeof(text)) < 0)
		return;
	line = starts_with(text, "PRETTY_NAME=") ? text : strstr(text, "\nPRETTY_NAME=");
	if (!line)
		return;
	line = strchr(line, '=') + 1;
	line[strcspn(line, "\n")] = '\0';
	if (*line == '"' && (end = strrchr(line + 1, '"'))) {
		*end = '\0';
		line++;
	}
	(void)snprintf(buf, size, "%s", line);
}

static bool is_missing(int r)
{
	return r == -ENOENT || r == -ENOTDIR || r == -ELOOP;
}

static int cannot_open(int r, const char *path, struct error *e)
{
	if (is_missing(r))
		return error_set(e, r, "the image has no %s that could be opened", path);
	return error_set(e, r, "cannot open %s of the image", path);
}

static int read_elf(int fd, const char *path, Elf64_Ehdr *ret, struct error *e)
{
	struct stat st;

	if (fd < 0)
		return cannot_open(fd, path, e);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || !(st.st_mode & 0111))
		return error_say(e, ENOEXEC, "%s of the image is no executable file", path);
	ssize_t n = pread(fd, ret, sizeof(*ret), 0);
	if (n < 0)
		return error_set(e, errno, "cannot read %s of the image", path);
	if (n != (ssize_t)sizeof(*ret) || memcmp(ret->e_ident, ELFMAG, SELFMAG) != 0)
		return error_say(e, ENOEXEC, "%s of the image is no ELF program", path);
	return 0;
}

static int check_init(int root, struct error *e)
{
	Elf64_Ehdr ours = {0}, theirs = {0};
	CLEANUP_FD int init = open_in_root(root, "/sbin/init", O_RDONLY | O_NONBLOCK);
	int r = read_elf(init, "/sbin/init", &theirs, e);

	if (r < 0)
		return r;
	CLEANUP_FD int own = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	if (own < 0)
		return error_set(e, errno, "cannot open the init that runs (/proc/self/exe)");
	r = read_elf(own, "/proc/self/exe", &ours, e);
	if (r < 0)
		return r;
	if (ours.e_machine != theirs.e_machine ||
		ours.e_ident[EI_CLASS] != theirs.e_ident[EI_CLASS])
		return error_say(e, ENOEXEC,
			"/sbin/init of the image is for another architecture (ELF machine %u, not %u)",
			theirs.e_machine, ours.e_machine);
	return 0;
}

static int check_initctl(int root, struct error *e)
{
	static const char *const PLACES[] = {"/usr/bin/initctl", "/usr/sbin/initctl",
		"/bin/initctl", "/sbin/initctl", "/usr/local/bin/initctl",
		"/usr/local/sbin/initctl"};

	for (size_t i = 0; i < ARRAY_SIZE(PLACES); i++) {
		CLEANUP_FD int fd = open_in_root(root, PLACES[i], O_PATH);
		if (fd >= 0)
			return 0;
		if (!is_missing(fd))
			return cannot_open(fd, PLACES[i], e);
	}
	return error_say(e, ENOENT, "the image has no initctl: nobody could tell it anything");
}

/* With its modules missing, the running kernel could load none of them any more. */
static int check_modules(int root, struct error *e)
{
	char text[8], path[PATH_MAX];
	struct utsname u;

	ssize_t n = file_read(AT_FDCWD, "/proc/modules", text, sizeof(text));
	if (n == 0 || n == -ENOENT || uname(&u) < 0)
		return 0;
	(void)snprintf(path, sizeof(path), "/lib/modules/%s", u.release);
	CLEANUP_FD int fd = open_in_root(root, path, O_PATH | O_DIRECTORY);
	if (fd >= 0)
		return 0;
	if (!is_missing(fd))
		return cannot_open(fd, path, e);
	return error_say(
		e, ENOENT, "the image has no %s, and the running kernel has modules loaded", path);
}

static int check_root_type(struct error *e)
{
	struct statfs fs;
	uint64_t root;
	struct mount_table table = {0};

	if (statfs("/", &fs) < 0)
		return error_set(e, errno, "cannot stat /");
	if (mount_id_at(AT_FDCWD, "/", &root) < 0 || mount_table_read(&table, e) < 0)
		return error_set(e, errno, "cannot find the root mount");
	const struct mount *m = mount_table_find(&table, root);
	bool initramfs = m && strcmp(m->fstype, "rootfs") == 0;
	mount_table_free(&table);
	/* pivot_root(2): the initial ramfs cannot be pivoted away from. */
	return initramfs
		       ? error_say(e, EINVAL,
				 "the running root is the initramfs itself: switch_root to a mounted root before")
		       : 0;
}

static int check_kernel(int tree, struct error *e)
{
	char missing[160];

	features_missing(tree, missing, sizeof(missing));
	return missing[0] ? error_say(e, ENOSYS,
				    "this kernel lacks %s: boot Linux " FEATURES_SINCE " or later",
				    missing)
			  : 0;
}

static int judge(
	const struct image_request *q, int socket, struct image *ret_image, struct error *e)
{
	struct plan_roots others = {0};
	int r = check_kernel(q->tree, e);

	if (r < 0 || (r = check_root_type(e)) < 0 ||
		(r = image_open(q->path, &q->options, q->plan, socket, ret_image, e)) < 0)
		return r;
	int root = ret_image->root;
	const char *leave = ret_image->leave[0] ? ret_image->leave : NULL;
	plan_header(socket, q, ret_image);
	if ((r = check_init(root, e)) < 0 || (r = check_initctl(root, e)) < 0 ||
		(r = check_modules(root, e)) < 0 ||
		(r = check_state("the image's init", root, q->state_fd, q->check_usec, socket, e)) <
			0 ||
		(r = plan_mounts(socket, root, leave, e)) < 0 ||
		(r = plan_namespaces(socket, q->tree, root, leave, &others, e)) < 0 ||
		(r = plan_services(socket, e)) < 0 || (r = plan_hooks(socket, root, e)) < 0)
		return r;
	r = plan_holders(socket, q->tree, root, &others, e);
	/* Last of all: what is carried shall be as young as can be, and only if it comes to that.
	 */
	if (r < 0 || (answer_blockers() > 0 && !q->force && !q->plan))
		return r;
	return carry(q, ret_image, socket, e);
}

void image_judge(const struct image_request *q, int socket)
{
	static struct image image;
	struct error e = {0};
	int r = judge(q, socket, &image, &e);

	if (r == -EALREADY)
		answer_same(socket, e.text);
	else if (r < 0)
		answer_unfit(socket, e.text);
	else
		answer_image(socket, image.root, image.leave);
	_exit(0);
}
