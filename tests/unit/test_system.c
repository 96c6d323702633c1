/* SPDX-License-Identifier: MIT */
#include "tests/unit/own_root.h"

#include "conf/system.h"
#include "tests/unit/heard.h"

#define SECOND UINT64_C(1000000)
#define MAIN "etc/molt/init.conf"
#define DROPIN(name) "etc/molt/init.conf.d/" name

struct world {
	struct own_root root;
	struct system_conf *conf;
	struct error error;
	struct heard warnings;
};

static int set_up(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	own_root_make(&w->root);
	*state = w;
	return 0;
}

static int tear_down(void **state)
{
	struct world *w = *state;

	system_conf_free(w->conf);
	own_root_remove(&w->root);
	free(w);
	return 0;
}

static void write_file(struct world *w, const char *name, const char *text)
{
	own_root_write(&w->root, name, text, strlen(text));
}

static int load(struct world *w)
{
	system_conf_free(w->conf);
	w->conf = NULL;
	w->error = (struct error){0};
	w->warnings = (struct heard){0};
	int r = system_conf_load(&w->conf, w->root.fd, hear, &w->warnings, &w->error);
	assert_true(r == 0 ? w->conf && !w->error.text[0] : !w->conf && w->error.text[0]);
	return r;
}

static void load_well(struct world *w)
{
	if (load(w) != 0)
		fail_msg("%s", w->error.text);
	assert_string_equal(w->warnings.text, "");
}

static void expect_defaults(const struct system_conf *c)
{
	assert_non_null(c);
	assert_non_null(c->services);
	assert_null(c->services[0]);
	assert_null(c->hostname);
	assert_true(c->device_services_auto && c->gettys_auto);
	assert_int_equal(c->rescue_login, RESCUE_LOGIN_AUTO);
	assert_null(c->device_services[0]);
	assert_null(c->gettys[0]);
	assert_true(c->device_timeout_usec == 30 * SECOND);
	assert_string_equal(c->console, "/dev/console");
	assert_string_equal(c->rescue_shell, "/bin/sh");
	assert_false(c->debug);
	assert_string_equal(c->log_directory, "/var/log/molt");
	assert_true(c->log_max_bytes == 10 << 20);
	assert_int_equal(c->ctrl_alt_del, CTRL_ALT_DEL_REBOOT);
	assert_true(c->shutdown_deadline_usec == 300 * SECOND);
	assert_null(c->power_fail_command);
	assert_string_equal(c->watchdog_device, "/dev/watchdog");
	assert_true(c->runtime_watchdog_usec == 0);
	assert_true(c->reboot_watchdog_usec == 600 * SECOND);
	assert_true(c->stop_timeout_usec == 90 * SECOND);
	assert_true(c->start_timeout_usec == 90 * SECOND);
	assert_true(c->shutdown_timeout_usec == 180 * SECOND);
	assert_true(c->freeze_timeout_usec == 1 * SECOND);
	assert_true(c->blackout_timeout_usec == 2 * SECOND);
	assert_true(c->retry_timeout_usec == 5 * SECOND);
	assert_true(c->check_timeout_usec == 30 * SECOND);
	assert_true(c->exec_timeout_usec == 10 * SECOND);
	assert_true(c->auto_commit);
	assert_string_equal(c->mount_options, "ro");
	assert_int_equal(strings_count(c->carry), 0);
	assert_string_equal(c->carry_directory, "/var/lib/molt/carry");
	assert_true(c->commit_timeout_usec == 600 * SECOND);
}

static void no_file_is_all_defaults(void **state)
{
	struct world *w = *state;
	struct system_conf *c = system_conf_default();

	expect_defaults(c);
	system_conf_free(c);
	system_conf_free(NULL);
	load_well(w);
	expect_defaults(w->conf);
	write_file(w, MAIN, "");
	load_well(w);
	expect_defaults(w->conf);
}

static void reads_every_key_of_boot(void **state)
{
	struct world *w = *state;

	write_file(w, MAIN,
		"[Boot]\nServices=a b@1.service\nServices=c.service\n"
		"Hostname=box-1.example\nConsole=/dev/ttyS0\nRescueShell=/bin/100%\nDebug=yes\n"
		"DeviceServices=x.service\nDeviceServices=auto\nDeviceServices=u\nDeviceServices=v@1\n"
		"RescueLogin=no\nDeviceTimeoutSec=7\nGettys=tty9\nGettys=no\nGettys=tty1 /dev/ttyS0\nGettys=tty1\n");
	load_well(w);
	const struct system_conf *c = w->conf;
	assert_int_equal(strings_count(c->services), 3);
	assert_string_equal(c->services[1], "b@1.service");
	assert_string_equal(c->services[2], "c.service");
	assert_string_equal(c->hostname, "box-1.example");
	assert_string_equal(c->console, "/dev/ttyS0");
	assert_string_equal(c->rescue_shell, "/bin/100%");
	assert_true(c->debug);
	assert_false(c->device_services_auto || c->gettys_auto);
	assert_int_equal(c->rescue_login, RESCUE_LOGIN_NO);
	assert_int_equal(strings_count(c->device_services), 2);
	assert_string_equal(c->device_services[0], "u.service");
	assert_string_equal(c->device_services[1], "v@1.service");
	assert_true(c->device_timeout_usec == 7 * SECOND);
	assert_int_equal(strings_count(c->gettys), 2);
	assert_string_equal(c->gettys[0], "tty1");
	assert_string_equal(c->gettys[1], "ttyS0");
}

