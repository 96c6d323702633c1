/* SPDX-License-Identifier: MIT */
#include "conf/words.h"

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

bool is_white_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static const char *skip_white_space(const char *s)
{
	while (is_white_space(*s))
		s++;
	return s;
}

/* The length of the word as written: up to white space that is neither quoted nor escaped. */
static size_t raw_length(const char *text, enum word_escapes escapes)
{
	char quote = '\0';
	size_t i;

	for (i = 0; text[i] != '\0' && (quote || !is_white_space(text[i])); i++) {
		if (text[i] == '\\' && escapes != WORD_KEEP_BACKSLASH && text[i + 1] != '\0')
			i++;
		else if (quote)
			quote = text[i] == quote ? '\0' : quote;
		else if (text[i] == '"' || text[i] == '\'')
			quote = text[i];
	}
	return i;
}

static int digit_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return 16;
}

/* Exactly `count` digits. Returns 0 or -EINVAL. */
static int read_digits(const char *s, unsigned count, unsigned base, uint32_t *ret)
{
	uint32_t value = 0;

	for (unsigned i = 0; i < count; i++) {
		unsigned digit = (unsigned)digit_value(s[i]);
		if (digit >= base)
			return -EINVAL;
		value = value * base + digit;
	}
	*ret = value;
	return 0;
}

/* UTF-8; an escape is never shorter than what it stands for, so the word's own buffer holds it. */
static size_t put_code_point(char *out, uint32_t c)
{
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	size_t following = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
	static const uint8_t first_byte[] = {0, 0xC0, 0xE0, 0xF0};
	for (size_t i = following; i > 0; i--) {
		out[i] = (char)(0x80 | (c & 0x3F));
		c >>= 6;
	}
	out[0] = (char)(first_byte[following] | c);
	return following + 1;
}

/* \xHH, \uHHHH, \UHHHHHHHH and \OOO. NUL, surrogates and what is past Unicode have no meaning. */
static int put_number_escape(const char *in, char *out, size_t *ret_in, size_t *ret_out)
{
	bool octal = in[0] >= '0' && in[0] <= '7';
	unsigned digits = octal ? 3 : in[0] == 'x' ? 2 : in[0] == 'u' ? 4 : 8;
	uint32_t value;

	if (read_digits(octal ? in : in + 1, digits, octal ? 8 : 16, &value) < 0 || value == 0)
		return -EINVAL;
	if (octal || in[0] == 'x') {
		if (value > 0xFF)
			return -EINVAL;
		out[0] = (char)value;
		*ret_out = 1;
	} else {
		if (value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF))
			return -EINVAL;
		*ret_out = put_code_point(out, value);
	}
	*ret_in = octal ? digits : digits + 1;
	return 0;
}

/* What stands after a backslash: its bytes to `out`; how many were read and written. */
static int put_c_escape(const char *in, char *out, size_t *ret_in, size_t *ret_out)
{
	static const char letters[] = "abfnrtvs\\\"'";
	static const char meaning[] = "\a\b\f\n\r\t\v \\\"'";
	const char *letter = strchr(letters, in[0]);

	if (letter) {
		out[0] = meaning[letter - letters];
		*ret_in = 1;
		*ret_out = 1;
		return 0;
	}
	if (strchr("xuU01234567", in[0]))
		return put_number_escape(in, out, ret_in, ret_out);
	/* systemd warns and keeps both: "\." in a regular expression. */
	out[0] = '\\';
	out[1] = in[0];
	*ret_in = 1;
	*ret_out = 2;
	return 0;
}

static int put_escape(
	const char *in, enum word_escapes escapes, char *out, size_t *ret_in, size_t *ret_out)
{
	if (escapes == WORD_C_ESCAPES)
		return put_c_escape(in, out, ret_in, ret_out);
	out[0] = in[0];
	*ret_in = 1;
	*ret_out = 1;
	return 0;
}

/* Resolves quotes and escapes of `length` raw bytes into `out`, which has room for as many. */
static int resolve(const char *raw, size_t length, enum word_escapes escapes, char *out)
{
	char quote = '\0';
	size_t n = 0;

	for (size_t i = 0; i < length; i++) {
		if (raw[i] == '\\' && escapes != WORD_KEEP_BACKSLASH && i + 1 < length) {
			size_t read, written;
			int r = put_escape(raw + i + 1, escapes, out + n, &read, &written);
			if (r < 0)
				return r;
			i += read;
			n += written;
		} else if (quote ? raw[i] == quote : raw[i] == '"' || raw[i] == '\'') {
			quote = quote ? '\0' : raw[i];
		} else {
			out[n++] = raw[i];
		}
	}
	out[n] = '\0';
	return quote && escapes != WORD_LOOSE ? -EINVAL : 0;
}

int word_next(const char **cursor, enum word_escapes escapes, char **ret)
{
	const char *raw = skip_white_space(*cursor);
	size_t length = raw_length(raw, escapes);

	*cursor = raw + length;
	if (length == 0)
		return 0;
	char *word = malloc(length + 1);
	if (!word)
		return -ENOMEM;
	int r = resolve(raw, length, escapes, word);
	if (r < 0) {
		free(word);
		return r;
	}
	*cursor = skip_white_space(*cursor);
	*ret = word;
	return 1;
}
