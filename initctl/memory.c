/* SPDX-License-Identifier: MIT */
#include "initctl/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/protocol.h"

static void *or_exit(void *memory)
{
	if (!memory) {
		(void)fputs("initctl: out of memory\n", stderr);
		exit(CONTROL_EXIT_FAILED);
	}
	return memory;
}

void *allocate(size_t size)
{
	return or_exit(calloc(1, size ? size : 1));
}

void *reallocate(void *old, size_t count, size_t size)
{
	return or_exit(reallocarray(old, count, size));
}

char *copy_text(const char *text)
{
	return or_exit(strdup(text));
}

char *format_text(const char *format, ...)
{
	char *text = NULL;
	va_list ap;

	va_start(ap, format);
	int length = vasprintf(&text, format, ap);
	va_end(ap);
	return or_exit(length < 0 ? NULL : text);
}
