/* SPDX-License-Identifier: MIT */
#include "conf/when.h"

#include <errno.h>
#include <string.h>

#include "conf/number.h"

#define SECOND UINT64_C(1000000)
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)
#define MINUTES_MAX (366 * 24 * 60)

static bool is_digits(const char *text, size_t least, size_t most)
{
	size_t n = strspn(text, "0123456789");

	return n >= least && n <= most && (text[n] == '\0' || text[n] == ':');
}

static int parse_clock(const char *text, time_t now, struct when *ret)
{
	struct tm tm;
	int hour = 0, minute = 0;
	const char *colon = strchr(text, ':');

	if (!colon || !is_digits(text, 1, 2) || !is_digits(colon + 1, 2, 2) || colon[3] != '\0' ||
		!localtime_r(&now, &tm))
		return -EINVAL;
	for (const char *p = text; p < colon; p++)
		hour = hour * 10 + (*p - '0');
	minute = (colon[1] - '0') * 10 + (colon[2] - '0');
	if (hour > 23 || minute > 59)
		return -EINVAL;
	tm.tm_hour = hour;
	tm.tm_min = minute;
	tm.tm_sec = 0;
	tm.tm_isdst = -1;
	struct tm tomorrow = tm;
	time_t at = mktime(&tm);
	tomorrow.tm_mday++;
	if (at <= now)
		at = mktime(&tomorrow);
	if (at <= now)
		return -EINVAL;
	*ret = (struct when){.at = true, .usec = (uint64_t)at * SECOND};
	return 0;
}

int when_parse(const char *text, time_t now, struct when *ret)
{
	int64_t minutes;

	if (strcmp(text, "now") == 0) {
		*ret = (struct when){0};
		return 0;
	}
	if (text[0] != '+')
		return parse_clock(text, now, ret);
	if (number_parse(text + 1, &minutes) < 0 || minutes < 0 || minutes > MINUTES_MAX)
		return -EINVAL;
	*ret = (struct when){.usec = (uint64_t)minutes * MINUTE};
	return 0;
}

uint64_t when_to_tell(uint64_t left_usec)
{
	uint64_t step = left_usec > 3 * HOUR      ? HOUR
			: left_usec > HOUR        ? HOUR / 2
			: left_usec > 10 * MINUTE ? 10 * MINUTE
						  : MINUTE;

	return left_usec == 0 ? 0 : (left_usec - 1) / step * step;
}
