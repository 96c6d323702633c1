/* SPDX-License-Identifier: MIT */
#include "kernel/probe.h"

#include <blkid/blkid.h>
#include <endian.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* fs/erofs/erofs_fs.h: struct erofs_super_block, little-endian, 1024 bytes from the start. */
#define EROFS_SUPER 1024
#define EROFS_MAGIC 0xe0f5e1e2U
#define EROFS_BLOCK_BITS 12 /* offset of a byte */
#define EROFS_BLOCKS 36 /* of a 32-bit number */

static void copy_value(blkid_probe pr, const char *name, char *buf, size_t size)
{
	const char *value;

	if (blkid_probe_lookup_value(pr, name, &value, NULL) == 0)
		(void)snprintf(buf, size, "%s", value);
}

/* Of the file systems that are images, the only one that mounts although its end is missing: who
 * reads there gets EIO, much later. */
static uint64_t erofs_length(int fd)
{
	unsigned char super[64];
	uint32_t magic, blocks;

	if (pread(fd, super, sizeof(super), EROFS_SUPER) != (ssize_t)sizeof(super))
		return 0;
	memcpy(&magic, super, sizeof(magic));
	memcpy(&blocks, super + EROFS_BLOCKS, sizeof(blocks));
	if (le32toh(magic) != EROFS_MAGIC || super[EROFS_BLOCK_BITS] > 16)
		return 0;
	return (uint64_t)le32toh(blocks) << super[EROFS_BLOCK_BITS];
}

static int configure(blkid_probe pr, int fd)
{
	if (blkid_probe_set_device(pr, fd, 0, 0) != 0 ||
		blkid_probe_enable_superblocks(pr, 1) != 0 ||
		blkid_probe_set_superblocks_flags(pr, BLKID_SUBLKS_TYPE | BLKID_SUBLKS_USAGE) !=
			0 ||
		blkid_probe_enable_partitions(pr, 1) != 0)
		return errno ? -errno : -EIO;
	return 0;
}

int probe_fd(int fd, struct probe *ret)
{
	struct probe p = {0};
	char usage[32] = "";
	blkid_probe pr = blkid_new_probe();

	if (!pr)
		return -ENOMEM;
	errno = 0;
	int r = configure(pr, fd);
	if (r == 0) {
		p.bytes = (uint64_t)blkid_probe_get_size(pr);
		/* 0: found, 1: nothing there, -2: ambivalent, -1: error */
		int found = blkid_do_safeprobe(pr);
		p.several = found == -2;
		r = found == -1 ? (errno ? -errno : -EIO) : 0;
	}
	copy_value(pr, "TYPE", p.type, sizeof(p.type));
	copy_value(pr, "USAGE", usage, sizeof(usage));
	copy_value(pr, "PTTYPE", p.table, sizeof(p.table));
	blkid_free_probe(pr);
	if (r < 0)
		return r;
	p.file_system = strcmp(usage, "filesystem") == 0;
	if (strcmp(p.type, "erofs") == 0)
		p.needed = erofs_length(fd);
	*ret = p;
	return 0;
}

static int count_devices(blkid_cache cache, const char *tag, const char *value, char *path)
{
	blkid_dev_iterate iterator = blkid_dev_iterate_begin(cache);
	blkid_dev device;
	int n = 0;

	if (!iterator)
		return -ENOMEM;
	if (blkid_dev_set_search(iterator, tag, value) < 0) {
		blkid_dev_iterate_end(iterator);
		return -ENOMEM;
	}
	while (blkid_dev_next(iterator, &device) == 0)
		if ((device = blkid_verify(cache, device)) && n++ == 0)
			(void)snprintf(path, PATH_MAX, "%s", blkid_dev_devname(device));
	blkid_dev_iterate_end(iterator);
	return n;
}

int probe_find(const char *tag, const char *value, char *path)
{
	blkid_cache cache;

	/* Not what others have found some time ago, nor for others to be found. */
	if (blkid_get_cache(&cache, "/dev/null") < 0)
		return -ENOMEM;
	int r = blkid_probe_all(cache) < 0 ? -EIO : count_devices(cache, tag, value, path);
	blkid_put_cache(cache);
	return r;
}
