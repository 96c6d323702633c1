/* SPDX-License-Identifier: MIT */
/* The names of the enumerators in conf/unit.h, in their order. */
#include "conf/unit_internal.h"

const char *const SERVICE_TYPE_NAMES[] = {
	[SERVICE_SIMPLE] = "simple",
	[SERVICE_EXEC] = "exec",
	[SERVICE_FORKING] = "forking",
	[SERVICE_ONESHOT] = "oneshot",
	[SERVICE_NOTIFY] = "notify",
	[SERVICE_NOTIFY_RELOAD] = "notify-reload",
	NULL,
};

const char *const RESTART_WHEN_NAMES[] = {
	[RESTART_NO] = "no",
	[RESTART_ON_SUCCESS] = "on-success",
	[RESTART_ON_FAILURE] = "on-failure",
	[RESTART_ON_ABNORMAL] = "on-abnormal",
	[RESTART_ON_ABORT] = "on-abort",
	[RESTART_ON_WATCHDOG] = "on-watchdog",
	[RESTART_ALWAYS] = "always",
	NULL,
};

const char *const KILL_MODE_NAMES[] = {
	[KILL_CONTROL_GROUP] = "control-group",
	[KILL_MIXED] = "mixed",
	[KILL_PROCESS] = "process",
	[KILL_NONE] = "none",
	NULL,
};

const char *const NOTIFY_ACCESS_NAMES[] = {
	[NOTIFY_ALL] = "all",
	[NOTIFY_NONE] = "none",
	[NOTIFY_MAIN] = "main",
	[NOTIFY_EXEC] = "exec",
	NULL,
};

const char *const FD_STORE_PRESERVE_NAMES[] = {
	[FD_STORE_RESTART] = "restart",
	[FD_STORE_NO] = "no",
	[FD_STORE_YES] = "yes",
	NULL,
};

const char *const UPGRADE_POLICY_NAMES[] = {
	[POLICY_REEXEC] = "reexec",
	[POLICY_HANDOVER] = "handover",
	[POLICY_RESTART] = "restart",
	[POLICY_KEEP] = "keep",
	NULL,
};

const char *service_type_name(enum service_type t)
{
	return SERVICE_TYPE_NAMES[t];
}

bool service_type_notifies(enum service_type t)
{
	return t == SERVICE_NOTIFY || t == SERVICE_NOTIFY_RELOAD;
}

const char *upgrade_policy_name(enum upgrade_policy p)
{
	return UPGRADE_POLICY_NAMES[p];
}
