/* SPDX-License-Identifier: MIT */
/* What the stages of the boot read: the kernel command line, sysctl.d, machine IDs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs those four before it. */
#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <sys/swap.h>

#include "conf/cmdline.h"
#include "conf/devname.h"
#include "conf/fsck.h"
#include "conf/machine_id.h"
#include "conf/sysctl.h"
#include "conf/uevent.h"
#include "kernel/swap.h"

#define ID "0123456789abcdef0123456789abcdef"

static void command_line(void **state)
{
	const char *line = " root=/dev/x  a=\"one two\" \"b=three four\"\ta=last quiet c= ab=no\n";
	char buf[16] = "untouched";

	(void)state;
	assert_false(cmdline_get(line, "x", buf, sizeof(buf)));
	assert_false(cmdline_get(line, "quiet", buf, sizeof(buf)));
	assert_string_equal(buf, "untouched");
	assert_true(cmdline_get(line, "a", buf, sizeof(buf)));
	assert_string_equal(buf, "last");
	assert_true(cmdline_get(line, "b", buf, sizeof(buf)));
	assert_string_equal(buf, "three four");
	assert_true(cmdline_get(line, "c", buf, sizeof(buf)));
	assert_string_equal(buf, "");
	assert_true(cmdline_get("k=0123456789", "k", buf, 5));
	assert_string_equal(buf, "0123");
	assert_true(cmdline_next(&line, buf, sizeof(buf)));
	assert_string_equal(buf, "root=/dev/x");
	line = "\"open quote";
	assert_true(cmdline_next(&line, buf, sizeof(buf)));
	assert_string_equal(buf, "open quote");
	assert_false(cmdline_next(&line, buf, sizeof(buf)));
}

static void machine_ids(void **state)
{
	static const char *const WRONG[] = {"", "uninitialized\n", "0123", ID "0", ID " x",
		"00000000000000000000000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff",
		"01234567-89ab-cdef-0123456789abcdef", "0123456-789ab-cdef-0123-456789abcdef",
		"01234567--89ab-cdef-0123-456789abcdef", "g123456789abcdef0123456789abcdef"};
	static const uint8_t ONES[16] = {[0 ... 15] = 0xff};
	char id[MACHINE_ID_SIZE] = "untouched";

	(void)state;
	for (size_t i = 0; i < sizeof(WRONG) / sizeof(WRONG[0]); i++)
		if (machine_id_parse(WRONG[i], id))
			fail_msg("%s is taken for %s", WRONG[i], id);
	assert_string_equal(id, "untouched");
	assert_true(machine_id_parse(" " ID "\n", id));
	assert_string_equal(id, ID);
	assert_true(machine_id_parse("01234567-89AB-CDEF-0123-456789ABCDEF", id));
	assert_string_equal(id, ID);
	machine_id_from_random(ONES, id);
	assert_string_equal(id, "ffffffffffff4fffbfffffffffffffff");
	assert_true(machine_id_trusts_vendor("QEMU\n"));
	assert_false(machine_id_trusts_vendor("Dell Inc.\n"));
}

static void expect(const struct sysctls *s, size_t i, const char *path, const char *value)
{
	assert_true(i < s->count);
	assert_string_equal(s->items[i].path, path);
	if (value)
		assert_string_equal(s->items[i].value, value);
	else
		assert_null(s->items[i].value);
}

static void sysctl_lines(void **state)
{
	static const char *const NONE[] = {"", "  ", "# a=b", " ; a=b", "\r"};
	static const char *const WRONG[] = {"a", "= b", "/a = b", "a/../../x = b", "-", "a. = b"};
	struct sysctls s = {0};

	(void)state;
	for (size_t i = 0; i < sizeof(NONE) / sizeof(NONE[0]); i++)
		assert_int_equal(sysctls_add(&s, NONE[i]), 0);
	for (size_t i = 0; i < sizeof(WRONG) / sizeof(WRONG[0]); i++)
		if (sysctls_add(&s, WRONG[i]) != -EINVAL)
			fail_msg("%s is taken", WRONG[i]);
	assert_int_equal(s.count, 0);
	assert_int_equal(sysctls_add(&s, "kernel.domainname=example.com"), 0);
	assert_int_equal(sysctls_add(&s, " net/ipv4/conf/eth0.1/rp_filter = 1 2 \r"), 0);
	assert_int_equal(sysctls_add(&s, "- net.ipv4.conf.eth0/2.rp_filter ="), 0);
	assert_int_equal(sysctls_add(&s, "net.ipv4.conf.*.rp_filter = 2"), 0);
	assert_int_equal(sysctls_add(&s, "-net.ipv4.conf.all.rp_filter"), 0);
	expect(&s, 0, "kernel/domainname", "example.com");
	expect(&s, 1, "net/ipv4/conf/eth0.1/rp_filter", "1 2");
	expect(&s, 2, "net/ipv4/conf/eth0.2/rp_filter", "");
	expect(&s, 3, "net/ipv4/conf/*/rp_filter", "2");
	expect(&s, 4, "net/ipv4/conf/all/rp_filter", NULL);
	assert_true(s.items[2].may_fail && !s.items[1].may_fail);
	assert_true(s.items[3].glob && !s.items[4].glob);
	assert_true(sysctls_names(&s, "net/ipv4/conf/all/rp_filter"));
	assert_false(sysctls_names(&s, "net/ipv4/conf/lo/rp_filter"));
	assert_false(sysctls_names(&s, "net/ipv4/conf/*/rp_filter"));
	/* What is said later counts, and comes later. */
	assert_int_equal(sysctls_add(&s, "kernel/domainname = other"), 0);
	assert_int_equal(s.count, 5);
	expect(&s, 0, "net/ipv4/conf/eth0.1/rp_filter", "1 2");
	expect(&s, 4, "kernel/domainname", "other");
	sysctls_done(&s);
	assert_int_equal(s.count, 0);
}

