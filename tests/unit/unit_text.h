/* SPDX-License-Identifier: MIT */
/* Reading the text of a unit, in a test: what it says, what it refuses, what it warns of. */
#ifndef MOLT_TESTS_UNIT_TEXT_H
#define MOLT_TESTS_UNIT_TEXT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs those four before it. */
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "conf/unit.h"
#include "tests/unit/heard.h"

static inline int parse(const char *text, struct unit **ret, struct heard *h, struct error *e)
{
	return unit_parse(ret, "x.service", "x", text, strlen(text), hear, h, e);
}

static inline struct unit *unit_of(const char *text)
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

static inline void expect_error(const char *text, const char *expected)
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

static inline void expect_warnings(const char *text, const char *expected)
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

struct refusal {
	const char *text;
	const char *expected;
};

static inline void check_refusals(const struct refusal *cases, size_t n)
{
	for (size_t i = 0; i < n; i++)
		expect_error(cases[i].text, cases[i].expected);
}

#define CHECK_REFUSALS(cases) check_refusals(cases, sizeof(cases) / sizeof((cases)[0]))

#endif
