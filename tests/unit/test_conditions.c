/* SPDX-License-Identifier: MIT */
/* Condition...=, Assert...= and the sets of exit codes: how they are read, put together and looked
 * at. */
#include "tests/unit/own_root.h"
#include "tests/unit/unit_text.h"

#include <signal.h>

#include "kernel/power_supply.h"
#include "kernel/virtualization.h"
#include "services/check.h"

static struct own_root root;

static int make_root(void **state)
{
	(void)state;
	own_root_make(&root);
	return 0;
}

static int remove_root(void **state)
{
	(void)state;
	own_root_remove(&root);
	return 0;
}

static void reads_prefixes(void **state)
{
	(void)state;
	struct unit *u = unit_of("[Unit]\nConditionPathExists=| ! /a b\nAssertACPower=!no\n"
				 "ConditionHost=%p\nConditionPathExists=|/c\n" START);
	const struct condition *c = u->conditions.items;
	char text[300];

	assert_int_equal(u->conditions.count, 4);
	assert_true(c[0].trigger && c[0].negate && !c[0].assertion);
	assert_int_equal(c[0].kind, CONDITION_PATH_EXISTS);
	assert_string_equal(c[0].value, "/a b");
	condition_describe(&c[0], text, sizeof(text));
	assert_string_equal(text, "ConditionPathExists=|!/a b");
	assert_true(!c[1].trigger && c[1].negate && c[1].assertion);
	condition_describe(&c[1], text, sizeof(text));
	assert_string_equal(text, "AssertACPower=!no");
	assert_string_equal(c[2].value, "x"); /* the service's name */
	assert_true(c[3].trigger && !c[3].negate);
	unit_free(u);
}

static void every_kind_has_both_keys(void **state)
{
	char text[400];

	(void)state;
	for (int kind = 0; kind < N_CONDITION_KINDS; kind++) {
		const char *name = condition_kind_name((enum condition_kind)kind);
		const char *value =
			kind == CONDITION_AC_POWER || kind == CONDITION_FIRST_BOOT ? "yes" : "/x";
		(void)snprintf(text, sizeof(text), "[Unit]\nCondition%s=%s\nAssert%s=%s\n" START,
			name, value, name, value);
		struct unit *u = unit_of(text);
		assert_int_equal(u->conditions.count, 2);
		for (size_t i = 0; i < 2; i++)
			assert_int_equal(u->conditions.items[i].kind, kind);
		unit_free(u);
	}
}

static void an_empty_one_forgets_those_of_its_sort(void **state)
{
	(void)state;
	struct unit *u =
		unit_of("[Unit]\nConditionPathExists=/a\nAssertPathExists=/b\n"
			"ConditionUser=root\nConditionHost=\nConditionPathExists=/d\n" START);

	assert_int_equal(u->conditions.count, 2);
	assert_string_equal(u->conditions.items[0].value, "/b");
	assert_string_equal(u->conditions.items[1].value, "/d");
	unit_free(u);
	u = unit_of("[Unit]\nConditionPathExists=/a\nAssertPathExists=/b\nAssertHost=\n" START);
	assert_int_equal(u->conditions.count, 1);
	assert_false(u->conditions.items[0].assertion);
	unit_free(u);
}

static void refuses(void **state)
{
	(void)state;
	static const struct refusal cases[] = {
		{"[Unit]\nConditionPathExists=a\n" START,
			"x:2: ConditionPathExists=a: not an absolute path"},
		{"[Unit]\nAssertPathIsDirectory=|!\n" START,
			"x:2: AssertPathIsDirectory=|!: nothing is named"},
		{"[Unit]\nConditionACPower=perhaps\n" START,
			"x:2: ConditionACPower=perhaps: neither yes nor no"},
		{START "SuccessExitStatus=256\n",
			"x:3: SuccessExitStatus=256: 256 is no exit code (0 to 255, or a name such as "
			"TEMPFAIL) and no signal"},
		{START "Nice=20\n", "x:3: Nice=20: not a number from -20 to 19"},
		{START "SupplementaryGroups=a b:c\n",
			"x:3: SupplementaryGroups=a b:c: not the name or number of a user or group"},
		{START "RestartForceExitStatus=1 OOPS\n",
			"x:3: RestartForceExitStatus=1 OOPS: OOPS is no exit code (0 to 255, or a name "
			"such as TEMPFAIL) and no signal"},
	};

	CHECK_REFUSALS(cases);
	expect_warnings("[Unit]\nConditionMemory=1G\n" START,
		"x:2: ConditionMemory= in [Unit] is not supported, ignored\n");
}

