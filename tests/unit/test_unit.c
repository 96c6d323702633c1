/* SPDX-License-Identifier: MIT */
/* The text of a unit to its struct; test_unit_load.c has the files. */
#include "tests/unit/unit_text.h"

#include <signal.h>

#define SECOND UINT64_C(1000000)

static void has_defaults(void **state)
{
	(void)state;
	struct unit *u = unit_of(START);

	assert_string_equal(u->name, "x.service");
	assert_string_equal(u->source, "x");
	assert_string_equal(u->description, "x.service");
	assert_int_equal(u->type, SERVICE_SIMPLE);
	assert_int_equal(u->restart, RESTART_NO);
	assert_true(u->restart_usec == SECOND / 10);
	assert_true(u->timeout_start_usec == 90 * SECOND);
	assert_true(u->timeout_stop_usec == 90 * SECOND);
	assert_false(u->timeout_start_set || u->timeout_stop_set);
	assert_true(u->watchdog_usec == 0);
	assert_int_equal(u->kill_signal, SIGTERM);
	assert_int_equal(u->kill_mode, KILL_CONTROL_GROUP);
	assert_int_equal(u->umask, 0022);
	assert_true(u->ignore_sigpipe);
	assert_true(u->limit_nofile == 0);
	assert_false(u->oom_score_adjust_set || u->policy_set || u->system_storage);
	assert_int_equal(u->policy, POLICY_KEEP);
	assert_int_equal(u->reexec_signal, 0);
	assert_true(u->ready_timeout_usec == 30 * SECOND);
	assert_null(u->user);
	assert_null(u->pid_file);
	char **lists[] = {
		u->after, u->before, u->requires, u->wants, u->environment, u->environment_files};
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		assert_non_null(lists[i]);
		assert_null(lists[i][0]);
	}
	unit_free(u);
	unit_free(NULL);
}

static const char EVERY_KEY[] = "[Unit]\n"
				"Description=All of %n\n"
				"Documentation=man:x(8)\n"
				"After=a.service b.target\n"
				"After=c@%i1.service a.service\n"
				"Before=d.socket\n"
				"Requires=e.service\n"
				"Wants=dev-disk-by\\x2dlabel.device\n"
				"[Service]\n"
				"Type=notify\n"
				"ExecStartPre=/bin/pre 1\n"
				"ExecStartPre=-/bin/pre 2 ; /bin/pre 3\n"
				"ExecStart=/bin/start --name=%N\n"
				"ExecStartPost=/bin/post\n"
				"ExecReload=/bin/kill -HUP $MAINPID\n"
				"ExecStop=/bin/stop\n"
				"ExecStopPost=+/bin/rm\n"
				"PIDFile=/run/x.pid\n"
				"RemainAfterExit=Yes\n"
				"Restart=on-abnormal\n"
				"RestartSec=2s 500ms\n"
				"TimeoutStartSec=1min 30\n"
				"TimeoutStopSec=0\n"
				"KillSignal=SIGQUIT\n"
				"KillMode=mixed\n"
				"User=www-data\n"
				"Group=33\n"
				"Environment=A=1 \"B=2 3\" 'C=%p' A=4\n"
				"EnvironmentFile=-/etc/default/x\n"
				"EnvironmentFile=/etc/%N.env\n"
				"WorkingDirectory=-/srv\n"
				"RuntimeDirectory=x/y\n"
				"StateDirectory=x\n"
				"UMask=007\n"
				"LimitNOFILE=65535\n"
				"OOMScoreAdjust=-900\n"
				"[Socket]\n"
				"Listen=80\n"
				"Listen=127.0.0.1:8080\n"
				"ListenStream=[::1]:443\n"
				"Listen=%t/x.sock\n"
				"Listen=@x\n"
				"[Upgrade]\n"
				"Policy=handover\n"
				"ReadyTimeoutSec=5\n"
				"[Install]\n"
				"WantedBy=multi-user.target\n";

static void check_the_order(const struct unit *u)
{
	assert_string_equal(u->description, "All of x.service");
	assert_int_equal(strings_count(u->after), 3);
	assert_string_equal(u->after[2], "c@1.service");
	assert_string_equal(u->before[0], "d.socket");
	assert_string_equal(u->requires[0], "e.service");
	assert_string_equal(u->wants[0], "dev-disk-by\\x2dlabel.device");
}

