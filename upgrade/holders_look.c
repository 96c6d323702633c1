/* SPDX-License-Identifier: MIT */
/* Everything else that a process can have of an image, for people. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "kernel/mounts.h"
#include "kernel/proc_fdinfo.h"
#include "kernel/proc_lines.h"
#include "kernel/proc_maps.h"
#include "kernel/same_file.h"
#include "kernel/util.h"
#include "services/service.h"
#include "upgrade/holders_internal.h"

struct image {
	const struct holders_image *asked;
	uint32_t dev; /* the kernel's; 0: not known */
	unsigned n_mounts; /* of that file system, in our name space */
	bool is_up_to_date; /* what has it as its root has the image that runs */
};

/* Mounts of the images in other mount name spaces; whoever has more has the rest told less of. */
#define COPIES_MAX 256

struct look {
	struct image *images;
	unsigned n;
	uint64_t *mounts; /* of the images, and of copies in other name spaces */
	unsigned *image_of; /* each of those is of */
	ino_t namespace; /* our own mount name space */
	uint64_t root_mount; /* "/" */
	struct bound_sockets *sockets;
	struct image_mounts *parts;
};

/* Maps */

/* By way of a mount that is in nobody's table any more, as a name space that was swapped along
 * leaves them behind. */
static bool is_detached_copy(const struct look *l, const struct proc_map *m, unsigned *ret)
{
	for (unsigned i = 0; i < l->n; i++) {
		const struct image *image = &l->images[i];
		if (image->asked->is_root || image->n_mounts > 0 || !image->dev ||
			m->dev != ((uint64_t)(image->dev >> 20) << 32 | (image->dev & 0xfffff)))
			continue;
		*ret = i;
		return true;
	}
	return false;
}

static int add_map(const struct proc_map *m, void *userdata)
{
	struct scan *s = userdata;
	struct holder h = {.what = HELD_MAP,
		.fd = -1,
		.shared = m->shared && (m->writable || m->file_writable)};

	if (!scan_image(s, m->mount_id, &h.image) && !is_detached_copy(s->userdata, m, &h.image))
		return 0;
	return scan_add(s, &h, m->path, NULL);
}

static int look_at_maps(struct scan *s)
{
	int r = proc_maps(s->tid, add_map, s);

	return r == -ENOENT || r == -ESRCH ? 0 : r;
}

/* Mount name spaces: what lies in one is on other mounts than ours, so its root tells. */

static void add_copy(struct scan *s, unsigned image)
{
	struct look *l = s->userdata;
	uint64_t mount;
	unsigned known;

	if (proc_link_mount(s->tid, "root", &mount) < 0 || scan_image(s, mount, &known) ||
		s->n_mounts == l->n + COPIES_MAX)
		return;
	l->mounts[s->n_mounts] = mount;
	l->image_of[s->n_mounts++] = image;
}

static int look_at_namespace(struct scan *s)
{
	const struct look *l = s->userdata;
	char path[48];
	struct stat ns;

	(void)snprintf(path, sizeof(path), "/proc/%d/ns/mnt", (int)s->tid);
	if (stat(path, &ns) < 0 || ns.st_ino == l->namespace)
		return 0;
	int r = image_mounts_add(l->parts, s, ns.st_ino);
	if (r < 0)
		return r;
	(void)snprintf(path, sizeof(path), "/proc/%d/root", (int)s->tid);
	for (unsigned i = 0; i < l->n; i++) {
		struct holder h = {.what = HELD_NAMESPACE, .fd = -1, .image = i};
		if (l->images[i].is_up_to_date ||
			same_file(AT_FDCWD, path, l->images[i].asked->root, "") <= 0)
			continue;
		add_copy(s, i);
		return scan_add(s, &h, "/", NULL);
	}
	return 0;
}

/*
 * Watches. A mark names a file system and an inode: on the image it is what the image's mount leads
 * to by that handle. Not all file systems have handles (an overlay seldom); where the image is the
 * only mount of its own, there is no doubt.
 */

static const struct image *image_of_dev(const struct look *l, uint32_t dev)
{
	for (unsigned i = 0; i < l->n; i++)
		if (l->images[i].dev && l->images[i].dev == dev)
			return &l->images[i];
	return NULL;
}

