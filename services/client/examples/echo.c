/* SPDX-License-Identifier: MIT */
/*
 * A TCP server that keeps its connections when its program is exchanged: each line that a client
 * sends comes back with its number in that connection. On REEXEC it writes down what it knows of
 * each connection, and executes the new image's program with the sockets open; that one reads it
 * and goes on in the middle of the line.
 *
 * The listening socket comes from PID 1 ([Socket] in echo.service). It runs without molt too:
 *     LISTEN_PID=... LISTEN_FDS=1, as systemd-socket-activate has it.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <molt-client.h>

#define PROGRAM "/usr/bin/molt-echo"
#define CONNECTIONS_MAX 512
#define LINE_MAX_BYTES 1024
#define STATE_VARIABLE "ECHO_STATE_FD"

/* What must outlive the program is all in here. */
struct connection {
	int fd; /* -1: the slot is free */
	unsigned lines;
	size_t in_length; /* of a line that has not ended yet */
	size_t out_length; /* what the client has not taken yet; nothing is read until it has */
	char in[LINE_MAX_BYTES];
	char out[LINE_MAX_BYTES + 32];
};

static struct connection connections[CONNECTIONS_MAX];
static struct molt_client *client; /* NULL: not under molt, or no Handshake=yes */

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

/* Serving */

static struct connection *free_slot(void)
{
	for (size_t i = 0; i < CONNECTIONS_MAX; i++)
		if (connections[i].fd < 0)
			return &connections[i];
	return NULL;
}

static void accept_one(int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct connection *c;

	if (fd < 0)
		return; /* it has gone again */
	c = free_slot();
	if (!c) {
		close(fd);
		return;
	}
	*c = (struct connection){.fd = fd};
}

static void drop(struct connection *c)
{
	close(c->fd);
	c->fd = -1;
}

static void flush(struct connection *c)
{
	ssize_t n = send(c->fd, c->out, c->out_length, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		drop(c);
	} else if (n > 0) {
		c->out_length -= (size_t)n;
		memmove(c->out, c->out + n, c->out_length);
	}
}

/* Answers the first whole line that is there, if there is one. */
static int answer_line(struct connection *c)
{
	char *end = memchr(c->in, '\n', c->in_length);
	size_t length = end ? (size_t)(end - c->in) + 1 : c->in_length;

	if (!end && c->in_length < sizeof(c->in))
		return 0;
	c->out_length =
		(size_t)snprintf(c->out, sizeof(c->out), "%u %.*s", ++c->lines, (int)length, c->in);
	c->in_length -= length;
	memmove(c->in, c->in + length, c->in_length);
	flush(c);
	return 1;
}

