/* SPDX-License-Identifier: MIT */
#include "init/client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "conf/protocol.h"
#include "init/commands.h"
#include "init/keep.h"

#define CLIENTS_MAX 128
/* Of other users than root, who could keep root out otherwise. */
#define STRANGERS_MAX 64
/* Of answers that a client has not read yet. */
#define QUEUE_MAX_BYTES (8 * 1024 * 1024)

static struct client *clients;
static unsigned n_clients, n_strangers;

struct client *client_next(const struct client *after)
{
	return after ? after->next : clients;
}

static void drop(struct client *c)
{
	struct client **at = &clients;

	while (*at && *at != c)
		at = &(*at)->next;
	if (*at)
		*at = c->next;
	n_clients--;
	n_strangers -= c->uid != 0;
	timer_cancel(&c->timer);
	loop_remove(&c->source);
	(void)fd_close(c->fd);
	for (struct packet *p = c->queue, *next; p; p = next) {
		next = p->next;
		free(p);
	}
	free(c);
}

/* 1: sent, 0: not now, negative errno: the client is gone. */
static int send_now(struct client *c, const char *text, size_t length)
{
	if (send(c->fd, text, length, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
		return 1;
	return errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM || errno == EINTR ? 0
											: -errno;
}

int client_enqueue(struct client *c, const char *text, size_t length)
{
	struct packet *p;

	if (c->queued_bytes + length > QUEUE_MAX_BYTES)
		return -ENOBUFS;
	p = malloc(sizeof(*p) + length);
	if (!p)
		return -ENOMEM;
	p->next = NULL;
	p->length = length;
	memcpy(p->text, text, length);
	*c->queue_end = p;
	c->queue_end = &p->next;
	c->queued_bytes += length;
	return loop_modify(&c->source, EPOLLIN | EPOLLOUT);
}

/* Not from within whoever is sending: at the loop's next turn. */
static void drop_soon(struct client *c)
{
	c->finished = true;
	timer_set(&c->timer, clock_usec());
}

void control_send(struct client *c, const char *text, size_t length)
{
	int r;

	if (!c || c->finished)
		return;
	r = c->queue ? 0 : send_now(c, text, length);
	if (r == 0)
		r = client_enqueue(c, text, length);
	if (r < 0)
		drop_soon(c);
}

void control_send_record(struct client *c, struct record_writer *w)
{
	if (!w->error && c)
		control_send(c, w->text, w->length);
	record_writer_done(w);
}

void control_finish(struct client *c, const char *result, const char *text)
{
	struct record_writer w = {0};

	if (!c || c->finished)
		return;
	record_begin(&w, "result", result);
	record_text(&w, "text", text);
	record_end(&w);
	if (w.error) {
		/* The outcome at least, without a word: who waits must not wait for ever. */
		char bare[64];
		int n = snprintf(bare, sizeof(bare), "@result %s\n\n", result);
		control_send(c, bare, (size_t)n);
	}
	control_send_record(c, &w);
	c->finished = true;
	c->upgrade = false;
	c->verb[0] = '\0';
	timer_set(&c->timer, c->queue ? deadline_in(CLIENT_READ_USEC) : clock_usec());
}

static void flush_queue(struct client *c)
{
	while (c->queue) {
		struct packet *p = c->queue;
		int r = send_now(c, p->text, p->length);
		if (r == 0)
			return;
		if (r < 0) {
			drop_soon(c);
			return;
		}
		c->queue = p->next;
		c->queued_bytes -= p->length;
		free(p);
	}
	c->queue_end = &c->queue;
	(void)loop_modify(&c->source, EPOLLIN);
	if (c->finished)
		drop_soon(c);
}

static void take_request(struct client *c, char *text, size_t length)
{
	struct record_reader *reader;
	struct record r;

	timer_cancel(&c->timer);
	c->asked = true;
	if (length > CONTROL_PACKET_MAX) {
		control_finish(c, RESULT_USAGE, "the request is too long");
		return;
	}
	if (record_reader_new(&reader, text, length) < 0) {
		control_finish(c, RESULT_FAILED, "out of memory");
		return;
	}
	if (record_next(reader, &r) == 1 && strcmp(r.kind, "request") == 0)
		command_run(c, &r);
	else
		control_finish(c, RESULT_USAGE, "that is no request");
	record_reader_free(reader);
}

static void client_ready(struct loop_source *source, uint32_t events)
{
	struct client *c = CONTAINER_OF(source, struct client, source);
	static char buf[CONTROL_PACKET_MAX];

	if (events & EPOLLOUT)
		flush_queue(c);
	if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		return;
	ssize_t n = recv(c->fd, buf, sizeof(buf), MSG_PEEK | MSG_DONTWAIT | MSG_TRUNC);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		drop(c);
		return;
	}
	/* In this order: until it is noted it is in the socket, so that no crash leaves a client
	 * without an answer; and out of it before anybody looks into it. */
	if (!c->asked)
		keep_note_request(c->fd);
	(void)recv(c->fd, NULL, 0, MSG_DONTWAIT);
	if (!c->asked)
		take_request(c, buf, (size_t)n);
}

static void client_timer_expired(struct loop_timer *t)
{
	drop(CONTAINER_OF(t, struct client, timer));
}

/* Neither has it asked anything, nor is a request on its way. */
static bool is_idle(const struct client *c)
{
	char byte;

	return !c->asked && recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

/* Who has been idle for longest gives way to root, who may have come to see what is wrong here. */
static void make_room(void)
{
	struct client *oldest = NULL;

	/* The last one has come first. */
	for (struct client *c = clients; c; c = c->next)
		if (is_idle(c))
			oldest = c;
	if (oldest)
		drop(oldest);
}

struct client *client_add(int fd, uid_t uid)
{
	if (uid == 0 && n_clients >= CLIENTS_MAX)
		make_room();
	bool full = n_clients >= CLIENTS_MAX || (uid != 0 && n_strangers >= STRANGERS_MAX);
	struct client *c = full ? NULL : calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->fd = fd;
	c->uid = uid;
	c->queue_end = &c->queue;
	c->source = (struct loop_source){.fd = -1, .ready = client_ready};
	c->timer.expired = client_timer_expired;
	if (loop_add(&c->source, fd, EPOLLIN) < 0) {
		free(c);
		return NULL;
	}
	c->next = clients;
	clients = c;
	n_clients++;
	n_strangers += uid != 0;
	return c;
}

bool control_is_root(const struct client *c)
{
	return c->uid == 0;
}

void control_wait(struct client *c, const char *verb, const char *unit)
{
	(void)snprintf(c->verb, sizeof(c->verb), "%s", verb);
	(void)snprintf(c->unit, sizeof(c->unit), "%s", unit);
}

struct client *control_waiting_client(const char *verb, const char *unit)
{
	for (struct client *c = clients; c; c = c->next)
		if (!c->finished && strcmp(c->verb, verb) == 0 && strcmp(c->unit, unit) == 0)
			return c;
	return NULL;
}

struct client *control_next_upgrade_client(struct client *after)
{
	for (struct client *c = after ? after->next : clients; c; c = c->next)
		if (c->upgrade && !c->finished)
			return c;
	return NULL;
}

void control_set_upgrade_client(struct client *c)
{
	c->upgrade = true;
}

void control_services_changed(void)
{
	for (struct client *c = clients; c; c = c->next)
		if (c->verb[0] && !c->finished)
			command_check_wait(c, c->verb, c->unit);
}
