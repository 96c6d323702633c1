/* SPDX-License-Identifier: MIT */
/* What of an image's options goes together, what they become, and what is no image. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "kernel/verity.h"
#include "upgrade/image_open.h"

#define HASH "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static char buf[8192];
static struct error e;

static const char *options(enum image_kind kind, struct image_options o, bool plan)
{
	assert_int_equal(image_mount_options(kind, &o, plan, buf, sizeof(buf), &e), 0);
	return buf;
}

static void test_what_is_given_to_mount(void **state)
{
	(void)state;
	struct image_options rw = {.mount_options = "rw,noatime"}, ro = rw, verity = rw;

	ro.read_only = true;
	verity.verity_hash = "/dev/v";
	verity.root_hash = HASH;
	assert_string_equal(options(IMAGE_DEVICE, rw, false), "rw,noatime");
	assert_string_equal(options(IMAGE_DEVICE, rw, true), "rw,noatime,ro");
	assert_string_equal(options(IMAGE_DEVICE, ro, false), "rw,noatime,ro");
	assert_string_equal(options(IMAGE_FILE, rw, false), "rw,noatime,loop");
	assert_string_equal(options(IMAGE_FILE, verity, false),
		"rw,noatime,ro,verity.hashdevice=/dev/v,verity.roothash=" HASH);
	verity.root_hash = "/etc/hash";
	verity.root_hash_signature = "/etc/hash.p7s";
	assert_string_equal(options(IMAGE_DEVICE, verity, false),
		"rw,noatime,ro,verity.hashdevice=/dev/v,verity.roothashfile=/etc/hash,verity.roothashsig=/etc/hash.p7s");
	assert_string_equal(
		options(IMAGE_DEVICE, (struct image_options){.mount_options = ""}, false), "");
}

static void test_too_long(void **state)
{
	(void)state;
	static char text[sizeof(buf)];

	memset(text, 'x', sizeof(text) - 1);
	struct image_options o = {.mount_options = text, .read_only = true};
	assert_int_equal(
		image_mount_options(IMAGE_FILE, &o, false, buf, sizeof(buf), &e), -ENAMETOOLONG);
	assert_int_equal(image_mount_options(IMAGE_FILE, &o, false, buf, 10, &e), -ENAMETOOLONG);
}

static void test_read_only_is_the_last_word(void **state)
{
	(void)state;
	assert_true(image_options_read_only("ro"));
	assert_true(image_options_read_only("rw,noatime,ro"));
	assert_false(image_options_read_only("ro,noatime,rw,loop"));
	assert_false(image_options_read_only(""));
	assert_false(image_options_read_only("errors=remount-ro,road"));
	assert_true(image_options_read_only("ro,,x"));
}

static void test_options_that_go_together(void **state)
{
	(void)state;
	const struct {
		enum image_kind kind;
		struct image_options o;
		int result;
	} cases[] = {
		{IMAGE_DIRECTORY, {.read_only = true}, 0},
		{IMAGE_MOUNT, {.mount_options = "ro"}, -EINVAL},
		{IMAGE_DIRECTORY, {.verity_hash = "/v", .root_hash = HASH}, -EINVAL},
		{IMAGE_FILE, {.mount_options = "ro"}, 0},
		{IMAGE_FILE, {.verity_hash = "/v", .root_hash = HASH}, 0},
		{IMAGE_FILE, {.verity_hash = "/v", .root_hash = "/a/file"}, 0},
		{IMAGE_FILE, {.verity_hash = "/v"}, -EINVAL},
		{IMAGE_FILE, {.root_hash = HASH}, -EINVAL},
		{IMAGE_FILE, {.root_hash_signature = "/s"}, -EINVAL},
		{IMAGE_FILE, {.verity_hash = "v", .root_hash = HASH}, -EINVAL},
		{IMAGE_FILE, {.verity_hash = "/v,w", .root_hash = HASH}, -EINVAL},
		{IMAGE_FILE, {.verity_hash = "/v", .root_hash = "/a,b"}, -EINVAL},
		{IMAGE_FILE, {.verity_hash = "/v", .root_hash = "abc"}, -EINVAL},
		{IMAGE_FILE, {.verity_hash = "/v", .root_hash = ""}, -EINVAL},
		{IMAGE_FILE, {.verity_hash = "/v", .root_hash = "ab,x=y"}, -EINVAL},
		{IMAGE_FILE, {.verity_hash = "/v", .root_hash = HASH HASH "00"}, -EINVAL},
		{IMAGE_FILE, {.verity_hash = "/v", .root_hash = HASH, .root_hash_signature = "s"},
			-EINVAL},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (image_check_options(cases[i].kind, &cases[i].o, &e) != cases[i].result)
			fail_msg("case %zu: %s", i, e.text);
}

static void says(struct probe p, const char *word)
{
	int r = image_check_probe(&p, "/img", &e);

	if (!word) {
		assert_int_equal(r, 0);
		return;
	}
	assert_int_equal(r, -EINVAL);
	if (!strstr(e.text, word) || !strstr(e.text, "/img"))
		fail_msg("\"%s\" has no \"%s\"", e.text, word);
}

static void test_what_is_no_image(void **state)
{
	(void)state;
	says((struct probe){.bytes = 99, .type = "ext4", .file_system = true}, NULL);
	/* An image to be burnt or copied to a stick is both. */
	says((struct probe){.bytes = 99, .type = "iso9660", .file_system = true, .table = "dos"},
		NULL);
	says((struct probe){.bytes = 99, .type = "erofs", .file_system = true, .needed = 99}, NULL);
	says((struct probe){.bytes = 98, .type = "erofs", .file_system = true, .needed = 99},
		"cut short");
	says((struct probe){0}, "is empty");
	says((struct probe){.bytes = 99}, "recognised");
	says((struct probe){.bytes = 99, .several = true}, "more than one");
	says((struct probe){.bytes = 99, .table = "gpt"}, "partition table (gpt)");
	says((struct probe){.bytes = 99, .type = "crypto_LUKS"}, "crypto_LUKS");
}

