/* SPDX-License-Identifier: MIT */
#include "init/control.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "conf/protocol.h"
#include "init/commands.h"
#include "init/keep.h"
#include "kernel/identity.h"
#include "kernel/log.h"
#include "kernel/loop.h"
#include "kernel/util.h"
#include "upgrade/upgrade.h"

#define CLIENTS_MAX 128
/* Of other users than root, who could keep root out otherwise. */
#define STRANGERS_MAX 64
/* Of answers that a client has not read yet. */
#define QUEUE_MAX_BYTES (8 * 1024 * 1024)
/* One that connects and asks nothing would hold a place for ever. */
#define REQUEST_USEC (10 * USEC_PER_SEC)
/* And so would one that does not read its answer. */
#define READ_USEC (30 * USEC_PER_SEC)
/* No descriptor or memory is left for one more: the next are let in after that. */
#define PAUSE_USEC (100 * USEC_PER_MSEC)

struct packet {
	struct packet *next;
	size_t length;
	char text[];
};

struct client {
	struct client *next;
	int fd;
	uid_t uid;
	struct loop_source source;
	struct loop_timer timer;
	struct packet *queue, **queue_end;
	size_t queued_bytes;
	bool asked; /* its request is being answered */
	bool upgrade; /* it waits for the end of an upgrade */
	bool finished; /* its result is sent or queued */
	char verb[16]; /* what it waits for a service to have done; "" */
	char unit[256];
};

static struct client *clients;
static unsigned n_clients, n_strangers;
static bool turned_away; /* somebody was, since there last was room: said once */
static struct loop_source listener = {.fd = -1};
static struct loop_timer pause_timer;
static bool pausing; /* said once, until there is room again */

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

static int enqueue(struct client *c, const char *text, size_t length)
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
		r = enqueue(c, text, length);
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
	timer_set(&c->timer, c->queue ? deadline_in(READ_USEC) : clock_usec());
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
	keep_note_request(c->fd);
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
	ssize_t n = recv(c->fd, buf, sizeof(buf), MSG_DONTWAIT | MSG_TRUNC);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0)
		drop(c);
	else if (!c->asked)
		take_request(c, buf, (size_t)n);
}

static void client_timer_expired(struct loop_timer *t)
{
	drop(CONTAINER_OF(t, struct client, timer));
}

static struct client *add_client(int fd, uid_t uid)
{
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

static void pause_over(struct loop_timer *t)
{
	(void)t;
	(void)loop_modify(&listener, EPOLLIN);
}

/* A client that cannot be accepted stays in the queue, and the queue stays ready: the loop would
 * spin on it. */
static void pause_accepting(int error)
{
	if (!pausing)
		log_warning(
			"cannot let in a client of the control socket yet: %s", strerror(error));
	pausing = true;
	pause_timer.expired = pause_over;
	if (loop_modify(&listener, 0) == 0)
		timer_set(&pause_timer, deadline_in(PAUSE_USEC));
}

static bool is_shortage(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOMEM || error == ENOBUFS;
}

static void listener_ready(struct loop_source *source, uint32_t events)
{
	struct ucred cred = {.uid = (uid_t)-1};
	socklen_t length = sizeof(cred);
	CLEANUP_FD int fd = accept4(source->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)events;
	if (fd < 0) {
		if (is_shortage(errno))
			pause_accepting(errno);
		return;
	}
	pausing = false;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &length) < 0)
		return;
	struct client *c = add_client(fd, cred.uid);
	if (!c && !turned_away)
		log_warning("too many clients on the control socket: some are turned away");
	turned_away = !c;
	if (!c)
		return;
	(void)fd_steal(&fd);
	timer_set(&c->timer, deadline_in(REQUEST_USEC));
}

int control_open(struct error *e)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = CONTROL_SOCKET};
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return error_set(e, errno, "cannot make the socket %s", CONTROL_SOCKET);
	(void)unlink(CONTROL_SOCKET);
	/* Anybody may ask how things are; what changes anything asks for root's credentials. */
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
		chmod(CONTROL_SOCKET, 0666) < 0 || listen(fd, 64) < 0)
		return error_set(e, errno, "cannot make the socket %s", CONTROL_SOCKET);
	listener.ready = listener_ready;
	int r = loop_add(&listener, fd, EPOLLIN);
	if (r < 0)
		return error_set(e, r, "cannot watch the socket %s", CONTROL_SOCKET);
	(void)fd_steal(&fd);
	return 0;
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

/* State */

