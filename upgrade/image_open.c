/* SPDX-License-Identifier: MIT */
#include "upgrade/image_open.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "kernel/mount_apart.h"
#include "kernel/mounts.h"
#include "kernel/util.h"
#include "kernel/verity.h"
#include "upgrade/answer.h"
#include "upgrade/image_running.h"

/* Always there, and nobody is looked for in it by the child that hides it from itself. */
#define MOUNT_AT "/run/molt"
/* Loop devices over files on loop devices: nobody stacks that many. */
#define DEPTH_MAX 8

/* What image_open() is about, as far as it is known. */
struct opening {
	const char *path; /* as it was given */
	char name[256]; /* the same in messages, with a reason behind it */
	const struct image_options *options;
	bool plan;
	int socket;
	char tag[16];
	char real[PATH_MAX];
	struct stat st;
	struct mount_table mounts;
	struct image image;
};

/* Of a long one the middle is left out. */
static void shorten(const char *path, char *buf, size_t size)
{
	size_t length = strlen(path), half = size / 2 - 4;

	if (length < size)
		(void)snprintf(buf, size, "%s", path);
	else
		(void)snprintf(buf, size, "%.*s...%s", (int)half, path, path + length - half);
}

static int say_same(const char *path, struct error *e)
{
	return error_say(e, EALREADY, "%s is the image that is running", path);
}

/* Whether `path` is a mount point of its own: then that mount stays behind with the old root. */
static bool is_mount_point(const char *path)
{
	struct statx st;

	return statx(AT_FDCWD, path, AT_NO_AUTOMOUNT, STATX_BASIC_STATS, &st) == 0 &&
	       (st.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT) &&
	       (st.stx_attributes & STATX_ATTR_MOUNT_ROOT);
}

/* FUSE */

static const struct mount *mount_of(const struct opening *o, const char *path)
{
	uint64_t id;

	return mount_id_at(AT_FDCWD, path, &id) == 0 ? mount_table_find(&o->mounts, id) : NULL;
}

/* The kernel reads such a mount by asking a process, and that stands still in the blackout. */
static int refuse_fuse(const struct opening *o, const char *path, struct error *e)
{
	const struct mount *m = mount_of(o, path);

	if (!m || (strcmp(m->fstype, "fuse") != 0 && strcmp(m->fstype, "fuseblk") != 0 &&
			  !starts_with(m->fstype, "fuse.")))
		return 0;
	return error_say(e, EINVAL,
		"%s lies on the FUSE mount at %s: its daemon is frozen while the root is exchanged, and PID 1 would wait for it (copy the image to a file system of the kernel's own)",
		o->name, m->target);
}

/* Of a loop device the file that is behind it, and what that lies on. */
static int refuse_fuse_behind(
	const struct opening *o, dev_t device, unsigned depth, struct error *e)
{
	char sys[64], file[PATH_MAX];

	(void)snprintf(sys, sizeof(sys), "/sys/dev/block/%u:%u/loop/backing_file", major(device),
		minor(device));
	if (depth == 0 || file_read(AT_FDCWD, sys, file, sizeof(file)) <= 0)
		return 0;
	file[strcspn(file, "\n")] = '\0';
	int r = refuse_fuse(o, file, e);
	const struct mount *m = r == 0 ? mount_of(o, file) : NULL;
	return m ? refuse_fuse_behind(o, m->dev, depth - 1, e) : r;
}

static int check_path(const char *path, struct error *e)
{
	if (strlen(path) >= PATH_MAX)
		return error_say(e, ENAMETOOLONG,
			"the image's path is too long: it begins with %.100s", path);
	return path[0] == '/' ? 0 : error_say(e, EINVAL, "\"%s\" is no absolute path", path);
}

