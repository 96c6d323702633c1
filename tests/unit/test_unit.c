/* SPDX-License-Identifier: MIT */
/* The text of a unit to its struct; test_unit_load.c has the files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs those four before it. */
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/unit.h"

#define SECOND UINT64_C(1000000)

/* The warnings of one reading, a line each. */
struct heard {
	char text[8192];
};

static void hear(void *userdata, const char *text)
{
	struct heard *h = userdata;
	size_t used = strlen(h->text);

	(void)snprintf(h->text + used, sizeof(h->text) - used, "%s\n", text);
}

static int parse(const char *text, struct unit **ret, struct heard *h, struct error *e)
{
	return unit_parse(ret, "x.service", "x", text, strlen(text), hear, h, e);
}

static struct unit *unit_of(const char *text)
{
	struct heard h = {0};
	struct error e = {0};
	struct unit *u = NULL;

	if (parse(text, &u, &h, &e) != 0)
		fail_msg("%s", e.text);
	if (h.text[0])
		fail_msg("unexpected warning: %s", h.text);
	return u;
}

static void expect_error(const char *text, const char *expected)
{
	struct heard h = {0};
	struct error e = {0};
	struct unit *u = NULL;
	int r = parse(text, &u, &h, &e);

	if (r != -EINVAL || strcmp(e.text, expected) != 0)
		fail_msg("\n%s\ngives %d: \"%s\"\nnot: \"%s\"", text, r, e.text, expected);
	assert_int_equal(e.code, -EINVAL);
	assert_null(u);
	assert_int_equal(unit_parse(&u, "x", "x", text, strlen(text), NULL, NULL, NULL), -EINVAL);
	assert_null(u);
}

static void expect_warnings(const char *text, const char *expected)
{
	struct heard h = {0};
	struct error e = {0};
	struct unit *u = NULL;

	if (parse(text, &u, &h, &e) != 0)
		fail_msg("%s", e.text);
	assert_string_equal(h.text, expected);
	unit_free(u);
	/* Nobody has to listen. */
	assert_int_equal(unit_parse(&u, "x", "x", text, strlen(text), NULL, NULL, NULL), 0);
	unit_free(u);
}

#define START "[Service]\nExecStart=/bin/x\n"

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

