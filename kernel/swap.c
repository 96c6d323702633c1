/* SPDX-License-Identifier: MIT */
#include "kernel/swap.h"

#include <stdint.h>
#include <string.h>
#include <sys/swap.h>

#include "kernel/util.h"

/* linux/swap.h, which is not for programs */
#define FLAG_DISCARD_ONCE 0x20000
#define FLAG_DISCARD_PAGES 0x40000

static int flags_of(const char *word)
{
	uint64_t priority;

	if (strcmp(word, "discard") == 0)
		return SWAP_FLAG_DISCARD;
	if (strcmp(word, "discard=once") == 0)
		return SWAP_FLAG_DISCARD | FLAG_DISCARD_ONCE;
	if (strcmp(word, "discard=pages") == 0)
		return SWAP_FLAG_DISCARD | FLAG_DISCARD_PAGES;
	/* A negative one is what the kernel gives to those that name none. */
	if (starts_with(word, "pri=") && parse_u64(word + strlen("pri="), &priority) &&
		priority <= SWAP_FLAG_PRIO_MASK)
		return SWAP_FLAG_PREFER | (int)(priority << SWAP_FLAG_PRIO_SHIFT);
	return 0;
}

int swap_flags(const char *options)
{
	int flags = 0;

	for (const char *p = options ? options : ""; *p; p += strspn(p, ",")) {
		char word[32];
		size_t n = strcspn(p, ",");
		if (n < sizeof(word)) {
			memcpy(word, p, n);
			word[n] = '\0';
			flags |= flags_of(word);
		}
		p += n;
	}
	return flags;
}
