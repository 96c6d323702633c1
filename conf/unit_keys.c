/* SPDX-License-Identifier: MIT */
/* The keys of a service file. */
#include <stddef.h>
#include <string.h>

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

#define DIRECTORY(name, kind)                                             \
	KEY("Service", name, value_directories, directories[kind].names), \
		KEY("Service", name "Mode", value_mode, directories[kind].mode)

static const enum listen_type datagram = LISTEN_DATAGRAM, seqpacket = LISTEN_SEQPACKET;

/* Of a .socket unit, and of the section of that name in a service's own file. */
/* clang-format off */
#define SOCKET_KEYS                                                                              \
	KEY("Socket", "ListenStream", value_listen, listen),                                     \
	{"Socket", "ListenDatagram", value_listen, offsetof(struct unit, listen), &datagram},    \
	{"Socket", "ListenSequentialPacket", value_listen, offsetof(struct unit, listen),        \
		&seqpacket},                                                                     \
	KEY("Socket", "FileDescriptorName", value_fd_name, socket.fd_name),                      \
	KEY("Socket", "SocketMode", value_mode, socket.mode),                                    \
	KEY("Socket", "SocketUser", value_user, socket.user),                                    \
	KEY("Socket", "SocketGroup", value_user, socket.group),                                  \
	KEY("Socket", "PassCredentials", key_parse_bool, socket.pass_credentials),               \
	KEY("Socket", "Symlinks", value_paths, socket.links)
/* clang-format on */

/* Whether it is to be started at all. The argument is the kind. */
#define CONDITION(kind)                                                                         \
	{"Unit", "Condition" kind, value_condition, offsetof(struct unit, conditions), kind},   \
	{                                                                                       \
		"Unit", "Assert" kind, value_condition, offsetof(struct unit, conditions), kind \
	}

static const struct key unit_keys[] = {
	KEY("Unit", "Description", key_parse_text, description),
	KEY("Unit", "After", key_parse_units, after),
	KEY("Unit", "Before", key_parse_units, before),
	KEY("Unit", "Requires", key_parse_units, requires),
	KEY("Unit", "Wants", key_parse_units, wants),
	KEY("Unit", "RequiresMountsFor", value_paths, mounts_for),
	CONDITION("PathExists"),
	CONDITION("PathExistsGlob"),
	CONDITION("PathIsDirectory"),
	CONDITION("PathIsSymbolicLink"),
	CONDITION("PathIsMountPoint"),
	CONDITION("PathIsReadWrite"),
	CONDITION("DirectoryNotEmpty"),
	CONDITION("FileNotEmpty"),
	CONDITION("FileIsExecutable"),
	CONDITION("Virtualization"),
	CONDITION("KernelCommandLine"),
	CONDITION("ACPower"),
	CONDITION("Capability"),
	CONDITION("FirstBoot"),
	CONDITION("User"),
	CONDITION("Group"),
	CONDITION("Security"),
	CONDITION("Host"),
	CONDITION("Architecture"),

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
	KEY("Service", "SuccessExitStatus", value_exit_set, success),
	KEY("Service", "RestartPreventExitStatus", value_exit_set, restart_prevent),
	KEY("Service", "RestartForceExitStatus", value_exit_set, restart_force),
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
	KEY("Service", "SupplementaryGroups", value_groups, groups),
	KEY("Service", "DynamicUser", key_parse_bool, dynamic_user),
	KEY("Service", "Environment", value_environment, environment),
	KEY("Service", "EnvironmentFile", value_environment_file, environment_files),
	KEY("Service", "WorkingDirectory", value_working_directory, working_directory),
	DIRECTORY("RuntimeDirectory", DIRECTORY_RUNTIME),
	DIRECTORY("StateDirectory", DIRECTORY_STATE),
	DIRECTORY("CacheDirectory", DIRECTORY_CACHE),
	DIRECTORY("LogsDirectory", DIRECTORY_LOGS),
	DIRECTORY("ConfigurationDirectory", DIRECTORY_CONFIGURATION),
	KEY("Service", "AmbientCapabilities", value_capabilities, ambient),
	KEY("Service", "NonBlocking", key_parse_bool, non_blocking),
	KEY("Service", "Sockets", key_parse_units, socket_units),
	KEY("Service", "UMask", value_umask, umask),
	KEY("Service", "IgnoreSIGPIPE", key_parse_bool, ignore_sigpipe),
	KEY("Service", "LimitNOFILE", value_limit, limit_nofile),
	KEY("Service", "Nice", value_nice, nice),
	KEY("Service", "OOMScoreAdjust", value_oom_score, oom_score_adjust),
	KEY("Service", "UtmpIdentifier", key_parse_text, utmp_line),

	SOCKET_KEYS,
	KEY("Socket", "Listen", value_listen, listen), /* our name for ListenStream= */

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
	/* They stay as they are over every restart, whatever it says. */
	{"Service", "RuntimeDirectoryPreserve"},
	{"Install", NULL},
	{NULL, NULL},
};

