/* SPDX-License-Identifier: MIT */
#include "conf/system.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "conf/files.h"
#include "conf/ini.h"
#include "conf/keys.h"
#include "conf/words.h"
#include "kernel/util.h"

#define DIRECTORY "/etc/molt"
#define FILE_NAME "init.conf"
#define SECONDS(n) (UINT64_C(1000000) * (n))
#define UNUSED __attribute__((unused))

/* A path there must be: an empty value does not take the default away. */
static int parse_needed_path(const struct key_site *site, const char *text, void *field,
	const void *argument, struct error *e)
{
	if (text[0] == '\0')
		return error_say(e, -EINVAL, "no path");
	return key_parse_path(site, text, field, argument, e);
}

/* hostname(7): letters, digits, hyphens and dots, up to 64 characters as Linux has it. */
static int parse_hostname(const struct key_site *site, const char *text, void *field,
	const void *argument, struct error *e)
{
	size_t length = strlen(text);

	if (length > 64 || text[0] == '-' || text[0] == '.' ||
		strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.") !=
			length)
		return error_say(e, -EINVAL, "not a host name");
	return key_parse_text(site, text, field, argument, e);
}

/* One word, as in fstab(5); nothing is "rw", as mount(8) has it. */
static int parse_mount_options(const struct key_site *site, const char *text, void *field,
	const void *argument, struct error *e)
{
	if (strpbrk(text, " \t"))
		return error_say(e, -EINVAL, "mount options are separated by commas alone");
	return key_parse_text(site, text[0] ? text : "rw", field, argument, e);
}

/* Each path has one name only, so that two that mean the same file are seen to. */
static int append_carried(char *word, char ***list, struct error *e)
{
	size_t length = strlen(word);

	while (length > 1 && word[length - 1] == '/')
		word[--length] = '\0';
	if (word[0] != '/' || length < 2)
		return error_say(e, -EINVAL, "\"%s\" is no absolute path of a file", word);
	if (strstr(word, "//") || strstr(word, "/./") || strstr(word, "/../") ||
		ends_with(word, "/.") || ends_with(word, "/.."))
		return error_say(e, -EINVAL, "\"%s\" has //, . or .. in it", word);
	return key_append(list, word, e);
}

static int parse_carry(UNUSED const struct key_site *site, const char *text, void *field,
	UNUSED const void *argument, struct error *e)
{
	char ***list = field;
	int r;

	if (text[0] == '\0') {
		strings_free(*list);
		*list = NULL;
	}
	for (;;) {
		CLEANUP_FREE char *word = NULL;
		r = word_next(&text, WORD_KEEP_BACKSLASH, &word);
		if (r == -EINVAL)
			return error_say(e, r, "a quote is not closed");
		if (r <= 0)
			return r < 0 ? key_no_memory(e) : 0;
		r = append_carried(word, list, e);
		if (r < 0)
			return r;
	}
}

/* 0: none. A blackout takes two seconds, and it is pinged at half of its time. */
static int parse_watchdog(const struct key_site *site, const char *text, void *field,
	const void *argument, struct error *e)
{
	uint64_t usec;
	int r = key_parse_delay(site, text, &usec, argument, e);

	if (r == 0 && usec > 0 && usec < SECONDS(10))
		return error_say(e, -EINVAL, "must be 10 s or more, or 0");
	if (r == 0)
		*(uint64_t *)field = usec;
	return r;
}

static const char *const CTRL_ALT_DEL_NAMES[] = {"ignore", "reboot", "poweroff", "halt", NULL};

static const char *const RESCUE_LOGIN_NAMES[] = {
	[RESCUE_LOGIN_AUTO] = "auto", [RESCUE_LOGIN_YES] = "yes", [RESCUE_LOGIN_NO] = "no", NULL};

static void forget_list(char ***list, bool *automatic)
{
	strings_free(*list);
	*list = NULL;
	*automatic = false;
}

static int parse_device_services(const struct key_site *site, const char *text, UNUSED void *field,
	UNUSED const void *argument, struct error *e)
{
	struct system_conf *c = site->target;
	bool is_auto = strcmp(text, "auto") == 0;

	if (is_auto || c->device_services_auto || strcmp(text, "no") == 0)
		forget_list(&c->device_services, &c->device_services_auto);
	c->device_services_auto = is_auto;
	if (is_auto || strcmp(text, "no") == 0)
		return 0;
	return key_parse_units(site, text, &c->device_services, NULL, e);
}

/* A terminal below /dev, as the instance of a unit is named. */
static int append_terminal(const char *word, char ***list, struct error *e)
{
	const char *name = starts_with(word, "/dev/") ? word + strlen("/dev/") : word;

	if (name[0] == '\0' || strlen(name) > 64 || strpbrk(name, "/@%\\") || name[0] == '.')
		return error_say(e, -EINVAL, "\"%s\" is no terminal's name, such as tty1", word);
	return strings_contain(*list, name) ? 0 : key_append(list, name, e);
}

