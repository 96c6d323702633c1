/* SPDX-License-Identifier: MIT */
#include "conf/root_options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/words.h"
#include "kernel/util.h"

#define SECONDS_MAX 86400

/* What is decided by several words together. */
struct reading {
	struct root_options o;
	char *verity_data; /* systemd.verity_root_data=: the root, under another name */
	int shell; /* rd.shell: -1: not said */
	int release; /* molt.release: the same */
};

/* The value of "KEY=VALUE", or NULL. */
static const char *value_of(const char *word, const char *key)
{
	size_t n = strlen(key);

	return strncmp(word, key, n) == 0 && word[n] == '=' ? word + n + 1 : NULL;
}

static int set_text(char **field, const char *value)
{
	char *copy = strdup(value);

	if (!copy)
		return -ENOMEM;
	free(*field);
	*field = copy;
	return 0;
}

static int take_texts(struct reading *r, const char *word, bool *ret_taken)
{
	struct root_options *o = &r->o;
	const struct {
		const char *key;
		char **field;
	} texts[] = {
		{"root", &o->root},
		{"rootfstype", &o->fstype},
		{"rootflags", &o->flags},
		{"init", &o->init},
		{"molt.image", &o->image},
		{"molt.images", &o->images},
		{"molt.verity_hash", &o->verity_hash},
		{"systemd.verity_root_hash", &o->verity_hash},
		{"systemd.verity_root_data", &r->verity_data},
		{"roothash", &o->root_hash},
	};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		const char *value = value_of(word, texts[i].key);
		if (!value)
			continue;
		*ret_taken = true;
		return set_text(texts[i].field, value);
	}
	return 0;
}

/* A number that makes none leaves what was, as in the kernel. */
static bool take_wait(struct root_options *o, const char *value)
{
	uint64_t seconds;

	if (!parse_u64(value, &seconds) || seconds > SECONDS_MAX)
		return false;
	o->wait_usec = seconds * USEC_PER_SEC;
	return true;
}

static bool take_panic(struct root_options *o, const char *value)
{
	char *end;
	long seconds = strtol(value, &end, 10);

	if (end == value || *end)
		return false;
	o->panic_sec = seconds;
	return true;
}

/* One of them is enough to have a person look. */
static void ignore(struct root_options *o, const char *word)
{
	(void)set_text(&o->ignored, word);
}

static void take_switch(struct reading *r, const char *word)
{
	struct root_options *o = &r->o;
	const char *value;
	bool fits = true;

	if (strcmp(word, "rw") == 0 || strcmp(word, "ro") == 0)
		o->writable = word[1] == 'w';
	else if (strcmp(word, "rootwait") == 0)
		o->wait_usec = USEC_INFINITY;
	else if ((value = value_of(word, "rootwait")) || (value = value_of(word, "rootdelay")))
		fits = take_wait(o, value);
	else if ((value = value_of(word, "panic")))
		fits = take_panic(o, value);
	else if (strcmp(word, "rd.shell") == 0 || strcmp(word, "rd.shell=1") == 0)
		r->shell = 1;
	else if (strcmp(word, "rd.shell=0") == 0)
		r->shell = 0;
	else if (starts_with(word, "rd.shell="))
		fits = false;
	else if (strcmp(word, "molt.debug") == 0 || strcmp(word, "molt.debug=1") == 0)
		o->debug = true;
	if (!fits)
		ignore(o, word);
}

/* What begins with "/" or has a tag is a device; what else a word with a slip of the pen. */
static bool names_device(const char *text)
{
	return starts_with(text, "/dev/") || starts_with(text, "UUID=") ||
	       starts_with(text, "LABEL=") || starts_with(text, "PARTUUID=") ||
	       starts_with(text, "PARTLABEL=");
}

/* "tmpfs", "no", or DEVICE[:/DIRECTORY]; names of devices may have a colon, but not with a slash
 * behind it. */