/* The answer for each is in its value: "1", "0", "e". */
static int by_value(const struct condition *c, void *unused)
{
	(void)unused;
	return c->value[0] == 'e' ? -EIO : c->value[0] == '1';
}

static void expect_met(const char *lines, bool met, const char *blamed)
{
	const struct condition *unmet = NULL;
	char text[600], said[300] = "";

	(void)snprintf(text, sizeof(text), "[Unit]\n%s" START, lines);
	struct unit *u = unit_of(text);
	if (conditions_are_met(&u->conditions, false, by_value, NULL, &unmet) != met)
		fail_msg("%s: %smet", lines, met ? "not " : "");
	if (unmet)
		condition_describe(unmet, said, sizeof(said));
	assert_string_equal(said, blamed);
	unit_free(u);
}

static void are_put_together(void **state)
{
	(void)state;
	expect_met("", true, "");
	expect_met("ConditionHost=1\nConditionUser=!0\n", true, "");
	expect_met("ConditionHost=1\nConditionUser=0\n", false, "ConditionUser=0");
	expect_met("ConditionHost=!1\nConditionUser=1\n", false, "ConditionHost=!1");
	/* One of those is enough, and none of them too little, whatever the others say. */
	expect_met("ConditionHost=|0\nConditionUser=|1\n", true, "");
	expect_met("ConditionHost=|1\nConditionUser=|0\n", true, "");
	expect_met("ConditionHost=|0\nConditionUser=|!1\n", false, "ConditionUser=|!1");
	expect_met("ConditionHost=|1\nConditionUser=0\n", false, "ConditionUser=0");
	expect_met("ConditionHost=1\nConditionUser=|0\n", false, "ConditionUser=|0");
	/* What cannot be told is not met, the one way or the other. */
	expect_met("ConditionHost=e\n", false, "ConditionHost=e");
	expect_met("ConditionHost=!e\n", false, "ConditionHost=!e");
	expect_met("ConditionHost=|e\nConditionHost=|1\n", true, "");
	/* Assertions are another question. */
	expect_met("AssertHost=0\nAssertHost=|0\n", true, "");
}

static int look(enum condition_kind kind, const char *value)
{
	char path[256];
	struct condition c = {.kind = kind, .value = path};

	if (value[0] == '/' && strncmp(value, "/proc", 5) != 0 && strcmp(value, "/") != 0)
		(void)snprintf(path, sizeof(path), "%s%s", root.directory, value);
	else
		(void)snprintf(path, sizeof(path), "%s", value);
	return check_one(&c, NULL);
}