static void save_client(struct record_writer *w, const struct client *c)
{
	record_begin(w, "client", "");
	record_int(w, "fd", c->fd);
	record_int(w, "uid", c->uid);
	record_bool(w, "asked", c->asked);
	record_bool(w, "upgrade", c->upgrade);
	record_bool(w, "finished", c->finished);
	record_text(w, "verb", c->verb);
	record_text(w, "unit", c->unit);
	for (const struct packet *p = c->queue; p; p = p->next)
		record_format(w, "queued", "%.*s", (int)p->length, p->text);
	record_end(w);
}

void control_save(struct record_writer *w)
{
	record_begin(w, "control", "");
	record_int(w, "fd", listener.fd);
	record_end(w);
	for (const struct client *c = clients; c; c = c->next)
		save_client(w, c);
}

int control_load(const struct record *r, struct error *e)
{
	int fd = identity_take((int)record_get_int(r, "fd", -1));

	if (fd < 0)
		return control_open(e); /* whoever was waiting to be let in tries again */
	listener.ready = listener_ready;
	int result = loop_add(&listener, fd, EPOLLIN);
	return result < 0 ? error_set(e, result, "cannot take up the socket %s", CONTROL_SOCKET)
			  : 0;
}

int control_load_client(const struct record *r, struct error *e)
{
	int fd = identity_take((int)record_get_int(r, "fd", -1));
	const char *text;

	(void)e;
	if (fd < 0)
		return 0; /* gone just before a crash */
	struct client *c = fd >= 0 ? add_client(fd, (uid_t)record_get_int(r, "uid", -1)) : NULL;
	if (!c) {
		log_warning("a client of the control socket could not be taken over");
		(void)fd_close(fd);
		return 0;
	}
	c->asked = record_get_bool(r, "asked", true);
	c->upgrade = record_get_bool(r, "upgrade", false);
	control_wait(c, record_get(r, "verb") ? record_get(r, "verb") : "",
		record_get(r, "unit") ? record_get(r, "unit") : "");
	for (size_t i = 0; (text = record_get_nth(r, "queued", i)); i++)
		(void)enqueue(c, text, strlen(text));
	if (record_get_bool(r, "finished", false)) {
		c->finished = true;
		timer_set(&c->timer, c->queue ? deadline_in(READ_USEC) : clock_usec());
	} else if (!c->asked) {
		timer_set(&c->timer, deadline_in(REQUEST_USEC));
	}
	return 0;
}

bool control_adopt_stray(int fd)
{
	struct sockaddr_un address = {0};
	struct ucred cred = {.uid = (uid_t)-1};
	socklen_t length = sizeof(address), cred_length = sizeof(cred);
	int listening = 1;
	socklen_t int_length = sizeof(listening);

	if (getsockname(fd, (struct sockaddr *)&address, &length) < 0 ||
		address.sun_family != AF_UNIX || strcmp(address.sun_path, CONTROL_SOCKET) != 0 ||
		getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &int_length) < 0 ||
		listening || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &cred_length) < 0)
		return false;
	struct client *c = add_client(fd, cred.uid);
	if (!c)
		return false;
	(void)fd_set_cloexec(fd, true);
	timer_set(&c->timer, deadline_in(REQUEST_USEC));
	return true;
}

void control_load_request(const struct record *r)
{
	int fd = (int)record_get_int(r, "fd", -1);

	for (struct client *c = clients; c; c = c->next) {
		if (c->fd != fd || c->asked)
			continue;
		c->asked = true;
		control_finish(c, RESULT_FAILED,
			"PID 1 crashed while it worked on this request; it goes on, and `initctl status` shows how things are");
		return;
	}
}

void control_crashed(void)
{
	/* Of a plan nothing is left; whatever is further is in the state. */
	if (upgrade_phase() != UPGRADE_IDLE)
		return;
	for (struct client *c = NULL; (c = control_next_upgrade_client(c));)
		control_finish(c, RESULT_REFUSED,
			"refused: PID 1 crashed, and everything is as it was before");
}

void control_resume(const char *why)
{
	for (struct client *c = clients; c; c = c->next)
		if (strcmp(c->verb, "reexec") == 0)
			control_finish(c, why ? RESULT_FAILED : RESULT_OK, why);
		else if (strcmp(c->verb, "shutdown") == 0)
			control_finish(c, RESULT_OK, NULL); /* it goes on, see shutdown_resume() */
		else if (strcmp(c->verb, "holders") == 0 && !why)
			control_finish(c, RESULT_BUSY, /* who looked was the last life's child */
				"busy: PID 1 has executed itself meanwhile; ask again");
}

void control_each_fd(int (*visit)(int fd))
{
	if (listener.fd >= 0)
		(void)visit(listener.fd);
	for (const struct client *c = clients; c; c = c->next)
		(void)visit(c->fd);
}
