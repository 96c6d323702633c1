/* SPDX-License-Identifier: MIT */
#include "kernel/error.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void __attribute__((format(printf, 2, 0)))
format_text(struct error *e, const char *format, va_list ap)
{
	/* The error's own text may be among the arguments. */
	char text[sizeof(e->text)];

	if (vsnprintf(text, sizeof(text), format, ap) < 0)
		text[0] = '\0';
	(void)memcpy(e->text, text, strlen(text) + 1);
}

static void append_reason(struct error *e, int code)
{
	size_t used = strlen(e->text);

	/* strerrordesc_np() needs no locale and no buffer, unlike strerror(): glibc 2.32. */
	const char *reason = strerrordesc_np(code);
	(void)snprintf(
		e->text + used, sizeof(e->text) - used, ": %s", reason ? reason : "unknown error");
}

int error_set(struct error *e, int code, const char *format, ...)
{
	int positive = abs(code);

	if (e) {
		va_list ap;
		va_start(ap, format);
		format_text(e, format, ap);
		va_end(ap);
		if (positive)
			append_reason(e, positive);
		e->code = positive ? -positive : -EINVAL;
	}
	return positive ? -positive : -EINVAL;
}

int error_say(struct error *e, int code, const char *format, ...)
{
	int negative = code ? -abs(code) : -EINVAL;

	if (e) {
		va_list ap;
		va_start(ap, format);
		format_text(e, format, ap);
		va_end(ap);
		e->code = negative;
	}
	return negative;
}

int error_prefix(struct error *e, const char *format, ...)
{
	if (!e)
		return 0;

	char old[sizeof(e->text)];
	memcpy(old, e->text, sizeof(old));
	va_list ap;
	va_start(ap, format);
	format_text(e, format, ap);
	va_end(ap);
	size_t used = strlen(e->text);
	(void)snprintf(e->text + used, sizeof(e->text) - used, ": %s", old);
	return e->code;
}
