/* SPDX-License-Identifier: MIT */
/* The parsers of the values that only a service file has. Their target is the struct unit. */
#ifndef MOLT_CONF_UNIT_VALUES_H
#define MOLT_CONF_UNIT_VALUES_H

#include "conf/keys.h"

key_parser_fn value_type, value_commands, value_environment, value_environment_file,
	value_working_directory, value_pid_file, value_directories, value_user, value_umask,
	value_limit, value_oom_score, value_watchdog, value_fd_store_max, value_fd_name,
	value_timeout_start, value_timeout_stop, value_timeout_both, value_listen, value_policy,
	value_capabilities, value_mode, value_paths, value_odd_listen, value_condition,
	value_exit_set, value_groups, value_nice;

#endif
