/* SPDX-License-Identifier: MIT */
/*
 * Records: the one text form in which molt writes things down for itself: its state across an
 * exec, and the messages between initctl and PID 1. A text is a sequence of records:
 *
 *     @service nginx.service
 *     state=running
 *     main_pid=412
 *     <empty line>
 *
 * A record has a kind ([a-z0-9-]+), an id (any text, may be empty) and fields key=value in order;
 * a key ([a-z0-9_-]+) may be repeated: that is a list. In ids and values the bytes newline,
 * carriage return, backslash and the other control bytes are escaped (\n, \r, \\, \xHH with
 * lower-case digits), so a record never contains another. No text contains a NUL. A reader takes
 * nothing else: no blank line between records, no unescaped control byte. Unknown kinds and keys
 * are the reader's to skip: any version reads its neighbours', both ways.
 */
#ifndef MOLT_CONF_RECORD_H
#define MOLT_CONF_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Grows a text. After a failed allocation `error` is -ENOMEM, further calls do nothing, and the
 * records that were complete stay readable: check once, at the end. A kind or key that is none, or
 * a field outside a record, is -EINVAL in the same way. Start from a zeroed struct. */
struct record_writer {
	char *text; /* NUL-terminated once anything was written; free with record_writer_done() */
	size_t length;
	size_t capacity;
	size_t complete; /* the length up to the last record_end() */
	bool in_record;
	int error;
};

void record_begin(struct record_writer *w, const char *kind, const char *id);
void record_text(struct record_writer *w, const char *key, const char *value); /* NULL: no field */
void record_int(struct record_writer *w, const char *key, int64_t value);
void record_bool(struct record_writer *w, const char *key, bool value); /* "yes" or "no" */
void record_format(struct record_writer *w, const char *key, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void record_end(struct record_writer *w);
void record_writer_done(struct record_writer *w); /* frees; w is zeroed and can be used again */
void record_writer_reset(struct record_writer *w); /* empty again, with the room it has */

struct record_field {
	const char *key;
	const char *value;
};

/* One record, as read. The strings belong to the reader and live until the next record_next(). */
struct record {
	const char *kind;
	const char *id;
	size_t n_fields;
	const struct record_field *fields;
	unsigned line; /* of the text, where the record begins; 1 is the first */
};

struct record_reader; /* opaque */

/* A reader over `length` bytes at `text`, which are copied. Returns 0 or -ENOMEM. */
int record_reader_new(struct record_reader **ret, const char *text, size_t length);
void record_reader_free(struct record_reader *r); /* NULL is fine */

/*
 * Reads the next record. Returns 1 and fills *ret, 0 at the end of the text, -EBADMSG for a text
 * that is no record (ret->line then says where, and so it stays) or -ENOMEM (which may be tried
 * again). A record cut off before its empty line is -EBADMSG: half a message is none.
 */
int record_next(struct record_reader *r, struct record *ret);

/* The value of the first field with that key, or NULL. */
const char *record_get(const struct record *r, const char *key);
/* The number there; `missing` if there is no such field or it is no decimal number. */
int64_t record_get_int(const struct record *r, const char *key, int64_t missing);
bool record_get_bool(const struct record *r, const char *key, bool missing);
/* The n-th (from 0) value of a repeated key, or NULL past the last. */
const char *record_get_nth(const struct record *r, const char *key, size_t n);

#endif
