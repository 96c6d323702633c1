/* SPDX-License-Identifier: MIT */
/* The words of the kernel command line that say what the root is. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "conf/root_options.h"
#include "kernel/modules.h"
#include "kernel/util.h"

static void expect_refused(const char *line, const char *why)
{
	struct root_options o;
	struct error e = {0};

	assert_int_equal(root_options_parse(line, &o, &e), -EINVAL);
	assert_non_null(strstr(e.text, why));
	root_options_free(&o);
}

static struct root_options parse(const char *line)
{
	struct root_options o;
	struct error e = {0};

	if (root_options_parse(line, &o, &e) < 0)
		fail_msg("%s: %s", line, e.text);
	return o;
}

static void test_defaults(void **state)
{
	struct root_options o = parse("quiet root=/dev/vda1 splash\n");

	(void)state;
	assert_string_equal(o.root, "/dev/vda1");
	assert_null(o.fstype);
	assert_null(o.flags);
	assert_null(o.init);
	assert_null(o.image);
	assert_false(o.writable);
	assert_false(o.overlay);
	assert_true(o.shell);
	assert_int_equal(o.wait_usec, ROOT_WAIT_USEC);
	root_options_free(&o);
}

static void test_all(void **state)
{
	struct root_options o =
		parse("root=/dev/vda1 root=UUID=0-1 rootfstype=ext4 rootflags=subvol=a,x "
		      "ro rw init=/bin/init molt.image=/images/7.squashfs molt.overlay=tmpfs "
		      "molt.debug root.x=y xroot=z -- root=/dev/none");

	(void)state;
	assert_string_equal(o.root, "UUID=0-1"); /* the last one counts; behind -- it is for init */
	assert_string_equal(o.fstype, "ext4");
	assert_string_equal(o.flags, "subvol=a,x");
	assert_string_equal(o.init, "/bin/init");
	assert_string_equal(o.image, "/images/7.squashfs");
	assert_true(o.writable && o.overlay && o.debug);
	root_options_free(&o);
	o = parse("root=\"LABEL=two words\" rw ro rootfstype=ext4,xfs");
	assert_string_equal(o.root, "LABEL=two words");
	assert_false(o.writable);
	assert_null(o.fstype);
	root_options_free(&o);
}

static void test_waiting(void **state)
{
	static const struct {
		const char *line;
		uint64_t usec;
	} lines[] = {
		{"rootwait", USEC_INFINITY},
		{"rootwait rootdelay=2", 2 * USEC_PER_SEC},
		{"rootdelay=2 rootwait", USEC_INFINITY},
		{"rootwait=7", 7 * USEC_PER_SEC},
		{"rootdelay=0", 0},
		{"rootdelay=soon", ROOT_WAIT_USEC},
		{"rootdelay=99999999999", ROOT_WAIT_USEC},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		char line[80] = "root=x ";
		struct root_options o = parse(strcat(line, lines[i].line));
		assert_int_equal(o.wait_usec, lines[i].usec);
		root_options_free(&o);
	}
}

static void test_shell(void **state)
{
	static const struct {
		const char *line;
		bool shell;
		int64_t panic;
	} lines[] = {
		{"", true, 0},
		{"rd.shell=0", false, 0},
		{"panic=10", false, 10},
		{"panic=-1", false, -1},
		{"panic=-1 rd.shell", true, -1},
		{"rd.shell=0 rd.shell=1 panic=x", true, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		char line[80] = "root=x ";
		struct root_options o = parse(strcat(line, lines[i].line));
		assert_int_equal(o.shell, lines[i].shell);
		assert_int_equal(o.panic_sec, lines[i].panic);
		root_options_free(&o);
	}
}

static void test_verity(void **state)
{
	struct root_options o = parse("root=/dev/dm-0 roothash=ab systemd.verity_root_data=/dev/a "
				      "systemd.verity_root_hash=/dev/b");

	(void)state;
	assert_string_equal(o.root, "/dev/a");
	assert_string_equal(o.verity_hash, "/dev/b");
	assert_string_equal(o.root_hash, "ab");
	root_options_free(&o);
	expect_refused("root=/dev/a roothash=ab", "needs both");
	expect_refused("root=/dev/a molt.verity_hash=/dev/b", "needs both");
	expect_refused("root=/dev/a roothash=ab molt.verity_hash=/dev/b rw", "read-only");
	expect_refused(
		"root=/dev/a roothash=ab molt.verity_hash=/dev/b molt.images=/i", "molt.images=");
	expect_refused("root=/dev/a molt.images=/i molt.image=/i/1", "molt.images=");
}

static void expect_overlay(const char *word, const char *upper, const char *directory)
{
	char line[200] = "root=x ";
	struct root_options o = parse(strcat(line, word));

	assert_true(o.overlay);
	assert_string_equal(o.upper, upper);
	assert_string_equal(o.upper_directory, directory);
	assert_true(o.release);
	root_options_free(&o);
}

static void test_overlays(void **state)
{
	struct root_options o = parse("root=x molt.overlay=LABEL=a molt.overlay=tmpfs");

	(void)state;
	assert_true(o.overlay);
	assert_null(o.upper);
	root_options_free(&o);
	o = parse("root=x molt.overlay=/dev/sda1 molt.overlay=no");
	assert_false(o.overlay || o.upper);
	root_options_free(&o);
	expect_overlay("molt.overlay=LABEL=state", "LABEL=state", "/overlay");
	expect_overlay("molt.overlay=/dev/vda2:/over/lay", "/dev/vda2", "/over/lay");
	expect_overlay("molt.overlay=/dev/disk/by-path/pci-0000:00:04.0:/a",
		"/dev/disk/by-path/pci-0000:00:04.0", "/a");
	expect_overlay("\"molt.overlay=LABEL=two words:/a\"", "LABEL=two words", "/a");
	expect_refused("root=x molt.overlay=LABEL=a:/b,c", "molt.overlay=LABEL=a:/b,c");
	expect_refused("root=x molt.overlay=state", "molt.overlay=state");
	expect_refused("root=x molt.overlay=", "molt.overlay=");
}

static void test_release(void **state)
{
	static const struct {
		const char *line;
		bool release;
	} lines[] = {
		{"root=/dev/sda1", false},
		{"root=/dev/sda1 molt.overlay=tmpfs", false},
		{"root=/dev/sda1 molt.release=yes", true},
		{"root=/dev/sda1 molt.image=/i", true},
		{"root=/dev/sda1 molt.images=/i", true},
		{"root=/dev/sda1 molt.image=/i molt.release=no", false},
		{"root=/dev/sda1 molt.release=0 molt.release=1", true},
		{"root=/dev/mapper/vg-root", true},
		{"root=/dev/md0", true},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		struct root_options o = parse(lines[i].line);
		assert_int_equal(o.release, lines[i].release);
		root_options_free(&o);
	}
	expect_refused("root=x molt.release=maybe", "molt.release=maybe");
}

static void test_ignored(void **state)
{
	static const char *const WORDS[] = {"rootdelay=soon", "rootwait=-1", "panic=x",
		"rd.shell=maybe", "rootdelay=99999999999", "panic="};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(WORDS); i++) {
		char line[80] = "root=x ";
		struct root_options o = parse(strcat(line, WORDS[i]));
		assert_non_null(o.ignored);
		assert_string_equal(o.ignored, WORDS[i]);
		root_options_free(&o);
	}
	struct root_options o = parse("root=x rootdelay=3 panic=-1 rd.shell=0 rootwait other=soon");
	assert_null(o.ignored);
	root_options_free(&o);
}

