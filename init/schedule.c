/* SPDX-License-Identifier: MIT */
#include "init/schedule.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "init/keep.h"
#include "init/system.h"
#include "init/wall.h"
#include "kernel/log.h"
#include "kernel/loop.h"
#include "kernel/util.h"

#define NOLOGIN "/run/nologin"
/* An upgrade that cannot be left half-way comes first. */
#define RETRY_USEC USEC_PER_SEC

static struct {
	bool set, quiet, nologin;
	bool told; /* that it is now: it only waits for an upgrade */
	enum shutdown_kind kind;
	uint64_t due_usec; /* CLOCK_MONOTONIC */
	uint64_t at_usec; /* of the clock on the wall; 0: it was a span */
	char by[64], message[400];
} plan;

static struct loop_timer timer;
static uint64_t next_before_usec; /* of the life before */
/* Tells when somebody sets the clock, and nothing else. */
static struct loop_source clock_set = {.fd = -1};

static uint64_t wall_clock_usec(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * USEC_PER_SEC + (uint64_t)ts.tv_nsec / 1000;
}

static uint64_t left_usec(void)
{
	uint64_t now = clock_usec();

	return plan.due_usec > now ? plan.due_usec - now : 0;
}

static void find_due(void)
{
	uint64_t now = wall_clock_usec();

	if (plan.at_usec)
		plan.due_usec = deadline_in(plan.at_usec > now ? plan.at_usec - now : 0);
}

/* "at Sun 16:40", "NOW" */
static void say_when(char *buf, size_t size, uint64_t left)
{
	time_t at = (time_t)((wall_clock_usec() + left + USEC_PER_SEC / 2) / USEC_PER_SEC);
	struct tm tm;

	if (left < USEC_PER_SEC || !localtime_r(&at, &tm))
		(void)snprintf(buf, size, "NOW");
	else
		(void)strftime(buf, size, "at %a %Y-%m-%d %H:%M:%S %Z", &tm);
}

static void tell(
	enum shutdown_kind kind, uint64_t left, const char *by, const char *message, bool quiet)
{
	char when[64], text[160];

	say_when(when, sizeof(when), left);
	(void)snprintf(text, sizeof(text), "The system will %s %s!", shutdown_name(kind), when);
	if (!quiet)
		wall_send(text, by, message);
}

static void close_logins(void)
{
	char text[600], when[64];

	say_when(when, sizeof(when), left_usec());
	(void)snprintf(text, sizeof(text), "The system will %s %s.%s%s\n", shutdown_name(plan.kind),
		when, plan.message[0] ? " " : "", plan.message);
	CLEANUP_FD int fd =
		open(NOLOGIN, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		log_warning("cannot write %s: %s", NOLOGIN, strerror(errno));
	plan.nologin = true;
}

static void forget(void)
{
	timer_cancel(&timer);
	if (clock_set.fd >= 0) {
		int fd = clock_set.fd;
		loop_remove(&clock_set);
		(void)fd_close(fd);
	}
	plan.set = false;
}

static void open_logins(void)
{
	if (plan.nologin)
		(void)unlink(NOLOGIN);
	plan.nologin = false;
}

static void begin(void)
{
	struct error e;
	int r = shutdown_begin(plan.kind, &e);

	if (r < 0 && sys.state != SYSTEM_STOPPING) {
		timer_set(&timer, deadline_in(RETRY_USEC));
		return;
	}
	forget();
}

static void wait_for_next(void)
{
	uint64_t left = left_usec();

	if (left > 0 && left <= WHEN_NOLOGIN_USEC && !plan.nologin)
		close_logins();
	timer_set(&timer, left ? plan.due_usec - when_to_tell(left) : clock_usec());
}

static void expired(struct loop_timer *t)
{
	bool was_due = plan.told;

	(void)t;
	find_due();
	if (!was_due && left_usec() > 0) {
		tell(plan.kind, left_usec(), plan.by, plan.message, plan.quiet);
		wait_for_next();
		return;
	}
	if (!was_due) {
		log_notice("the time has come to %s", shutdown_name(plan.kind));
		tell(plan.kind, 0, plan.by, plan.message, plan.quiet);
		plan.told = true;
	}
	begin();
}

static void watch_clock(void);

static void clock_was_set(struct loop_source *s, uint32_t events)
{
	int fd = s->fd;

	(void)events;
	loop_remove(s);
	(void)fd_close(fd);
	log_notice("the clock was set: looking again when to %s", shutdown_name(plan.kind));
	find_due();
	watch_clock();
	wait_for_next();
}

/* timerfd_create(2): TFD_TIMER_CANCEL_ON_SET, of a time that never comes. */
static void watch_clock(void)
{
	struct itimerspec never = {.it_value.tv_sec = INT32_MAX};
	CLEANUP_FD int fd = -1;

	if (!plan.at_usec)
		return;
	fd = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	clock_set.ready = clock_was_set;
	if (fd < 0 ||
		timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, NULL) <
			0 ||
		loop_add(&clock_set, fd, EPOLLIN) < 0)
		log_warning("cannot watch the clock: %s", strerror(errno));
	else
		(void)fd_steal(&fd);
}