/* The path of that inode if it is one on "/"'s own mount; "" if it has none there. */
static void path_of_mark(
	const struct fdinfo_entry *m, const struct image *image, char path[PATH_MAX])
{
	struct {
		struct file_handle head;
		unsigned char handle[FDINFO_HANDLE_MAX];
	} handle = {.head = {.handle_bytes = m->handle_size, .handle_type = (int)m->handle_type}};
	char link[48];
	uint64_t mount;
	struct stat st;

	path[0] = '\0';
	if (m->handle_size == 0)
		return;
	memcpy(handle.head.f_handle, m->handle, m->handle_size);
	/* The mount must be given as something readable. */
	CLEANUP_FD int root = openat(image->asked->root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CLEANUP_FD int fd =
		root < 0 ? -1 : open_by_handle_at(root, &handle.head, O_PATH | O_CLOEXEC);
	if (fd < 0)
		return;
	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, path, PATH_MAX - 1);
	path[n < 0 ? 0 : n] = '\0';
	/* Of the same file system and not of this mount: a subvolume, or a part mounted elsewhere.
	 */
	if (path[0] != '/' || mount_id_at(AT_FDCWD, path, &mount) < 0 ||
		mount != image->asked->mount || stat(path, &st) < 0 || st.st_ino != m->ino)
		path[0] = '\0';
}

static int add_mark(struct scan *s, const struct fdinfo_entry *m, int fd)
{
	const struct look *l = s->userdata;
	const struct image *image = image_of_dev(l, m->dev);
	struct holder h = {.what = HELD_WATCH, .fd = fd};
	char path[PATH_MAX];

	if (!image || !image->asked->is_root)
		return 0;
	path_of_mark(m, image, path);
	if (!path[0] && image->n_mounts == 1)
		(void)snprintf(path, sizeof(path), "(inode %llu)", (unsigned long long)m->ino);
	h.image = (unsigned)(image - l->images);
	return path[0] ? scan_add(s, &h, path, NULL) : 0;
}

static int add_mount_mark(struct scan *s, const struct fdinfo_entry *m, int fd)
{
	struct holder h = {.what = HELD_WATCH, .fd = fd};

	return scan_image(s, m->mount_id, &h.image) ? scan_add(s, &h, "/", NULL) : 0;
}

static int add_filesystem_mark(struct scan *s, const struct fdinfo_entry *m, int fd)
{
	const struct look *l = s->userdata;
	const struct image *image = image_of_dev(l, m->dev);
	struct holder h = {.what = HELD_WATCH, .fd = fd};

	if (!image || !image->asked->is_root)
		return 0;
	h.image = (unsigned)(image - l->images);
	return scan_add(s, &h, "/", NULL);
}

/* A file registered with io_uring: the kernel prints its path, or before Linux 6.13 its name. */
static int add_ring_file(struct scan *s, const struct fdinfo_entry *m, int fd)
{
	const struct look *l = s->userdata;
	struct holder h = {.what = HELD_RING, .fd = fd};
	uint64_t mount;

	if (m->path[0] != '/' || l->n == 0)
		return 0;
	if (mount_id_at(AT_FDCWD, m->path, &mount) < 0)
		return 0;
	if (l->images[0].asked->is_root)
		return scan_image(s, mount, &h.image) ? scan_add(s, &h, m->path, NULL) : 0;
	/* Of an older image the path is the same. */
	h.image = HOLDERS_NO_IMAGE;
	return mount == l->root_mount ? scan_add(s, &h, m->path, NULL) : 0;
}

static int add_queued(struct scan *s, const struct fdinfo_entry *m, int fd)
{
	struct holder h = {.what = HELD_QUEUED,
		.fd = fd,
		.image = HOLDERS_NO_IMAGE,
		.more = m->count > 0 ? m->count - 1 : 0};

	return scan_add(s, &h, "", NULL);
}

struct entry_job {
	struct scan *scan;
	int fd;
};

static int add_entry(const struct fdinfo_entry *m, void *userdata)
{
	struct entry_job *job = userdata;

	switch (m->kind) {
	case FDINFO_WATCH:
	case FDINFO_MARK_INODE:
		return add_mark(job->scan, m, job->fd);
	case FDINFO_MARK_MOUNT:
		return add_mount_mark(job->scan, m, job->fd);
	case FDINFO_MARK_FILESYSTEM:
		return add_filesystem_mark(job->scan, m, job->fd);
	case FDINFO_RING_FILE:
		return add_ring_file(job->scan, m, job->fd);
	case FDINFO_QUEUED:
		return add_queued(job->scan, m, job->fd);
	}
	return 0;
}

static bool stands_for_others(const struct scan *s, const struct proc_fd *fd)
{
	static const char *const NAMES[] = {
		"anon_inode:inotify", "anon_inode:[fanotify]", "anon_inode:[io_uring]"};
	char link[32], text[64];

	if (S_ISSOCK(fd->mode))
		return true;
	/* An anonymous inode has no type, since Linux 6.16 a regular file's. */
	if ((fd->mode & S_IFMT) != 0 && !S_ISREG(fd->mode))
		return false;
	(void)snprintf(link, sizeof(link), "fd/%d", fd->fd);
	proc_link_text(s->tid, link, text, sizeof(text));
	for (size_t i = 0; i < ARRAY_SIZE(NAMES); i++)
		if (strcmp(text, NAMES[i]) == 0)
			return true;
	return false;
}

