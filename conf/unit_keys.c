/* SPDX-License-Identifier: MIT */
/* The keys of a service file. */
#include <stddef.h>

#include "conf/ini.h"
#include "conf/keys.h"
#include "conf/unit_internal.h"
#include "conf/unit_values.h"

#define KEY(section, name, parse, member)                                 \
	{                                                                 \
		section, name, parse, offsetof(struct unit, member), NULL \
	}
#define ENUM(section, name, parse, member, names)                          \
	{                                                                  \
		section, name, parse, offsetof(struct unit, member), names \
	}

static const struct key unit_keys[] = {
	KEY("Unit", "Description", key_parse_text, description),
	KEY("Unit", "After", key_parse_units, after),
	KEY("Unit", "Before", key_parse_units, before),
	KEY("Unit", "Requires", key_parse_units, requires),
	KEY("Unit", "Wants", key_parse_units, wants),

	ENUM("Service", "Type", value_type, type, SERVICE_TYPE_NAMES),
	KEY("Service", "ExecStartPre", value_commands, exec_start_pre),
	KEY("Service", "ExecStart", value_commands, exec_start),
	KEY("Service", "ExecStartPost", value_commands, exec_start_post),
	KEY("Service", "ExecReload", value_commands, exec_reload),
	KEY("Service", "ExecStop", value_commands, exec_stop),
	KEY("Service", "ExecStopPost", value_commands, exec_stop_post),
	KEY("Service", "PIDFile", value_pid_file, pid_file),
	KEY("Service", "RemainAfterExit", key_parse_bool, remain_after_exit),
	ENUM("Service", "Restart", key_parse_enum, restart, RESTART_WHEN_NAMES),
	KEY("Service", "RestartSec", key_parse_delay, restart_usec),
	KEY("Service", "TimeoutStartSec", value_timeout_start, timeout_start_usec),
	KEY("Service", "TimeoutStopSec", value_timeout_stop, timeout_stop_usec),
	KEY("Service", "TimeoutSec", value_timeout_both, timeout_start_usec),
	ENUM("Service", "NotifyAccess", key_parse_enum, notify_access, NOTIFY_ACCESS_NAMES),
	KEY("Service", "WatchdogSec", value_watchdog, watchdog_usec),
	KEY("Service", "WatchdogSignal", key_parse_signal, watchdog_signal),
	KEY("Service", "ReloadSignal", key_parse_signal, reload_signal),
	KEY("Service", "FileDescriptorStoreMax", value_fd_store_max, fd_store_max),
	ENUM("Service", "FileDescriptorStorePreserve", key_parse_enum, fd_store_preserve,
		FD_STORE_PRESERVE_NAMES),
	KEY("Service", "KillSignal", key_parse_signal, kill_signal),
	ENUM("Service", "KillMode", key_parse_enum, kill_mode, KILL_MODE_NAMES),
	KEY("Service", "User", value_user, user),
	KEY("Service", "Group", value_user, group),
	KEY("Service", "Environment", value_environment, environment),
	KEY("Service", "EnvironmentFile", value_environment_file, environment_files),
	KEY("Service", "WorkingDirectory", value_working_directory, working_directory),
	KEY("Service", "RuntimeDirectory", value_directory, runtime_directory),
	KEY("Service", "StateDirectory", value_directory, state_directory),
	KEY("Service", "UMask", value_umask, umask),
	KEY("Service", "LimitNOFILE", value_limit, limit_nofile),
	KEY("Service", "OOMScoreAdjust", value_oom_score, oom_score_adjust),
	KEY("Service", "UtmpIdentifier", key_parse_text, utmp_line),

	KEY("Socket", "Listen", value_listen, listen),
	KEY("Socket", "ListenStream", value_listen, listen), /* systemd's name for it */
	KEY("Socket", "FileDescriptorName", value_fd_name, fd_name),

	ENUM("Upgrade", "Policy", value_policy, policy, UPGRADE_POLICY_NAMES),
	KEY("Upgrade", "ReexecSignal", key_parse_signal, reexec_signal),
	KEY("Upgrade", "ReexecFinishSignal", key_parse_signal, reexec_finish_signal),
	KEY("Upgrade", "ReadyTimeoutSec", key_parse_deadline, ready_timeout_usec),
	KEY("Upgrade", "Handshake", key_parse_bool, handshake),
	KEY("Upgrade", "PrepareTimeoutSec", key_parse_deadline, prepare_timeout_usec),
	KEY("Upgrade", "SystemStorage", key_parse_bool, system_storage),
	{NULL, NULL, NULL, 0, NULL},
};

/* What nobody misses: descriptions, and what only `systemctl enable` reads. */
static const struct ignored_key unit_ignored_keys[] = {
	{"Unit", "Documentation"},
	{"Unit", "SourcePath"},
	/* There are no default dependencies here, and no default targets they would order against.
	 */
	{"Unit", "DefaultDependencies"},
	{"Install", NULL},
	{NULL, NULL},
};

struct text_context {
	struct unit *unit;
	const char *source;
	unit_warn warn;
	void *userdata;
};

static int apply_entry(void *userdata, const struct ini_entry *entry, struct error *e)
{
	const struct text_context *c = userdata;
	struct key_site site = {
		.source = c->source,
		.line = entry->line,
		.section = entry->section,
		.key = entry->key,
		.unit_name = c->unit->name,
		.target = c->unit,
		.warn = c->warn,
		.userdata = c->userdata,
	};

	return keys_apply(unit_keys, unit_ignored_keys, &site, entry->value, e);
}

int unit_apply_text(struct unit *u, const char *source, const char *text, size_t length,
	unit_warn warn, void *userdata, struct error *e)
{
	struct text_context c = {.unit = u, .source = source, .warn = warn, .userdata = userdata};

	return ini_read(source, text, length, apply_entry, &c, e);
}