static void test_what_the_client_sees(void **state)
{
	(void)state;
	const struct stat st = {.st_dev = 7, .st_ino = 12};

	assert_int_equal(image_check_seen(NULL, &st, "/new", &e), 0);
	assert_int_equal(image_check_seen("7 12", &st, "/new", &e), 0);
	assert_int_equal(image_check_seen("nonsense", &st, "/new", &e), 0);
	assert_int_equal(image_check_seen("7 13", &st, "/new", &e), -ESTALE);
	assert_int_equal(image_check_seen("8 12", &st, "/new", &e), -ESTALE);
	assert_non_null(strstr(e.text, "/new is something else to PID 1"));
}

static void test_tags(void **state)
{
	(void)state;
	char tag[16];

	assert_string_equal(image_parse_tag("UUID=a-b", tag), "a-b");
	assert_string_equal(tag, "UUID");
	assert_string_equal(image_parse_tag("PARTLABEL=x=y z", tag), "x=y z");
	assert_string_equal(tag, "PARTLABEL");
	assert_string_equal(image_parse_tag("LABEL=", tag), "");
	assert_null(image_parse_tag("/UUID=a", tag));
	assert_null(image_parse_tag("UUID", tag));
	assert_null(image_parse_tag("UUIDX=a", tag));
	assert_null(image_parse_tag("uuid=a", tag));
	assert_null(image_parse_tag("", tag));
}

static void lacks(struct verity_support s, const char *word)
{
	int r = verity_check(&s, &e);

	assert_int_equal(r, word ? -EOPNOTSUPP : 0);
	if (word && !strstr(e.text, word))
		fail_msg("\"%s\" has no \"%s\"", e.text, word);
}

static void test_what_dm_verity_lacks(void **state)
{
	(void)state;
	lacks((struct verity_support){true, true, true, true}, NULL);
	lacks((struct verity_support){false, true, true, true},
		"libmount of the running system is built without dm-verity");
	lacks((struct verity_support){true, false, true, true},
		"has no libcryptsetup.so.12, which libmount needs");
	lacks((struct verity_support){true, true, false, false},
		"no device mapper (is the module dm-mod in");
	lacks((struct verity_support){true, true, true, false},
		"no dm-verity (is the module of that name");
	/* What a person has to see to first. */
	lacks((struct verity_support){false, false, false, false}, "libmount");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_given_to_mount),
		cmocka_unit_test(test_too_long),
		cmocka_unit_test(test_read_only_is_the_last_word),
		cmocka_unit_test(test_options_that_go_together),
		cmocka_unit_test(test_what_is_no_image),
		cmocka_unit_test(test_what_dm_verity_lacks),
		cmocka_unit_test(test_what_the_client_sees),
		cmocka_unit_test(test_tags),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
