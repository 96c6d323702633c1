/* SPDX-License-Identifier: MIT */
#include "conf/machine_id.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "conf/words.h"

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c;
	if (c >= 'a' && c <= 'f')
		return c;
	return c >= 'A' && c <= 'F' ? c - 'A' + 'a' : -1;
}

/* Where RFC 9562 has dashes, counted in digits. */
static bool is_dash_place(size_t n)
{
	return n == 8 || n == 12 || n == 16 || n == 20;
}

static bool is_identity(const char *id)
{
	size_t same = strspn(id, "0");

	return same != MACHINE_ID_SIZE - 1 && strspn(id, "f") != MACHINE_ID_SIZE - 1;
}

bool machine_id_parse(const char *text, char ret[MACHINE_ID_SIZE])
{
	char id[MACHINE_ID_SIZE];
	size_t n = 0, dashes = 0;

	while (is_white_space(*text))
		text++;
	for (; n < sizeof(id) - 1; text++) {
		int c = digit(*text);
		if (c >= 0)
			id[n++] = (char)c;
		else if (*text == '-' && is_dash_place(n) && text[1] != '-')
			dashes++;
		else
			return false;
	}
	id[n] = '\0';
	while (is_white_space(*text))
		text++;
	if (*text || (dashes != 0 && dashes != 4) || !is_identity(id))
		return false;
	memcpy(ret, id, sizeof(id));
	return true;
}

void machine_id_from_random(const uint8_t bytes[16], char ret[MACHINE_ID_SIZE])
{
	uint8_t b[16];

	memcpy(b, bytes, sizeof(b));
	b[6] = (uint8_t)((b[6] & 0x0f) | 0x40);
	b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
	for (size_t i = 0; i < sizeof(b); i++)
		(void)snprintf(ret + 2 * i, 3, "%02x", b[i]);
}

bool machine_id_trusts_vendor(const char *text)
{
	static const char *const VENDORS[] = {"QEMU", "KVM", "OpenStack", "KubeVirt", "Amazon EC2"};

	for (size_t i = 0; i < sizeof(VENDORS) / sizeof(VENDORS[0]); i++)
		if (strncmp(text, VENDORS[i], strlen(VENDORS[i])) == 0)
			return true;
	return false;
}