static int append_terminals(const char *text, char ***list, struct error *e)
{
	for (;;) {
		CLEANUP_FREE char *word = NULL;
		int r = word_next(&text, WORD_KEEP_BACKSLASH, &word);
		if (r == -EINVAL)
			return error_say(e, r, "a quote is not closed");
		if (r <= 0)
			return r < 0 ? key_no_memory(e) : 0;
		r = append_terminal(word, list, e);
		if (r < 0)
			return r;
	}
}

static int parse_gettys(const struct key_site *site, const char *text, UNUSED void *field,
	UNUSED const void *argument, struct error *e)
{
	struct system_conf *c = site->target;
	bool is_auto = strcmp(text, "auto") == 0, is_none = strcmp(text, "no") == 0;

	if (is_auto || is_none || text[0] == '\0' || c->gettys_auto)
		forget_list(&c->gettys, &c->gettys_auto);
	c->gettys_auto = is_auto;
	return is_auto || is_none ? 0 : append_terminals(text, &c->gettys, e);
}

#define KEY(section, name, parse, member)                                        \
	{                                                                        \
		section, name, parse, offsetof(struct system_conf, member), NULL \
	}

static const struct key system_keys[] = {
	KEY("Boot", "Services", key_parse_units, services),
	KEY("Boot", "Hostname", parse_hostname, hostname),
	KEY("Boot", "Console", parse_needed_path, console),
	KEY("Boot", "RescueShell", parse_needed_path, rescue_shell),
	{"Boot", "RescueLogin", key_parse_enum, offsetof(struct system_conf, rescue_login),
		RESCUE_LOGIN_NAMES},
	KEY("Boot", "Debug", key_parse_bool, debug),
	KEY("Boot", "DeviceServices", parse_device_services, device_services),
	KEY("Boot", "DeviceTimeoutSec", key_parse_deadline, device_timeout_usec),
	KEY("Boot", "Gettys", parse_gettys, gettys),

	KEY("Manager", "LogDirectory", parse_needed_path, log_directory),
	KEY("Manager", "LogMaxSize", key_parse_size, log_max_bytes),
	{"Manager", "CtrlAltDel", key_parse_enum, offsetof(struct system_conf, ctrl_alt_del),
		CTRL_ALT_DEL_NAMES},
	KEY("Manager", "CrashLoopSec", key_parse_delay, crash_loop_usec),
	KEY("Manager", "DefaultTimeoutStopSec", key_parse_timeout, stop_timeout_usec),
	KEY("Manager", "DefaultTimeoutStartSec", key_parse_timeout, start_timeout_usec),
	KEY("Manager", "ShutdownTimeoutSec", key_parse_timeout, shutdown_timeout_usec),
	KEY("Manager", "ShutdownDeadlineSec", key_parse_deadline, shutdown_deadline_usec),
	KEY("Manager", "WatchdogDevice", parse_needed_path, watchdog_device),
	KEY("Manager", "RuntimeWatchdogSec", parse_watchdog, runtime_watchdog_usec),
	KEY("Manager", "RebootWatchdogSec", parse_watchdog, reboot_watchdog_usec),
	KEY("Manager", "PowerFailCommand", key_parse_path, power_fail_command),

	KEY("Upgrade", "Carry", parse_carry, carry),
	KEY("Upgrade", "CarryDirectory", parse_needed_path, carry_directory),
	KEY("Upgrade", "MountOptions", parse_mount_options, mount_options),
	KEY("Upgrade", "FreezeTimeoutSec", key_parse_deadline, freeze_timeout_usec),
	KEY("Upgrade", "BlackoutTimeoutSec", key_parse_deadline, blackout_timeout_usec),
	KEY("Upgrade", "RetryTimeoutSec", key_parse_deadline, retry_timeout_usec),
	KEY("Upgrade", "CheckTimeoutSec", key_parse_deadline, check_timeout_usec),
	KEY("Upgrade", "ExecTimeoutSec", key_parse_deadline, exec_timeout_usec),
	KEY("Upgrade", "AutoCommit", key_parse_bool, auto_commit),
	KEY("Upgrade", "CommitTimeoutSec", key_parse_deadline, commit_timeout_usec),
	KEY("Upgrade", "HookTimeoutSec", key_parse_deadline, hook_timeout_usec),
	KEY("Upgrade", "RollbackWindowSec", key_parse_span, rollback_window_usec),
	{NULL, NULL, NULL, 0, NULL},
};

static const struct ignored_key system_ignored_keys[] = {{NULL, NULL}};

struct system_conf *system_conf_default(void)
{
	struct system_conf *c = malloc(sizeof(*c));
	if (!c)
		return NULL;