static void looks_at_paths(void **state)
{
	(void)state;
	own_root_write(&root, "full/file", "x", 1);
	own_root_write(&root, "none", "", 0);
	assert_int_equal(mkdirat(root.fd, "empty", 0755), 0);
	assert_int_equal(symlinkat("full", root.fd, "link"), 0);
	assert_int_equal(symlinkat("nowhere", root.fd, "broken"), 0);
	assert_int_equal(symlinkat("loop", root.fd, "loop"), 0);
	own_root_write(&root, "program", "x", 1);
	assert_int_equal(fchmodat(root.fd, "program", 0755, 0), 0);

	static const struct {
		enum condition_kind kind;
		const char *path;
		int expected;
	} cases[] = {
		{CONDITION_PATH_EXISTS, "/full", 1},
		{CONDITION_PATH_EXISTS, "/nowhere", 0},
		{CONDITION_PATH_EXISTS, "/none/below", 0},
		{CONDITION_PATH_EXISTS, "/broken", 0},
		{CONDITION_PATH_EXISTS, "/loop", -ELOOP},
		{CONDITION_PATH_EXISTS_GLOB, "/f*/f?le", 1},
		{CONDITION_PATH_EXISTS_GLOB, "/{nowhere,empty}", 1},
		{CONDITION_PATH_EXISTS_GLOB, "/x*", 0},
		{CONDITION_PATH_IS_DIRECTORY, "/link", 1},
		{CONDITION_PATH_IS_DIRECTORY, "/none", 0},
		{CONDITION_PATH_IS_DIRECTORY, "/nowhere", 0},
		{CONDITION_PATH_IS_SYMBOLIC_LINK, "/broken", 1},
		{CONDITION_PATH_IS_SYMBOLIC_LINK, "/full", 0},
		{CONDITION_PATH_IS_SYMBOLIC_LINK, "/nowhere", 0},
		{CONDITION_PATH_IS_MOUNT_POINT, "/proc", 1},
		{CONDITION_PATH_IS_MOUNT_POINT, "/full", 0},
		{CONDITION_PATH_IS_MOUNT_POINT, "/nowhere", 0},
		{CONDITION_PATH_IS_READ_WRITE, "/full", 1},
		{CONDITION_PATH_IS_READ_WRITE, "/nowhere", 0},
		{CONDITION_DIRECTORY_NOT_EMPTY, "/full", 1},
		{CONDITION_DIRECTORY_NOT_EMPTY, "/empty", 0},
		{CONDITION_DIRECTORY_NOT_EMPTY, "/none", 0},
		{CONDITION_DIRECTORY_NOT_EMPTY, "/nowhere", 0},
		{CONDITION_FILE_NOT_EMPTY, "/full/file", 1},
		{CONDITION_FILE_NOT_EMPTY, "/none", 0},
		{CONDITION_FILE_NOT_EMPTY, "/full", 0},
		{CONDITION_FILE_IS_EXECUTABLE, "/program", 1},
		{CONDITION_FILE_IS_EXECUTABLE, "/full/file", 0},
		{CONDITION_FILE_IS_EXECUTABLE, "/full", 0},
		{CONDITION_FILE_IS_EXECUTABLE, "/nowhere", 0},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int r = look(cases[i].kind, cases[i].path);
		if (r != cases[i].expected)
			fail_msg("%s of %s: %d", condition_kind_name(cases[i].kind), cases[i].path,
				r);
	}
}