static void reads_every_key(void **state)
{
	(void)state;
	struct unit *u = unit_of("[Unit]\n"
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
				 "WantedBy=multi-user.target\n");

	assert_string_equal(u->description, "All of x.service");
	assert_int_equal(strings_count(u->after), 3);
	assert_string_equal(u->after[2], "c@1.service");
	assert_string_equal(u->before[0], "d.socket");
	assert_string_equal(u->requires[0], "e.service");
	assert_string_equal(u->wants[0], "dev-disk-by\\x2dlabel.device");
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
	assert_string_equal(u->pid_file, "/run/x.pid");
	assert_true(u->remain_after_exit);
	assert_int_equal(u->restart, RESTART_ON_ABNORMAL);
	assert_true(u->restart_usec == 2500 * SECOND / 1000);
	assert_true(u->timeout_start_usec == 90 * SECOND);
	assert_true(u->timeout_stop_usec == UNIT_USEC_INFINITY);
	assert_true(u->timeout_start_set && u->timeout_stop_set);
	assert_int_equal(u->kill_signal, SIGQUIT);
	assert_int_equal(u->kill_mode, KILL_MIXED);
	assert_string_equal(u->user, "www-data");
	assert_string_equal(u->group, "33");
	assert_int_equal(strings_count(u->environment), 3);
	assert_string_equal(u->environment[0], "A=4");
	assert_string_equal(u->environment[1], "B=2 3");
	assert_string_equal(u->environment[2], "C=x");
	assert_string_equal(u->environment_files[0], "-/etc/default/x");
	assert_string_equal(u->environment_files[1], "/etc/x.env");
	assert_string_equal(u->working_directory, "/srv");
	assert_true(u->working_directory_optional);
	assert_string_equal(u->runtime_directory, "x/y");
	assert_string_equal(u->state_directory, "x");
	assert_int_equal(u->umask, 0007);
	assert_true(u->limit_nofile == 65535);
	assert_int_equal(u->oom_score_adjust, -900);
	assert_true(u->oom_score_adjust_set);
	assert_int_equal(u->n_listen, 5);
	assert_string_equal(u->listen[2].address, "[::1]:443");
	assert_string_equal(u->listen[3].host, "/run/x.sock");
	assert_int_equal(u->policy, POLICY_HANDOVER);
	assert_true(u->policy_set && !u->system_storage);
	assert_true(u->ready_timeout_usec == 5 * SECOND);
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
	assert_null(u->runtime_directory);
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

/* The syntax of the file, which inih alone would read otherwise. */

static void semicolons_are_no_comments(void **state)
{
	(void)state;
	struct unit *u = unit_of("[Unit]\nDescription=a ; b # c\n"
				 "[Service]\nExecStart=/bin/sh -c 'a ; b' #x\n"
				 "; comment\n # comment\n;\n#\n");

	assert_string_equal(u->description, "a ; b # c");
	assert_string_equal(u->exec_start.items[0].argv[2], "a ; b");
	assert_string_equal(u->exec_start.items[0].argv[3], "#x");
	unit_free(u);
}

static void values_keep_colons_and_equals_signs(void **state)
{
	(void)state;
	struct unit *u =
		unit_of("[Unit]\nDescription = a: b = c == [d]\n[Service]\nExecStart=/bin/x\n");

	assert_string_equal(u->description, "a: b = c == [d]");
	unit_free(u);
}

static void indented_lines_stand_for_themselves(void **state)
{
	(void)state;
	struct unit *u =
		unit_of("  [Service]  \n\tExecStart = /bin/x \n  User\t=\tu \n   KillMode=none\n");

	assert_string_equal(u->exec_start.items[0].path, "/bin/x");
	assert_string_equal(u->user, "u");
	assert_int_equal(u->kill_mode, KILL_NONE);
	unit_free(u);
}

static void a_backslash_continues_a_line(void **state)
{
	(void)state;
	struct unit *u = unit_of("[Service]\nExecStart=/bin/x a\\\n"
				 "  b \\\n"
				 "# a comment between\n"
				 "   ; and one more \\\n"
				 "c\nUser=u\\\n\nGroup=g \\");

	static const char *const expected[] = {"/bin/x", "a", "b", "c"};
	for (size_t i = 0; i < 4; i++)
		assert_string_equal(u->exec_start.items[0].argv[i], expected[i]);
	assert_null(u->exec_start.items[0].argv[4]);
	assert_string_equal(u->user, "u");
	assert_string_equal(u->group, "g");
	unit_free(u);

	u = unit_of("[Service]\nExecStart=/bin/x a\\\\\nUser=u\n# no continuation \\\nGroup=g\n");
	assert_string_equal(u->exec_start.items[0].argv[1], "a\\");
	assert_string_equal(u->user, "u");
	assert_string_equal(u->group, "g");
	unit_free(u);
}

static void windows_lines_and_byte_order_mark(void **state)
{
	(void)state;
	struct unit *u = unit_of("\xEF\xBB\xBF[Service]\r\nExecStart=/bin/x a\r\nUser=u\r\n");

	assert_null(u->exec_start.items[0].argv[2]);
	assert_string_equal(u->exec_start.items[0].argv[1], "a");
	assert_string_equal(u->user, "u");
	unit_free(u);
	unit_free(unit_of("\xEF\xBB\xBF# a comment \\\n[Service]\nExecStart=/bin/x\n"));
}

static void lines_may_be_very_long(void **state)
{
	(void)state;
	const size_t size = 300000;
	char *text = malloc(size + 200);

	assert_non_null(text);
	char *end = stpcpy(text, "[Service]\nExecStart=/bin/x ");
	memset(end, 'y', size);
	(void)strcpy(end + size, "\nUser=u\nKillMode=bad\n");
	expect_error(text, "x:4: KillMode=bad: not one of control-group, mixed, process, none");
	(void)strcpy(end + size, "\nUser=u\n");
	struct unit *u = unit_of(text);
	assert_int_equal(strlen(u->exec_start.items[0].argv[1]), size);
	assert_string_equal(u->user, "u");
	unit_free(u);
	free(text);
}

struct refusal {
	const char *text;
	const char *expected;
};

static void check_refusals(const struct refusal *cases, size_t n)
{
	for (size_t i = 0; i < n; i++)
		expect_error(cases[i].text, cases[i].expected);
}

#define CHECK_REFUSALS(cases) check_refusals(cases, sizeof(cases) / sizeof((cases)[0]))
#define NEITHER "neither a [section] nor a KEY=value line"

static void refuses_what_is_no_unit_text(void **state)
{
	(void)state;
	static const struct refusal cases[] = {
		{"User=x\n" START, "x:1: a key outside of any [section]"},
		{"\n\n# c\nUser=x\n" START, "x:4: a key outside of any [section]"},
		{"[]\nUser=x\n" START, "x:2: a key outside of any [section]"},
		{START "word\n", "x:3: " NEITHER},
		{START "User: x\n", "x:3: " NEITHER},
		{START "User:a=x\n", "x:3: " NEITHER},
		{START "[Service\n", "x:3: a section header must end with ]"},
		{START "[Service] User=x\n", "x:3: a section header must end with ]"},
		{START "[Service] ; c\n", "x:3: a section header must end with ]"},
		{START "=x\n", "x:3: a value without a key"},
		{START "User ; c=x\n", "x:3: " NEITHER},
		/* A continued line is one; what follows it keeps its own number. */
		{START "[Unit]\nDescription=a\\\nb\\\n\\\n\nword\n", "x:8: " NEITHER},
		{START "A\\\nB\\\nC\nUser=%q\n", "x:3: " NEITHER},
		{START "User=a\\\n# c\n\\\n %q\nword\n",
			"x:3: User=a   %q: not the name or number of a user or group"},
		/* The first error is told, whichever of the two sees it. */
		{START "word\nKillMode=x\n", "x:3: " NEITHER},
		{START "UMask=9\nword\n", "x:3: UMask=9: not an octal number up to 0777"},
	};
	CHECK_REFUSALS(cases);
}

static void refuses_nul_bytes_and_long_names(void **state)
{
	(void)state;
	static const char nul[] = START "User=a\0b\n";
	struct unit *u = NULL;
	struct error e = {0};
	char text[600] = START, *end = text + strlen(text);

	assert_int_equal(unit_parse(&u, "x", "x", nul, sizeof(nul) - 1, NULL, NULL, &e), -EINVAL);
	assert_string_equal(e.text, "x:3: a NUL byte in the text");

	memset(end, 'k', 400);
	(void)strcpy(end + 400, "=v\n");
	expect_error(text, "x:3: the name of a key or section is too long");
	end[0] = '[';
	(void)strcpy(end + 400, "]\n");
	expect_error(text, "x:3: the name of a key or section is too long");
}

#define V(line, why)                                   \
	{                                              \
		START line "\n", "x:3: " line ": " why \
	}
#define U(line, why)                                           \
	{                                                      \
		"[Upgrade]\n" line "\n", "x:2: " line ": " why \
	}
#define SPAN "not a time span such as 90, 500ms, \"1min 30s\" or infinity"
#define SIGNAL "not a signal such as TERM, SIGTERM, 15 or RTMIN+3"
#define RESTARTS "not one of no, on-success, on-failure, on-abnormal, on-abort, on-watchdog, always"
#define USER "not the name or number of a user or group"
#define LISTEN "not PORT, ADDRESS:PORT, [ADDRESS]:PORT, /PATH or @NAME (ports are 1 to 65535)"
#define SPECIFIER "unknown specifier %q (write %% for a percent sign)"

static void refuses_wrong_values(void **state)
{
	(void)state;
	static const struct refusal cases[] = {
		V("Type=dbus", "not one of simple, exec, forking, oneshot, notify, notify-reload"),
		V("Type=", "not one of simple, exec, forking, oneshot, notify, notify-reload"),
		V("Type=Simple",
			"not one of simple, exec, forking, oneshot, notify, notify-reload"),
		V("ExecStartPre=relative", "relative is not an absolute path"),
		V("ExecStart=/bin/x %q", SPECIFIER),
		V("ExecStartPost=/bin/x 'a", "a quote is not closed, or an escape has no meaning"),
		V("ExecReload=-", "no program to run"),
		V("ExecStop=/bin/x ; y", "y is not an absolute path"),
		V("ExecStopPost=@/bin/x", "with @, a word for argv[0] must follow the path"),
		V("PIDFile=/run/%q", SPECIFIER),
		V("RemainAfterExit=maybe", "not yes or no"),
		V("RemainAfterExit=", "not yes or no"),
		V("Restart=sometimes", RESTARTS),
		V("NotifyAccess=some", "not one of all, none, main, exec"),
		V("ReloadSignal=0", SIGNAL),
		V("FileDescriptorStoreMax=-1", "not a number from 0 to 4096"),
		V("FileDescriptorStoreMax=4097", "not a number from 0 to 4096"),
		V("FileDescriptorStorePreserve=always", "not one of restart, no, yes"),
		V("RestartSec=soon", SPAN),
		V("RestartSec=infinity", "must be finite"),
		V("TimeoutStartSec=-1", SPAN),
		V("TimeoutStopSec=", SPAN),
		V("TimeoutSec=5 parsecs", SPAN),
		V("WatchdogSec=1.5.5", SPAN),
		V("KillSignal=SIGNOT", SIGNAL),
		V("KillSignal=0", SIGNAL),
		V("KillMode=all", "not one of control-group, mixed, process, none"),
		V("User=a b", USER),
		V("User=%q", SPECIFIER),
		V("Group=a:b", USER),
		V("Environment=A", "A is not NAME=value"),
		V("Environment=1A=b", "1A=b is not NAME=value"),
		V("Environment='A=b", "a quote is not closed, or an escape has no meaning"),
		V("Environment=A=%q", SPECIFIER),
		V("EnvironmentFile=etc/x", "not an absolute path"),
		V("EnvironmentFile=-etc/x", "not an absolute path"),
		V("EnvironmentFile=-", "no file is named"),
		V("EnvironmentFile=/etc/*.env", "wildcards are not supported"),
		V("EnvironmentFile=%N.env", "not an absolute path"),
		V("WorkingDirectory=srv", "not an absolute path"),
		V("WorkingDirectory=~", "~ is not supported: name the directory"),
		V("WorkingDirectory=-~", "~ is not supported: name the directory"),
		V("RuntimeDirectory=/run/x", "must be a relative path"),
		V("RuntimeDirectory=a b", "only one directory is supported"),
		V("StateDirectory=a/../b", "must not contain .."),
		V("StateDirectory=..", "must not contain .."),
		V("UMask=8", "not an octal number up to 0777"),
		V("UMask=1000", "not an octal number up to 0777"),
		V("UMask=00022", "not an octal number up to 0777"),
		V("UMask=", "not an octal number up to 0777"),
		V("LimitNOFILE=0", "not a number from 1 on, or infinity"),
		V("LimitNOFILE=many", "not a number from 1 on, or infinity"),
		V("LimitNOFILE=99999999999999999999999999", "not a number from 1 on, or infinity"),
		V("OOMScoreAdjust=1001", "not a number from -1000 to 1000"),
		V("OOMScoreAdjust=-1001", "not a number from -1000 to 1000"),
		V("OOMScoreAdjust=low", "not a number from -1000 to 1000"),
		U("Policy=reload", "not one of reexec, handover, restart, keep"),
		U("ReexecSignal=USR3", SIGNAL),
		U("ReexecFinishSignal=", SIGNAL),
		U("ReadyTimeoutSec=infinity", "must be finite"),
		U("ReadyTimeoutSec=0", "must be more than 0"),
		U("SystemStorage=2", "not yes or no"),
		U("Handshake=maybe", "not yes or no"),
		U("PrepareTimeoutSec=infinity", "must be finite"),
		U("PrepareTimeoutSec=0", "must be more than 0"),
		{"[Unit]\nAfter=a/b.service",
			"x:2: After=a/b.service: a/b.service is not a unit's name "
			"such as x.service"},
		{"[Unit]\nWants=nginx",
			"x:2: Wants=nginx: nginx is not a unit's name such as x.service"},
		{"[Unit]\nRequires='a.service", "x:2: Requires='a.service: a quote is not closed"},
		{"[Unit]\nBefore=%q.service", "x:2: Before=%q.service: " SPECIFIER},
		{"[Unit]\nDescription=100%",
			"x:2: Description=100%: unknown specifier % (write %% for a "
			"percent sign)"},
		{"[Socket]\nListen=0", "x:2: Listen=0: " LISTEN},
		{"[Socket]\nListen=localhost:80",
			"x:2: Listen=localhost:80: not a numeric address: localhost"},
		{"[Socket]\nListen=80\nListen=80", "x:3: Listen=80: is there already"},
		{"[Socket]\nListen=%q", "x:2: Listen=%q: " SPECIFIER},
	};
	CHECK_REFUSALS(cases);
}

static void a_value_in_a_message_is_cut_and_clean(void **state)
{
	(void)state;
	static const char hundred[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
				      "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
	char text[300], expected[300];

	(void)snprintf(text, sizeof(text), START "UMask=%stail\n", hundred);
	(void)snprintf(expected, sizeof(expected),
		"x:3: UMask=%s...: not an octal number up to 0777", hundred);
	expect_error(text, expected);
	expect_error(
		START "UMask=\x1b[2J\x7f\n", "x:3: UMask=?[2J?: not an octal number up to 0777");
}

static void checks_the_whole_unit(void **state)
{
	(void)state;
	static const char no_start[] =
		"x: no ExecStart= (only Type=oneshot with ExecStop= or Listen= can do without)";
	static const struct refusal cases[] = {
		{"", no_start},
		{"[Service]\n", no_start},
		{"[Service]\nType=oneshot\n", no_start},
		{"[Service]\nExecStop=/bin/x\n", no_start},
		{"[Service]\nType=simple\n[Socket]\nListen=80\n", no_start},
		{START "ExecStart=/bin/y\n",
			"x: more than one ExecStart=, which only Type=oneshot can have"},
		{"[Service]\nExecStart=/bin/x ; /bin/y\n",
			"x: more than one ExecStart=, which only Type=oneshot can have"},
		{START "Type=oneshot\nRestart=always\n",
			"x: Restart=always and on-success would run Type=oneshot for ever"},
		{START "Type=oneshot\nRestart=on-success\n",
			"x: Restart=always and on-success would run Type=oneshot for ever"},
		{START "[Upgrade]\nPolicy=handover\n",
			"x: Policy=handover hands over sockets, but [Socket] has no Listen="},
	};
	CHECK_REFUSALS(cases);

	unit_free(unit_of("[Service]\nType=oneshot\nExecStop=/bin/x\n"));
	unit_free(unit_of("[Service]\nType=oneshot\n[Socket]\nListen=80\n"));
	unit_free(unit_of(START "Type=oneshot\nRestart=on-failure\n"));
	unit_free(unit_of(START "Type=forking\nPIDFile=x.pid\n"));
}

static void warns_of_what_it_ignores(void **state)
{
	(void)state;
	expect_warnings(START "PrivateTmp=yes\n[Unit]\nConflicts=y.service\nPartOf=z.service\n"
			      "[Timer]\nOnBootSec=1\n[service]\nUser=x\n[Unit]\nuser=x\n",
		"x:3: PrivateTmp= in [Service] is not supported, ignored\n"
		"x:5: Conflicts= in [Unit] is not supported, ignored\n"
		"x:6: PartOf= in [Unit] is not supported, ignored\n"
		"x:8: OnBootSec= in [Timer] is not supported, ignored\n"
		"x:10: User= in [service] is not supported, ignored\n"
		"x:12: user= in [Unit] is not supported, ignored\n");
	expect_warnings(START "Protect\\\nSystem=full\nExecSearchPath=%q\n",
		"x:3: Protect System= in [Service] is not supported, ignored\n"
		"x:5: ExecSearchPath= in [Service] is not supported, ignored\n");
	expect_warnings("[Unit]\nDocumentation=x\nSourcePath=/x\nDefaultDependencies=no\nX-Mine=1\n"
			"[X-Other]\nA=%q\n[Install]\nAlias=y.service\nWhatever=1\n" START,
		"");
	expect_warnings(START "Type=idle\n", "x:3: Type=idle is not supported, taken as simple\n");
	expect_warnings(START "WatchdogSec=3\n[Upgrade]\nSystemStorage=yes\n", "");
	expect_warnings(START "[Upgrade]\nPrepareTimeoutSec=3\n",
		"x: PrepareTimeoutSec= has no effect without Handshake=yes\n");
	expect_warnings(START "LimitNOFILE=1024:524288\n",
		"x:3: LimitNOFILE=SOFT:HARD is not supported, both become 1024\n");
	expect_warnings(START "Type=forking\n",
		"x: Type=forking without PIDFile=: the main process has to be guessed\n");
	expect_warnings(START "[Upgrade]\nPolicy=restart\nReexecSignal=USR2\n",
		"x: ReexecSignal= has no effect without Policy=reexec\n");
	expect_warnings(START "[Upgrade]\nPolicy=reexec\nReexecFinishSignal=USR2\n",
		"x: ReexecFinishSignal= has no effect without ReexecSignal=\n");
}

static void refuses_what_is_no_name(void **state)
{
	(void)state;
	struct unit *u = NULL;
	struct error e = {0};
	char name[300];
	static const char *const names[] = {
		"", ".service", "a/b", "../x", "a b", "\xc3\xa9", "@x", "x@", "x@.service"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		e = (struct error){0};
		assert_int_equal(
			unit_parse(&u, names[i], "x", START, strlen(START), NULL, NULL, &e),
			-EINVAL);
		assert_true(e.text[0] != '\0');
	}
	assert_string_equal(e.text, "x@.service is a template: put an instance's name after the @");
	memset(name, 'n', sizeof(name));
	name[255] = '\0';
	assert_int_equal(unit_parse(&u, name, "x", START, strlen(START), NULL, NULL, &e), -EINVAL);
	name[255 - strlen(".service")] = '\0';
	assert_int_equal(unit_parse(&u, name, "x", START, strlen(START), NULL, NULL, &e), 0);
	assert_int_equal(strlen(u->name), 255);
	unit_free(u);
}

/* The values by themselves. */

struct span {
	const char *text;
	uint64_t usec;
};

static void parses_spans(void **state)
{
	(void)state;
	static const struct span cases[] = {
		{"0", 0},
		{"90", 90 * SECOND},
		{" 90 ", 90 * SECOND},
		{"1.5", 1500000},
		{".25s", 250000},
		{"2.", 2 * SECOND},
		{"1min 30s", 90 * SECOND},
		{"1min30s", 90 * SECOND},
		{"1 min 30 s", 90 * SECOND},
		{"500ms", 500000},
		{"7us", 7},
		{"7\xC2\xB5s", 7},
		{"7\xCE\xBCs", 7},
		{"0.0000019s", 1},
		{"2h 3m 4sec 5msec 6usec", 7384 * SECOND + 5006},
		{"1hr 1hour 1minutes 1seconds", 7261 * SECOND},
		{"1d 1day", 172800 * SECOND},
		{"1w", 604800 * SECOND},
		{"1M", 2629800 * SECOND},
		{"1y", 31557600 * SECOND},
		{"infinity", UINT64_MAX},
		{"9223372036854775807us", INT64_MAX},
	};
	static const char *const wrong[] = {"", " ", "s", "-1", "+1", "1x", "1 2x", "1..2", "1.2.3",
		".", "1 infinity", "infinity 1", "1,5", "0x1", "9223372036854775808us",
		"18446744073709551616", "99999999999999999999", "300000y", "9223372036854s 1s",
		"1S", "1MIN"};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t usec = 1;
		if (unit_parse_span(cases[i].text, &usec) != 0 || usec != cases[i].usec)
			fail_msg("\"%s\" gives %llu", cases[i].text, (unsigned long long)usec);
	}
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		uint64_t usec = 77;
		if (unit_parse_span(wrong[i], &usec) != -EINVAL || usec != 77)
			fail_msg("\"%s\" gives %llu", wrong[i], (unsigned long long)usec);
	}
}

