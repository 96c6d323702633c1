/* SPDX-License-Identifier: MIT */
#include "upgrade/report.h"

#include <stdio.h>

#include "kernel/log.h"
#include "kernel/util.h"
#include "services/service.h"

static void (*emit_record)(const char *text, size_t length);
static uint64_t began_usec;

void report_init(void (*emit)(const char *text, size_t length))
{
	emit_record = emit;
}

static void emit(struct record_writer *w)
{
	if (!w->error)
		emit_record(w->text, w->length);
	record_writer_done(w);
}

static void emit_phase(const char *name, uint64_t usec, bool blackout)
{
	struct record_writer w = {0};

	record_begin(&w, "phase", name);
	record_int(&w, "usec", (int64_t)usec);
	record_bool(&w, "blackout", blackout);
	record_end(&w);
	emit(&w);
	log_info("upgrade: %s took %llu.%03llu ms", name, (unsigned long long)(usec / 1000),
		(unsigned long long)(usec % 1000));
}

void report_begin(void)
{
	began_usec = clock_usec();
}

void report_end_phase(const char *name, bool blackout)
{
	uint64_t now = clock_usec();

	emit_phase(name, now - began_usec, blackout);
	began_usec = now;
}

static void emit_blackout(const struct blackout_report *b)
{
	struct record_writer w = {0};

	record_begin(&w, "blackout", "");
	record_int(&w, "usec", (int64_t)b->total_usec);
	record_int(&w, "processes", (int64_t)b->n_processes);
	record_int(&w, "migrated", (int64_t)b->n_migrated);
	record_int(&w, "left", (int64_t)b->n_left);
	record_int(&w, "tries", b->n_tries);
	record_end(&w);
	emit(&w);
}

void report_blackout(const struct blackout_report *b)
{
	for (enum blackout_phase p = 0; p < N_PHASES; p++)
		emit_phase(blackout_phase_name(p), b->usec[p], true);
	emit_blackout(b);
	log_info(
		"upgrade: blackout of %llu.%03llu ms, %zu processes, %zu tasks migrated, %zu references left",
		(unsigned long long)(b->total_usec / 1000),
		(unsigned long long)(b->total_usec % 1000), b->n_processes, b->n_migrated,
		b->n_left);
	report_begin();
}

void report_progress(const char *format, ...)
{
	struct record_writer w = {0};
	char text[512];
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	log_info("upgrade: %s", text);
	record_begin(&w, "progress", "");
	record_text(&w, "text", text);
	record_end(&w);
	emit(&w);
}

void report_warning(const char *text)
{
	struct record_writer w = {0};

	record_begin(&w, "warning", "");
	record_text(&w, "text", text);
	record_end(&w);
	emit(&w);
}

void report_hook(
	const char *kind, const char *path, uint64_t usec, const char *last, const char *failed)
{
	struct record_writer w = {0};

	record_begin(&w, "hook", path);
	record_text(&w, "phase", kind);
	record_int(&w, "usec", (int64_t)usec);
	record_bool(&w, "failed", failed != NULL);
	record_text(&w, "text", failed ? failed : last);
	record_end(&w);
	emit(&w);
	if (failed)
		log_error("upgrade: %s", failed);
}

void report_rolled(const struct service *s)
{
	report_progress(
		"%s: %s", s->unit->name, s->roll.state == ROLL_FAILED ? s->roll.why : "done");
}

void report_save(struct record_writer *w)
{
	record_int(w, "phase_began_usec", (int64_t)began_usec);
}

void report_load(const struct record *r)
{
	began_usec = (uint64_t)record_get_int(r, "phase_began_usec", (int64_t)clock_usec());
}
