/* SPDX-License-Identifier: MIT */
#include "upgrade/grafts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "kernel/log.h"
#include "kernel/mounts.h"
#include "kernel/proc_fdinfo.h"
#include "kernel/util.h"
#include "upgrade/pivot.h"

/* The roots that may have some: the current one, the one in the vault, and older ones that were
 * let go are forgotten. */
#define STANDING_MAX (8 * GRAFTS_MAX)
#define TEXT_MAX (1 << 20) /* of what a child has written */

static struct {
	char *path;
	int mount;
} waiting[GRAFTS_MAX];
static unsigned n_waiting;

static struct standing {
	unsigned generation;
	uint64_t dev;
	char *path;
} standing[STANDING_MAX];
static unsigned n_standing;

int grafts_add(const char *path, int mount)
{
	char *copy = n_waiting < GRAFTS_MAX ? strdup(path) : NULL;

	if (!copy) {
		(void)fd_close(mount);
		return n_waiting < GRAFTS_MAX ? -ENOMEM : -E2BIG;
	}
	waiting[n_waiting].path = copy;
	waiting[n_waiting++].mount = mount;
	return 0;
}

bool grafts_waiting(void)
{
	return n_waiting > 0;
}

void grafts_discard(void)
{
	while (n_waiting > 0) {
		n_waiting--;
		(void)fd_close(waiting[n_waiting].mount);
		free(waiting[n_waiting].path);
	}
}

static int stand(unsigned generation, const char *path, uint64_t dev)
{
	char *copy = n_standing < STANDING_MAX ? strdup(path) : NULL;

	if (!copy)
		return n_standing < STANDING_MAX ? -ENOMEM : -E2BIG;
	standing[n_standing++] = (struct standing){generation, dev, copy};
	return 0;
}

uint64_t graft_dev(int mount)
{
	struct stat st;
	uint32_t dev;

	if (kernel_dev(mount, &dev) == 0)
		return makedev(dev >> 20, dev & 0xfffff);
	return fstat(mount, &st) == 0 ? st.st_dev : 0;
}

static int plant_one(unsigned generation, int root, const char *path, int mount, struct error *e)
{
	CLEANUP_FD int place = open_mount_point(root, path, e);
	if (place < 0)
		return place;
	int r = stand(generation, path, graft_dev(mount));
	if (r == 0)
		r = mount_move(mount, place);
	return r < 0 ? error_set(e, r, "cannot mount what is carried to %s", path) : 0;
}

int grafts_plant(unsigned generation, int root, struct error *e)
{
	int r = 0;

	/* Of an attempt that failed: the generation's number is given again. */
	if (n_waiting > 0)
		grafts_forget(generation);
	for (unsigned i = 0; r == 0 && i < n_waiting; i++)
		r = plant_one(generation, root, waiting[i].path, waiting[i].mount, e);
	grafts_discard();
	if (r < 0)
		grafts_forget(generation);
	return r;
}

bool grafts_has(unsigned generation, const char *target, uint64_t dev)
{
	for (unsigned i = 0; i < n_standing; i++)
		if (standing[i].generation == generation && standing[i].dev == dev &&
			strcmp(standing[i].path, target) == 0)
			return true;
	return false;
}

void grafts_forget(unsigned generation)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < n_standing; i++) {
		if (standing[i].generation == generation)
			free(standing[i].path);
		else
			standing[kept++] = standing[i];
	}
	n_standing = kept;
}

void grafts_write(struct record_writer *w, const char *path, uint64_t dev)
{
	record_begin(w, "graft", path);
	record_format(w, "dev", "%llu", (unsigned long long)dev);
	record_end(w);
}

static unsigned take_all(unsigned generation, const char *text, size_t length)
{
	struct record_reader *reader;
	struct record r;
	unsigned n = 0;

	if (record_reader_new(&reader, text, length) < 0)
		return 0;
	while (record_next(reader, &r) == 1) {
		uint64_t dev;
		if (strcmp(r.kind, "graft") == 0 && parse_u64(record_get(&r, "dev"), &dev) &&
			!grafts_has(generation, r.id, dev) && stand(generation, r.id, dev) == 0)
			n++;
	}
	record_reader_free(reader);
	return n;
}

unsigned grafts_read(unsigned generation, int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0 || st.st_size <= 0 || st.st_size > TEXT_MAX)
		return 0;
	CLEANUP_FREE char *text = malloc((size_t)st.st_size);
	if (!text || pread(fd, text, (size_t)st.st_size, 0) != st.st_size) {
		log_error("cannot read what was carried into the image");
		return 0;
	}
	return take_all(generation, text, (size_t)st.st_size);
}

void grafts_save(struct record_writer *w)
{
	for (unsigned i = 0; i < n_standing; i++)
		record_format(w, "graft", "%u %llu %s", standing[i].generation,
			(unsigned long long)standing[i].dev, standing[i].path);
}

int grafts_load(const struct record *r, struct error *e)
{
	const char *text;

	for (size_t i = 0; (text = record_get_nth(r, "graft", i)); i++) {
		unsigned generation;
		unsigned long long dev;
		int at = 0;
		if (sscanf(text, "%u %llu %n", &generation, &dev, &at) != 2 || text[at] != '/')
			return error_say(
				e, EBADMSG, "the state's carried file \"%s\" makes no sense", text);
		if (stand(generation, text + at, dev) < 0)
			return error_set(e, ENOMEM, "cannot take up the state");
	}
	return 0;
}