static void check_its_commands(const struct unit *u)
{
	assert_int_equal(u->type, SERVICE_NOTIFY);
	assert_int_equal(u->exec_start_pre.count, 3);
	assert_true(u->exec_start_pre.items[1].ignore_failure);
	assert_string_equal(u->exec_start_pre.items[1].argv[1], "2");
	assert_null(u->exec_start_pre.items[1].argv[2]);
	assert_string_equal(u->exec_start_pre.items[2].argv[1], "3");
	assert_int_equal(u->exec_start.count, 1);
	assert_string_equal(u->exec_start.items[0].argv[1], "--name=x");
	assert_string_equal(u->exec_start_post.items[0].path, "/bin/post");
	assert_string_equal(u->exec_reload.items[0].argv[2], "$MAINPID");
	assert_string_equal(u->exec_stop.items[0].path, "/bin/stop");
	assert_true(u->exec_stop_post.items[0].privileged);
}

static void check_its_life(const struct unit *u)
{
	assert_string_equal(u->pid_file, "/run/x.pid");
	assert_true(u->remain_after_exit);
	assert_int_equal(u->restart, RESTART_ON_ABNORMAL);
	assert_true(u->restart_usec == 2500 * SECOND / 1000);
	assert_true(u->timeout_start_usec == 90 * SECOND);
	assert_true(u->timeout_stop_usec == UNIT_USEC_INFINITY);
	assert_true(u->timeout_start_set && u->timeout_stop_set);
	assert_int_equal(u->kill_signal, SIGQUIT);
	assert_int_equal(u->kill_mode, KILL_MIXED);
}

static void check_who_it_is(const struct unit *u)
{
	assert_string_equal(u->user, "www-data");
	assert_string_equal(u->group, "33");
	assert_int_equal(strings_count(u->environment), 3);
	assert_string_equal(u->environment[0], "A=4");
	assert_string_equal(u->environment[1], "B=2 3");
	assert_string_equal(u->environment[2], "C=x");
	assert_string_equal(u->environment_files[0], "-/etc/default/x");
	assert_string_equal(u->environment_files[1], "/etc/x.env");
}

static void check_its_places_and_limits(const struct unit *u)
{
	assert_string_equal(u->working_directory, "/srv");
	assert_true(u->working_directory_optional);
	assert_string_equal(u->directories[DIRECTORY_RUNTIME].names, "x/y");
	assert_string_equal(u->directories[DIRECTORY_STATE].names, "x");
	assert_int_equal(u->umask, 0007);
	assert_true(u->limit_nofile == 65535);
	assert_int_equal(u->oom_score_adjust, -900);
	assert_true(u->oom_score_adjust_set);
}

static void check_sockets_and_policy(const struct unit *u)
{
	assert_int_equal(u->n_listen, 5);
	assert_string_equal(u->listen[2].address, "[::1]:443");
	assert_string_equal(u->listen[3].host, "/run/x.sock");
	assert_int_equal(u->policy, POLICY_HANDOVER);
	assert_true(u->policy_set && !u->system_storage);
	assert_true(u->ready_timeout_usec == 5 * SECOND);
}

static void reads_every_key(void **state)
{
	(void)state;
	struct unit *u = unit_of(EVERY_KEY);

	check_the_order(u);
	check_its_commands(u);
	check_its_life(u);
	check_who_it_is(u);
	check_its_places_and_limits(u);
	check_sockets_and_policy(u);
	unit_free(u);
}

static void reads_reexec_signals(void **state)
{
	(void)state;
	struct unit *u = unit_of(START "[Upgrade]\nPolicy=reexec\nReexecSignal=USR2\n"
				       "ReexecFinishSignal=QUIT\n");

	assert_int_equal(u->policy, POLICY_REEXEC);
	assert_int_equal(u->reexec_signal, SIGUSR2);
	assert_int_equal(u->reexec_finish_signal, SIGQUIT);
	unit_free(u);

	/* Without a signal it is the handshake that re-execs. */
	unit_free(unit_of(START "[Upgrade]\nPolicy=reexec\n"));
	unit_free(unit_of(START "[Upgrade]\nPolicy=restart\n"));
	unit_free(unit_of(START "[Upgrade]\nPolicy=keep\n"));
}