static void reads_every_key_of_manager(void **state)
{
	struct world *w = *state;

	write_file(w, MAIN,
		"[Manager]\nLogDirectory=/run/log\nLogMaxSize=64K\nCtrlAltDel=halt\nShutdownDeadlineSec=77\nPowerFailCommand=/sbin/pf\nWatchdogDevice=/dev/wd1\nRuntimeWatchdogSec=10\nRebootWatchdogSec=0\n"
		"DefaultTimeoutStopSec=5\nDefaultTimeoutStartSec=0\nShutdownTimeoutSec=1min\n");
	load_well(w);
	const struct system_conf *c = w->conf;
	assert_string_equal(c->log_directory, "/run/log");
	assert_true(c->log_max_bytes == 64 << 10);
	assert_int_equal(c->ctrl_alt_del, CTRL_ALT_DEL_HALT);
	assert_true(c->shutdown_deadline_usec == 77 * SECOND);
	assert_string_equal(c->power_fail_command, "/sbin/pf");
	assert_string_equal(c->watchdog_device, "/dev/wd1");
	assert_true(c->runtime_watchdog_usec == 10 * SECOND);
	assert_true(c->reboot_watchdog_usec == 0);
	assert_true(c->stop_timeout_usec == 5 * SECOND);
	assert_true(c->start_timeout_usec == UNIT_USEC_INFINITY);
	assert_true(c->shutdown_timeout_usec == 60 * SECOND);
}

static void reads_every_key_of_upgrade(void **state)
{
	struct world *w = *state;

	write_file(w, MAIN,
		"[Upgrade]\nFreezeTimeoutSec=500ms\nBlackoutTimeoutSec=3\nRetryTimeoutSec=9\nCheckTimeoutSec=4\n"
		"ExecTimeoutSec=5\nAutoCommit=no\nCommitTimeoutSec=1h\nMountOptions=rw,noatime\n"
		"Carry=/lost\nCarry=\nCarry=/etc/a /etc/ssh/ \nCarry=\"/etc/b c\" /etc/x*\n"
		"CarryDirectory=/data/carry\n");
	load_well(w);
	const struct system_conf *c = w->conf;
	assert_true(c->freeze_timeout_usec == SECOND / 2);
	assert_true(c->blackout_timeout_usec == 3 * SECOND);
	assert_true(c->retry_timeout_usec == 9 * SECOND);
	assert_true(c->check_timeout_usec == 4 * SECOND);
	assert_true(c->exec_timeout_usec == 5 * SECOND);
	assert_false(c->auto_commit);
	assert_true(c->commit_timeout_usec == 3600 * SECOND);
	assert_string_equal(c->mount_options, "rw,noatime");
	assert_int_equal(strings_count(c->carry), 4);
	assert_string_equal(c->carry[0], "/etc/a");
	assert_string_equal(c->carry[1], "/etc/ssh");
	assert_string_equal(c->carry[2], "/etc/b c");
	assert_string_equal(c->carry[3], "/etc/x*");
	assert_string_equal(c->carry_directory, "/data/carry");
}

static void dropins_come_on_top(void **state)
{
	struct world *w = *state;

	write_file(w, MAIN, "[Boot]\nServices=a.service\nHostname=main\n");
	write_file(w, DROPIN("20.conf"), "[Boot]\nServices=c.service\nHostname=twenty\n");
	write_file(w, DROPIN("10.conf"), "[Boot]\nServices=b.service\nHostname=ten\n");
	write_file(w, DROPIN("30.txt"), "[Boot]\nHostname=txt\n");
	load_well(w);
	assert_string_equal(w->conf->hostname, "twenty");
	assert_int_equal(strings_count(w->conf->services), 3);
	assert_string_equal(w->conf->services[1], "b.service");
	write_file(w, DROPIN("40.conf"), "[Boot]\nServices=\nHostname=\n");
	load_well(w);
	assert_null(w->conf->services[0]);
	assert_null(w->conf->hostname);
	write_file(w, DROPIN("50.conf"), "[Boot]\nDebug=x\n");
	assert_int_equal(load(w), -EINVAL);
	assert_string_equal(
		w->error.text, "/etc/molt/init.conf.d/50.conf:2: Debug=x: not yes or no");
}

