/* SPDX-License-Identifier: MIT */
/* The values of a unit by themselves: spans, signals, booleans, addresses, names. */
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
		{"80", NULL, 80, LISTEN_INET},
		{"65535", NULL, 65535, LISTEN_INET},
		{"127.0.0.1:80", "127.0.0.1", 80, LISTEN_INET},
		{"0.0.0.0:1", "0.0.0.0", 1, LISTEN_INET},
		{"[::1]:443", "::1", 443, LISTEN_INET},
		{"[::]:443", "::", 443, LISTEN_INET},
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
	assert_string_equal(upgrade_policy_name(POLICY_REEXEC), "reexec");
	assert_string_equal(upgrade_policy_name(POLICY_KEEP), "keep");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parses_spans),
		cmocka_unit_test(parses_signals),
		cmocka_unit_test(parses_booleans),
		cmocka_unit_test(parses_addresses),
		cmocka_unit_test(enumerators_have_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
