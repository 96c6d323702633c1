/* SPDX-License-Identifier: MIT */
#include "init/control.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "conf/protocol.h"
#include "init/client.h"
#include "kernel/identity.h"
#include "kernel/log.h"
#include "kernel/util.h"
#include "upgrade/upgrade.h"

/* One that connects and asks nothing would hold a place for ever. */
#define REQUEST_USEC (10 * USEC_PER_SEC)
/* No descriptor or memory is left for one more: the next are let in after that. */
#define PAUSE_USEC (100 * USEC_PER_MSEC)

static bool turned_away; /* somebody was, since there last was room: said once */
static struct loop_source listener = {.fd = -1};
static struct loop_timer pause_timer;
static bool pausing; /* said once, until there is room again */

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

/* What it hears who finds no place. */
static const char TURNED_AWAY[] =
	"@result " RESULT_BUSY
	"\ntext=busy: too many clients talk to PID 1; nothing was done, try again\n\n";

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
	struct client *c = client_add(fd, cred.uid);
	if (!c && !turned_away)
		log_warning("too many clients on the control socket: some are turned away");
	turned_away = !c;
	if (!c) {
		(void)!send(fd, TURNED_AWAY, strlen(TURNED_AWAY), MSG_DONTWAIT | MSG_NOSIGNAL);
		return;
	}
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
	for (struct client *c = NULL; (c = client_next(c));)
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
	struct client *c = client_add(fd, (uid_t)record_get_int(r, "uid", -1));
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
		(void)client_enqueue(c, text, strlen(text));
	if (record_get_bool(r, "finished", false)) {
		c->finished = true;
		timer_set(&c->timer, c->queue ? deadline_in(CLIENT_READ_USEC) : clock_usec());
	} else if (!c->asked) {
		timer_set(&c->timer, deadline_in(REQUEST_USEC));
	}
	return 0;
}

/* It has been moved aside by a life that crashed before it could close what it was moved from. */
static bool is_client(int fd)
{
	const char *word = identity_of(fd);

	for (struct client *c = NULL; word && (c = client_next(c));)
		if (identity_is(c->fd, word))
			return true;
	return false;
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
	if (is_client(fd))
		return false;
	struct client *c = client_add(fd, cred.uid);
	if (!c)
		return false;
	(void)fd_set_cloexec(fd, true);
	timer_set(&c->timer, deadline_in(REQUEST_USEC));
	return true;
}

void control_load_request(const struct record *r)
{
	const char *word = record_get(r, "identity");

	/* Not by its number: that may be another's by now, whose request is still to be read. */
	for (struct client *c = NULL; (c = client_next(c));) {
		if (c->asked || !word || !identity_is(c->fd, word))
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
	for (struct client *c = NULL; (c = client_next(c));)
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
	for (struct client *c = NULL; (c = client_next(c));)
		(void)visit(c->fd);
}
