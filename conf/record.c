/* SPDX-License-Identifier: MIT */
#include "conf/record.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/number.h"

#define KIND_CHARACTERS "abcdefghijklmnopqrstuvwxyz0123456789-"
#define KEY_CHARACTERS KIND_CHARACTERS "_"

/* A byte that never stands in a text as itself: it could end a line, or a terminal's patience. */
static bool is_escaped(unsigned char c)
{
	return c < 0x20 || c == 0x7F || c == '\\';
}

/* --- writing --- */

/* What is there stays readable: whole records only. */
static void writer_fail(struct record_writer *w, int error)
{
	w->error = error;
	w->length = w->complete;
	if (w->text)
		w->text[w->length] = '\0';
}

/* Makes room for `more` bytes and a NUL. */
static bool reserve(struct record_writer *w, size_t more)
{
	size_t needed, capacity = w->capacity ? w->capacity : 256;

	if (w->error)
		return false;
	if (__builtin_add_overflow(w->length + 1, more, &needed) || needed > SIZE_MAX / 2) {
		writer_fail(w, -ENOMEM);
		return false;
	}
	if (needed <= w->capacity)
		return true;
	while (capacity < needed)
		capacity *= 2;
	char *text = realloc(w->text, capacity);
	if (!text) {
		writer_fail(w, -ENOMEM);
		return false;
	}
	w->text = text;
	w->capacity = capacity;
	return true;
}

static void put(struct record_writer *w, const char *bytes)
{
	size_t n = strlen(bytes);

	if (!reserve(w, n))
		return;
	memcpy(w->text + w->length, bytes, n + 1);
	w->length += n;
}

/* Writes one byte's escape at `out`, which has room for four. */
static size_t escape(unsigned char c, char *out)
{
	static const char digits[] = "0123456789abcdef";

	out[0] = '\\';
	if (c == '\n' || c == '\r' || c == '\\') {
		out[1] = c == '\n' ? 'n' : c == '\r' ? 'r' : '\\';
		return 2;
	}
	out[1] = 'x';
	out[2] = digits[c >> 4];
	out[3] = digits[c & 15];
	return 4;
}

static size_t escaped_length(const char *text)
{
	size_t n = 0;
	char unused[4];

	for (; *text; text++)
		n += is_escaped((unsigned char)*text) ? escape((unsigned char)*text, unused) : 1;
	return n;
}

static void put_escaped(struct record_writer *w, const char *text)
{
	if (!reserve(w, escaped_length(text)))
		return;
	for (; *text; text++) {
		if (is_escaped((unsigned char)*text))
			w->length += escape((unsigned char)*text, w->text + w->length);
		else
			w->text[w->length++] = *text;
	}
	w->text[w->length] = '\0';
}

static bool consists_of(const char *name, const char *characters)
{
	return name[0] != '\0' && name[strspn(name, characters)] == '\0';
}

/* Writing what no reader would read is the caller's mistake; PID 1 says so and lives. */
static bool check(struct record_writer *w, bool is_fine)
{
	if (!w->error && !is_fine)
		writer_fail(w, -EINVAL);
	return !w->error;
}

void record_begin(struct record_writer *w, const char *kind, const char *id)
{
	if (!check(w, !w->in_record && consists_of(kind, KIND_CHARACTERS)))
		return;
	w->in_record = true;
	put(w, "@");
	put(w, kind);
	if (id[0] != '\0') {
		put(w, " ");
		put_escaped(w, id);
	}
	put(w, "\n");
}

void record_text(struct record_writer *w, const char *key, const char *value)
{
	if (!value || !check(w, w->in_record && consists_of(key, KEY_CHARACTERS)))
		return;
	put(w, key);
	put(w, "=");
	put_escaped(w, value);
	put(w, "\n");
}

void record_int(struct record_writer *w, const char *key, int64_t value)
{
	char text[sizeof("-9223372036854775808")];

	(void)snprintf(text, sizeof(text), "%lld", (long long)value);
	record_text(w, key, text);
}

void record_bool(struct record_writer *w, const char *key, bool value)
{
	record_text(w, key, value ? "yes" : "no");
}

void record_format(struct record_writer *w, const char *key, const char *format, ...)
{
	char *text = NULL;
	va_list ap;

	va_start(ap, format);
	int n = vasprintf(&text, format, ap);
	va_end(ap);
	if (n < 0) {
		if (!w->error)
			writer_fail(w, -ENOMEM);
		return;
	}
	record_text(w, key, text);
	free(text);
}

void record_end(struct record_writer *w)
{
	if (!check(w, w->in_record))
		return;
	put(w, "\n");
	if (w->error)
		return;
	w->in_record = false;
	w->complete = w->length;
}

void record_writer_done(struct record_writer *w)
{
	free(w->text);
	*w = (struct record_writer){0};
}

void record_writer_reset(struct record_writer *w)
{
	w->length = w->complete = 0;
	w->in_record = false;
	w->error = 0;
}

/* --- reading --- */

struct record_reader {
	char *next, *end; /* what is left of `text`; end[0] is a NUL */
	struct record_field *fields;
	size_t capacity; /* of `fields` */
	unsigned line; /* of the record that is next */
	bool broken; /* nothing that follows a broken record can be trusted */
	char text[];
};

int record_reader_new(struct record_reader **ret, const char *text, size_t length)
{
	size_t size;

	if (__builtin_add_overflow(length, sizeof(struct record_reader) + 1, &size))
		return -ENOMEM;
	struct record_reader *r = malloc(size);
	if (!r)
		return -ENOMEM;

	*r = (struct record_reader){.line = 1};
	if (length > 0)
		memcpy(r->text, text, length);
	r->text[length] = '\0';
	r->next = r->text;
	r->end = r->text + length;
	*ret = r;
	return 0;
}