static const struct key socket_unit_keys[] = {
	SOCKET_KEYS,
	KEY("Socket", "Service", key_parse_text, socket.service),
	KEY("Socket", "Accept", key_parse_bool, socket.accept),
	KEY("Socket", "ListenFIFO", value_odd_listen, socket.odd),
	KEY("Socket", "ListenSpecial", value_odd_listen, socket.odd),
	KEY("Socket", "ListenNetlink", value_odd_listen, socket.odd),
	KEY("Socket", "ListenMessageQueue", value_odd_listen, socket.odd),
	KEY("Socket", "ListenUSBFunction", value_odd_listen, socket.odd),
	{NULL, NULL, NULL, 0, NULL},
};

/* A socket of ours is always there, and nothing is ordered around it. */
static const struct ignored_key socket_unit_ignored_keys[] = {
	{"Unit", NULL},
	{"Install", NULL},
	{NULL, NULL},
};

struct text_context {
	const struct key *keys;
	const struct ignored_key *ignored;
	struct unit *unit;
	const char *source;
	unit_warn warn;
	void *userdata;
};

/* Many files have a dozen of them: they are told in one warning, not in a dozen each time. */
static const char *const sandbox_keys[] = {"CapabilityBoundingSet", "DeviceAllow", "DevicePolicy",
	"ExecPaths", "InaccessiblePaths", "IPAddressAllow", "IPAddressDeny", "KeyringMode",
	"LockPersonality", "MemoryDenyWriteExecute", "NoExecPaths", "NoNewPrivileges",
	"PrivateDevices", "PrivateIPC", "PrivateMounts", "PrivateNetwork", "PrivatePIDs",
	"PrivateTmp", "PrivateUsers", "ProcSubset", "ProtectClock", "ProtectControlGroups",
	"ProtectHome", "ProtectHostname", "ProtectKernelLogs", "ProtectKernelModules",
	"ProtectKernelTunables", "ProtectProc", "ProtectSystem", "ReadOnlyPaths", "ReadWritePaths",
	"RemoveIPC", "RestrictAddressFamilies", "RestrictFileSystems", "RestrictNamespaces",
	"RestrictNetworkInterfaces", "RestrictRealtime", "RestrictSUIDSGID", "SecureBits",
	"SystemCallArchitectures", "SystemCallErrorNumber", "SystemCallFilter", "SystemCallLog",
	"TemporaryFileSystem", NULL};

static bool is_sandbox(const struct ini_entry *entry)
{
	if (strcmp(entry->section, "Service") != 0)
		return false;
	for (const char *const *key = sandbox_keys; *key; key++)
		if (strcmp(*key, entry->key) == 0)
			return true;
	return false;
}

static int note_sandbox(struct unit *u, const char *key, struct error *e)
{
	return strings_contain(u->sandbox, key) ? 0 : key_append(&u->sandbox, key, e);
}

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

	if (c->keys == unit_keys && is_sandbox(entry))
		return note_sandbox(c->unit, entry->key, e);
	return keys_apply(c->keys, c->ignored, &site, entry->value, e);
}

int unit_apply_text(struct unit *u, const char *source, const char *text, size_t length,
	unit_warn warn, void *userdata, struct error *e)
{
	struct text_context c = {.keys = unit_keys,
		.ignored = unit_ignored_keys,
		.unit = u,
		.source = source,
		.warn = warn,
		.userdata = userdata};

	return ini_read(source, text, length, apply_entry, &c, e);
}

int unit_apply_socket_text(struct unit *u, const char *source, const char *text, size_t length,
	unit_warn warn, void *userdata, struct error *e)
{
	struct text_context c = {.keys = socket_unit_keys,
		.ignored = socket_unit_ignored_keys,
		.unit = u,
		.source = source,
		.warn = warn,
		.userdata = userdata};

	return ini_read(source, text, length, apply_entry, &c, e);
}
