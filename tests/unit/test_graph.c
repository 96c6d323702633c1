/* SPDX-License-Identifier: MIT */
/* Ranks and edges from After= and Before=, without a service in sight. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernel/util.h"
#include "services/graph.h"

#define MAX 2048

static struct unit *units[MAX];
static size_t n_units;
static char broken_names[256];

static struct unit *unit(const char *name)
{
	struct unit *u = calloc(1, sizeof(*u));

	assert_non_null(u);
	u->name = strdup(name);
	assert_int_equal(strings_ensure(&u->after), 0);
	assert_int_equal(strings_ensure(&u->before), 0);
	units[n_units++] = u;
	return u;
}

static int forget_units(void **state)
{
	(void)state;
	for (size_t i = 0; i < n_units; i++) {
		free(units[i]->name);
		strings_free(units[i]->after);
		strings_free(units[i]->before);
		free(units[i]);
	}
	n_units = 0;
	broken_names[0] = '\0';
	return 0;
}

static void after(struct unit *u, const char *name)
{
	assert_int_equal(strings_append(&u->after, name), 0);
}

static void before(struct unit *u, const char *name)
{
	assert_int_equal(strings_append(&u->before, name), 0);
}

static void note_broken(const struct unit *u, void *userdata)
{
	(void)userdata;
	(void)strcat(strcat(broken_names, u->name), " ");
}

static struct graph build(void)
{
	struct graph g;

	assert_int_equal(
		graph_build(&g, (const struct unit *const *)units, n_units, note_broken, NULL), 0);
	assert_int_equal(g.n, n_units);
	return g;
}

/* The names in their order, and with each those it comes after: "b a:b c:ab" */
static void assert_order(const char *expected)
{
	struct graph g = build();
	char text[512] = "";

	for (unsigned rank = 0; rank < g.n; rank++) {
		for (size_t i = 0; i < g.n; i++) {
			if (g.rank[i] != rank)
				continue;
			(void)strcat(strcat(text, rank ? " " : ""), units[i]->name);
			for (size_t k = g.first[i]; k < g.first[i + 1]; k++) {
				assert_true(g.rank[g.after[k]] < g.rank[i]);
				(void)strcat(strcat(text, k == g.first[i] ? ":" : ""),
					units[g.after[k]]->name);
			}
		}
	}
	assert_string_equal(text, expected);
	graph_free(&g);
}

static void test_nothing(void **state)
{
	(void)state;
	assert_order("");
	graph_free(&(struct graph){0});
}

static void test_given_order_where_none_is_said(void **state)
{
	(void)state;
	unit("c");
	unit("a");
	unit("b");
	assert_order("c a b");
}

static void test_both_ways_of_saying_it(void **state)
{
	(void)state;
	struct unit *a = unit("a"), *b = unit("b"), *c = unit("c");

	after(a, "b");
	before(c, "b");
	after(a, "not-loaded");
	assert_order("c b:c a:b");
	assert_true(graph_is_after(a, b));
	assert_true(graph_is_after(b, c));
	assert_false(graph_is_after(a, c)); /* only through b */
	assert_false(graph_is_after(a, a));
}

/* networking.service is Before=network.target, ssh.service After= it. */
static void test_targets_order_who_meets_there(void **state)
{
	(void)state;
	struct unit *a = unit("a"), *b = unit("b"), *c = unit("c"), *d = unit("d");

	after(a, "x.target");
	before(b, "x.target");
	after(c, "x.target");
	before(c, "y.mount");
	after(c, "y.mount"); /* itself is nobody to wait for */
	after(d, "y.mount");
	assert_order("b a:b c:b d:c");
	assert_string_equal(broken_names, "");
}

/* One that is not there, and not started, holds up nobody. */
static void test_services_that_are_not_there_order_nobody(void **state)
{
	(void)state;
	struct unit *a = unit("a"), *b = unit("b");

	after(a, "x.service");
	before(b, "x.service");
	assert_order("a b");
}

static void test_said_twice(void **state)
{
	(void)state;
	struct unit *a = unit("a"), *b = unit("b");

	after(a, "b");
	after(a, "b");
	before(b, "a");
	assert_order("b a:bbb");
}

static void test_what_is_freed_late_still_comes_in_the_given_order(void **state)
{
	(void)state;
	struct unit *a = unit("a");

	unit("b");
	unit("c");
	after(a, "b");
	assert_order("b a:b c");
}

