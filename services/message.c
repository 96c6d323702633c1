/* SPDX-License-Identifier: MIT */
#include "services/message.h"

#include <stdio.h>
#include <string.h>

#include "kernel/util.h"

/* sd_notify(3) */

static void take_text(const char **field, const char *value)
{
	if (!*field)
		*field = value;
}

static void take_line(struct notification *n, const char *key, const char *value)
{
	const struct {
		const char *key;
		const char **text;
	} texts[] = {
		{"MAINPID", &n->main_pid},
		{"STATUS", &n->status},
		{"ERRNO", &n->error_number},
		{"BUSERROR", &n->bus_error},
		{"EXIT_STATUS", &n->exit_status},
		{"NOTIFYACCESS", &n->notify_access},
		{"FDNAME", &n->fd_name},
		{"MONOTONIC_USEC", &n->monotonic_usec},
		{"WATCHDOG_USEC", &n->watchdog_usec},
		{"EXTEND_TIMEOUT_USEC", &n->extend_timeout_usec},
	};
	const struct {
		const char *key, *value;
		bool *flag;
	} flags[] = {
		{"READY", "1", &n->ready},
		{"RELOADING", "1", &n->reloading},
		{"STOPPING", "1", &n->stopping},
		{"BARRIER", "1", &n->barrier},
		{"WATCHDOG", "1", &n->watchdog},
		{"WATCHDOG", "trigger", &n->watchdog_trigger},
		{"FDSTORE", "1", &n->fd_store},
		{"FDSTOREREMOVE", "1", &n->fd_store_remove},
		{"FDPOLL", "0", &n->fd_no_poll},
		{"MAINPIDFD", "1", &n->main_pidfd},
	};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		if (strcmp(key, texts[i].key) == 0)
			take_text(texts[i].text, value);
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
		if (strcmp(key, flags[i].key) == 0 && strcmp(value, flags[i].value) == 0)
			*flags[i].flag = true;
}

void notification_parse(char *text, struct notification *ret)
{
	char *state = NULL;

	*ret = (struct notification){0};
	for (char *line = strtok_r(text, "\n", &state); line; line = strtok_r(NULL, "\n", &state)) {
		char *value = strchr(line, '=');
		if (!value)
			continue;
		*value++ = '\0';
		take_line(ret, line, value);
	}
}

/* The length of the character that begins here, by its first byte; 0: none begins with it. */
static size_t character_length(unsigned char c)
{
	if (c < 0x80)
		return 1;
	if (c >= 0xC2 && c < 0xE0)
		return 2;
	if (c >= 0xE0 && c < 0xF0)
		return 3;
	return c >= 0xF0 && c < 0xF5 ? 4 : 0;
}

/* How many of the bytes are one printable character; 0: the first one is no part of any. */
static size_t printable(const unsigned char *text, size_t length)
{
	size_t n = character_length(text[0]);

	if (n == 0 || n > length || text[0] < 0x20 || text[0] == 0x7F)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((text[i] & 0xC0) != 0x80)
			return 0;
	if (text[0] == 0xC2 && text[1] < 0xA0)
		return 0; /* U+0080 to U+009F: terminals take them for control sequences */
	return n;
}

void message_sanitize(const char *text, size_t length, char *buf, size_t size)
{
	size_t used = 0;

	for (size_t i = 0; i < length;) {
		size_t n = printable((const unsigned char *)text + i, length - i);
		if (used + (n ? n : 1) >= size)
			break;
		if (n)
			memcpy(buf + used, text + i, n);
		else
			buf[used] = '?';
		used += n ? n : 1;
		i += n ? n : 1;
	}
	buf[used] = '\0';
}

/* The handshake */

static bool begins(const char *text, size_t length, const char *word)
{
	return length >= strlen(word) && memcmp(text, word, strlen(word)) == 0;
}

static void take_refusal(const char *text, size_t length, struct answer *a)
{
	a->kind = ANSWER_REFUSED;
	message_sanitize(text, length, a->reason, sizeof(a->reason));
	if (!a->reason[0])
		(void)strcpy(a->reason, "it gives no reason");
}

static void take_word(const char *word, size_t length, struct answer *a)
{
	static const char deadline[] = "deadline_usec=";
	char number[24] = "";

	if (length == strlen("PREPARED=1") && begins(word, length, "PREPARED=1")) {
		if (a->kind == ANSWER_NONE)
			a->kind = ANSWER_PREPARED;
	} else if (begins(word, length, deadline) && length - strlen(deadline) < sizeof(number)) {
		(void)snprintf(number, sizeof(number), "%.*s", (int)(length - strlen(deadline)),
			word + strlen(deadline));
		(void)parse_u64(number, &a->deadline_usec);
	}
}

/* Returns how many bytes were one word of that line. */
static size_t take_next(const char *line, size_t length, struct answer *a)
{
	static const char refused[] = "REFUSED=";
	const char *space = memchr(line, ' ', length);
	size_t n = space ? (size_t)(space - line) : length;

	if (begins(line, length, refused)) {
		take_refusal(line + strlen(refused), length - strlen(refused), a);
		return length;
	}
	take_word(line, n, a);
	return n < length ? n + 1 : n;
}

void answer_parse(const char *packet, size_t length, struct answer *ret)
{
	*ret = (struct answer){.kind = ANSWER_NONE};
	while (length > 0) {
		const char *end = memchr(packet, '\n', length);
		size_t line = end ? (size_t)(end - packet) : length;
		for (size_t at = 0; at < line;)
			at += take_next(packet + at, line - at, ret);
		packet += end ? line + 1 : line;
		length -= end ? line + 1 : line;
	}
}
