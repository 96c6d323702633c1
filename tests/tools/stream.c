/* SPDX-License-Identifier: MIT */
/*
 * A server whose connections live long: a client sees every loss, every repetition and every pause.
 *
 *   first line   hello pid=PID
 *   then         beat NUMBER USEC     every INTERVAL ms; NUMBER counts from 0 per connection, USEC
 *                                     is CLOCK_MONOTONIC, so that a pause here can be told from
 *                                     one on the way
 *   and          echo TEXT            for each line TEXT that the client sends
 *
 * A beat that came late is sent once, late; beats that were missed are not made up for.
 *
 * usage: stream PORT [INTERVAL]     (INTERVAL: 20 ms)
 */
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 256

struct client {
	struct client *next;
	int fd;
	uint64_t beats;
	size_t have; /* bytes of the line that is being received */
	char line[LINE_MAX_BYTES];
};

static struct client *clients;
static int epoll = -1, listener = -1, timer = -1;

static void watch(int fd, void *who)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = who};

	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
		err(1, "epoll_ctl");
}

static void listen_on(uint16_t port)
{
	struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	int yes = 1, no = 0;

	listener = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) < 0 ||
		setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof(no)) < 0 ||
		bind(listener, (struct sockaddr *)&any, sizeof(any)) < 0 ||
		listen(listener, 128) < 0)
		err(1, "cannot listen on port %u", port);
	watch(listener, &listener);
}

static void beat_every(long milliseconds)
{
	struct timespec span = {
		.tv_sec = milliseconds / 1000,
		.tv_nsec = milliseconds % 1000 * 1000000,
	};
	struct itimerspec spec = {.it_interval = span, .it_value = span};

	timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (timer < 0 || timerfd_settime(timer, 0, &spec, NULL) < 0)
		err(1, "cannot set a timer");
	watch(timer, &timer);
}

static void hang_up(struct client *client)
{
	struct client **link = &clients;

	while (*link != client)
		link = &(*link)->next;
	*link = client->next;
	close(client->fd);
	free(client);
}

/* A client that does not take what it is sent has lost its place: better a closed connection, which
 * it notices, than half a line, which it would call corruption. */
static bool send_line(struct client *client, const char *text, size_t length)
{
	ssize_t n = send(client->fd, text, length, MSG_NOSIGNAL | MSG_DONTWAIT);

	return n == (ssize_t)length;
}

static void greet(void)
{
	char text[64];
	int yes = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct client *client;

	if (fd < 0)
		return;
	client = calloc(1, sizeof(*client));
	if (!client) {
		close(fd);
		return;
	}
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
	client->fd = fd;
	client->next = clients;
	clients = client;
	watch(fd, client);
	(void)snprintf(text, sizeof(text), "hello pid=%d\n", (int)getpid());
	if (!send_line(client, text, strlen(text)))
		hang_up(client);
}

static void beat(void)
{
	struct timespec now;
	struct client *next;
	uint64_t expired;

	if (read(timer, &expired, sizeof(expired)) != sizeof(expired))
		return;
	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	for (struct client *client = clients; client; client = next) {
		char text[64];

		next = client->next;
		(void)snprintf(text, sizeof(text), "beat %llu %lld\n",
			(unsigned long long)client->beats++,
			(long long)now.tv_sec * 1000000 + now.tv_nsec / 1000);
		if (!send_line(client, text, strlen(text)))
			hang_up(client);
	}
}

/* Answers every whole line that has been received; false if the client is to go. */
static bool echo_lines(struct client *client)
{
	char *end;

	while ((end = memchr(client->line, '\n', client->have))) {
		size_t length = (size_t)(end - client->line) + 1;
		char text[LINE_MAX_BYTES + 8] = "echo ";

		memcpy(text + 5, client->line, length);
		if (!send_line(client, text, length + 5))
			return false;
		client->have -= length;
		memmove(client->line, client->line + length, client->have);
	}
	return client->have < sizeof(client->line);
}

static void listen_to(struct client *client)
{
	ssize_t n = recv(client->fd, client->line + client->have,
		sizeof(client->line) - client->have, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		hang_up(client);
		return;
	}
	client->have += (size_t)n;
	if (!echo_lines(client))
		hang_up(client);
}

/* One event at a time: hanging up on one client in beat() can then never leave an event of a freed
 * one in our hands. */
static void serve(void)
{
	struct epoll_event event;

	if (epoll_wait(epoll, &event, 1, -1) != 1)
		return;
	if (event.data.ptr == &listener)
		greet();
	else if (event.data.ptr == &timer)
		beat();
	else
		listen_to(event.data.ptr);
}

int main(int argc, char *argv[])
{
	if (argc < 2 || argc > 3)
		errx(2, "usage: stream PORT [INTERVAL]");
	epoll = epoll_create1(EPOLL_CLOEXEC);
	if (epoll < 0)
		err(1, "epoll_create1");
	listen_on((uint16_t)atoi(argv[1]));
	beat_every(argc > 2 ? atol(argv[2]) : 20);
	for (;;)
		serve();
}