static int look_at_fd(struct scan *s, const struct proc_fd *fd)
{
	struct look *l = s->userdata;
	struct entry_job job = {.scan = s, .fd = fd->fd};
	int r = 0;

	if (!stands_for_others(s, fd))
		return 0;
	if (S_ISSOCK(fd->mode))
		r = bound_sockets_add(l->sockets, s, fd->ino, fd->fd);
	if (r == 0)
		r = fdinfo_entries(s->tid, fd->fd, add_entry, &job);
	return r == -ENOENT || r == -ESRCH ? 0 : r;
}

static int look_at_process(struct scan *s)
{
	int r = scan_link(s, "exe", HELD_EXE);

	return r ? r : look_at_maps(s);
}

/* "36 35 98:0 /mnt1 ..." */
static int count_mount(char *line, void *userdata)
{
	struct look *l = userdata;
	unsigned major_number, minor_number;

	if (sscanf(line, "%*u %*u %u:%u", &major_number, &minor_number) != 2)
		return 0;
	for (unsigned i = 0; i < l->n; i++)
		if (l->images[i].dev == (major_number << 20 | minor_number))
			l->images[i].n_mounts++;
	return 0;
}

/* What was found before whoever is there: of one with nobody but prisoners of jails it is the only
 * way to know. */
static void add_known_copies(struct scan *s, const struct holders_image *images)
{
	struct look *l = s->userdata;

	for (unsigned i = 0; i < l->n; i++) {
		for (size_t j = 0; j < images[i].n_copies && s->n_mounts < l->n + COPIES_MAX; j++) {
			l->mounts[s->n_mounts] = images[i].copies[j];
			l->image_of[s->n_mounts++] = i;
		}
	}
}

static int prepare(struct look *l, const struct holders_image *images, unsigned n, struct error *e)
{
	struct stat st, here;

	if (stat("/proc/self/ns/mnt", &st) < 0 || stat("/", &here) < 0)
		return error_set(e, errno, "cannot identify the mount name space");
	if (mount_id_at(AT_FDCWD, "/", &l->root_mount) < 0)
		return error_set(e, EIO, "cannot identify the root mount");
	l->namespace = st.st_ino;
	l->n = n;
	l->images = calloc(n ? n : 1, sizeof(*l->images));
	l->mounts = calloc(n + COPIES_MAX, sizeof(*l->mounts));
	l->image_of = calloc(n + COPIES_MAX, sizeof(*l->image_of));
	if (!l->images || !l->mounts || !l->image_of)
		return error_set(e, ENOMEM, "cannot look for holders");
	for (unsigned i = 0; i < n; i++) {
		l->images[i].asked = &images[i];
		l->mounts[i] = images[i].mount;
		l->image_of[i] = i;
		if (images[i].root < 0 || fstat(images[i].root, &st) < 0)
			continue;
		/* An older generation of the image that runs: a name space on it is up to date. */
		l->images[i].is_up_to_date =
			!images[i].is_root && st.st_dev == here.st_dev && st.st_ino == here.st_ino;
		if (kernel_dev(images[i].root, &l->images[i].dev) < 0)
			l->images[i].dev = (uint32_t)(major(st.st_dev) << 20 | minor(st.st_dev));
	}
	int r = proc_lines("/proc/self/mountinfo", count_mount, l);
	return r < 0 ? error_set(e, r, "cannot read the mount table") : 0;
}

int holders_look(struct holders *h, int tree, const struct holders_image *images, unsigned n,
	pid_t init, struct error *e)
{
	static const struct scan_depth DEPTH = {.begin = look_at_namespace,
		.process = look_at_process,
		.fd = look_at_fd,
		.alike_max = ALIKE_MAX};
	struct look l = {0};
	struct scan s = {.out = h, .depth = &DEPTH, .n_mounts = n, .userdata = &l};
	int r = prepare(&l, images, n, e);

	s.mounts = l.mounts;
	s.images = l.image_of;
	if (r == 0)
		add_known_copies(&s, images);
	/* What is "/" is exchanged by pivot_root(2); of an older image, its root is held as well.
	 */
	s.with_root = n == 0 || !images[0].is_root;
	if (r == 0)
		r = bound_sockets_read(&l.sockets, tree, images, n, init, e);
	if (r == 0)
		r = image_mounts_new(&l.parts, &s, images, n, e);
	if (r == 0)
		r = scan_tree(&s, tree, e);
	if (r == 0 && world.storage_path) {
		s.outside = true;
		r = scan_tree(&s, world.storage, e);
		s.outside = false;
	}
	if (r == 0) {
		r = bound_sockets_add_rest(l.sockets, &s, init);
		if (r < 0)
			(void)error_set(e, r, "cannot look for sockets");
	}
	bound_sockets_free(l.sockets);
	image_mounts_free(l.parts);
	free(l.images);
	free(l.mounts);
	free(l.image_of);
	return r;
}
