/* SPDX-License-Identifier: MIT */
/* [Socket]: of a service's own file, and of the .socket units that belong to it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/unit_internal.h"
#include "conf/unit_values.h"
#include "conf/words.h"

#define UNUSED __attribute__((unused))

void socket_options_done(struct socket_options *o)
{
	free(o->fd_name);
	free(o->user);
	free(o->group);
	free(o->service);
	strings_free(o->links);
}

void unit_clear_listen(struct unit *u)
{
	for (size_t i = 0; i < u->n_listen; i++)
		listen_config_done(&u->listen[i]);
	free(u->listen);
	u->listen = NULL;
	u->n_listen = 0;
}

const struct listen_config *unit_find_listen(const struct unit *u, const char *address)
{
	for (size_t i = 0; i < u->n_listen; i++)
		if (strcmp(u->listen[i].address, address) == 0)
			return &u->listen[i];
	return NULL;
}

const struct socket_options *unit_socket_options(
	const struct unit *u, const struct listen_config *l)
{
	return l->options ? &u->borrowed[l->options - 1] : &u->socket;
}

static int append_listen(struct unit *u, const struct listen_config *l, struct error *e)
{
	if (unit_find_listen(u, l->address))
		return error_say(e, -EINVAL, "is there already");
	if (u->n_listen >= STRINGS_MAX)
		return error_say(e, -E2BIG, "more than %d sockets", STRINGS_MAX);
	struct listen_config *grown = reallocarray(u->listen, u->n_listen + 1, sizeof(*grown));
	if (!grown)
		return key_no_memory(e);
	grown[u->n_listen++] = *l;
	u->listen = grown;
	return 0;
}

/* A stream is what it mostly is, and was before there was anything else: it is named as written. */
static int set_type(struct listen_config *l, enum listen_type type, struct error *e)
{
	static const char *const prefix[] = {[LISTEN_STREAM] = "",
		[LISTEN_DATAGRAM] = "datagram:",
		[LISTEN_SEQPACKET] = "seqpacket:"};
	char *address;

	l->type = type;
	if (type == LISTEN_STREAM)
		return 0;
	if (type == LISTEN_SEQPACKET && l->family != LISTEN_UNIX)
		return error_say(e, -EINVAL, "must be /PATH or @NAME");
	if (asprintf(&address, "%s%s", prefix[type], l->address) < 0)
		return key_no_memory(e);
	free(l->address);
	l->address = address;
	return 0;
}

/* The argument is the type; none is a stream. */
int value_listen(const struct key_site *site, const char *text, UNUSED void *field,
	const void *argument, struct error *e)
{
	const enum listen_type *type = argument;
	struct unit *u = site->target;
	struct listen_config l;
	char *address;

	if (text[0] == '\0') {
		unit_clear_listen(u);
		return 0;
	}
	int r = key_expand(site, text, &address, e);
	if (r < 0)
		return r;
	r = unit_parse_listen(address, &l, e);
	free(address);
	if (r < 0)
		return r;
	r = set_type(&l, type ? *type : LISTEN_STREAM, e);
	if (r == 0)
		r = append_listen(u, &l, e);
	if (r < 0)
		listen_config_done(&l);
	return r;
}

int value_odd_listen(const struct key_site *site, const char *text, void *field,
	UNUSED const void *argument, UNUSED struct error *e)
{
	if (text[0])
		key_warn(site, "%s= is not supported: the service gets none of these sockets",
			site->key);
	*(bool *)field = *(bool *)field || text[0];
	return 0;
}

int value_paths(const struct key_site *site, const char *text, void *field,
	UNUSED const void *argument, struct error *e)
{
	char ***list = field;

	if (text[0] == '\0') {
		strings_free(*list);
		*list = NULL;
	}
	for (;;) {
		char *word, *path = NULL;
		int r = word_next(&text, WORD_KEEP_BACKSLASH, &word);
		if (r <= 0)
			return r == 0         ? 0
			       : r == -ENOMEM ? key_no_memory(e)
					      : error_say(e, r, "a quote is not closed");
		r = key_parse_path(site, word, &path, NULL, e);
		if (r == 0 && path)
			r = key_append(list, path, e);
		free(path);
		free(word);
		if (r < 0)
			return r;
	}
}

/* .socket units */

static bool is_socket_name(const char *name)
{
	const char *dot = strrchr(name, '.');

	return dot && strcmp(dot, ".socket") == 0;
}

const char *unit_next_socket_unit(const struct unit *u, size_t *i)
{
	char **const lists[] = {u->socket_units, u->requires, u->wants};
	size_t n = 0;

	for (size_t k = 0; k < sizeof(lists) / sizeof(lists[0]); k++)
		for (char **name = lists[k]; name && *name; name++)
			if (is_socket_name(*name) && n++ == *i) {
				++*i;
				return *name;
			}
	return NULL;
}

/* systemd.socket(5): a socket is for the service of its name, unless it says for which. */
static bool is_for(const struct unit *from, const struct unit *u)
{
	const char *service = from->socket.service;
	size_t stem = strlen(from->name) - strlen(".socket");

	if (service)
		return strcmp(service, u->name) == 0;
	return strncmp(from->name, u->name, stem) == 0 && strcmp(u->name + stem, ".service") == 0;
}

static int take_options(struct unit *u, struct unit *from, struct error *e)
{
	struct socket_options *grown = reallocarray(u->borrowed, u->n_borrowed + 1, sizeof(*grown));

	if (!grown)
		return key_no_memory(e);
	u->borrowed = grown;
	grown[u->n_borrowed++] = from->socket;
	from->socket = (struct socket_options){0};
	return 0;
}

int unit_take_sockets(struct unit *u, struct unit *from, struct error *e)
{
	if (!is_for(from, u) || from->socket.accept || from->socket.odd)
		return 0;
	if (!from->socket.fd_name && !(from->socket.fd_name = strdup(from->name)))
		return key_no_memory(e);
	int r = take_options(u, from, e);
	while (r == 0 && from->n_listen > 0) {
		struct listen_config *first = &from->listen[0];
		first->options = u->n_borrowed;
		/* Once is enough: a drop-in may have it listed under both names. */
		if (unit_find_listen(u, first->address))
			listen_config_done(first);
		else
			r = append_listen(u, first, e);
		if (r == 0)
			memmove(first, first + 1, --from->n_listen * sizeof(*first));
	}
	return r;
}
