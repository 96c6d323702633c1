/* SPDX-License-Identifier: MIT */
/* /etc/molt/init.conf and its drop-ins /etc/molt/init.conf.d/ *.conf: the settings of PID 1. */
#ifndef MOLT_CONF_SYSTEM_H
#define MOLT_CONF_SYSTEM_H

#include <stdbool.h>
#include <stdint.h>

#include "conf/unit.h"
#include "kernel/error.h"

enum ctrl_alt_del {
	CTRL_ALT_DEL_IGNORE,
	CTRL_ALT_DEL_REBOOT,
	CTRL_ALT_DEL_POWEROFF,
	CTRL_ALT_DEL_HALT
};

/* Owned strings; system_conf_free(). A missing file is no error: every key has a default. */
struct system_conf {
	/* [Boot] */
	char **services; /* Services=: started at boot, in dependency order; adds up; default none
			  */
	char *hostname; /* Hostname=; NULL: /etc/hostname, which PID 1's boot reads */
	char *console; /* Console=, default /dev/console */
	char *rescue_shell; /* RescueShell=, default /bin/sh */
	/* RescueLogin=auto|yes|no, default auto: whether sulogin(8) asks for root's password first
	 */
	enum rescue_login { RESCUE_LOGIN_AUTO, RESCUE_LOGIN_YES, RESCUE_LOGIN_NO } rescue_login;
	bool debug; /* Debug= */
	/* DeviceServices=auto|no|NAMES, default auto: whatever manager of devices the image has */
	bool device_services_auto;
	char **device_services; /* the names; never NULL, empty with auto and no */
	uint64_t device_timeout_usec; /* DeviceTimeoutSec=, default 30 s: until they are up */
	/* Gettys=auto|no|TERMINALS, default auto: the consoles of the kernel command line, tty1 */
	bool gettys_auto;
	char **gettys; /* "tty1"; never NULL, empty with auto and no */

	/* [Manager] */
	char *log_directory; /* LogDirectory=, default /var/log/molt */
	uint64_t log_max_bytes; /* LogMaxSize= (K, M, G suffixes), default 10M */
	enum ctrl_alt_del ctrl_alt_del; /* CtrlAltDel=, default reboot */
	/* CrashLoopSec=, default 10 s: three crashes of PID 1 within that end in the minimal loop;
	 * 0: never */
	uint64_t crash_loop_usec;
	uint64_t stop_timeout_usec; /* DefaultTimeoutStopSec=, default 90 s */
	uint64_t start_timeout_usec; /* DefaultTimeoutStartSec=, default 90 s */
	uint64_t shutdown_timeout_usec; /* ShutdownTimeoutSec=, default 180 s: all services together
					 */
	uint64_t shutdown_deadline_usec; /* ShutdownDeadlineSec=, default 5 min: all of it together
					  */
	char *watchdog_device; /* WatchdogDevice=, default /dev/watchdog */
	uint64_t
		runtime_watchdog_usec; /* RuntimeWatchdogSec=, 0: none, the default; or from 10 s */
	uint64_t reboot_watchdog_usec; /* RebootWatchdogSec=, default 10 min: on the way down */
	char *power_fail_command; /* PowerFailCommand=; NULL: off in two minutes */

	/* [Upgrade] */
	uint64_t freeze_timeout_usec; /* FreezeTimeoutSec=, default 1 s */
	uint64_t blackout_timeout_usec; /* BlackoutTimeoutSec=, default 2 s */
	/* RetryTimeoutSec=, default 5 s: for all tries of the swap together, and for what bars the
	 * exec after it */
	uint64_t retry_timeout_usec;
	char **carry; /* Carry=: globs of files taken over into the new image; adds up */
	char *carry_directory; /* CarryDirectory=, default /var/lib/molt/carry */
	char *mount_options; /* MountOptions=, default ro: of images that are devices or files */
	/* CheckTimeoutSec=, default 30 s: --check-state in the new image */
	uint64_t check_timeout_usec;
	/* ExecTimeoutSec=, default 10 s: for a new init to take over */
	uint64_t exec_timeout_usec;
	bool auto_commit; /* AutoCommit=, default yes */
	/* CommitTimeoutSec=, default 10 min: rolls back without a commit */
	uint64_t commit_timeout_usec;
	uint64_t hook_timeout_usec; /* HookTimeoutSec=, default 90 s: for each hook */
	/* RollbackWindowSec=, default 10 min: how long after a commit the generation before stays
	 * attached; 0: not at all; infinity: until the next upgrade */
	uint64_t rollback_window_usec;
};

/*
 * Reads the configuration below the directory fd `root` (AT_FDCWD for /). Unknown keys warn, wrong
 * values are -EINVAL with file:line. *ret is the caller's.
 */
int system_conf_load(
	struct system_conf **ret, int root, unit_warn warn, void *userdata, struct error *e);

/* What holds where no file says otherwise; NULL if there is no memory. */
struct system_conf *system_conf_default(void);
void system_conf_free(struct system_conf *c);

#endif
