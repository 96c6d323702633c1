/* SPDX-License-Identifier: MIT */
/*
 * Any bytes as a text of records. What is read must come out the same when it is written again and
 * read again; a text of nothing but records must come out byte for byte.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "conf/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition)          \
	do {                      \
		if (!(condition)) \
			abort();  \
	} while (0)

static void write_again(struct record_writer *w, const struct record *rec)
{
	record_begin(w, rec->kind, rec->id);
	for (size_t i = 0; i < rec->n_fields; i++) {
		record_text(w, rec->fields[i].key, rec->fields[i].value);
		(void)record_get_int(rec, rec->fields[i].key, 0);
		(void)record_get_bool(rec, rec->fields[i].key, false);
		CHECK(record_get(rec, rec->fields[i].key));
	}
	record_end(w);
}

/* Returns the last answer of record_next(). */
static int copy_records(const char *text, size_t length, struct record_writer *w)
{
	struct record_reader *r = NULL;
	struct record rec;
	int n;

	CHECK(record_reader_new(&r, text, length) == 0);
	while ((n = record_next(r, &rec)) > 0)
		write_again(w, &rec);
	if (n < 0)
		CHECK(record_next(r, &rec) == n && rec.line >= 1);
	record_reader_free(r);
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct record_writer first = {0}, second = {0};
	int n = copy_records((const char *)data, size, &first);

	CHECK(first.error == 0 && first.length <= size + 1);
	if (first.text) {
		CHECK(copy_records(first.text, first.length, &second) == 0);
		CHECK(second.length == first.length);
		CHECK(memcmp(first.text, second.text, first.length) == 0);
	}
	/* The form is canonical but for an empty id ("@k " is "@k") and needless \x escapes. */
	if (n == 0 && !memmem(data, size, " \n", 2) && !memmem(data, size, "\\x", 2)) {
		CHECK(first.length == size);
		CHECK(size == 0 || memcmp(first.text, data, size) == 0);
	}
	record_writer_done(&first);
	record_writer_done(&second);
	return 0;
}
