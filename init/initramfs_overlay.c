/* SPDX-License-Identifier: MIT */
/* A root that is read-only, and over it what is written: in memory, or kept on a device. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "init/initramfs.h"
#include "kernel/mounts.h"
#include "kernel/util.h"

#define LAYERS "/run/molt/layers" /* for a moment */
#define LAYERS_LOWER LAYERS "/lower"
#define LAYERS_UPPER LAYERS "/upper"

int initramfs_attach(int mount_fd, const char *path, struct error *e)
{
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return error_set(e, errno, "cannot make %s", path);
	CLEANUP_FD int at = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r = at < 0 ? -errno : mount_move(mount_fd, at);
	return r < 0 ? error_set(e, r, "cannot mount on %s", path) : 0;
}

static int attach_tmpfs(struct error *e)
{
	if (mkdir(LAYERS_UPPER, 0700) < 0 && errno != EEXIST)
		return error_set(e, errno, "cannot make " LAYERS_UPPER);
	if (mount("overlay", LAYERS_UPPER, "tmpfs", 0, "mode=0755") < 0)
		return error_set(e, errno, "cannot make the tmpfs above the root");
	return 0;
}

/* A directory below LAYERS_UPPER, with all above it. */
static int make_directory(const char *path, mode_t mode, struct error *e)
{
	char partial[PATH_MAX];

	for (size_t n = 1; path[n - 1]; n++) {
		if (path[n] != '/' && path[n] != '\0')
			continue;
		(void)snprintf(partial, sizeof(partial), LAYERS_UPPER "%.*s", (int)n, path);
		if (mkdir(partial, path[n] ? 0755 : mode) < 0 && errno != EEXIST)
			return error_set(e, errno,
				"cannot make %s on the device for what is written (molt.overlay=)",
				path);
	}
	return 0;
}

static int make_layers(int lower, int upper, const char *directory, struct error *e)
{
	char path[PATH_MAX];
	int r;

	if (mkdir(LAYERS, 0700) < 0 && errno != EEXIST)
		return error_set(e, errno, "cannot make " LAYERS);
	if ((r = initramfs_attach(lower, LAYERS_LOWER, e)) < 0)
		return r;
	r = upper < 0 ? attach_tmpfs(e) : initramfs_attach(upper, LAYERS_UPPER, e);
	if (r < 0)
		return r;
	(void)snprintf(path, sizeof(path), "%s/upper", directory);
	if ((r = make_directory(path, 0755, e)) < 0)
		return r;
	(void)snprintf(path, sizeof(path), "%s/work", directory);
	return make_directory(path, 0700, e);
}

/* The overlay holds its layers itself: nobody needs to see them. */
static void hide_layers(void)
{
	(void)umount2(LAYERS_UPPER, MNT_DETACH);
	(void)umount2(LAYERS_LOWER, MNT_DETACH);
	(void)rmdir(LAYERS_UPPER);
	(void)rmdir(LAYERS_LOWER);
	(void)rmdir(LAYERS);
}

static int mount_overlay(bool kept, const char *directory, struct error *e)
{
	char options[PATH_MAX];

	(void)snprintf(options, sizeof(options),
		"lowerdir=" LAYERS_LOWER ",upperdir=" LAYERS_UPPER "%s/upper,workdir=" LAYERS_UPPER
		"%s/work",
		directory, directory);
	if (mount("overlay", INITRAMFS_ROOT, "overlay", 0, options) == 0)
		return 0;
	if (!kept)
		return error_set(e, errno, "cannot lay a tmpfs over the root (overlay)");
	return error_set(e, errno,
		"cannot lay %s of the device that molt.overlay= names over the root (overlay; dmesg has more: can its file system be an upper layer?)",
		directory);
}

int initramfs_lay_over(int lower, int upper, const char *directory, int *ret_root, struct error *e)
{
	const char *below = upper < 0 ? "" : directory;
	int r = make_layers(lower, upper, below, e);

	if (r == 0)
		r = mount_overlay(upper >= 0, below, e);
	if (r == 0) {
		int root = mount_clone(INITRAMFS_ROOT, e);
		(void)umount2(INITRAMFS_ROOT, MNT_DETACH);
		r = root < 0 ? root : 0;
		if (root >= 0)
			*ret_root = root;
	}
	hide_layers();
	return r;
}
