/* SPDX-License-Identifier: MIT */
/* The records of conf/protocol.h as JSON: which member each field becomes. */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "initctl/json.h"

enum member_type {
	MEMBER_TEXT,
	MEMBER_NUMBER,
	MEMBER_BOOL, /* a field that is not there is false */
	MEMBER_LIST, /* of texts: every field of that key */
};

struct member {
	const char *field; /* NULL: the id of the record */
	const char *name;
	enum member_type type;
};

struct shape {
	const char *kind;
	const struct member *members;
};

static const struct member system_members[] = {
	{NULL, "version", MEMBER_TEXT},
	{"generation", "generation", MEMBER_NUMBER},
	{"state", "state", MEMBER_TEXT},
	{"image", "image", MEMBER_TEXT},
	{"up_usec", "up_usec", MEMBER_NUMBER},
	{"rss_bytes", "rss_bytes", MEMBER_NUMBER},
	{"kernel", "kernel", MEMBER_TEXT},
	{"init_pid", "init_pid", MEMBER_NUMBER},
	{0},
};

static const struct member attached_members[] = {
	{NULL, "generation", MEMBER_NUMBER},
	{"committed", "committed", MEMBER_BOOL},
	{"left_usec", "left_usec", MEMBER_NUMBER},
	{0},
};

static const struct member boot_members[] = {
	{"kernel_usec", "kernel_usec", MEMBER_NUMBER},
	{"initramfs_usec", "initramfs_usec", MEMBER_NUMBER},
	{"firmware_usec", "firmware_usec", MEMBER_NUMBER},
	{"stages_usec", "stages_usec", MEMBER_NUMBER},
	{"total_usec", "total_usec", MEMBER_NUMBER},
	{"waiting", "waiting", MEMBER_NUMBER},
	{0},
};

static const struct member stage_members[] = {
	{NULL, "name", MEMBER_TEXT},
	{"what", "what", MEMBER_TEXT},
	{"begin_usec", "begin_usec", MEMBER_NUMBER},
	{"usec", "usec", MEMBER_NUMBER},
	{"failed", "failed", MEMBER_BOOL},
	{0},
};

static const struct member start_members[] = {
	{NULL, "name", MEMBER_TEXT},
	{"begin_usec", "begin_usec", MEMBER_NUMBER},
	{"usec", "usec", MEMBER_NUMBER},
	{"waited_usec", "waited_usec", MEMBER_NUMBER},
	{"failed", "failed", MEMBER_BOOL},
	{0},
};

static const struct member scheduled_members[] = {
	{NULL, "kind", MEMBER_TEXT},
	{"left_usec", "left_usec", MEMBER_NUMBER},
	{"at_usec", "at_usec", MEMBER_NUMBER},
	{"message", "message", MEMBER_TEXT},
	{"by", "by", MEMBER_TEXT},
	{0},
};

static const struct member hook_members[] = {
	{NULL, "path", MEMBER_TEXT},
	{"phase", "phase", MEMBER_TEXT},
	{"usec", "usec", MEMBER_NUMBER},
	{"failed", "failed", MEMBER_BOOL},
	{"text", "text", MEMBER_TEXT},
	{0},
};

static const struct member unit_members[] = {
	{NULL, "name", MEMBER_TEXT},
	{"description", "description", MEMBER_TEXT},
	{"state", "state", MEMBER_TEXT},
	{"type", "type", MEMBER_TEXT},
	{"policy", "policy", MEMBER_TEXT},
	{"main_pid", "main_pid", MEMBER_NUMBER},
	{"state_usec", "state_usec", MEMBER_NUMBER},
	{"restarts", "restarts", MEMBER_NUMBER},
	{"errno", "errno", MEMBER_NUMBER},
	{"bus_error", "bus_error", MEMBER_TEXT},
	{"exit_status", "exit_status", MEMBER_NUMBER},
	{"status", "status", MEMBER_TEXT},
	{"result", "result", MEMBER_TEXT},
	{"source", "source", MEMBER_TEXT},
	{"log", "log", MEMBER_TEXT},
	{"memory_bytes", "memory_bytes", MEMBER_NUMBER},
	{"tasks", "tasks", MEMBER_NUMBER},
	{"exe_generation", "exe_generation", MEMBER_NUMBER},
	{"listen", "listen", MEMBER_LIST},
	{0},
};

static const struct member plan_members[] = {
	{NULL, "path", MEMBER_TEXT},
	{"generation", "generation", MEMBER_NUMBER},
	{"from", "from", MEMBER_TEXT},
	{"to", "to", MEMBER_TEXT},
	{"image", "image", MEMBER_TEXT},
	{"fstype", "fstype", MEMBER_TEXT},
	{"mode", "mode", MEMBER_TEXT},
	{"device", "device", MEMBER_TEXT},
	{"verity", "verity", MEMBER_BOOL},
	{0},
};

static const struct member namespace_members[] = {
	{NULL, "pid", MEMBER_NUMBER},
	{"comm", "comm", MEMBER_TEXT},
	{"fd", "fd", MEMBER_NUMBER},
	{"path", "path", MEMBER_TEXT},
	{"action", "action", MEMBER_TEXT},
	{"why", "why", MEMBER_TEXT},
	{0},
};

