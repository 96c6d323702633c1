/* SPDX-License-Identifier: MIT */
#include "initctl/connection.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "initctl/memory.h"
#include "kernel/error.h"

/* connect() waits while PID 1's queue is full; if it is full for that long, PID 1 is not well. */
#define CONNECT_TIMEOUT_SEC 10

void result_done(struct result *r)
{
	free(r->id);
	free(r->text);
	*r = (struct result){0};
}

static void set_result(struct result *r, enum control_exit code, const char *id, const char *text)
{
	result_done(r);
	r->exit = code;
	r->id = copy_text(id);
	r->text = copy_text(text);
}

static const char *socket_path(void)
{
	const char *path = getenv("MOLT_CONTROL");

	return path && *path ? path : CONTROL_SOCKET;
}

static int connect_to(int fd, const char *path, struct error *e)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct timeval timeout = {.tv_sec = CONNECT_TIMEOUT_SEC};

	if (strlen(path) >= sizeof(address.sun_path))
		return error_set(e, ENAMETOOLONG, "cannot reach PID 1 at %s", path);
	memcpy(address.sun_path, path, strlen(path) + 1);
	/* Sockets without this limit work as well: they only wait longer. */
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0)
		return 0;
	if (errno == EAGAIN)
		return error_say(e, ETIMEDOUT,
			"cannot reach PID 1 at %s: it accepts no connection for %d s", path,
			CONNECT_TIMEOUT_SEC);
	if (errno == EACCES || errno == EPERM)
		return error_say(e, errno, "cannot reach PID 1 at %s: %s (only root may)", path,
			strerrordesc_np(errno));
	return error_say(e, errno, "cannot reach PID 1 at %s: %s (is molt running as init?)", path,
		strerrordesc_np(errno));
}

static int open_socket(int *ret, struct error *e)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return error_set(e, errno, "cannot make a socket");
	int r = connect_to(fd, socket_path(), e);
	if (r < 0) {
		(void)close(fd);
		return r;
	}
	*ret = fd;
	return 0;
}

static bool is_namespace_of_init(void)
{
	struct stat ours, theirs;

	return stat("/proc/self/ns/mnt", &ours) < 0 || stat("/proc/1/ns/mnt", &theirs) < 0 ||
	       (ours.st_dev == theirs.st_dev && ours.st_ino == theirs.st_ino);
}

/* The same path may be something else to PID 1: then it says so. */
static void write_seen(struct record_writer *w, const char *path)
{
	struct stat st;

	if (path && !is_namespace_of_init() && stat(path, &st) == 0)
		record_format(w, "seen", "%llu %llu", (unsigned long long)st.st_dev,
			(unsigned long long)st.st_ino);
}

static void write_shutdown(struct record_writer *w, const struct request *q)
{
	record_text(w, "kind", q->kind);
	record_text(w, "by", q->by);
	record_text(w, "message", q->message);
	if (q->when)
		record_int(w, q->when->at ? "at_usec" : "in_usec", (int64_t)q->when->usec);
	if (q->no_wall)
		record_bool(w, "wall", false);
	if (q->only_warn)
		record_bool(w, "only_warn", true);
}

static void write_request(struct record_writer *w, const struct request *q)
{
	record_begin(w, "request", q->verb);
	record_text(w, "unit", q->unit);
	record_text(w, "path", q->path);
	write_seen(w, q->path);
	record_text(w, "mount_options", q->mount_options);
	record_text(w, "verity_hash", q->verity_hash);
	record_text(w, "root_hash", q->root_hash);
	record_text(w, "root_hash_signature", q->root_hash_signature);
	if (q->read_only)
		record_bool(w, "read_only", true);
	if (q->force)
		record_bool(w, "force", true);
	if (q->dry_run)
		record_bool(w, "dry_run", true);
	record_text(w, "commit", q->commit);
	record_text(w, "commit_within", q->commit_within);
	write_shutdown(w, q);
	record_end(w);
}

static int send_request(int fd, const struct request *q, struct error *e)
{
	struct record_writer w = {0};
	int r = 0;

	write_request(&w, q);
	if (w.error)
		r = error_set(e, w.error, "cannot write the request");
	else if (w.length > CONTROL_PACKET_MAX)
		r = error_set(e, EMSGSIZE, "cannot send the request");
	else if (send(fd, w.text, w.length, MSG_NOSIGNAL) < 0)
		r = error_set(e, errno, "cannot send the request to PID 1");
	record_writer_done(&w);
	/* Whoever hangs up this early has a reason, and it is there to be read. */
	return r == -EPIPE || r == -ECONNRESET ? 0 : r;
}

