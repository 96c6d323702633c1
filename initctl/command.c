/* SPDX-License-Identifier: MIT */
#include "initctl/command.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "initctl/answer.h"
#include "initctl/format.h"
#include "initctl/memory.h"
#include "initctl/print_upgrade.h"
#include "initctl/text.h"

#define LINES_DEFAULT 20

void complain(const char *text)
{
	char *clean = text_clean(text);

	(void)fprintf(stderr, "initctl: %s\n", clean);
	free(clean);
}

static bool has(const struct invocation *i, enum verb_option option)
{
	return (i->options & (unsigned)option) != 0;
}

static struct request request_of(const struct invocation *i)
{
	const char *argument = i->n_arguments > 0 ? i->arguments[0] : NULL;
	enum subject subject = i->verb->subject;

	return (struct request){
		.verb = i->verb->name,
		.unit = subject == SUBJECT_SERVICE || subject == SUBJECT_LOG ? argument : NULL,
		.path = subject == SUBJECT_IMAGE ? argument : NULL,
		.mount_options = i->image.mount_options,
		.verity_hash = i->image.verity_hash,
		.root_hash = i->image.root_hash,
		.root_hash_signature = i->image.root_hash_signature,
		.read_only = has(i, OPTION_READ_ONLY),
		.force = has(i, OPTION_FORCE),
		.dry_run = has(i, OPTION_DRY_RUN),
		.commit = has(i, OPTION_AUTO_COMMIT)      ? "auto"
			  : has(i, OPTION_NO_AUTO_COMMIT) ? "hand"
							  : NULL,
		.commit_within = i->within,
	};
}

/* The exit code, after a complaint if the request did not succeed. */
static int conclude(const struct result *r)
{
	if (r->exit != CONTROL_EXIT_OK)
		complain(*r->text ? r->text : r->id);
	return (int)r->exit;
}

/* ---- one answer, one document ---- */

static void print_json_document(const struct renderer *renderer, const struct answer *a)
{
	struct json j = {0};

	json_object_begin(&j, NULL);
	renderer->json(&j, a);
	json_result_members(&j, &a->result);
	json_object_end(&j);
	json_document_end(&j);
}

static int show(const struct invocation *i, const struct renderer *renderer, const struct answer *a)
{
	if (has(i, OPTION_JSON))
		print_json_document(renderer, a);
	else
		renderer->people(a);
	/* First what was printed, then the complaint about it, also where both go to one file. */
	(void)output_flush();
	if (renderer == &render_plan && plan_is_refused(a))
		return (int)a->result.exit;
	return conclude(&a->result);
}

int run_document(const struct invocation *i)
{
	struct request q = request_of(i);
	struct answer a;

	ask_all(&q, &a);
	int code = show(i, i->verb->renderer, &a);
	answer_done(&a);
	return code;
}

static int status_of_service(const struct answer *a)
{
	const struct record *unit = answer_find(a, "unit");

	return unit && state_is_active(field(unit, "state")) ? CONTROL_EXIT_OK
							     : CONTROL_EXIT_INACTIVE;
}

int run_status(const struct invocation *i)
{
	struct request q = request_of(i);
	struct answer a;

	ask_all(&q, &a);
	int code = show(i, q.unit ? &render_service : &render_status, &a);
	if (code == CONTROL_EXIT_OK && q.unit)
		code = status_of_service(&a);
	answer_done(&a);
	return code;
}

/* ---- several services ---- */

static void add_to_document(struct json *j, const char *name, const struct result *r)
{
	json_object_begin(j, NULL);
	json_string(j, "name", name);
	json_result_members(j, r);
	json_object_end(j);
}

static int ask_for_service(const struct invocation *i, const char *name, struct json *j)
{
	struct request q = request_of(i);
	struct answer a;

	q.unit = name;
	ask_all(&q, &a);
	if (has(i, OPTION_JSON))
		add_to_document(j, name, &a.result);
	else
		render_result.people(&a);
	if (!has(i, OPTION_JSON))
		(void)output_flush();
	int code = conclude(&a.result);
	answer_done(&a);
	return code;
}

/* One that fails does not keep the others from being tried; the first failure is the exit code. */
int run_services(const struct invocation *i)
{
	struct json j = {0};
	int code = CONTROL_EXIT_OK;

	if (has(i, OPTION_JSON)) {
		json_object_begin(&j, NULL);
		json_array_begin(&j, "services");
	}
	for (int n = 0; n < i->n_arguments; n++) {
		int one = ask_for_service(i, i->arguments[n], &j);

		if (code == CONTROL_EXIT_OK)
			code = one;
	}
	if (has(i, OPTION_JSON)) {
		json_array_end(&j);
		json_object_end(&j);
		json_document_end(&j);
	}
	return code;
}

/* ---- upgrade, rollback, commit ---- */

/* Only async-signal-safe calls: what was printed is flushed after every record. */
static void on_interrupt(int signal)
{
	static const char text[] = "\ninitctl: what PID 1 has begun goes on without this"
				   " command; `initctl status` shows how things are\n";

	(void)!write(STDERR_FILENO, text, sizeof(text) - 1);
	_exit(128 + signal);
}

int run_transaction(const struct invocation *i)
{
	struct sigaction interrupt = {.sa_handler = on_interrupt};
	struct timeline t = {.json = has(i, OPTION_JSON), .dry_run = has(i, OPTION_DRY_RUN)};
	struct request q = request_of(i);
	struct result result = {0};

	(void)sigaction(SIGINT, &interrupt, NULL);
	ask(&q, timeline_record, &t, &result);
	timeline_end(&t, &result);
	(void)output_flush();
	if (!timeline_has_outcome(&result))
		(void)conclude(&result);
	int code = (int)result.exit;
	result_done(&result);
	return code;
}

/* ---- log ---- */

static int print_log(const struct invocation *i, const char *path)
{
	struct log_options options = {
		.lines = has(i, OPTION_LINES) ? i->lines : LINES_DEFAULT,
		.follow = has(i, OPTION_FOLLOW),
		.json = has(i, OPTION_JSON),
	};
	struct error e = {0};

	if (log_print(path, &options, &e) == 0)
		return CONTROL_EXIT_OK;
	(void)output_flush();
	complain(e.text);
	return CONTROL_EXIT_FAILED;
}

int run_log(const struct invocation *i)
{
	struct request q = request_of(i);
	struct answer a;
	int code;

	ask_all(&q, &a);
	const struct record *log = answer_find(&a, "log");
	if (a.result.exit != CONTROL_EXIT_OK) {
		code = has(i, OPTION_JSON) ? show(i, &render_result, &a) : conclude(&a.result);
	} else if (!log || !*field(log, "path")) {
		complain("PID 1 keeps no log of this service");
		code = CONTROL_EXIT_FAILED;
	} else {
		code = print_log(i, field(log, "path"));
	}
	answer_done(&a);
	return code;
}
