/* SPDX-License-Identifier: MIT */
/* What several of the renderers share. */
#include "initctl/print.h"

#include <stdio.h>
#include <stdlib.h>

#include "initctl/text.h"

void print_clean(enum colour colour, const char *text)
{
	char *clean = text_clean(text);

	print_coloured(colour, clean);
	free(clean);
}

void print_heading(const char *text)
{
	(void)putchar('\n');
	print_paragraph(0, "", COLOUR_BOLD, text);
}

void print_warnings(const struct answer *a)
{
	size_t n;
	const struct record **warnings = answer_select(a, "warning", &n);

	for (size_t i = 0; i < n; i++)
		print_paragraph(9, "warning: ", COLOUR_YELLOW, field(warnings[i], "text"));
	free(warnings);
}

void json_records(struct json *j, const char *key, const struct answer *a, const char *kind)
{
	size_t n;
	const struct record **records = answer_select(a, kind, &n);

	json_array_begin(j, key);
	for (size_t i = 0; i < n; i++) {
		json_object_begin(j, NULL);
		json_record_members(j, records[i]);
		json_object_end(j);
	}
	json_array_end(j);
	free(records);
}

void json_texts(struct json *j, const char *key, const struct answer *a, const char *kind)
{
	size_t n;
	const struct record **records = answer_select(a, kind, &n);

	json_array_begin(j, key);
	for (size_t i = 0; i < n; i++)
		json_string(j, NULL, record_get(records[i], "text"));
	json_array_end(j);
	free(records);
}

void json_first_record(struct json *j, const char *key, const struct answer *a, const char *kind)
{
	const struct record *r = answer_find(a, kind);

	if (!r) {
		json_null(j, key);
		return;
	}
	json_object_begin(j, key);
	json_record_members(j, r);
	json_object_end(j);
}

void json_result_members(struct json *j, const struct result *r)
{
	json_string(j, "result", r->id);
	json_string(j, "text", r->text);
}

static void result_people(const struct answer *a)
{
	if (a->result.exit == CONTROL_EXIT_OK && *a->result.text)
		print_paragraph(0, "", COLOUR_NONE, a->result.text);
}

static void result_json(struct json *j, const struct answer *a)
{
	(void)j;
	(void)a;
}

const struct renderer render_result = {result_people, result_json};
