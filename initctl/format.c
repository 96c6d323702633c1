/* SPDX-License-Identifier: MIT */
#include "initctl/format.h"

#include <inttypes.h>
#include <string.h>

#include "initctl/memory.h"
#include "initctl/text.h"

char *format_span(int64_t usec)
{
	int64_t seconds = usec / 1000000;
	int64_t minutes = seconds / 60;
	int64_t hours = minutes / 60;
	int64_t days = hours / 24;

	if (seconds < 60)
		return format_text("%" PRId64 "s", seconds);
	if (minutes < 60)
		return format_text("%" PRId64 "min", minutes);
	if (hours < 24)
		return format_text("%" PRId64 "h %" PRId64 "min", hours, minutes % 60);
	return format_text("%" PRId64 "d %" PRId64 "h", days, hours % 24);
}

char *format_bytes(int64_t bytes)
{
	static const char units[] = "KMGTP";
	double value = (double)bytes;
	size_t unit = 0;

	if (bytes < 1024)
		return format_text("%" PRId64, bytes);
	value /= 1024;
	/* 1023.5 would be printed as 1024 */
	while (value >= 1023.5 && unit + 1 < sizeof(units) - 1) {
		value /= 1024;
		unit++;
	}
	return format_text(value < 9.95 ? "%.1f%c" : "%.0f%c", value, units[unit]);
}

static const char SERVICE_SUFFIX[] = ".service";
#define SUFFIX_LENGTH (sizeof(SERVICE_SUFFIX) - 1)

bool is_service(const char *name)
{
	size_t length = strlen(name);

	return length > SUFFIX_LENGTH && strcmp(name + length - SUFFIX_LENGTH, SERVICE_SUFFIX) == 0;
}

char *format_service(const char *name)
{
	char *clean = text_clean(name);

	if (is_service(clean))
		clean[strlen(clean) - SUFFIX_LENGTH] = '\0';
	return clean;
}

char *complete_service(const char *name)
{
	return is_service(name) ? copy_text(name) : format_text("%s%s", name, SERVICE_SUFFIX);
}