/* Copies of an image share what is written in it; which of them is meant only a person knows. */
static int find_device(struct opening *o, const char *value, char *path, struct error *e)
{
	int n = probe_find(o->tag, value, path);

	if (n < 0)
		return error_set(e, n, "cannot look for the device with %.200s", o->name);
	if (n == 0)
		return error_say(e, ENODEV, "no block device has %.200s", o->name);
	return n == 1 ? 0
		      : error_say(e, ENOTUNIQ,
				"%d block devices have %.200s: name one of them by its path", n,
				o->name);
}

/* Before anything is asked of the file system itself: a daemon may not answer. */
static int find_place(struct opening *o, struct error *e)
{
	const char *value = image_parse_tag(o->path, o->tag);
	char device[PATH_MAX];
	int r = value ? find_device(o, value, device, e) : check_path(o->path, e);

	if (r < 0)
		return r;
	if (!realpath(value ? device : o->path, o->real))
		return error_set(e, errno,
			o->options->seen
				? "cannot open the image %s (initctl runs in a mount namespace of its own, and PID 1 looks in another)"
				: "cannot open the image %s",
			o->name);
	r = mount_table_read(&o->mounts, e);
	if (r < 0 || (r = refuse_fuse(o, o->real, e)) < 0)
		return r;
	const struct mount *m = mount_of(o, o->real);
	return m ? refuse_fuse_behind(o, m->dev, DEPTH_MAX, e) : 0;
}

static int find_kind(struct opening *o, struct error *e)
{
	if (stat(o->real, &o->st) < 0)
		return error_set(e, errno, "cannot open the image %s", o->name);
	int r = image_check_seen(o->options->seen, &o->st, o->name, e);
	if (r < 0)
		return r;
	if (S_ISDIR(o->st.st_mode))
		o->image.kind = is_mount_point(o->real) ? IMAGE_MOUNT : IMAGE_DIRECTORY;
	else if (S_ISBLK(o->st.st_mode))
		o->image.kind = IMAGE_DEVICE;
	else if (S_ISREG(o->st.st_mode))
		o->image.kind = IMAGE_FILE;
	else
		return error_say(e, EINVAL,
			"cannot open the image %s: not a directory, a block device or a file",
			o->name);
	/* With a root hash the wish is not only for that image: it is to be verified as well. */
	if (image_is_running(&o->st) && (!o->options->verity_hash || image_is_verified()))
		return say_same(o->name, e);
	return image_check_options(o->image.kind, o->options, e);
}

/* Directories */

static void warn_cleared(const struct opening *o, unsigned long flags)
{
	char text[PATH_MAX + 200];

	(void)snprintf(text, sizeof(text),
		"%s lies on a mount with%s%s%s: as the root it will be without", o->name,
		flags & ST_NOSUID ? " nosuid" : "", flags & ST_NODEV ? " nodev" : "",
		flags & ST_NOEXEC ? " noexec" : "");
	answer_text(o->socket, "warning", text);
}

/* A subvolume may be read-only on a mount that is not. Then so is the image's own mount: everybody
 * looks at that. */
static bool cannot_be_written_to(int root)
{
	return faccessat(root, ".", W_OK, 0) < 0 && errno == EROFS;
}

/* What guards a place for data would break a root: no sudo, no device nodes, no programs. */
static int make_fit_for_root(struct opening *o, struct error *e)
{
	struct statvfs fs;
	int r;

	if (fstatvfs(o->image.root, &fs) < 0)
		return error_set(e, errno, "cannot ask for the mount flags of %s", o->name);
	if (fs.f_flag & (ST_NOSUID | ST_NODEV | ST_NOEXEC)) {
		r = mount_clear_restrictions(o->image.root);
		if (r < 0)
			return error_set(e, r,
				"cannot take nosuid, nodev and noexec off the mount of %s",
				o->name);
		warn_cleared(o, fs.f_flag);
	}
	o->image.read_only = o->options->read_only || cannot_be_written_to(o->image.root);
	if (o->image.read_only && (r = mount_make_read_only(o->image.root)) < 0)
		return error_set(e, r, "cannot make the mount of %s read-only", o->name);
	return 0;
}