	*c = (struct system_conf){
		.console = strdup("/dev/console"),
		.rescue_shell = strdup("/bin/sh"),
		.log_directory = strdup("/var/log/molt"),
		.mount_options = strdup("ro"),
		.carry_directory = strdup("/var/lib/molt/carry"),
		.device_services_auto = true,
		.device_timeout_usec = SECONDS(30),
		.gettys_auto = true,
		.log_max_bytes = UINT64_C(10) << 20,
		.ctrl_alt_del = CTRL_ALT_DEL_REBOOT,
		.crash_loop_usec = SECONDS(10),
		.stop_timeout_usec = SECONDS(90),
		.start_timeout_usec = SECONDS(90),
		.shutdown_timeout_usec = SECONDS(180),
		.shutdown_deadline_usec = SECONDS(300),
		.watchdog_device = strdup("/dev/watchdog"),
		.reboot_watchdog_usec = SECONDS(600),
		.freeze_timeout_usec = SECONDS(1),
		.blackout_timeout_usec = SECONDS(2),
		.retry_timeout_usec = SECONDS(5),
		.check_timeout_usec = SECONDS(30),
		.exec_timeout_usec = SECONDS(10),
		.auto_commit = true,
		.commit_timeout_usec = SECONDS(600),
		.hook_timeout_usec = SECONDS(90),
		.rollback_window_usec = SECONDS(600),
	};
	if (strings_ensure(&c->services) < 0 || strings_ensure(&c->device_services) < 0 ||
		strings_ensure(&c->gettys) < 0 || !c->console || !c->rescue_shell ||
		!c->log_directory || !c->mount_options || !c->carry_directory ||
		!c->watchdog_device || strings_ensure(&c->carry) < 0) {
		system_conf_free(c);
		return NULL;
	}
	return c;
}

void system_conf_free(struct system_conf *c)
{
	if (!c)
		return;
	strings_free(c->services);
	strings_free(c->device_services);
	strings_free(c->gettys);
	free(c->hostname);
	free(c->console);
	free(c->rescue_shell);
	free(c->log_directory);
	free(c->power_fail_command);
	free(c->watchdog_device);
	free(c->mount_options);
	strings_free(c->carry);
	free(c->carry_directory);
	free(c);
}

/* What system_conf_load() was called with, and what comes of it. */
struct loader {
	struct system_conf *conf;
	int root;
	const char *source; /* the file that is being read */
	unit_warn warn;
	void *userdata;
	struct error *error;
};

static int apply_entry(void *userdata, const struct ini_entry *entry, struct error *e)
{
	const struct loader *l = userdata;
	struct key_site site = {
		.source = l->source,
		.line = entry->line,
		.section = entry->section,
		.key = entry->key,
		.target = l->conf,
		.warn = l->warn,
		.userdata = l->userdata,
	};

	return keys_apply(system_keys, system_ignored_keys, &site, entry->value, e);
}

/* A file that is missing, or masked, says nothing. */
static int apply_file(struct loader *l, const char *path)
{
	char *text;
	size_t length;
	int r = conf_file_read(l->root, path, &text, &length, l->error);

	if (r == -ENOENT || r == -ERFKILL)
		return 0;
	if (r < 0)
		return r;
	l->source = path;
	r = ini_read(path, text, length, apply_entry, l, l->error);
	free(text);
	return r;
}

static int apply_dropins(struct loader *l)
{
	struct dropins list = {0};
	int r = dropins_collect(&list, l->root, DIRECTORY, FILE_NAME, l->error);

	dropins_sort(&list);
	for (size_t i = 0; r == 0 && i < list.count; i++)
		r = apply_file(l, list.items[i].path);
	dropins_done(&list);
	return r;
}

static int apply_all(struct loader *l)
{
	int r = apply_file(l, DIRECTORY "/" FILE_NAME);

	if (r == 0)
		r = apply_dropins(l);
	if (r == 0 && (strings_ensure(&l->conf->services) < 0 ||
			      strings_ensure(&l->conf->device_services) < 0 ||
			      strings_ensure(&l->conf->gettys) < 0 ||
			      strings_ensure(&l->conf->carry) < 0))
		r = error_set(l->error, -ENOMEM, "cannot read %s", DIRECTORY "/" FILE_NAME);
	return r;
}

int system_conf_load(
	struct system_conf **ret, int root, unit_warn warn, void *userdata, struct error *e)
{
	struct loader l = {.conf = system_conf_default(),
		.root = root,
		.warn = warn,
		.userdata = userdata,
		.error = e};
	if (!l.conf)
		return error_set(e, -ENOMEM, "cannot read %s", DIRECTORY "/" FILE_NAME);

	int r = apply_all(&l);
	if (r < 0) {
		system_conf_free(l.conf);
		return r;
	}
	*ret = l.conf;
	return 0;
}