static const struct member mount_members[] = {
	{NULL, "path", MEMBER_TEXT},
	{"action", "action", MEMBER_TEXT},
	{"fstype", "fstype", MEMBER_TEXT},
	{0},
};

static const struct member carry_members[] = {
	{NULL, "path", MEMBER_TEXT},
	{"action", "action", MEMBER_TEXT},
	{0},
};

static const struct member service_members[] = {
	{NULL, "name", MEMBER_TEXT},
	{"policy", "policy", MEMBER_TEXT},
	{"action", "action", MEMBER_TEXT},
	{0},
};

static const struct member holder_members[] = {
	{NULL, "pid", MEMBER_NUMBER},
	{"comm", "comm", MEMBER_TEXT},
	{"unit", "unit", MEMBER_TEXT},
	{"uid", "uid", MEMBER_NUMBER},
	{"tid", "tid", MEMBER_NUMBER},
	{"generation", "generation", MEMBER_NUMBER},
	{"what", "what", MEMBER_TEXT},
	{"fd", "fd", MEMBER_NUMBER},
	{"mode", "mode", MEMBER_TEXT},
	{"path", "path", MEMBER_TEXT},
	{"part", "part", MEMBER_TEXT},
	{"deleted", "deleted", MEMBER_BOOL},
	{"more", "more", MEMBER_NUMBER},
	{"action", "action", MEMBER_TEXT},
	{"why", "why", MEMBER_TEXT},
	{"advice", "advice", MEMBER_TEXT},
	{0},
};

static const struct member skew_members[] = {
	{NULL, "name", MEMBER_TEXT},
	{"from", "from", MEMBER_TEXT},
	{"to", "to", MEMBER_TEXT},
	{"same", "same", MEMBER_BOOL},
	{0},
};

static const struct member text_members[] = {
	{"text", "text", MEMBER_TEXT},
	{0},
};

static const struct member phase_members[] = {
	{NULL, "name", MEMBER_TEXT},
	{"usec", "usec", MEMBER_NUMBER},
	{"blackout", "blackout", MEMBER_BOOL},
	{0},
};

static const struct member blackout_members[] = {
	{"usec", "usec", MEMBER_NUMBER},
	{"processes", "processes", MEMBER_NUMBER},
	{"migrated", "migrated", MEMBER_NUMBER},
	{"left", "left", MEMBER_NUMBER},
	{"tries", "tries", MEMBER_NUMBER},
	{0},
};

static const struct member log_members[] = {
	{NULL, "name", MEMBER_TEXT},
	{"path", "path", MEMBER_TEXT},
	{0},
};

static const struct shape shapes[] = {
	{"system", system_members},
	{"attached", attached_members},
	{"boot", boot_members},
	{"stage", stage_members},
	{"start", start_members},
	{"scheduled", scheduled_members},
	{"hook", hook_members},
	{"unit", unit_members},
	{"plan", plan_members},
	{"mount", mount_members},
	{"namespace", namespace_members},
	{"carry", carry_members},
	{"service", service_members},
	{"holder", holder_members},
	{"skew", skew_members},
	{"blocker", text_members},
	{"warning", text_members},
	{"progress", text_members},
	{"phase", phase_members},
	{"blackout", blackout_members},
	{"log", log_members},
};

static const struct shape *shape_of(const char *kind)
{
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		if (strcmp(shapes[i].kind, kind) == 0)
			return &shapes[i];
	}
	return NULL;
}

bool json_knows(const char *kind)
{
	return shape_of(kind) != NULL;
}

/* What is no number is null, so that a reader never meets another type than it expects. */
static void put_number(struct json *j, const char *name, const char *text)
{
	char *end = NULL;

	errno = 0;
	long long value = text ? strtoll(text, &end, 10) : 0;
	if (!text || end == text || *end || errno)
		json_null(j, name);
	else
		json_number(j, name, value);
}

static void put_list(struct json *j, const struct record *r, const struct member *m)
{
	json_array_begin(j, m->name);
	for (size_t i = 0; record_get_nth(r, m->field, i); i++)
		json_string(j, NULL, record_get_nth(r, m->field, i));
	json_array_end(j);
}

static void put_member(struct json *j, const struct record *r, const struct member *m)
{
	const char *value = m->field ? record_get(r, m->field) : r->id;

	switch (m->type) {
	case MEMBER_TEXT:
		json_string(j, m->name, value);
		break;
	case MEMBER_NUMBER:
		put_number(j, m->name, value);
		break;
	case MEMBER_BOOL:
		json_bool(j, m->name, record_get_bool(r, m->field, false));
		break;
	case MEMBER_LIST:
		put_list(j, r, m);
		break;
	}
}

void json_record_members(struct json *j, const struct record *r)
{
	const struct shape *shape = shape_of(r->kind);

	for (const struct member *m = shape ? shape->members : NULL; m && m->name; m++)
		put_member(j, r, m);
}
