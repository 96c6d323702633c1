/* SPDX-License-Identifier: MIT */
/* AmbientCapabilities=: names of capabilities(7) to a mask. */
#include <errno.h>
#include <stdlib.h>
#include <sys/capability.h>

#include "conf/unit_values.h"
#include "conf/words.h"

#define UNUSED __attribute__((unused))

static int mask_of(const struct key_site *site, const char *text, uint64_t *ret, struct error *e)
{
	uint64_t mask = 0;

	for (;;) {
		cap_value_t number;
		char *word;
		int r = word_next(&text, WORD_KEEP_BACKSLASH, &word);
		if (r < 0)
			return r == -ENOMEM ? key_no_memory(e)
					    : error_say(e, r, "a quote is not closed");
		if (r == 0)
			break;
		r = cap_from_name(word, &number);
		/* It may be one of a newer kernel; the service can be asked. */
		if (r < 0 || number < 0 || number > 63)
			key_warn(site, "%.64s is no capability that is known here", word);
		else
			mask |= UINT64_C(1) << number;
		free(word);
	}
	*ret = mask;
	return 0;
}

/* systemd.exec(5): several lines add up, an empty one starts anew, "~" takes away. */
int value_capabilities(const struct key_site *site, const char *text, void *field,
	UNUSED const void *argument, struct error *e)
{
	bool inverted = text[0] == '~';
	uint64_t *set = field, mask = 0;
	int r = mask_of(site, text + inverted, &mask, e);

	if (r < 0)
		return r;
	if (text[0] == '\0')
		*set = 0;
	else if (inverted)
		*set = (*set ? *set : UINT64_MAX) & ~mask;
	else
		*set |= mask;
	return 0;
}