static int take_overlay(struct root_options *o, const char *value, struct error *e)
{
	const char *colon = strstr(value, ":/");
	char *device = NULL, *directory = NULL;

	if (strcmp(value, "tmpfs") != 0 && strcmp(value, "no") != 0) {
		if (!names_device(value))
			return error_say(e, EINVAL,
				"molt.overlay=%.80s: it is \"tmpfs\", \"no\", or a device (/dev/..., UUID=, LABEL=, PARTUUID= or PARTLABEL=), with :/DIRECTORY behind it or not",
				value);
		/* They part the options of an overlay. */
		if (colon && strpbrk(colon + 1, ",:\\"))
			return error_say(e, EINVAL,
				"molt.overlay=%.80s: the directory can have neither a comma, a colon nor a backslash",
				value);
		device = colon ? strndup(value, (size_t)(colon - value)) : strdup(value);
		directory = strdup(colon ? colon + 1 : ROOT_UPPER_DIRECTORY);
		if (!device || !directory) {
			free(device);
			free(directory);
			return error_set(e, ENOMEM, "cannot read the kernel command line");
		}
	}
	free(o->upper);
	free(o->upper_directory);
	o->upper = device;
	o->upper_directory = directory;
	o->overlay = strcmp(value, "no") != 0;
	return 0;
}

/* A word of molt's own, which nobody else could have meant: what makes no sense is told. */
static int take_release(struct reading *r, const char *value, struct error *e)
{
	bool yes = strcmp(value, "yes") == 0 || strcmp(value, "1") == 0;

	if (!yes && strcmp(value, "no") != 0 && strcmp(value, "0") != 0)
		return error_say(e, EINVAL, "molt.release=%.80s: it is \"yes\" or \"no\"", value);
	r->release = yes;
	return 0;
}

static int take_word(struct reading *r, const char *word, struct error *e)
{
	const char *value;
	bool taken = false;
	int result = take_texts(r, word, &taken);

	if (result < 0)
		return error_set(e, result, "cannot read the kernel command line");
	if (taken)
		return 0;
	if ((value = value_of(word, "molt.overlay")))
		return take_overlay(&r->o, value, e);
	if ((value = value_of(word, "molt.release")))
		return take_release(r, value, e);
	take_switch(r, word);
	return 0;
}

/* "ext4,xfs" and "auto" leave it to what lies there. */
static void settle_fstype(struct root_options *o)
{
	if (o->fstype &&
		(strchr(o->fstype, ',') || !*o->fstype || strcmp(o->fstype, "auto") == 0)) {
		free(o->fstype);
		o->fstype = NULL;
	}
}

/* The words of others that nobody here can act on, where waiting would only hide that. */
static int settle_root(const struct root_options *o, struct error *e)
{
	static const char *const OTHERS[] = {
		"nfs", "/dev/nfs", "nfs:", "nfs4:", "nbd:", "iscsi:", "live:", "zfs:"};

	for (size_t i = 0; i < ARRAY_SIZE(OTHERS); i++)
		if (ends_with(OTHERS[i], ":") ? starts_with(o->root, OTHERS[i])
					      : strcmp(o->root, OTHERS[i]) == 0)
			return error_say(e, EINVAL,
				"root=%.100s: this initramfs has no network and no such root (it knows devices, virtiofs and 9p)",
				o->root);
	return 0;
}

static bool is_root_hash(const char *text)
{
	size_t n = strlen(text);

	return n > 0 && n % 2 == 0 && strspn(text, "0123456789abcdefABCDEF") == n;
}

