/* SPDX-License-Identifier: MIT */
#include "services/inbox.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/identity.h"
#include "kernel/log.h"
#include "kernel/util.h"
#include "services/message.h"
#include "services/set.h"

/* A message to be heard again; it owns everything that is in it. */
struct waiting {
	struct waiting *next;
	unsigned instance, tries;
	pid_t sender;
	uint64_t number;
	char *unit, *text;
	int *fds;
	size_t n_fds;
};

static struct waiting *first;

void inbox_write(struct record_writer *w, const struct letter *l)
{
	record_int(w, "instance", l->instance);
	record_int(w, "sender", l->sender);
	record_int(w, "number", (int64_t)l->number);
	record_int(w, "tries", l->tries);
	record_text(w, "text", l->text);
	for (size_t i = 0; i < l->n_fds; i++) {
		const char *word = identity_of(l->fds[i]);
		if (word)
			record_format(w, "fd", "%d %s", l->fds[i], word);
	}
}

void inbox_save(struct record_writer *w)
{
	for (const struct waiting *m = first; m; m = m->next) {
		const struct letter l = {.instance = m->instance,
			.sender = m->sender,
			.tries = m->tries,
			.text = m->text,
			.fds = m->fds,
			.n_fds = m->n_fds};
		record_begin(w, "message", m->unit);
		inbox_write(w, &l);
		record_end(w);
	}
}

static void release(struct waiting *m)
{
	for (size_t i = 0; i < m->n_fds; i++)
		(void)fd_close(m->fds[i]);
	free(m->fds);
	free(m->text);
	free(m->unit);
	free(m);
}

/* The original is closed with all that nobody knows, or it is somebody's: what was stored. */
static int duplicate(const char *text)
{
	int fd, at;

	if (sscanf(text, "%d %n", &fd, &at) != 1)
		return -1;
	return fcntl(identity_find(fd, text + at), F_DUPFD_CLOEXEC, 3);
}

static int load_fds(struct waiting *m, const struct record *r)
{
	size_t n = 0;

	while (record_get_nth(r, "fd", n))
		n++;
	if (n > 0 && !(m->fds = calloc(n, sizeof(*m->fds))))
		return -1;
	for (size_t i = 0; i < n; i++) {
		int fd = duplicate(record_get_nth(r, "fd", i));
		if (fd >= 0)
			m->fds[m->n_fds++] = fd;
		else
			log_warning("%s: a descriptor of a message is lost in the crash", r->id);
	}
	return 0;
}

static struct waiting *parse(const struct record *r)
{
	const char *text = record_get(r, "text");
	struct waiting *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	m->instance = (unsigned)record_get_int(r, "instance", 0);
	m->sender = (pid_t)record_get_int(r, "sender", 0);
	m->number = (uint64_t)record_get_int(r, "number", 0);
	m->tries = (unsigned)record_get_int(r, "tries", 0);
	m->unit = strdup(r->id);
	m->text = strdup(text ? text : "");
	if (m->unit && m->text && load_fds(m, r) == 0)
		return m;
	release(m);
	return NULL;
}

static void append(struct waiting *m)
{
	struct waiting **end = &first;

	while (*end)
		end = &(*end)->next;
	*end = m;
}

void inbox_load(const struct record *r, uint64_t heard)
{
	struct waiting *m = parse(r);

	if (!m) {
		log_error("%s: a message is lost in the crash: no memory", r->id);
	} else if (m->number > 0 && m->number <= heard) {
		release(m);
	} else if (m->tries >= LETTER_TRIES) {
		char text[128];
		message_sanitize(m->text, strlen(m->text), text, sizeof(text));
		log_error("%s: a message is dropped, since PID 1 has crashed %u times over it: %s",
			m->unit, m->tries, text);
		release(m);
	} else {
		append(m);
	}
}

void inbox_doubt_last(void)
{
	struct waiting *m = first;

	while (m && m->next)
		m = m->next;
	if (m && m->number > 0 && m->tries == 0)
		m->tries = 1;
}

static void hear(struct waiting *m)
{
	struct service *s = set_find(m->unit);
	struct notification n;
	char text[MESSAGE_MAX + 1];

	if (!s)
		return;
	log_info("%s: a message that was under way in the crash is heard", m->unit);
	(void)snprintf(text, sizeof(text), "%s", m->text);
	notification_parse(text, &n);
	service_notify(s, m->instance, m->sender, &n, m->fds, m->n_fds);
}

void inbox_hear(void (*keep)(void))
{
	struct waiting *m;

	/* Only from here on it is the state that has them. */
	for (m = first; m; m = m->next)
		m->number = 0;
	while ((m = first)) {
		m->tries++;
		keep();
		hear(m);
		first = m->next;
		/* What its descriptors stand for is in the state before they are closed. */
		keep();
		release(m);
	}
}