static void looks_at_the_system(void **state)
{
	char line[8192], word[1024], name[256];

	(void)state;
	assert_int_equal(look(CONDITION_USER, "root"), 1);
	assert_int_equal(look(CONDITION_USER, "0"), 1);
	assert_int_equal(look(CONDITION_USER, "@system"), 1);
	assert_int_equal(look(CONDITION_USER, "nobody"), 0);
	assert_int_equal(look(CONDITION_USER, "no-such-user"), 0);
	assert_int_equal(look(CONDITION_GROUP, "root"), 1);
	assert_int_equal(look(CONDITION_GROUP, "1"), 0);
	assert_int_equal(look(CONDITION_ARCHITECTURE, "native"), 1);
#if defined(__x86_64__)
	assert_int_equal(look(CONDITION_ARCHITECTURE, "x86-64"), 1);
	assert_int_equal(look(CONDITION_ARCHITECTURE, "arm64"), 0);
#elif defined(__aarch64__)
	assert_int_equal(look(CONDITION_ARCHITECTURE, "arm64"), 1);
	assert_int_equal(look(CONDITION_ARCHITECTURE, "x86-64"), 0);
#endif
	assert_int_equal(gethostname(name, sizeof(name)), 0);
	assert_int_equal(look(CONDITION_HOST, name), 1);
	assert_int_equal(look(CONDITION_HOST, "*"), 1);
	assert_int_equal(look(CONDITION_HOST, "no-such-host"), 0);
	assert_int_equal(look(CONDITION_HOST, "00112233445566778899aabbccddeeff"), 0);
	assert_int_equal(look(CONDITION_CAPABILITY, "CAP_KILL"), 1);
	assert_int_equal(look(CONDITION_CAPABILITY, "CAP_NONSENSE"), -EINVAL);
	assert_int_equal(look(CONDITION_SECURITY, "nonsense"), -EINVAL);
	static const char *const MODELS[] = {"apparmor", "selinux", "smack", "tomoyo", "ima",
		"audit", "uefi-secureboot", "tpm2"};
	for (size_t i = 0; i < sizeof(MODELS) / sizeof(MODELS[0]); i++)
		assert_in_range(look(CONDITION_SECURITY, MODELS[i]), 0, 1);
	assert_int_equal(
		look(CONDITION_VIRTUALIZATION, "yes") + look(CONDITION_VIRTUALIZATION, "no"), 1);
	assert_int_equal(look(CONDITION_AC_POWER, "yes") + look(CONDITION_AC_POWER, "no"), 1);

	int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	ssize_t n = read(fd, line, sizeof(line) - 1);
	assert_true(n >= 0 && close(fd) == 0);
	line[n] = '\0';
	assert_int_equal(look(CONDITION_KERNEL_COMMAND_LINE, "no.such.word"), 0);
	/* Without quotes, that is the first word as the kernel has it; and the name of it. */
	if (sscanf(line, "%1023s", word) == 1 && !strchr(word, '"')) {
		assert_int_equal(look(CONDITION_KERNEL_COMMAND_LINE, word), 1);
		size_t length = strcspn(word, "=");
		if (word[length] == '=') {
			word[length] = '\0';
			assert_int_equal(look(CONDITION_KERNEL_COMMAND_LINE, word), 1);
			(void)strcpy(word + length, "=another");
			assert_int_equal(look(CONDITION_KERNEL_COMMAND_LINE, word), 0);
		}
		word[length > 1 ? length - 1 : 1] = '\0'; /* a part of a word is none */
		if (length > 1)
			assert_int_equal(look(CONDITION_KERNEL_COMMAND_LINE, word), 0);
	}
}

static void knows_hypervisors(void **state)
{
	(void)state;
	assert_string_equal(virtualization_of_dmi("KVM\n"), "kvm");
	assert_string_equal(virtualization_of_dmi("QEMU\n"), "qemu");
	assert_string_equal(virtualization_of_dmi("VMware, Inc.\n"), "vmware");
	assert_string_equal(virtualization_of_dmi("innotek GmbH\n"), "oracle");
	assert_null(virtualization_of_dmi("LENOVO\n"));
	assert_null(virtualization_of_dmi(""));
	assert_string_equal(virtualization_of_signature("KVMKVMKVM"), "kvm");
	assert_string_equal(virtualization_of_signature("TCGTCGTCGTCG"), "qemu");
	assert_string_equal(virtualization_of_signature("Microsoft Hv"), "microsoft");
	assert_null(virtualization_of_signature(""));

	struct virtualization hardware = {0}, guest = {.machine = "kvm"},
			      both = {.machine = "kvm", .container = "lxc"};
	assert_false(virtualization_is(&hardware, "vm") || virtualization_is(&hardware, "kvm"));
	assert_true(virtualization_is(&guest, "vm") && virtualization_is(&guest, "kvm"));
	assert_false(virtualization_is(&guest, "container") || virtualization_is(&guest, "qemu"));
	assert_true(virtualization_is(&both, "container") && virtualization_is(&both, "lxc"));
	assert_false(virtualization_is(&both, "vm") || virtualization_is(&both, "kvm"));
}