static void dropins_are_sorted(void **state)
{
	struct world *w = *state;
	static const char names[] = "dbfaecg";

	for (size_t i = 0; names[i]; i++) {
		char name[64], text[64];
		(void)snprintf(name, sizeof(name), DROPIN("%c.conf"), names[i]);
		(void)snprintf(text, sizeof(text), "[Boot]\nServices=%c.service\n", names[i]);
		write_file(w, name, text);
	}
	load_well(w);
	for (size_t i = 0; names[i]; i++)
		assert_int_equal(w->conf->services[i][0], 'a' + (int)i);
}

static void unknown_keys_warn(void **state)
{
	struct world *w = *state;

	write_file(
		w, MAIN, "[Boot]\nServces=a.service\nX-Note=1\n[Mangaer]\nDebug=yes\n[X-Y]\nA=b\n");
	assert_int_equal(load(w), 0);
	assert_string_equal(w->warnings.text,
		"/etc/molt/init.conf:2: Servces= in [Boot] is not supported, ignored\n"
		"/etc/molt/init.conf:5: Debug= in [Mangaer] is not supported, ignored\n");
	expect_defaults(w->conf);
}

struct refusal {
	const char *section, *line, *expected;
};

#define SPAN "not a time span such as 90, 500ms, \"1min 30s\" or infinity"
#define SIZE "not a size such as 65536, 64K, 10M or 1G"

static void check_refusals(struct world *w, const struct refusal *cases, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		char text[256], expected[512];
		(void)snprintf(text, sizeof(text), "[%s]\n%s\n", cases[i].section, cases[i].line);
		(void)snprintf(expected, sizeof(expected), "/etc/molt/init.conf:2: %s: %s",
			cases[i].line, cases[i].expected);
		write_file(w, MAIN, text);
		assert_int_equal(load(w), -EINVAL);
		assert_string_equal(w->error.text, expected);
	}
}

static void refuses_wrong_values_of_boot(void **state)
{
	static const struct refusal cases[] = {
		{"Boot", "Services=a/b.service",
			"a/b.service is not a unit's name such as x.service"},
		{"Boot", "Hostname=under_score", "not a host name"},
		{"Boot", "Hostname=-x", "not a host name"},
		{"Boot", "Hostname=.x", "not a host name"},
		{"Boot",
			"Hostname="
			"12345678901234567890123456789012345678901234567890123456789012345",
			"not a host name"},
		{"Boot", "Console=tty0", "not an absolute path"},
		{"Boot", "Console=%t", "not an absolute path"},
		{"Boot", "Console=", "no path"},
		{"Boot", "RescueShell=", "no path"},
		{"Boot", "Debug=maybe", "not yes or no"},
		{"Boot", "DeviceServices=a/b",
			"a/b.service is not a unit's name such as x.service"},
		{"Boot", "DeviceTimeoutSec=0", "must be more than 0"},
		{"Boot", "Gettys=tty1 a/b", "\"a/b\" is no terminal's name, such as tty1"},
	};

	check_refusals(*state, cases, sizeof(cases) / sizeof(cases[0]));
}

static void refuses_wrong_values_of_manager(void **state)
{
	static const struct refusal cases[] = {
		{"Manager", "LogDirectory=log", "not an absolute path"},
		{"Manager", "LogDirectory=", "no path"},
		{"Manager", "LogMaxSize=", SIZE},
		{"Manager", "LogMaxSize=0", SIZE},
		{"Manager", "LogMaxSize=M", SIZE},
		{"Manager", "LogMaxSize=10MB", SIZE},
		{"Manager", "LogMaxSize=10k", SIZE},
		{"Manager", "LogMaxSize=-1", SIZE},
		{"Manager", "LogMaxSize=9223372036854775807K", SIZE},
		{"Manager", "LogMaxSize=99999999999999999999999999", SIZE},
		{"Manager", "CtrlAltDel=kexec", "not one of ignore, reboot, poweroff, halt"},
		{"Manager", "ShutdownDeadlineSec=infinity", "must be finite"},
		{"Manager", "RuntimeWatchdogSec=9", "must be 10 s or more, or 0"},
		{"Manager", "PowerFailCommand=pf", "not an absolute path"},
		{"Manager", "DefaultTimeoutStopSec=x", SPAN},
		{"Manager", "DefaultTimeoutStartSec=-5", SPAN},
		{"Manager", "ShutdownTimeoutSec=", SPAN},
	};

	check_refusals(*state, cases, sizeof(cases) / sizeof(cases[0]));
}

