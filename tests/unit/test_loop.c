/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs those four before it. */
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "kernel/loop.h"
#include "kernel/util.h"

struct thing {
	struct loop_source source;
	struct loop_timer timer;
	int ends[2];
	int calls;
	struct thing *other;
};

static char order[64];
static size_t n_order;

static struct thing *of_timer(struct loop_timer *t)
{
	return (struct thing *)((char *)t - offsetof(struct thing, timer));
}

static struct thing *of_source(struct loop_source *s)
{
	return (struct thing *)((char *)s - offsetof(struct thing, source));
}

static void note(struct loop_timer *t)
{
	order[n_order++] = (char)('a' + of_timer(t)->calls);
}

static struct thing *thing_new(void)
{
	struct thing *t = calloc(1, sizeof(*t));

	assert_non_null(t);
	t->source.fd = -1;
	assert_int_equal(pipe(t->ends), 0);
	return t;
}

static void thing_free(struct thing *t)
{
	loop_remove(&t->source);
	timer_cancel(&t->timer);
	(void)close(t->ends[0]);
	(void)close(t->ends[1]);
	free(t);
}

static void take(struct loop_source *s, uint32_t events)
{
	char c;

	assert_true(events & EPOLLIN);
	assert_int_equal(read(s->fd, &c, 1), 1);
	of_source(s)->calls++;
}

static int set_up(void **state)
{
	(void)state;
	n_order = 0;
	return loop_init();
}

static void test_source(void **state)
{
	struct thing *t = thing_new();

	(void)state;
	t->source.ready = take;
	assert_int_equal(loop_add(&t->source, t->ends[0], EPOLLIN), 0);
	assert_int_equal(loop_add(&(struct loop_source){.fd = -1}, t->ends[0], EPOLLIN), -EEXIST);
	assert_int_equal(loop_add(&(struct loop_source){.fd = -1}, -1, EPOLLIN), -EBADF);
	assert_int_equal(write(t->ends[1], "xy", 2), 2);
	assert_int_equal(loop_run_once(), 0);
	assert_int_equal(t->calls, 1); /* one event at a time */
	assert_int_equal(loop_run_once(), 0);
	assert_int_equal(t->calls, 2);
	loop_remove(&t->source);
	loop_remove(&t->source);
	assert_int_equal(t->source.fd, -1);
	thing_free(t);
}

static void free_both(struct loop_source *s, uint32_t events)
{
	struct thing *t = of_source(s);

	(void)events;
	n_order++;
	thing_free(t->other);
	thing_free(t);
}

/* Both are ready; whichever is first frees itself and the other, whose event must not come any
 * more. */
static void test_handler_frees_itself_and_another_that_is_ready(void **state)
{
	struct thing *a = thing_new(), *b = thing_new();
	struct loop_timer stop = {.expired = note};

	(void)state;
	a->other = b;
	b->other = a;
	a->source.ready = b->source.ready = free_both;
	assert_int_equal(loop_add(&a->source, a->ends[0], EPOLLIN), 0);
	assert_int_equal(loop_add(&b->source, b->ends[0], EPOLLIN), 0);
	assert_int_equal(write(a->ends[1], "x", 1) + write(b->ends[1], "x", 1), 2);
	assert_int_equal(loop_run_once(), 0);
	assert_int_equal(n_order, 1);
	stop.expired = (void (*)(struct loop_timer *))free;
	struct loop_timer *on_heap = calloc(1, sizeof(*on_heap));
	assert_non_null(on_heap);
	*on_heap = stop;
	timer_set(on_heap, clock_usec());
	assert_int_equal(loop_run_once(), 0); /* a timer may free itself as well */
	assert_int_equal(n_order, 1);
}