static void test_itself(void **state)
{
	(void)state;
	after(unit("a"), "a");
	assert_order("a");
	assert_string_equal(broken_names, "");
}

static void test_circle_is_broken_at_its_first(void **state)
{
	(void)state;
	struct unit *a = unit("a"), *b = unit("b"), *c = unit("c"), *d = unit("d");

	/* a only waits for the circle of b, c and d: it is not to blame, and comes after it. */
	after(a, "b");
	after(b, "c");
	after(c, "d");
	after(d, "b");
	assert_order("b a:b d:b c:d");
	assert_string_equal(broken_names, "b ");
}

static void test_two_circles(void **state)
{
	(void)state;
	after(unit("a"), "b");
	after(unit("b"), "a");
	after(unit("c"), "d");
	after(unit("d"), "c");
	assert_order("a b:a c d:c");
	assert_string_equal(broken_names, "a c ");
}

static void assert_quick(uint64_t begin)
{
	assert_true(clock_usec() - begin < 2 * USEC_PER_SEC);
}

static void many(size_t n)
{
	char name[16];

	for (size_t i = 0; i < n; i++) {
		(void)snprintf(name, sizeof(name), "u%04zu", i);
		unit(name);
	}
}

/* PID 1 does this at every start of a service: it must not take noticeable time. */
static void test_many_backwards(void **state)
{
	uint64_t begin = clock_usec();

	(void)state;
	many(MAX);
	for (size_t i = 0; i + 1 < MAX; i++)
		after(units[i], units[i + 1]->name);
	struct graph g = build();
	for (size_t i = 0; i < MAX; i++)
		assert_int_equal(g.rank[i], MAX - 1 - i);
	graph_free(&g);
	assert_quick(begin);
}

static void test_many_circles(void **state)
{
	uint64_t begin = clock_usec();

	(void)state;
	many(MAX);
	for (size_t i = 0; i < MAX; i += 2) {
		after(units[i], units[i + 1]->name);
		after(units[i + 1], units[i]->name);
	}
	struct graph g;
	assert_int_equal(
		graph_build(&g, (const struct unit *const *)units, n_units, NULL, NULL), 0);
	for (size_t i = 0; i < MAX; i++)
		assert_int_equal(g.rank[i], i);
	graph_free(&g);
	assert_quick(begin);
}

/* Whatever is said: every rank is there once, and no edge that is kept points upwards. */
static void test_random(void **state)
{
	(void)state;
	srand(1);
	for (int round = 0; round < 200; round++) {
		size_t n = (size_t)(rand() % 40);
		many(n);
		for (size_t k = 0; n > 0 && k < (size_t)(rand() % 100); k++)
			(rand() % 2 ? after : before)(
				units[(size_t)rand() % n], units[(size_t)rand() % n]->name);
		struct graph g = build();
		bool seen[40] = {false};
		for (size_t i = 0; i < n; i++) {
			assert_true(g.rank[i] < n && !seen[g.rank[i]]);
			seen[g.rank[i]] = true;
			for (size_t j = g.first[i]; j < g.first[i + 1]; j++)
				assert_true(graph_is_after(units[i], units[g.after[j]]) &&
					    g.rank[g.after[j]] < g.rank[i]);
		}
		graph_free(&g);
		(void)forget_units(NULL);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_nothing, forget_units),
		cmocka_unit_test_teardown(test_given_order_where_none_is_said, forget_units),
		cmocka_unit_test_teardown(test_both_ways_of_saying_it, forget_units),
		cmocka_unit_test_teardown(test_targets_order_who_meets_there, forget_units),
		cmocka_unit_test_teardown(
			test_services_that_are_not_there_order_nobody, forget_units),
		cmocka_unit_test_teardown(test_said_twice, forget_units),
		cmocka_unit_test_teardown(
			test_what_is_freed_late_still_comes_in_the_given_order, forget_units),
		cmocka_unit_test_teardown(test_itself, forget_units),
		cmocka_unit_test_teardown(test_circle_is_broken_at_its_first, forget_units),
		cmocka_unit_test_teardown(test_two_circles, forget_units),
		cmocka_unit_test_teardown(test_many_backwards, forget_units),
		cmocka_unit_test_teardown(test_many_circles, forget_units),
		cmocka_unit_test_teardown(test_random, forget_units),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