static void serve(struct connection *c, short events)
{
	if (c->out_length > 0)
		flush(c);
	if (c->fd >= 0 && c->out_length == 0 && (events & (POLLIN | POLLHUP | POLLERR))) {
		ssize_t n = recv(
			c->fd, c->in + c->in_length, sizeof(c->in) - c->in_length, MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			drop(c);
		else if (n > 0)
			c->in_length += (size_t)n;
	}
	while (c->fd >= 0 && c->out_length == 0 && answer_line(c))
		;
}

/* From one program to the next: both may be of different versions, so the form is said first. */

#define STATE_HEADER "molt-echo 1\n"

static int write_state(void)
{
	int fd = memfd_create("molt-echo", MFD_CLOEXEC);
	FILE *out = fd < 0 ? NULL : fdopen(dup(fd), "w");

	if (!out)
		return -1;
	fputs(STATE_HEADER, out);
	for (struct connection *c = connections; c < connections + CONNECTIONS_MAX; c++) {
		if (c->fd < 0)
			continue;
		fprintf(out, "%d %u %zu %zu\n", c->fd, c->lines, c->in_length, c->out_length);
		fwrite(c->in, 1, c->in_length, out);
		fwrite(c->out, 1, c->out_length, out);
	}
	if (fclose(out) != 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static int read_connection(FILE *in)
{
	struct connection *c = free_slot();
	struct connection found = {0};

	if (!c || fscanf(in, "%d %u %zu %zu", &found.fd, &found.lines, &found.in_length,
			  &found.out_length) != 4)
		return 0;
	if (fgetc(in) != '\n' || found.in_length > sizeof(found.in) ||
		found.out_length > sizeof(found.out) ||
		fread(found.in, 1, found.in_length, in) != found.in_length ||
		fread(found.out, 1, found.out_length, in) != found.out_length)
		return 0;
	/* Children, if there were any, are not to have the connections. */
	fcntl(found.fd, F_SETFD, FD_CLOEXEC);
	*c = found;
	return 1;
}

static void read_state(void)
{
	const char *number = getenv(STATE_VARIABLE);
	char header[sizeof(STATE_HEADER)];
	FILE *in;

	if (!number)
		return; /* a start, and not a re-exec */
	in = fdopen(atoi(number), "r");
	unsetenv(STATE_VARIABLE);
	if (!in)
		return;
	rewind(in);
	if (fgets(header, sizeof(header), in) && strcmp(header, STATE_HEADER) == 0)
		while (read_connection(in))
			;
	fclose(in);
}

/* Returns only if it failed; then everything goes on as it was. */
static void become_the_new_program(void)
{
	char *const argv[] = {(char *)PROGRAM, NULL};
	int fds[CONNECTIONS_MAX + 1], state = write_state();
	char number[16];
	size_t n = 0;

	if (state < 0) {
		molt_client_refuse(client, "cannot write down the connections");
		return;
	}
	for (size_t i = 0; i < CONNECTIONS_MAX; i++)
		if (connections[i].fd >= 0)
			fds[n++] = connections[i].fd;
	fds[n++] = state;
	snprintf(number, sizeof(number), "%d", state);
	setenv(STATE_VARIABLE, number, 1);
	molt_client_reexec(client, PROGRAM, argv, fds, n);
	unsetenv(STATE_VARIABLE);
	close(state);
}

static void hear(void)
{
	struct molt_event e;
	int r;

	while ((r = molt_client_receive(client, &e)) == 1) {
		switch (e.kind) {
		case MOLT_EVENT_PREPARE:
			molt_client_prepared(client); /* nothing we do minds a pause */
			break;
		case MOLT_EVENT_REEXEC:
			become_the_new_program();
			break;
		case MOLT_EVENT_ABORT:
		case MOLT_EVENT_COMMIT:
			break;
		}
	}
	if (r < 0) {
		molt_client_close(client);
		client = NULL;
	}
}

/* One round: waits, and serves whoever has something. */
static void turn(int listener, int timeout_msec)
{
	struct pollfd fds[CONNECTIONS_MAX + 2];

	fds[0] = (struct pollfd){.fd = listener, .events = POLLIN};
	/* A descriptor of -1 is skipped by poll(2). */
	fds[1] = (struct pollfd){.fd = client ? molt_client_fd(client) : -1, .events = POLLIN};
	for (size_t i = 0; i < CONNECTIONS_MAX; i++)
		fds[i + 2] = (struct pollfd){.fd = connections[i].fd,
			.events = connections[i].out_length ? POLLOUT : POLLIN};
	if (poll(fds, CONNECTIONS_MAX + 2, timeout_msec) <= 0)
		return;
	for (size_t i = 0; i < CONNECTIONS_MAX; i++)
		if (fds[i + 2].revents && connections[i].fd >= 0)
			serve(&connections[i], fds[i + 2].revents);
	if (fds[0].revents)
		accept_one(listener);
	if (fds[1].revents)
		hear();
}

int main(void)
{
	uint64_t watchdog = molt_watchdog_usec();

	for (size_t i = 0; i < CONNECTIONS_MAX; i++)
		connections[i].fd = -1;
	if (molt_listen_fds() < 1) {
		fprintf(stderr, "molt-echo: no socket was passed ($LISTEN_FDS)\n");
		return 1;
	}
	fcntl(MOLT_LISTEN_FDS_START, F_SETFL, O_NONBLOCK);
	int r = molt_client_open(&client);
	if (r < 0 && r != -ENOENT) {
		errno = -r;
		fail("molt-echo: $MOLT_FD");
	}
	read_state();
	molt_notify("READY=1\nSTATUS=serving");
	for (;;) {
		turn(MOLT_LISTEN_FDS_START, watchdog ? (int)(watchdog / 2000) : -1);
		if (watchdog)
			molt_notify("WATCHDOG=1");
	}
}
