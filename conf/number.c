/* SPDX-License-Identifier: MIT */
#include "conf/number.h"

#include <errno.h>
#include <stdbool.h>

int number_parse(const char *text, int64_t *ret)
{
	bool negative = text[0] == '-';
	int64_t value = 0;

	text += negative;
	if (*text == '\0')
		return -EINVAL;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return -EINVAL;
		int64_t digit = negative ? '0' - *text : *text - '0';
		if (__builtin_mul_overflow(value, 10, &value) ||
			__builtin_add_overflow(value, digit, &value))
			return -EINVAL;
	}
	*ret = value;
	return 0;
}