struct signal_case {
	const char *text;
	int signal;
};

static void parses_signals(void **state)
{
	(void)state;
	const struct signal_case cases[] = {
		{"TERM", SIGTERM},
		{"SIGTERM", SIGTERM},
		{"15", 15},
		{"KILL", SIGKILL},
		{"1", SIGHUP},
		{"WINCH", SIGWINCH},
		{"RTMIN", SIGRTMIN},
		{"RTMIN+3", SIGRTMIN + 3},
		{"SIGRTMIN+3", SIGRTMIN + 3},
		{"RTMAX", SIGRTMAX},
		{"RTMAX-2", SIGRTMAX - 2},
		{"64", 64},
	};
	static const char *const wrong[] = {"", "0", "-1", "65", "32", "33", "term", "SIG",
		"SIGSIGTERM", "TERM ", "RTMIN+", "RTMIN-1", "RTMIN+31", "RTMAX+1", "RTMAX-31",
		"RTMIN+-1", "4294967311", "15x"};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int n = -1;
		if (unit_parse_signal(cases[i].text, &n) != 0 || n != cases[i].signal)
			fail_msg("\"%s\" gives %d", cases[i].text, n);
	}
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		int n = 77;
		if (unit_parse_signal(wrong[i], &n) != -EINVAL || n != 77)
			fail_msg("\"%s\" gives %d", wrong[i], n);
	}
}

