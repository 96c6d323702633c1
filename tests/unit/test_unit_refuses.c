/* SPDX-License-Identifier: MIT */
/* What is wrong with a unit: refused with a sentence that says where, or warned of. */
#include "tests/unit/unit_text.h"

#include <stdlib.h>

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

static void refuses_wrong_commands(void **state)
{
	(void)state;
	static const struct refusal cases[] = {
		V("Type=bus", "not one of simple, exec, forking, oneshot, notify, notify-reload"),
		V("Type=", "not one of simple, exec, forking, oneshot, notify, notify-reload"),
		V("Type=Simple",
			"not one of simple, exec, forking, oneshot, notify, notify-reload"),
		V("ExecStartPre=rel/ative", "rel/ative is not an absolute path"),
		V("ExecStart=/bin/x %q", SPECIFIER),
		V("ExecStartPost=/bin/x 'a", "a quote is not closed, or an escape has no meaning"),
		V("ExecReload=-", "no program to run"),
		V("ExecStop=/bin/x ; y/z", "y/z is not an absolute path"),
		V("ExecStopPost=@/bin/x", "with @, a word for argv[0] must follow the path"),
		V("PIDFile=/run/%q", SPECIFIER),
		V("RemainAfterExit=maybe", "not yes or no"),
		V("RemainAfterExit=", "not yes or no"),
	};
	CHECK_REFUSALS(cases);
}

static void refuses_wrong_words_of_its_life(void **state)
{
	(void)state;
	static const struct refusal cases[] = {
		V("Restart=sometimes", RESTARTS),
		V("NotifyAccess=some", "not one of all, none, main, exec"),
		V("ReloadSignal=0", SIGNAL),
		V("FileDescriptorStoreMax=-1", "not a number from 0 to 2147483647"),
		V("FileDescriptorStorePreserve=always", "not one of restart, no, yes"),
	};
	CHECK_REFUSALS(cases);
}

static void refuses_wrong_times_and_signals(void **state)
{
	(void)state;
	static const struct refusal cases[] = {
		V("RestartSec=soon", SPAN),
		V("RestartSec=infinity", "must be finite"),
		V("TimeoutStartSec=-1", SPAN),
		V("TimeoutStopSec=", SPAN),
		V("TimeoutSec=5 parsecs", SPAN),
		V("WatchdogSec=1.5.5", SPAN),
		V("KillSignal=SIGNOT", SIGNAL),
		V("KillSignal=0", SIGNAL),
		V("KillMode=all", "not one of control-group, mixed, process, none"),
	};
	CHECK_REFUSALS(cases);
}

static void refuses_wrong_users_and_environments(void **state)
{
	(void)state;
	static const struct refusal cases[] = {
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
	};
	CHECK_REFUSALS(cases);
}

static void refuses_wrong_directories_and_modes(void **state)
{
	(void)state;
	static const struct refusal cases[] = {
		V("WorkingDirectory=srv", "not an absolute path"),
		V("WorkingDirectory=~", "~ is not supported: name the directory"),
		V("WorkingDirectory=-~", "~ is not supported: name the directory"),
		V("RuntimeDirectory=/run/x", "must be a relative path"),
		V("RuntimeDirectory=a /b", "must be a relative path"),
		V("StateDirectory=a:b", "DIRECTORY:LINK is not supported"),
		V("LogsDirectory=a b/../../c", "must not contain .."),
		V("CacheDirectoryMode=77777", "not an octal number up to 07777"),
		V("StateDirectory=a/../b", "must not contain .."),
		V("StateDirectory=..", "must not contain .."),
		V("UMask=8", "not an octal number up to 0777"),
		V("UMask=1000", "not an octal number up to 0777"),
		V("UMask=00022", "not an octal number up to 0777"),
		V("UMask=", "not an octal number up to 0777"),
	};
	CHECK_REFUSALS(cases);
}

static void refuses_wrong_limits(void **state)
{
	(void)state;
	static const struct refusal cases[] = {
		V("LimitNOFILE=0", "not a number from 1 on, or infinity"),
		V("LimitNOFILE=many", "not a number from 1 on, or infinity"),
		V("LimitNOFILE=99999999999999999999999999", "not a number from 1 on, or infinity"),
		V("OOMScoreAdjust=1001", "not a number from -1000 to 1000"),
		V("OOMScoreAdjust=-1001", "not a number from -1000 to 1000"),
		V("OOMScoreAdjust=low", "not a number from -1000 to 1000"),
	};
	CHECK_REFUSALS(cases);
}

static void refuses_wrong_policies(void **state)
{
	(void)state;
	static const struct refusal cases[] = {
		U("Policy=reload", "not one of reexec, handover, restart, keep"),
		U("ReexecSignal=USR3", SIGNAL),
		U("ReexecFinishSignal=", SIGNAL),
		U("ReadyTimeoutSec=infinity", "must be finite"),
		U("ReadyTimeoutSec=0", "must be more than 0"),
		U("SystemStorage=2", "not yes or no"),
		U("Handshake=maybe", "not yes or no"),
		U("PrepareTimeoutSec=infinity", "must be finite"),
		U("PrepareTimeoutSec=0", "must be more than 0"),
	};
	CHECK_REFUSALS(cases);
}

static void refuses_wrong_names_of_units(void **state)
{
	(void)state;
	static const struct refusal cases[] = {
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
	};
	CHECK_REFUSALS(cases);
}

static void refuses_wrong_sockets(void **state)
{
	(void)state;
	static const struct refusal cases[] = {
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
	expect_warnings(START "TasksMax=5\n[Unit]\nConflicts=y.service\nPartOf=z.service\n"
			      "[Timer]\nOnBootSec=1\n[service]\nUser=x\n[Unit]\nuser=x\n",
		"x:3: TasksMax= in [Service] is not supported, ignored\n"
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
	expect_warnings(START "FileDescriptorStoreMax=4224\n",
		"x:3: FileDescriptorStoreMax=4224: no more than 4096 are kept\n");
	expect_warnings(START "Type=dbus\n", "x:3: Type=dbus is not supported, taken as exec\n");
	expect_warnings(START "AmbientCapabilities=CAP_NO_SUCH\n",
		"x:3: CAP_NO_SUCH is no capability that is known here\n");
	expect_warnings(START "PrivateTmp=yes\nProtectSystem=full\nPrivateTmp=no\n",
		"x: sandboxing is not supported, ignored: PrivateTmp= ProtectSystem=\n");
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refuses_wrong_commands),
		cmocka_unit_test(refuses_wrong_words_of_its_life),
		cmocka_unit_test(refuses_wrong_times_and_signals),
		cmocka_unit_test(refuses_wrong_users_and_environments),
		cmocka_unit_test(refuses_wrong_directories_and_modes),
		cmocka_unit_test(refuses_wrong_limits),
		cmocka_unit_test(refuses_wrong_policies),
		cmocka_unit_test(refuses_wrong_names_of_units),
		cmocka_unit_test(refuses_wrong_sockets),
		cmocka_unit_test(a_value_in_a_message_is_cut_and_clean),
		cmocka_unit_test(checks_the_whole_unit),
		cmocka_unit_test(warns_of_what_it_ignores),
		cmocka_unit_test(refuses_what_is_no_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
