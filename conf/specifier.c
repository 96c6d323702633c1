/* SPDX-License-Identifier: MIT */
#include "conf/specifier.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* A part of the unit's name, or a constant. */
struct part {
	const char *text;
	size_t length;
};

/* A unit's name, cut at its joints. The template has an empty instance. */
struct name_parts {
	struct part whole, no_suffix, prefix, instance;
};

static struct name_parts cut_name(const char *name)
{
	struct name_parts p = {.whole = {name, strlen(name)}, .instance = {"", 0}};
	const char *dot = strrchr(name, '.');
	const char *at = strchr(name, '@');
	size_t stem = dot ? (size_t)(dot - name) : p.whole.length;

	p.no_suffix = (struct part){name, stem};
	if (!at || (size_t)(at - name) >= stem) {
		p.prefix = p.no_suffix;
		return p;
	}
	p.prefix = (struct part){name, (size_t)(at - name)};
	p.instance = (struct part){at + 1, stem - p.prefix.length - 1};
	return p;
}

static struct part constant(const char *text)
{
	return (struct part){text, strlen(text)};
}

static int find_part(char specifier, const struct name_parts *name, struct part *ret)
{
	switch (specifier) {
	case 'n':
		*ret = name->whole;
		return 0;
	case 'N':
		*ret = name->no_suffix;
		return 0;
	case 'p':
		*ret = name->prefix;
		return 0;
	case 'i':
	case 'I':
		*ret = name->instance;
		return 0;
	case 't':
		*ret = constant("/run");
		return 0;
	case 'S':
		*ret = constant("/var/lib");
		return 0;
	case 'C':
		*ret = constant("/var/cache");
		return 0;
	case 'L':
		*ret = constant("/var/log");
		return 0;
	case 'E':
		*ret = constant("/etc");
		return 0;
	case '%':
		*ret = constant("%");
		return 0;
	default:
		return -EINVAL;
	}
}

static int hex_digit(char c)
{
	static const char digits[] = "0123456789abcdef";
	const char *found = c ? strchr(digits, c | 0x20) : NULL;

	return found ? (int)(found - digits) : -1;
}

/* Whether \xHH stands here; NUL cannot be part of a name. */
static bool is_hex_escape(const char *text, size_t left)
{
	return left >= 4 && text[0] == '\\' && text[1] == 'x' && hex_digit(text[2]) >= 0 &&
	       hex_digit(text[3]) >= 0 && hex_digit(text[2]) + hex_digit(text[3]) > 0;
}

/* systemd-escape(1) backwards, in place: "-" is "/", \xHH a byte. What is no escape stays. */
static size_t unescape_name(char *text, size_t length)
{
	size_t n = 0;

	for (size_t i = 0; i < length; i++) {
		if (is_hex_escape(text + i, length - i)) {
			text[n++] = (char)(hex_digit(text[i + 2]) * 16 + hex_digit(text[i + 3]));
			i += 3;
		} else {
			text[n++] = text[i] == '-' ? '/' : text[i];
		}
	}
	return n;
}

static int check_specifiers(
	const char *text, const struct name_parts *name, size_t *ret_length, struct error *e)
{
	size_t length = 0;

	for (const char *s = text; *s; s++) {
		struct part part = {s, 1};
		if (*s == '%' && find_part(*++s, name, &part) < 0)
			return error_say(e, -EINVAL,
				"unknown specifier %%%.1s (write %%%% for a percent sign)", s);
		length += part.length;
		if (length > SPECIFIER_MAX)
			return error_say(e, -E2BIG, "too long once its specifiers are replaced");
	}
	*ret_length = length;
	return 0;
}

static void copy_expanded(const char *text, const struct name_parts *name, char *out)
{
	for (const char *s = text; *s; s++) {
		struct part part = {s, 1};
		bool is_specifier = *s == '%';
		if (is_specifier)
			(void)find_part(*++s, name, &part);
		memcpy(out, part.text, part.length);
		out += is_specifier && *s == 'I' ? unescape_name(out, part.length) : part.length;
	}
	*out = '\0';
}

int specifiers_expand(const char *text, const char *unit_name, char **ret, struct error *e)
{
	struct name_parts name = cut_name(unit_name);
	size_t length = 0;
	int r = check_specifiers(text, &name, &length, e);
	if (r < 0)
		return r;

	char *out = malloc(length + 1);
	if (!out)
		return error_say(e, -ENOMEM, "out of memory");
	copy_expanded(text, &name, out);
	*ret = out;
	return 0;
}