static void parses_booleans(void **state)
{
	(void)state;
	static const char *const yes[] = {"1", "yes", "YES", "y", "true", "t", "on"};
	static const char *const no[] = {"0", "no", "No", "n", "false", "f", "off"};
	static const char *const neither[] = {"", "2", "yes ", "enabled", "o"};
	bool b;

	for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
		b = false;
		assert_int_equal(unit_parse_bool(yes[i], &b), 0);
		assert_true(b);
	}
	for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++) {
		b = true;
		assert_int_equal(unit_parse_bool(no[i], &b), 0);
		assert_false(b);
	}
	for (size_t i = 0; i < sizeof(neither) / sizeof(neither[0]); i++)
		assert_int_equal(unit_parse_bool(neither[i], &b), -EINVAL);
}

struct listen_case {
	const char *text;
	const char *host;
	uint16_t port;
	enum listen_family family;
};

#define PATH_107                                             \
	"/2345678901234567890123456789012345678901234567890" \
	"123456789012345678901234567890123456789012345678901234567"

static void parses_addresses(void **state)
{
	(void)state;
	static const struct listen_case cases[] = {
		{"80", NULL, 80, LISTEN_TCP},
		{"65535", NULL, 65535, LISTEN_TCP},
		{"127.0.0.1:80", "127.0.0.1", 80, LISTEN_TCP},
		{"0.0.0.0:1", "0.0.0.0", 1, LISTEN_TCP},
		{"[::1]:443", "::1", 443, LISTEN_TCP},
		{"[::]:443", "::", 443, LISTEN_TCP},
		{"/run/x.sock", "/run/x.sock", 0, LISTEN_UNIX},
		{"@x", "@x", 0, LISTEN_UNIX},
		{PATH_107, PATH_107, 0, LISTEN_UNIX},
	};
	static const char *const wrong[] = {"", "0", "65536", "-1", "80x", " 80", ":80",
		"127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.1:80", "localhost:80", "::1:443",
		"[::1]", "[]:80", "[127.0.0.1]:80", "[::1:80", "::1]:80", "/", "@", "run/x",
		PATH_107 "x", "*:80"};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct listen_case *c = &cases[i];
		struct listen_config l;
		struct error e = {0};
		if (unit_parse_listen(c->text, &l, &e) != 0)
			fail_msg("%s: %s", c->text, e.text);
		assert_int_equal(l.family, c->family);
		assert_string_equal(l.address, c->text);
		assert_int_equal(l.port, c->port);
		if (c->host)
			assert_string_equal(l.host, c->host);
		else
			assert_null(l.host);
		free(l.address);
		free(l.host);
	}
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct listen_config l = {.port = 77};
		struct error e = {0};
		if (unit_parse_listen(wrong[i], &l, &e) != -EINVAL || l.port != 77 || !e.text[0])
			fail_msg("\"%s\" is taken", wrong[i]);
	}
}

