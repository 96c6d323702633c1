/* SPDX-License-Identifier: MIT */
#include "initctl/text.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "initctl/memory.h"

static bool is_continuation(char c)
{
	return ((unsigned char)c & 0xc0) == 0x80;
}

/* How many bytes a lead byte promises, and the bits of the code point that it carries. */
static size_t sequence_length(unsigned char lead, uint32_t *ret_bits)
{
	if (lead < 0x80) {
		*ret_bits = lead;
		return 1;
	}
	if (lead >= 0xc2 && lead <= 0xdf) {
		*ret_bits = lead & 0x1f;
		return 2;
	}
	if (lead >= 0xe0 && lead <= 0xef) {
		*ret_bits = lead & 0x0f;
		return 3;
	}
	if (lead >= 0xf0 && lead <= 0xf4) {
		*ret_bits = lead & 0x07;
		return 4;
	}
	return 0;
}

size_t utf8_decode(const char *s, size_t n, uint32_t *ret)
{
	static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
	uint32_t point = 0;
	size_t length = n ? sequence_length((unsigned char)s[0], &point) : 0;

	if (length == 0 || length > n)
		return 0;
	for (size_t i = 1; i < length; i++) {
		if (!is_continuation(s[i]))
			return 0;
		point = point << 6 | ((unsigned char)s[i] & 0x3f);
	}
	bool surrogate = point >= 0xd800 && point <= 0xdfff;
	if (point < smallest[length] || point > 0x10ffff || surrogate)
		return 0;
	*ret = point;
	return length;
}

static bool is_control(uint32_t point)
{
	/* 0x80-0x9f are controls as well: U+009B begins an escape sequence in xterm. */
	return point < 0x20 || (point >= 0x7f && point <= 0x9f);
}

/* Marks that reorder or break what stands on the line: an advice could be made to read otherwise.
 */
static bool is_direction(uint32_t point)
{
	return point == 0x061c || point == 0x200e || point == 0x200f ||
	       (point >= 0x2028 && point <= 0x202e) || (point >= 0x2066 && point <= 0x2069);
}

static bool is_kept(char c, const char *keep)
{
	return c != '\0' && strchr(keep, c);
}

void text_put(FILE *f, const char *s, size_t n, const char *keep)
{
	while (n > 0) {
		uint32_t point = 0;
		size_t length = utf8_decode(s, n, &point);
		bool safe = length > 0 && !is_control(point) && !is_direction(point);

		if (length == 0)
			length = 1;
		if (safe || is_kept(*s, keep)) {
			(void)fwrite(s, 1, length, f);
		} else {
			for (size_t i = 0; i < length; i++)
				(void)fprintf(f, "\\x%02x", (unsigned char)s[i]);
		}
		s += length;
		n -= length;
	}
}

char *text_clean(const char *s)
{
	char *clean = NULL;
	size_t size = 0;
	FILE *f = open_memstream(&clean, &size);

	if (f) {
		text_put(f, s, strlen(s), "");
		if (fclose(f) == 0)
			return clean;
	}
	free(clean);
	return copy_text("?"); /* Out of memory, most likely: then this does not return. */
}

/* wcwidth() says -1 for what it does not know; the terminal shows some mark of one column. */
static size_t point_width(uint32_t point)
{
	int width = wcwidth((wchar_t)point);

	return width < 0 ? 1 : (size_t)width;
}

static size_t walk(const char *clean, size_t width, size_t *ret_bytes)
{
	size_t used = 0;
	size_t left = strlen(clean);
	const char *s = clean;

	while (left > 0) {
		uint32_t point = 0;
		size_t length = utf8_decode(s, left, &point);
		size_t wide = length ? point_width(point) : 1;

		if (used + wide > width)
			break;
		used += wide;
		length = length ? length : 1;
		s += length;
		left -= length;
	}
	*ret_bytes = (size_t)(s - clean);
	return used;
}

size_t text_width(const char *clean)
{
	size_t bytes;

	return walk(clean, SIZE_MAX, &bytes);
}

size_t text_prefix(const char *clean, size_t width)
{
	size_t bytes;

	(void)walk(clean, width, &bytes);
	return bytes;
}