static void test_timers_fire_once_in_order(void **state)
{
	struct thing t[4] = {{.calls = 0}, {.calls = 1}, {.calls = 2}, {.calls = 3}};
	uint64_t now = clock_usec();

	(void)state;
	for (size_t i = 0; i < 4; i++)
		t[i].timer.expired = note;
	timer_set(&t[2].timer, now + 3000);
	timer_set(&t[0].timer, now + 1000);
	timer_set(&t[3].timer, now + 3000); /* as late as c, set later */
	timer_set(&t[1].timer, now + 2000);
	while (n_order < 4)
		assert_int_equal(loop_run_once(), 0);
	assert_memory_equal(order, "abcd", 4);
	assert_true(clock_usec() >= now + 3000);
	for (size_t i = 0; i < 4; i++)
		assert_false(timer_armed(&t[i].timer));
}

static void test_timer_is_set_again_cancelled_and_infinite(void **state)
{
	struct thing a = {.calls = 0}, b = {.calls = 1};
	uint64_t now = clock_usec();

	(void)state;
	a.timer.expired = b.timer.expired = note;
	timer_set(&a.timer, now);
	timer_set(&a.timer, now + 2000);
	timer_set(&b.timer, 0); /* the past is now */
	assert_true(timer_armed(&b.timer));
	assert_int_equal(loop_run_once(), 0);
	assert_memory_equal(order, "b", 1);
	timer_set(&b.timer, USEC_INFINITY);
	assert_false(timer_armed(&b.timer));
	timer_cancel(&b.timer);
	while (n_order < 2)
		assert_int_equal(loop_run_once(), 0);
	assert_memory_equal(order, "ba", 2);
}

static void again(struct loop_timer *t)
{
	n_order++;
	timer_set(t, clock_usec());
}

static void keep(struct loop_source *s, uint32_t events)
{
	(void)events;
	of_source(s)->calls++; /* and leaves it ready */
}

/* Neither a descriptor that is always ready nor a timer that is always due keeps the other waiting.
 */
static void test_nobody_starves(void **state)
{
	struct thing *t = thing_new(), *u = thing_new();

	(void)state;
	t->source.ready = u->source.ready = keep;
	t->timer.expired = again;
	assert_int_equal(loop_add(&t->source, t->ends[0], EPOLLIN), 0);
	assert_int_equal(loop_add(&u->source, u->ends[0], EPOLLIN), 0);
	assert_int_equal(write(t->ends[1], "x", 1) + write(u->ends[1], "x", 1), 2);
	timer_set(&t->timer, clock_usec());
	for (int i = 0; i < 100; i++)
		assert_int_equal(loop_run_once(), 0);
	assert_true(n_order >= 90);
	assert_in_range(t->calls, 40, 60);
	assert_in_range(u->calls, 40, 60);
	thing_free(t);
	thing_free(u);
}

static void test_many_timers(void **state)
{
	enum { N = 4096 };
	struct thing *t = calloc(N, sizeof(*t));
	uint64_t begin = clock_usec();

	(void)state;
	assert_non_null(t);
	for (size_t i = 0; i < N; i++)
		timer_set(&t[i].timer, begin + 1000000000 + i * 7919 % N);
	for (size_t i = 0; i < N; i += 2)
		timer_cancel(&t[i].timer);
	for (size_t i = 1; i < N; i += 2)
		assert_true(t[i].timer.next == NULL ||
			    t[i].timer.next->deadline_usec >= t[i].timer.deadline_usec);
	for (size_t i = 1; i < N; i += 2)
		timer_cancel(&t[i].timer);
	free(t);
	assert_true(clock_usec() - begin < USEC_PER_SEC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_source, set_up),
		cmocka_unit_test_setup(test_handler_frees_itself_and_another_that_is_ready, set_up),
		cmocka_unit_test_setup(test_timers_fire_once_in_order, set_up),
		cmocka_unit_test_setup(test_timer_is_set_again_cancelled_and_infinite, set_up),
		cmocka_unit_test_setup(test_nobody_starves, set_up),
		cmocka_unit_test_setup(test_many_timers, set_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