static int open_directory(struct opening *o, struct error *e)
{
	const struct mount *m = mount_of(o, o->real);

	(void)snprintf(o->image.fstype, sizeof(o->image.fstype), "%s", m ? m->fstype : "?");
	o->image.root = mount_clone(o->real, e);
	if (o->image.root < 0)
		return o->image.root;
	if (o->image.kind == IMAGE_MOUNT)
		(void)snprintf(o->image.leave, sizeof(o->image.leave), "%s", o->real);
	return make_fit_for_root(o, e);
}

/* Devices and files */

static int probe(struct opening *o, struct error *e)
{
	struct probe p;
	CLEANUP_FD int fd = open(o->real, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return error_set(e, errno, "cannot open the image %s", o->name);
	if (o->options->fstype) {
		(void)snprintf(o->image.fstype, sizeof(o->image.fstype), "%s", o->options->fstype);
		return 0;
	}
	int r = probe_fd(fd, &p);
	if (r < 0)
		return error_set(e, r, "cannot read the image %s", o->name);
	r = image_check_probe(&p, o->name, e);
	if (r < 0)
		return r;
	(void)snprintf(o->image.fstype, sizeof(o->image.fstype), "%s", p.type);
	return 0;
}

/* The errors of mount(2) by what they mean here. */
static int explain(const struct opening *o, int r, struct error *e)
{
	const char *type = o->image.fstype;

	/* Behind libmount and libcryptsetup the number says little. */
	if (o->image.verity)
		return error_prefix(e,
			o->options->root_hash_signature
				? "cannot mount %s with dm-verity (wrong root hash, hashes of another image or cut short, or a signature by a key that the kernel does not know?)"
				: "cannot mount %s with dm-verity (wrong root hash, hashes of another image or cut short, or a damaged image?)",
			o->name);
	if (r == -ENODEV)
		return error_say(e, r,
			"cannot mount %s: the kernel knows no %s (is the module of that name in /lib/modules?)",
			o->name, type);
	if (r == -EBUSY)
		return error_prefix(e,
			"cannot mount %s: it is mounted somewhere already, for reading there and for writing here or the other way round (unmount it there, or see MountOptions=)",
			o->name);
	if (r == -ENOTBLK || (r == -ENOENT && o->image.kind == IMAGE_FILE))
		return error_prefix(e,
			"cannot mount %s: no loop device could be set up for it (modprobe loop)",
			o->name);
	if (r == -EINVAL && strcmp(type, "xfs") == 0)
		return error_prefix(e,
			"cannot mount %s: its xfs is damaged, or a copy of one that is mounted (then --mount-options=ro,nouuid)",
			o->name);
	if (r == -EINVAL || r == -EIO || r == -EUCLEAN)
		return error_prefix(e,
			o->options->mount_options
				? "cannot mount %s: its %s is damaged or cut short, or has no such mount options"
				: "cannot mount %s: its %s is damaged or cut short",
			o->name, type);
	return error_prefix(e, "cannot mount %s (%s)", o->name, type);
}

/* As long as the image is the root the file has to stay, and with it the image the file is on. */
static void warn_if_on_root(const struct opening *o)
{
	char text[PATH_MAX + 200];
	const struct mount *m = mount_of(o, o->real);

	if (o->image.kind != IMAGE_FILE || !m || strcmp(m->target, "/") != 0)
		return;
	(void)snprintf(text, sizeof(text),
		"%s is a file on the running image: that image stays in use as long as the new one runs",
		o->name);
	answer_text(o->socket, "warning", text);
}

/* By itself each of them is an easier thing to say than all that libmount finds out together. */
static int check_verity_file(
	const struct opening *o, const char *what, const char *path, struct error *e)
{
	struct stat st;

	if (!path || path[0] != '/')
		return 0;
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) < 0)
		return error_set(
			e, errno, "cannot open the %s of the image %s, %s", what, o->name, path);
	if (S_ISBLK(st.st_mode) || (S_ISREG(st.st_mode) && st.st_size > 0))
		return refuse_fuse(o, path, e);
	return error_say(e, EINVAL, "the %s of the image %s, %s, is %s", what, o->name, path,
		S_ISREG(st.st_mode) ? "empty" : "neither a file nor a block device");
}

