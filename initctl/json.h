/* SPDX-License-Identifier: MIT */
/*
 * A JSON writer (RFC 8259) to stdout, without white space: one value is one line. Its strings take
 * any bytes: what is no UTF-8 becomes U+FFFD, control characters become \uXXXX.
 */
#ifndef MOLT_INITCTL_JSON_H
#define MOLT_INITCTL_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include "conf/record.h"

/* Start from a zeroed struct. */
struct json {
	bool needs_comma; /* before the next member or element */
};

/* A key of NULL: an element of an array, or the whole document. */
void json_object_begin(struct json *j, const char *key);
void json_object_end(struct json *j);
void json_array_begin(struct json *j, const char *key);
void json_array_end(struct json *j);
void json_string(struct json *j, const char *key, const char *value); /* NULL is null */
void json_string_n(struct json *j, const char *key, const char *value, size_t length);
void json_number(struct json *j, const char *key, int64_t value);
void json_bool(struct json *j, const char *key, bool value);
void json_null(struct json *j, const char *key);
void json_document_end(struct json *j); /* the newline */

/*
 * The members for a record of the control protocol: its id and the fields that its kind has by
 * conf/protocol.h, with their types; null for a field that is not there. A kind that is not known
 * has none.
 */
bool json_knows(const char *kind);
void json_record_members(struct json *j, const struct record *r);

#endif