void record_reader_free(struct record_reader *r)
{
	if (!r)
		return;
	free(r->fields);
	free(r);
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* One escape at `s`; how long it is, or 0 for what the writer never writes. */
static size_t unescape(const char *s, const char *end, char *ret)
{
	size_t left = (size_t)(end - s);

	if (left < 2)
		return 0;
	if (s[1] == 'n' || s[1] == 'r' || s[1] == '\\') {
		*ret = s[1] == 'n' ? '\n' : s[1] == 'r' ? '\r' : '\\';
		return 2;
	}
	if (left < 4 || s[1] != 'x' || hex_digit(s[2]) < 0 || hex_digit(s[3]) < 0)
		return 0;
	*ret = (char)(hex_digit(s[2]) * 16 + hex_digit(s[3]));
	return *ret == '\0' ? 0 : 4;
}

static bool is_valid_text(const char *s, const char *end)
{
	char unused;

	while (s < end) {
		size_t n = *s == '\\' ? unescape(s, end, &unused) : !is_escaped((unsigned char)*s);
		if (n == 0)
			return false;
		s += n;
	}
	return true;
}

/* Resolves the escapes of a valid text in place; it only gets shorter. */
static void unescape_text(char *s, const char *end)
{
	char *out = s;

	while (s < end) {
		char c = *s;
		s += c == '\\' ? unescape(s, end, &c) : 1;
		*out++ = c;
	}
	*out = '\0';
}

/* The newline that ends the line at `s`, or NULL if the text is cut off before. */
static char *line_end(const struct record_reader *r, char *s)
{
	return memchr(s, '\n', (size_t)(r->end - s));
}

static bool is_valid_header(const char *s, const char *end)
{
	size_t n = *s == '@' ? strspn(s + 1, KIND_CHARACTERS) : 0;

	if (n == 0)
		return false;
	s += n + 1;
	return s == end || (*s == ' ' && is_valid_text(s + 1, end));
}

static bool is_valid_field(const char *s, const char *end)
{
	size_t n = strspn(s, KEY_CHARACTERS);

	return n > 0 && s[n] == '=' && is_valid_text(s + n + 1, end);
}

/* Looks through one record and changes nothing, so that it can be refused or read again. */
static int measure(const struct record_reader *r, size_t *ret_fields, unsigned *ret_line)
{
	char *s = r->next, *end = line_end(r, s);

	*ret_line = r->line;
	if (!end || !is_valid_header(s, end))
		return -EBADMSG;
	for (*ret_fields = 0;; (*ret_fields)++) {
		s = end + 1;
		end = line_end(r, s);
		(*ret_line)++;
		if (!end)
			return -EBADMSG;
		if (end == s)
			return 0;
		if (!is_valid_field(s, end))
			return -EBADMSG;
	}
}

static int make_room(struct record_reader *r, size_t n_fields)
{
	if (n_fields <= r->capacity)
		return 0;
	struct record_field *grown = reallocarray(r->fields, n_fields, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	r->fields = grown;
	r->capacity = n_fields;
	return 0;
}

/* Cuts a measured record into its strings. */
static void take_record(struct record_reader *r, size_t n_fields, struct record *ret)
{
	char *s = r->next, *end = line_end(r, s);
	char *id = s + 1 + strspn(s + 1, KIND_CHARACTERS);

	*ret = (struct record){.kind = s + 1,
		.id = id,
		.n_fields = n_fields,
		.fields = r->fields,
		.line = r->line};
	if (*id == ' ') {
		*id++ = '\0';
		ret->id = id;
	}
	unescape_text(id, end);
	for (size_t i = 0; i < n_fields; i++) {
		s = end + 1;
		end = line_end(r, s);
		char *value = s + strspn(s, KEY_CHARACTERS);
		*value++ = '\0';
		unescape_text(value, end);
		r->fields[i] = (struct record_field){.key = s, .value = value};
	}
	r->next = end + 2;
	r->line += (unsigned)n_fields + 2;
}

int record_next(struct record_reader *r, struct record *ret)
{
	size_t n_fields;
	unsigned line;

	if (!r->broken && r->next == r->end)
		return 0;
	if (r->broken || measure(r, &n_fields, &line) < 0) {
		if (!r->broken)
			r->line = line;
		r->broken = true;
		ret->line = r->line;
		return -EBADMSG;
	}
	int error = make_room(r, n_fields);
	if (error < 0)
		return error;
	take_record(r, n_fields, ret);
	return 1;
}

const char *record_get_nth(const struct record *r, const char *key, size_t n)
{
	for (size_t i = 0; i < r->n_fields; i++) {
		if (strcmp(r->fields[i].key, key) == 0 && n-- == 0)
			return r->fields[i].value;
	}
	return NULL;
}

const char *record_get(const struct record *r, const char *key)
{
	return record_get_nth(r, key, 0);
}

int64_t record_get_int(const struct record *r, const char *key, int64_t missing)
{
	const char *value = record_get(r, key);
	int64_t number;

	return value && number_parse(value, &number) == 0 ? number : missing;
}

bool record_get_bool(const struct record *r, const char *key, bool missing)
{
	const char *value = record_get(r, key);

	if (value && strcmp(value, "yes") == 0)
		return true;
	if (value && strcmp(value, "no") == 0)
		return false;
	return missing;
}