/* Returns the length of the next packet, 0 if there is none to come, or a negative errno. */
static ssize_t receive_packet(int fd, char *buffer, size_t size)
{
	ssize_t n;

	/* A reset is reported once, before the packets that still wait to be read. */
	do
		n = recv(fd, buffer, size, MSG_TRUNC);
	while (n < 0 && (errno == EINTR || errno == ECONNRESET));
	if (n < 0)
		return -errno;
	return (size_t)n > size ? -EMSGSIZE : n;
}

static enum control_exit exit_of(const char *id)
{
	static const struct {
		const char *id;
		enum control_exit exit;
	} table[] = {
		{RESULT_OK, CONTROL_EXIT_OK},
		{RESULT_FAILED, CONTROL_EXIT_FAILED},
		{RESULT_USAGE, CONTROL_EXIT_USAGE},
		{RESULT_REFUSED, CONTROL_EXIT_REFUSED},
		{RESULT_ROLLED_BACK, CONTROL_EXIT_ROLLED_BACK},
		{RESULT_BUSY, CONTROL_EXIT_BUSY},
		{RESULT_DENIED, CONTROL_EXIT_DENIED},
		{RESULT_NOT_FOUND, CONTROL_EXIT_NOT_FOUND},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		if (strcmp(table[i].id, id) == 0)
			return table[i].exit;
	}
	/* A result that only a newer PID 1 knows: it is not "ok", so it is no success. */
	return CONTROL_EXIT_FAILED;
}

/* Returns 1 when the record was the result. */
static int take_record(
	const struct record *r, record_handler handler, void *userdata, struct result *ret)
{
	if (strcmp(r->kind, "result") != 0) {
		handler(userdata, r);
		return 0;
	}
	const char *text = record_get(r, "text");
	set_result(ret, exit_of(r->id), r->id, text ? text : "");
	return 1;
}

/* Returns 1 when the result was in it, 0 if not, -EBADMSG for what is no record. */
static int take_packet(const char *packet, size_t length, record_handler handler, void *userdata,
	struct result *ret)
{
	struct record_reader *reader = NULL;
	struct record record;
	int r = record_reader_new(&reader, packet, length);

	if (r < 0)
		return r;
	while ((r = record_next(reader, &record)) > 0) {
		r = take_record(&record, handler, userdata, ret);
		if (r > 0)
			break;
	}
	record_reader_free(reader);
	return r;
}

static void read_answer(int fd, record_handler handler, void *userdata, struct result *ret)
{
	char *buffer = allocate(CONTROL_PACKET_MAX);
	struct error e = {0};
	int done = 0;

	while (done == 0) {
		ssize_t n = receive_packet(fd, buffer, CONTROL_PACKET_MAX);

		if (n == 0)
			done = error_say(&e, ECONNRESET,
				"lost the connection to PID 1 before it said how this ended"
				" (`initctl status` shows how things are)");
		else if (n < 0)
			done = error_set(&e, (int)n, "cannot read the answer of PID 1");
		else
			done = take_packet(buffer, (size_t)n, handler, userdata, ret);
	}
	if (done == -EBADMSG)
		set_result(ret, CONTROL_EXIT_FAILED, RESULT_FAILED,
			"cannot understand the answer of PID 1");
	else if (done < 0)
		set_result(ret, CONTROL_EXIT_UNREACHABLE, RESULT_LOST, e.text);
	free(buffer);
}

void ask(const struct request *q, record_handler handler, void *userdata, struct result *ret)
{
	struct error e = {0};
	int fd = -1;
	int r = open_socket(&fd, &e);

	if (r == 0)
		r = send_request(fd, q, &e);
	if (r == -EACCES || r == -EPERM)
		set_result(ret, CONTROL_EXIT_DENIED, RESULT_DENIED, e.text);
	else if (r == -EMSGSIZE)
		set_result(ret, CONTROL_EXIT_USAGE, RESULT_USAGE, e.text);
	else if (r < 0)
		set_result(ret, CONTROL_EXIT_UNREACHABLE, RESULT_UNREACHABLE, e.text);
	else
		read_answer(fd, handler, userdata, ret);
	if (fd >= 0)
		(void)close(fd);
}