static void enumerators_have_names(void **state)
{
	(void)state;
	assert_string_equal(service_type_name(SERVICE_SIMPLE), "simple");
	assert_string_equal(service_type_name(SERVICE_NOTIFY), "notify");
	assert_string_equal(restart_when_name(RESTART_NO), "no");
	assert_string_equal(restart_when_name(RESTART_ALWAYS), "always");
	assert_string_equal(upgrade_policy_name(POLICY_REEXEC), "reexec");
	assert_string_equal(upgrade_policy_name(POLICY_KEEP), "keep");
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
		cmocka_unit_test(semicolons_are_no_comments),
		cmocka_unit_test(values_keep_colons_and_equals_signs),
		cmocka_unit_test(indented_lines_stand_for_themselves),
		cmocka_unit_test(a_backslash_continues_a_line),
		cmocka_unit_test(windows_lines_and_byte_order_mark),
		cmocka_unit_test(lines_may_be_very_long),
		cmocka_unit_test(refuses_what_is_no_unit_text),
		cmocka_unit_test(refuses_nul_bytes_and_long_names),
		cmocka_unit_test(refuses_wrong_values),
		cmocka_unit_test(a_value_in_a_message_is_cut_and_clean),
		cmocka_unit_test(checks_the_whole_unit),
		cmocka_unit_test(warns_of_what_it_ignores),
		cmocka_unit_test(refuses_what_is_no_name),
		cmocka_unit_test(parses_spans),
		cmocka_unit_test(parses_signals),
		cmocka_unit_test(parses_booleans),
		cmocka_unit_test(parses_addresses),
		cmocka_unit_test(enumerators_have_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
