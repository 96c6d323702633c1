/* SPDX-License-Identifier: MIT */
/* The answers of PID 1 for people, and as JSON. All of it goes to stdout. */
#ifndef MOLT_INITCTL_PRINT_H
#define MOLT_INITCTL_PRINT_H

#include <stdbool.h>
#include <stdint.h>

#include "initctl/answer.h"
#include "initctl/json.h"
#include "initctl/terminal.h"

/* One way to show a whole answer. As JSON it adds members to the object that is the document. */
struct renderer {
	void (*people)(const struct answer *a);
	void (*json)(struct json *j, const struct answer *a);
};

extern const struct renderer render_status; /* the system and its services */
extern const struct renderer render_service; /* one service, in full */
extern const struct renderer render_plan;
extern const struct renderer render_holders;
extern const struct renderer render_blame;
extern const struct renderer render_version;
extern const struct renderer
	render_result; /* nothing but the text of the result, if there is any */

/* Whether a service of that state is up: running, reloading, or exited and remembered as done. */
bool state_is_active(const char *state);
enum colour state_colour(const char *state);

/* Whether its main process still runs a program of an image before that generation. */
bool runs_old_code(const struct record *unit, int64_t generation);

/* The members "system" and "services", for many services or one. */
void status_json(struct json *j, const struct answer *a);

/* Prints a text after making it clean. */
void print_clean(enum colour colour, const char *text);

/* Which generation a rollback would go to, and for how long yet; nothing if there is none. */
void print_attached(const struct answer *a);

/* The shutdown that is scheduled; nothing if there is none. */
void print_scheduled(const struct answer *a);

/* A line that begins a part of a long answer, after an empty one. */
void print_heading(const char *text);

/* Of a plan: whether the C library changes, and who goes on running the old one. */
void print_skew(const struct answer *a);

/* "warning: TEXT" for every warning record. */
void print_warnings(const struct answer *a);

/* What an upgrade would do: everything of a plan but the sentence that says what to do about it. */
void print_plan_body(const struct answer *a);

/* Whether it says by its blockers why it was refused: then no complaint is needed. */
bool plan_is_refused(const struct answer *a);

/* The holders of an answer, grouped by service: all of them, under a line of titles. */
void print_holder_table(const struct answer *a);

/*
 * What a person does about them, "`initctl restart postgres` releases it"; nothing if that is
 * nothing. `planned`: they are what an upgrade would leave behind.
 */
void print_holder_advice(const struct answer *a, bool planned);

/* A JSON array of all records of that kind; of only their texts; the first of them, or null. */
void json_records(struct json *j, const char *key, const struct answer *a, const char *kind);
void json_texts(struct json *j, const char *key, const struct answer *a, const char *kind);
void json_first_record(struct json *j, const char *key, const struct answer *a, const char *kind);
/* The members "result" and "text" that end every document. */
void json_result_members(struct json *j, const struct result *r);

#endif
