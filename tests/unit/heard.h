/* SPDX-License-Identifier: MIT */
/* What a reader of configuration warns of, kept. */
#ifndef MOLT_TESTS_HEARD_H
#define MOLT_TESTS_HEARD_H

#include <stdio.h>
#include <string.h>

/* The warnings of one reading, a line each. */
struct heard {
	char text[8192];
};

static inline void hear(void *userdata, const char *text)
{
	struct heard *h = userdata;
	size_t used = strlen(h->text);

	(void)snprintf(h->text + used, sizeof(h->text) - used, "%s\n", text);
}

#endif