static int check_verity(const struct opening *o, struct error *e)
{
	const struct image_options *given = o->options;
	int r = check_verity_file(o, "device with the hashes", given->verity_hash, e);

	if (r == 0)
		r = check_verity_file(o, "file with the root hash", given->root_hash, e);
	if (r == 0)
		r = check_verity_file(o, "signature", given->root_hash_signature, e);
	if (r < 0)
		return r;
	struct verity_support support = verity_look();
	return verity_check(&support, e) < 0
		       ? error_prefix(e, "cannot mount %s with dm-verity", o->name)
		       : 0;
}

static int mount_verified(const struct apart_request *q, struct apart_mount *ret, struct error *e)
{
	struct verity_watch watch;
	int r = verity_watch_begin(&watch);

	if (r < 0)
		return error_set(e, r, "cannot watch over it");
	r = mount_apart(q, ret, e);
	verity_watch_end(&watch);
	return r;
}

static int open_and_mount(struct opening *o, struct error *e)
{
	static struct apart_mount mounted;
	char options[3 * PATH_MAX];
	struct image_options given = *o->options;
	struct statvfs fs;
	int r = probe(o, e);

	if (r < 0)
		return r;
	o->image.verity = given.verity_hash;
	if (o->image.verity && (r = check_verity(o, e)) < 0)
		return r;
	if (!given.mount_options)
		given.mount_options = given.default_mount_options;
	r = image_mount_options(o->image.kind, &given, o->plan, options, sizeof(options), e);
	if (r < 0)
		return r;
	struct apart_request q = {
		.source = o->real, .fstype = o->image.fstype, .options = options, .at = MOUNT_AT};
	r = o->image.verity ? mount_verified(&q, &mounted, e) : mount_apart(&q, &mounted, e);
	if (r < 0)
		return explain(o, r, e);
	o->image.root = mounted.root;
	(void)snprintf(o->image.device, sizeof(o->image.device), "%s", mounted.device);
	if (fstatvfs(o->image.root, &fs) < 0)
		return error_set(e, errno, "cannot ask for the mount flags of %s", o->name);
	/* In a plan all is mounted for reading: what counts is what was asked for. */
	(void)image_mount_options(o->image.kind, &given, false, options, sizeof(options), e);
	o->image.read_only = o->plan ? image_options_read_only(options) ||
					       strcmp(o->image.fstype, "squashfs") == 0 ||
					       strcmp(o->image.fstype, "erofs") == 0
				     : (fs.f_flag & ST_RDONLY) != 0;
	warn_if_on_root(o);
	return 0;
}

static int open_found(struct opening *o, struct error *e)
{
	int r = find_place(o, e);

	if (r < 0 || (r = find_kind(o, e)) < 0)
		return r;
	if (o->image.kind == IMAGE_DEVICE &&
		(r = refuse_fuse_behind(o, o->st.st_rdev, DEPTH_MAX, e)) < 0)
		return r;
	if (o->image.kind == IMAGE_DEVICE || o->image.kind == IMAGE_FILE)
		r = open_and_mount(o, e);
	else
		r = open_directory(o, e);
	return r == 0 && image_is_root(o->image.root) ? say_same(o->name, e) : r;
}

int image_open(const char *path, const struct image_options *options, bool plan, int socket,
	struct image *ret, struct error *e)
{
	static struct opening o;

	o = (struct opening){
		.path = path, .options = options, .plan = plan, .socket = socket, .image.root = -1};
	shorten(path, o.name, sizeof(o.name));
	int r = open_found(&o, e);
	mount_table_free(&o.mounts);
	if (r < 0)
		(void)fd_close(o.image.root);
	else
		*ret = o.image;
	return r;
}