void schedule_tell(const struct schedule_request *q)
{
	uint64_t now = wall_clock_usec(), left = q->when.usec;

	if (q->when.at)
		left = left > now ? left - now : 0;
	tell(q->kind, left, q->by, q->message, false);
}

void schedule_tell_now(enum shutdown_kind kind)
{
	tell(kind, 0, NULL, NULL, false);
}

static void take(const struct schedule_request *q)
{
	bool nologin = plan.nologin;

	forget();
	memset(&plan, 0, sizeof(plan));
	plan.set = true;
	plan.nologin = nologin;
	plan.quiet = q->quiet;
	plan.kind = q->kind;
	(void)snprintf(plan.by, sizeof(plan.by), "%s", q->by ? q->by : "");
	(void)snprintf(plan.message, sizeof(plan.message), "%s", q->message ? q->message : "");
	plan.at_usec = q->when.at ? q->when.usec : 0;
	plan.due_usec = deadline_in(q->when.at ? 0 : q->when.usec);
	find_due();
}

int schedule_set(const struct schedule_request *q, struct error *e)
{
	char when[64];
	int r;

	if (!q->when.at && q->when.usec == 0) {
		r = shutdown_begin(q->kind, e);
		if (r == 0)
			tell(q->kind, 0, q->by, q->message, q->quiet);
		if (r == 0)
			forget();
		return r;
	}
	if (sys.state == SYSTEM_STOPPING)
		return error_say(e, EBUSY, "busy: the system is going down already");
	take(q);
	if (plan.nologin && left_usec() > WHEN_NOLOGIN_USEC)
		open_logins();
	timer.expired = expired;
	say_when(when, sizeof(when), left_usec());
	log_notice("it will %s %s%s%s", shutdown_name(plan.kind), when, plan.message[0] ? ": " : "",
		plan.message);
	tell(plan.kind, left_usec(), plan.by, plan.message, plan.quiet);
	watch_clock();
	wait_for_next();
	keep_now();
	return 0;
}

bool schedule_is_by(const char *by)
{
	return plan.set && strcmp(plan.by, by) == 0;
}

bool schedule_cancel(const char *by, const char *message, bool quiet)
{
	if (!plan.set)
		return false;
	forget();
	open_logins();
	log_notice("it will not %s after all", shutdown_name(plan.kind));
	if (!quiet)
		wall_send("The system shutdown has been cancelled.", by, message);
	keep_now();
	return true;
}

static void write_plan(struct record_writer *w)
{
	record_text(w, "kind", shutdown_word(plan.kind));
	record_text(w, "by", plan.by[0] ? plan.by : NULL);
	record_text(w, "message", plan.message[0] ? plan.message : NULL);
}

bool schedule_describe(struct record_writer *w)
{
	if (!plan.set)
		return false;
	record_begin(w, "scheduled", shutdown_word(plan.kind));
	write_plan(w);
	record_int(w, "left_usec", (int64_t)left_usec());
	record_int(w, "at_usec", (int64_t)(wall_clock_usec() + left_usec()));
	record_end(w);
	return true;
}

/* State */

void schedule_save(struct record_writer *w)
{
	if (!plan.set)
		return;
	record_begin(w, "schedule", "");
	write_plan(w);
	record_int(w, "due_usec", (int64_t)plan.due_usec);
	record_int(w, "at_usec", (int64_t)plan.at_usec);
	record_int(w, "next_usec", (int64_t)timer.deadline_usec);
	record_bool(w, "quiet", plan.quiet);
	record_bool(w, "nologin", plan.nologin);
	record_end(w);
}

void schedule_load(const struct record *r)
{
	const char *kind = record_get(r, "kind"), *by = record_get(r, "by"),
		   *message = record_get(r, "message");

	/* One that only another version knows is no shutdown of this one's. */
	if (!kind || !shutdown_kind_of(kind, &plan.kind))
		return;
	plan.set = true;
	(void)snprintf(plan.by, sizeof(plan.by), "%s", by ? by : "");
	(void)snprintf(plan.message, sizeof(plan.message), "%s", message ? message : "");
	plan.due_usec = (uint64_t)record_get_int(r, "due_usec", 0);
	plan.at_usec = (uint64_t)record_get_int(r, "at_usec", 0);
	plan.quiet = record_get_bool(r, "quiet", false);
	plan.nologin = record_get_bool(r, "nologin", false);
	next_before_usec = (uint64_t)record_get_int(r, "next_usec", 0);
}

void schedule_resume(void)
{
	if (!plan.set)
		return;
	if (sys.state == SYSTEM_STOPPING) {
		plan.set = false;
		return;
	}
	timer.expired = expired;
	find_due();
	watch_clock();
	timer_set(&timer, next_before_usec ? next_before_usec : clock_usec());
}