static void fsck_words(void **state)
{
	static const enum fsck_verdict VERDICTS[] = {[0] = FSCK_CLEAN,
		[1] = FSCK_CORRECTED,
		[2] = FSCK_REBOOT,
		[3] = FSCK_REBOOT,
		[4] = FSCK_FAILED,
		[6] = FSCK_FAILED,
		[8] = FSCK_FAILED,
		[32] = FSCK_FAILED,
		[127] = FSCK_FAILED,
		[128 + 11] = FSCK_FAILED};
	struct fsck_wish w;

	(void)state;
	for (int code = 0; code < (int)(sizeof(VERDICTS) / sizeof(VERDICTS[0])); code++)
		if (VERDICTS[code] != FSCK_CLEAN || code == 0)
			assert_int_equal(fsck_judge(code), VERDICTS[code]);
	assert_int_equal(fsck_judge(-1), FSCK_FAILED);
	assert_true(fsck_wish_parse(NULL, NULL, &w));
	assert_true(!w.skip && !w.force && strcmp(w.repair, "-a") == 0);
	assert_true(fsck_wish_parse("force", "yes", &w));
	assert_true(!w.skip && w.force && strcmp(w.repair, "-y") == 0);
	assert_true(fsck_wish_parse("skip", "no", &w));
	assert_true(w.skip && !w.force && strcmp(w.repair, "-n") == 0);
	assert_true(fsck_wish_parse("auto", "preen", &w));
	assert_false(fsck_wish_parse("perhaps", "yes", &w));
	assert_true(!w.skip && !w.force && strcmp(w.repair, "-y") == 0);
	assert_string_equal(fsck_note_of("/"), "/run/initramfs/fsck-root");
	assert_string_equal(fsck_note_of("/usr"), "/run/initramfs/fsck-usr");
	assert_null(fsck_note_of("/usr/local"));
	assert_null(fsck_note_of("none"));
}

static void uevents(void **state)
{
	static const char OF_KERNEL[] =
		"add@/devices/pci0000:00/block/sdb\0ACTION=add\0"
		"DEVPATH=/devices/pci0000:00/block/sdb\0SUBSYSTEM=block\0MAJOR=8";
	static const char OF_UDEV[] =
		"libudev\0\xfe\xed\xca\xfe(\0\0\0ACTION=change\0SUBSYSTEM=block";
	static const char OTHER[] = "add@/devices/SUBSYSTEM=block\0ACTION=add\0SUBSYSTEM=blocks\0"
				    "OLD_SUBSYSTEM=block";

	(void)state;
	assert_true(uevent_is_of_disk(OF_KERNEL, sizeof(OF_KERNEL)));
	assert_true(uevent_is_of_disk(OF_UDEV, sizeof(OF_UDEV)));
	assert_false(uevent_is_of_disk(OF_UDEV, sizeof(OF_UDEV) - 1)); /* cut off */
	assert_false(uevent_is_of_disk(OTHER, sizeof(OTHER)));
	assert_false(uevent_is_of_disk("", 0));
}

static void swap_options(void **state)
{
	(void)state;
	assert_int_equal(swap_flags(NULL), 0);
	assert_int_equal(swap_flags("sw,nofail,pri=-1,pri=x,pri=32768,discard=often"), 0);
	assert_int_equal(swap_flags("sw,pri=7"), SWAP_FLAG_PREFER | 7);
	assert_int_equal(
		swap_flags("discard,pri=32767"), SWAP_FLAG_DISCARD | SWAP_FLAG_PREFER | 32767);
	assert_int_equal(swap_flags(",discard=once,"), SWAP_FLAG_DISCARD | 0x20000);
	assert_int_equal(swap_flags("discard=pages"), SWAP_FLAG_DISCARD | 0x40000);
}

static void device_names(void **state)
{
	static const char *const NONE[] = {"", "# Device nodes to trigger", "fuse fuse",
		"fuse fuse c10", "fuse fuse x10:229", "fuse /fuse c10:229", "fuse ../fuse c10:229",
		"fuse fuse c4096:1", "fuse fuse c10:229 more"};
	struct devname d = {.name = "untouched"};

	(void)state;
	for (size_t i = 0; i < sizeof(NONE) / sizeof(NONE[0]); i++)
		assert_false(devname_parse(NONE[i], &d));
	assert_string_equal(d.name, "untouched");
	assert_true(devname_parse("tun net/tun c10:200", &d));
	assert_string_equal(d.name, "net/tun");
	assert_false(d.block);
	assert_int_equal(d.major, 10);
	assert_int_equal(d.minor, 200);
	assert_true(devname_parse("thing thing b65535:0", &d) == false);
	assert_true(devname_parse("thing thing b7:1048575\r", &d));
	assert_true(d.block);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(command_line),
		cmocka_unit_test(device_names),
		cmocka_unit_test(machine_ids),
		cmocka_unit_test(sysctl_lines),
		cmocka_unit_test(fsck_words),
		cmocka_unit_test(uevents),
		cmocka_unit_test(swap_options),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