static void refuses_wrong_values_of_upgrade(void **state)
{
	static const struct refusal cases[] = {
		{"Upgrade", "FreezeTimeoutSec=0", "must be more than 0"},
		{"Upgrade", "BlackoutTimeoutSec=infinity", "must be finite"},
		{"Upgrade", "CheckTimeoutSec=1 x", SPAN},
		{"Upgrade", "AutoCommit=", "not yes or no"},
		{"Upgrade", "CommitTimeoutSec=infinity", "must be finite"},
		{"Upgrade", "MountOptions=ro noatime",
			"mount options are separated by commas alone"},
		{"Upgrade", "CarryDirectory=", "no path"},
		{"Upgrade", "Carry=etc/a", "\"etc/a\" is no absolute path of a file"},
		{"Upgrade", "Carry=/", "\"/\" is no absolute path of a file"},
		{"Upgrade", "Carry=/etc//a", "\"/etc//a\" has //, . or .. in it"},
		{"Upgrade", "Carry=/etc/../a", "\"/etc/../a\" has //, . or .. in it"},
		{"Upgrade", "Carry=/etc/..", "\"/etc/..\" has //, . or .. in it"},
		{"Upgrade", "Carry=\"/etc/a", "a quote is not closed"},
	};

	check_refusals(*state, cases, sizeof(cases) / sizeof(cases[0]));
}

static void reads_sizes(void **state)
{
	struct world *w = *state;
	static const char *const texts[] = {"1", "1K", "3M", "2G", "1T", "8388607T"};
	static const uint64_t sizes[] = {
		1, 1024, 3 << 20, UINT64_C(2) << 30, UINT64_C(1) << 40, UINT64_C(8388607) << 40};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		char text[64];
		(void)snprintf(text, sizeof(text), "[Manager]\nLogMaxSize=%s\n", texts[i]);
		write_file(w, MAIN, text);
		load_well(w);
		assert_true(w->conf->log_max_bytes == sizes[i]);
	}
}

static void what_cannot_be_read_is_an_error(void **state)
{
	struct world *w = *state;

	own_root_make_parents(&w->root, DROPIN("x.conf"));
	assert_int_equal(mkfifoat(w->root.fd, MAIN, 0644), 0);
	assert_int_equal(load(w), -EINVAL);
	assert_string_equal(w->error.text, "cannot read /etc/molt/init.conf: not a regular file");
	assert_int_equal(unlinkat(w->root.fd, MAIN, 0), 0);
	assert_int_equal(mkfifoat(w->root.fd, DROPIN("x.conf"), 0644), 0);
	assert_int_equal(load(w), -EINVAL);
	assert_string_equal(
		w->error.text, "cannot read /etc/molt/init.conf.d/x.conf: not a regular file");
}

static void a_masked_file_says_nothing(void **state)
{
	struct world *w = *state;

	own_root_make_parents(&w->root, DROPIN("x.conf"));
	assert_int_equal(symlinkat("/dev/null", w->root.fd, MAIN), 0);
	assert_int_equal(symlinkat("/dev/null", w->root.fd, DROPIN("x.conf")), 0);
	load_well(w);
	expect_defaults(w->conf);
}

/* The example that ships: as it is, and with every key taken out of its comment. */
static void the_example_shows_the_defaults(void **state)
{
	struct world *w = *state;
	char text[8192], *out = text;
	char line[256];
	FILE *f = fopen("conf/init.conf", "re");

	if (!f)
		skip();
	while (fgets(line, sizeof(line), f)) {
		bool is_key =
			line[0] == '#' && line[1] >= 'A' && line[1] <= 'Z' && strchr(line, '=');
		bool is_list =
			strncmp(line, "#Services=", 10) == 0 || strncmp(line, "#Carry=", 7) == 0;
		out = stpcpy(out, is_key && !is_list ? line + 1 : line);
	}
	(void)fclose(f);
	write_file(w, MAIN, text);
	load_well(w);
	expect_defaults(w->conf);
	assert_non_null(strstr(text, "\nCommitTimeoutSec="));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(no_file_is_all_defaults),
		TEST(reads_every_key_of_boot),
		TEST(reads_every_key_of_manager),
		TEST(reads_every_key_of_upgrade),
		TEST(dropins_come_on_top),
		TEST(dropins_are_sorted),
		TEST(unknown_keys_warn),
		TEST(refuses_wrong_values_of_boot),
		TEST(refuses_wrong_values_of_manager),
		TEST(refuses_wrong_values_of_upgrade),
		TEST(reads_sizes),
		TEST(what_cannot_be_read_is_an_error),
		TEST(a_masked_file_says_nothing),
		TEST(the_example_shows_the_defaults),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