/* A supply as sysfs has it: "FILE=TEXT" words. */
static void supply(const char *name, const char *type, const char *file, const char *text)
{
	char path[128];

	(void)snprintf(path, sizeof(path), "%s/type", name);
	own_root_write(&root, path, type, strlen(type));
	if (!file)
		return;
	(void)snprintf(path, sizeof(path), "%s/%s", name, file);
	own_root_write(&root, path, text, strlen(text));
}

static void tells_mains_from_battery(void **state)
{
	(void)state;
	assert_true(power_supply_is_mains("/nowhere"));
	assert_true(power_supply_is_mains(root.directory)); /* a machine without any */
	supply("mouse", "Battery\n", "status", "Discharging\n");
	own_root_write(&root, "mouse/scope", "Device\n", 7);
	assert_true(power_supply_is_mains(root.directory));
	supply("usb", "USB\n", "online", "0\n");
	assert_true(power_supply_is_mains(root.directory));
	supply("BAT0", "Battery\n", "status", "Full\n");
	assert_true(power_supply_is_mains(root.directory));
	supply("BAT0", "Battery\n", "status", "Discharging\n");
	assert_false(power_supply_is_mains(root.directory));
	supply("usb", "USB\n", "online", "1\n");
	assert_true(power_supply_is_mains(root.directory));
	supply("usb", "USB\n", "online", "0\n");
	supply("AC", "Mains\n", "online", "1\n");
	assert_true(power_supply_is_mains(root.directory));
	supply("BAT0", "Battery\n", "status", "Charging\n");
	supply("AC", "Mains\n", "online", "0\n");
	assert_false(power_supply_is_mains(root.directory));
}

static void reads_exit_sets(void **state)
{
	(void)state;
	struct unit *u =
		unit_of(START "SuccessExitStatus=3 TEMPFAIL SIGKILL\nSuccessExitStatus=250 HUP\n"
			      "RestartPreventExitStatus=255\nRestartPreventExitStatus=\n"
			      "RestartPreventExitStatus=64 RTMIN+1\n");
	const struct exit_set *s = &u->success;

	assert_true(exit_set_has(s, false, 3) && exit_set_has(s, false, 75) &&
		    exit_set_has(s, false, 250));
	assert_true(exit_set_has(s, true, SIGKILL) && exit_set_has(s, true, SIGHUP));
	/* A code is no signal of that number. */
	assert_false(exit_set_has(s, true, 3) || exit_set_has(s, false, SIGKILL));
	assert_false(exit_set_has(s, false, 0) || exit_set_has(s, false, 4));
	assert_false(exit_set_has(s, false, -1) || exit_set_has(s, false, 256) ||
		     exit_set_has(s, true, 0) || exit_set_has(s, true, 65));
	assert_true(exit_set_has(&u->restart_prevent, false, 64) &&
		    exit_set_has(&u->restart_prevent, true, SIGRTMIN + 1));
	assert_false(exit_set_has(&u->restart_prevent, false, 255));
	unit_free(u);
}

static void dynamic_user_is_never_root(void **state)
{
	(void)state;
	struct unit *u = unit_of(START "DynamicUser=yes\n");
	assert_string_equal(u->user, "x");
	unit_free(u);
	u = unit_of(START "DynamicUser=yes\nUser=y\n");
	assert_string_equal(u->user, "y");
	unit_free(u);
	u = unit_of(START "DynamicUser=no\n");
	assert_null(u->user);
	unit_free(u);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_prefixes),
		cmocka_unit_test(every_kind_has_both_keys),
		cmocka_unit_test(an_empty_one_forgets_those_of_its_sort),
		cmocka_unit_test(refuses),
		cmocka_unit_test(are_put_together),
		cmocka_unit_test_setup_teardown(looks_at_paths, make_root, remove_root),
		cmocka_unit_test(looks_at_the_system),
		cmocka_unit_test(knows_hypervisors),
		cmocka_unit_test_setup_teardown(tells_mains_from_battery, make_root, remove_root),
		cmocka_unit_test(reads_exit_sets),
		cmocka_unit_test(dynamic_user_is_never_root),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