/* The kernel takes quotes around a whole word and around its value alone. */
static void test_quotes(void **state)
{
	struct root_options o = parse("rootflags=\"subvol=a b,x\" \"root=LABEL=my disk\"");

	(void)state;
	assert_string_equal(o.flags, "subvol=a b,x");
	assert_string_equal(o.root, "LABEL=my disk");
	root_options_free(&o);
	/* One that is never closed goes to the end of the line there too. */
	o = parse("root=LABEL=\"my disk rw\n");
	assert_true(starts_with(o.root, "LABEL=my disk rw"));
	assert_false(o.writable);
	root_options_free(&o);
}

static void test_blacklist(void **state)
{
	static const char LINE[] = "a modprobe.blacklist=one,two-three b modprobe.blacklist=four\n";

	(void)state;
	assert_true(modules_is_blacklisted(LINE, "one"));
	assert_true(modules_is_blacklisted(LINE, "two_three"));
	assert_true(modules_is_blacklisted(LINE, "four"));
	assert_false(modules_is_blacklisted(LINE, "three"));
	assert_false(modules_is_blacklisted(LINE, "b"));
	assert_false(modules_is_blacklisted("modprobe.blacklist=", ""));
}

static void test_refused(void **state)
{
	struct root_options o;
	struct error e = {0};

	(void)state;
	expect_refused("quiet", "no root=");
	expect_refused("root=", "no root=");
	expect_refused("root=x molt.overlay=ext4", "molt.overlay=ext4");
	expect_refused("root=/dev/nfs nfsroot=h:/r", "root=/dev/nfs");
	expect_refused("root=live:CDLABEL=x", "root=live:");
	expect_refused("root=/dev/a roothash=xyz molt.verity_hash=/dev/b", "roothash=xyz");
	expect_refused("root=/dev/a roothash=abc molt.verity_hash=/dev/b", "roothash=abc");
	/* Nobody is at the console: that is known all the same. */
	assert_int_equal(root_options_parse("molt.overlay=x rd.shell=0", &o, &e), -EINVAL);
	root_options_free(&o);
	assert_int_equal(root_options_parse("rd.shell=0 molt.overlay=x", &o, &e), -EINVAL);
	assert_false(o.shell);
	root_options_free(&o);
}

static void test_words(void **state)
{
	char buf[64];
	struct root_options o = parse("root=tag rootfstype=virtiofs");

	(void)state;
	assert_true(root_options_without_device(&o));
	root_options_free(&o);
	assert_true(root_options_has("a molt.initramfs b", "molt.initramfs"));
	assert_true(root_options_has("molt.initramfs=1", "molt.initramfs"));
	assert_false(root_options_has("molt.initramfs=0 xmolt.initramfs", "molt.initramfs"));
	assert_string_equal(
		root_options_tag("/dev/disk/by-partuuid/1-2", buf, sizeof(buf)), "PARTUUID=1-2");
	assert_string_equal(
		root_options_tag("/dev/disk/by-id/x", buf, sizeof(buf)), "/dev/disk/by-id/x");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_all),
		cmocka_unit_test(test_waiting),
		cmocka_unit_test(test_shell),
		cmocka_unit_test(test_verity),
		cmocka_unit_test(test_overlays),
		cmocka_unit_test(test_release),
		cmocka_unit_test(test_ignored),
		cmocka_unit_test(test_quotes),
		cmocka_unit_test(test_blacklist),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