static int settle(struct reading *r, struct error *e)
{
	struct root_options *o = &r->o;

	settle_fstype(o);
	if (r->verity_data) {
		free(o->root);
		o->root = r->verity_data;
		r->verity_data = NULL;
	}
	o->release = r->release >= 0 ? r->release : root_options_is_layered(o);
	/* Whoever wants a panic to end in a reboot has nobody at the console. */
	o->shell = r->shell >= 0 ? r->shell : o->panic_sec == 0;
	if (!o->root_hash != !o->verity_hash)
		return error_say(e, EINVAL,
			"dm-verity needs both: the root hash (roothash=) and the device with the hashes (molt.verity_hash= or systemd.verity_root_hash=)");
	if (o->root_hash && o->root_hash[0] != '/' && !is_root_hash(o->root_hash))
		return error_say(e, EINVAL,
			"roothash=%.140s is no root hash: it is what `veritysetup format` prints, an even number of hexadecimal digits, or the path of a file with that",
			o->root_hash);
	if (o->verity_hash && o->writable)
		return error_say(e, EINVAL,
			"rw and roothash= do not go together: what dm-verity guards is read-only (molt.overlay=tmpfs puts a file system to write to over it)");
	if (o->images && (o->image || o->verity_hash))
		return error_say(e, EINVAL,
			"molt.images= chooses the image: molt.image= and roothash= are of a certain one");
	if (!o->root || !*o->root)
		return error_say(e, EINVAL, "the kernel command line has no root=");
	return settle_root(o, e);
}

int root_options_parse(const char *line, struct root_options *ret, struct error *e)
{
	struct reading r = {.o = {.wait_usec = ROOT_WAIT_USEC}, .shell = -1, .release = -1};
	char *word;
	int result = 0, n = 0;

	while (result == 0 && (n = word_next(&line, WORD_LOOSE, &word)) > 0) {
		/* What comes behind is for init. */
		bool end = strcmp(word, "--") == 0;
		if (!end)
			result = take_word(&r, word, e);
		free(word);
		if (end)
			break;
	}
	if (n < 0)
		result = error_set(e, n, "cannot read the kernel command line");
	if (result == 0)
		result = settle(&r, e);
	else
		(void)settle(&r, NULL); /* whether there is to be a shell counts all the same */
	free(r.verity_data);
	*ret = r.o;
	return result;
}

void root_options_free(struct root_options *o)
{
	free(o->root);
	free(o->fstype);
	free(o->flags);
	free(o->init);
	free(o->image);
	free(o->images);
	free(o->upper);
	free(o->upper_directory);
	free(o->ignored);
	free(o->verity_hash);
	free(o->root_hash);
	*o = (struct root_options){0};
}

bool root_options_has(const char *line, const char *word)
{
	bool found = false;
	char *next;

	while (!found && word_next(&line, WORD_LOOSE, &next) > 0) {
		const char *value = value_of(next, word);
		found = strcmp(next, word) == 0 || (value && strcmp(value, "1") == 0);
		free(next);
	}
	return found;
}

bool root_options_without_device(const struct root_options *o)
{
	return o->fstype && (strcmp(o->fstype, "virtiofs") == 0 || strcmp(o->fstype, "9p") == 0);
}

bool root_options_is_layered(const struct root_options *o)
{
	static const char *const MADE[] = {"/dev/mapper/", "/dev/dm-", "/dev/md", "/dev/loop"};

	for (size_t i = 0; o->root && i < ARRAY_SIZE(MADE); i++)
		if (starts_with(o->root, MADE[i]))
			return true;
	return o->image || o->images || o->upper || o->verity_hash;
}

const char *root_options_tag(const char *spec, char *buf, unsigned long size)
{
	static const char *const LINKS[][2] = {
		{"/dev/disk/by-uuid/", "UUID"},
		{"/dev/disk/by-label/", "LABEL"},
		{"/dev/disk/by-partuuid/", "PARTUUID"},
		{"/dev/disk/by-partlabel/", "PARTLABEL"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(LINKS); i++) {
		if (!starts_with(spec, LINKS[i][0]))
			continue;
		(void)snprintf(buf, size, "%s=%s", LINKS[i][1], spec + strlen(LINKS[i][0]));
		return buf;
	}
	return spec;
}