static void an_empty_value_resets(void **state)
{
	(void)state;
	struct unit *u =
		unit_of("[Unit]\nAfter=a.service\nAfter=\nAfter=b.service\nWants=c.service\n"
			"Wants=\n[Service]\nExecStart=/bin/a\nExecStart=\nExecStart=/bin/b\n"
			"Environment=A=1\nEnvironment=\nEnvironmentFile=/a\nEnvironmentFile=\n"
			"User=x\nUser=\nPIDFile=/x\nPIDFile=\nWorkingDirectory=/x\n"
			"WorkingDirectory=\nExecStop=/bin/c\nExecStop= \nRuntimeDirectory=x\n"
			"RuntimeDirectory=\n[Socket]\nListen=1\nListen=2\nListen=\nListen=1\n"
			"[Unit]\nDescription=x\nDescription=\n");

	assert_int_equal(strings_count(u->after), 1);
	assert_string_equal(u->after[0], "b.service");
	assert_non_null(u->wants);
	assert_null(u->wants[0]);
	assert_int_equal(u->exec_start.count, 1);
	assert_string_equal(u->exec_start.items[0].path, "/bin/b");
	assert_non_null(u->environment);
	assert_null(u->environment[0]);
	assert_null(u->environment_files[0]);
	assert_null(u->user);
	assert_null(u->pid_file);
	assert_null(u->working_directory);
	assert_null(u->directories[DIRECTORY_RUNTIME].names);
	assert_int_equal(u->exec_stop.count, 0);
	assert_int_equal(u->n_listen, 1);
	assert_string_equal(u->description, "x.service");
	unit_free(u);
}

static void the_last_value_holds(void **state)
{
	(void)state;
	struct unit *u =
		unit_of(START "User=a\nUser=b\nType=exec\nType=oneshot\nUMask=0\nUMask=0777\n"
			      "PIDFile=sub/x.pid\nTimeoutStopSec=5\nTimeoutSec=7\n"
			      "WorkingDirectory=-/a\nWorkingDirectory=/b\n");

	assert_string_equal(u->user, "b");
	assert_int_equal(u->type, SERVICE_ONESHOT);
	assert_int_equal(u->umask, 0777);
	assert_string_equal(u->pid_file, "/run/sub/x.pid");
	assert_true(u->timeout_start_usec == 7 * SECOND);
	assert_true(u->timeout_stop_usec == 7 * SECOND);
	assert_string_equal(u->working_directory, "/b");
	assert_false(u->working_directory_optional);
	unit_free(u);
}

static void a_oneshot_may_take_its_time(void **state)
{
	(void)state;
	struct unit *u = unit_of(START "Type=oneshot\nExecStart=/bin/y\n");

	assert_true(u->timeout_start_usec == UNIT_USEC_INFINITY);
	assert_true(u->timeout_stop_usec == 90 * SECOND);
	assert_int_equal(u->exec_start.count, 2);
	unit_free(u);
	u = unit_of(START "Type=oneshot\nTimeoutStartSec=3\n");
	assert_true(u->timeout_start_usec == 3 * SECOND);
	unit_free(u);
}

static void infinite_values(void **state)
{
	(void)state;
	struct unit *u =
		unit_of(START "TimeoutStartSec=infinity\nTimeoutStopSec=infinity\n"
			      "WatchdogSec=infinity\nLimitNOFILE=infinity\nRestartSec=0\n");

	assert_true(u->timeout_start_usec == UNIT_USEC_INFINITY);
	assert_true(u->timeout_stop_usec == UNIT_USEC_INFINITY);
	assert_true(u->watchdog_usec == 0);
	assert_true(u->limit_nofile == UINT64_MAX);
	assert_true(u->restart_usec == 0);
	unit_free(u);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(has_defaults),
		cmocka_unit_test(reads_every_key),
		cmocka_unit_test(reads_reexec_signals),
		cmocka_unit_test(an_empty_value_resets),
		cmocka_unit_test(the_last_value_holds),
		cmocka_unit_test(a_oneshot_may_take_its_time),
		cmocka_unit_test(infinite_values),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
