/* SPDX-License-Identifier: MIT */
/* What of an image's options goes together, and what they are to mount(2). No system calls. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "conf/protocol.h"
#include "kernel/util.h"
#include "upgrade/image_open.h"

#define HASH_MAX 128 /* hex digits: of SHA-512 */

const char *image_kind_name(enum image_kind kind)
{
	switch (kind) {
	case IMAGE_DIRECTORY:
		return "directory";
	case IMAGE_MOUNT:
		return "mount";
	case IMAGE_DEVICE:
		return "device";
	case IMAGE_FILE:
		return "file";
	}
	return "?";
}

int image_check_probe(const struct probe *p, const char *path, struct error *e)
{
	if (p->bytes == 0)
		return error_say(e, EINVAL, "%s is empty", path);
	if (p->several)
		return error_say(e, EINVAL,
			"%s shows signs of more than one file system: wipefs(8) tells them apart",
			path);
	if (p->file_system && p->needed > p->bytes)
		return error_say(e, EINVAL,
			"%s is cut short: its %s has %llu bytes, and only %llu are there", path,
			p->type, (unsigned long long)p->needed, (unsigned long long)p->bytes);
	if (p->file_system)
		return 0;
	if (p->type[0])
		return error_say(e, EINVAL, "%s holds no file system, but %s: open that first",
			path, p->type);
	if (p->table[0])
		return error_say(e, EINVAL,
			"%s is a whole disk with a partition table (%s): name the partition that is the image (losetup -P makes devices of them)",
			path, p->table);
	return error_say(e, EINVAL,
		"%s holds no file system that could be recognised (is it cut short, or compressed?)",
		path);
}

int image_check_seen(const char *seen, const struct stat *st, const char *path, struct error *e)
{
	unsigned long long device, inode;

	if (!seen || sscanf(seen, "%llu %llu", &device, &inode) != 2 ||
		(device == (unsigned long long)st->st_dev &&
			inode == (unsigned long long)st->st_ino))
		return 0;
	return error_say(e, ESTALE,
		"%s is something else to PID 1: initctl runs in a mount namespace of its own (run it outside, as with nsenter -t 1 -m)",
		path);
}

const char *image_parse_tag(const char *text, char tag[16])
{
	static const char *const TAGS[] = {CONTROL_IMAGE_TAGS};

	for (size_t i = 0; i < ARRAY_SIZE(TAGS); i++) {
		size_t n = strlen(TAGS[i]);
		if (strncmp(text, TAGS[i], n) != 0 || text[n] != '=')
			continue;
		(void)snprintf(tag, 16, "%s", TAGS[i]);
		return text + n + 1;
	}
	return NULL;
}

static int check_hash(const char *text, struct error *e)
{
	size_t length = strlen(text), digits = 0;

	if (text[0] == '/')
		return 0;
	while (isxdigit((unsigned char)text[digits]))
		digits++;
	if (digits < length || length < 2 || length % 2 || length > HASH_MAX)
		return error_say(e, EINVAL,
			"the root hash is neither a hash in hexadecimal digits nor an absolute path: \"%.140s\"",
			text);
	return 0;
}

/* It becomes a word of a list of mount options. */
static int check_word(const char *what, const char *path, struct error *e)
{
	if (path && (path[0] != '/' || strpbrk(path, ",\"\n")))
		return error_say(e, EINVAL,
			"the %s has to be an absolute path without commas, quotes and newlines: %s",
			what, path);
	return 0;
}

int image_check_options(enum image_kind kind, const struct image_options *o, struct error *e)
{
	bool mounted = kind == IMAGE_DEVICE || kind == IMAGE_FILE;
	bool verity = o->verity_hash || o->root_hash || o->root_hash_signature;
	int r;

	if (!mounted && verity)
		return error_say(e, EINVAL,
			"dm-verity is for devices and files, and the image is a directory");
	if (!mounted && o->mount_options)
		return error_say(e, EINVAL,
			"mount options are for devices and files; a directory is taken with the mount it lies on (--read-only works)");
	if (!verity)
		return 0;
	if (!o->verity_hash || !o->root_hash)
		return error_say(e, EINVAL,
			"dm-verity needs both: the device with the hashes (--verity-hash) and the root hash (--root-hash)");
	if ((r = check_word("device with the hashes", o->verity_hash, e)) < 0 ||
		(r = check_word("signature of the root hash", o->root_hash_signature, e)) < 0 ||
		(r = check_hash(o->root_hash, e)) < 0)
		return r;
	return o->root_hash[0] == '/' ? check_word("root hash", o->root_hash, e) : 0;
}

bool image_options_read_only(const char *options)
{
	bool read_only = false;

	while (*options) {
		size_t n = strcspn(options, ",");
		if (n == 2 && strncmp(options, "ro", 2) == 0)
			read_only = true;
		else if (n == 2 && strncmp(options, "rw", 2) == 0)
			read_only = false;
		options += n + (options[n] == ',');
	}
	return read_only;
}

static size_t append(char *buf, size_t size, size_t used, const char *key, const char *value)
{
	if (!value || used >= size)
		return used;
	int n = snprintf(buf + used, size - used, "%s%s%s", used ? "," : "", key, value);
	return n < 0 ? size : used + (size_t)n;
}

int image_mount_options(enum image_kind kind, const struct image_options *o, bool plan, char *buf,
	size_t size, struct error *e)
{
	bool verity = o->verity_hash, hash_is_path = verity && o->root_hash[0] == '/';
	bool read_only = plan || o->read_only || verity;
	size_t used = 0;

	buf[0] = '\0';
	if (o->mount_options && o->mount_options[0])
		used = append(buf, size, used, "", o->mount_options);
	used = append(buf, size, used, "", read_only ? "ro" : NULL);
	/* For dm-verity libcryptsetup makes the loop device. */
	used = append(buf, size, used, "", kind == IMAGE_FILE && !verity ? "loop" : NULL);
	if (verity) {
		used = append(buf, size, used, "verity.hashdevice=", o->verity_hash);
		used = append(buf, size, used,
			hash_is_path ? "verity.roothashfile=" : "verity.roothash=", o->root_hash);
		used = append(buf, size, used, "verity.roothashsig=", o->root_hash_signature);
	}
	return used < size ? 0 : error_say(e, ENAMETOOLONG, "the mount options are too long");
}
