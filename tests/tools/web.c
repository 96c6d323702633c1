/* SPDX-License-Identifier: MIT */
/*
 * A web server that hands over: it takes its listening sockets from whoever started it
 * (sd_listen_fds(3)), says READY=1 (sd_notify(3)), and on SIGTERM drains: it accepts no more,
 * answers what is in flight, closes idle connections and exits 0.
 *
 *   GET ANYTHING       pid=PID version=VERSION_ID of the os-release that was there at its start
 *   GET /slow/MS       the same, MS milliseconds later
 *
 * usage: web [PORT]    (a port only where nobody passes a socket: by hand, in a test)
 */
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define LISTEN_FDS_START 3
#define MAX_CLIENTS 256
#define MAX_LISTENERS 4
#define REQUEST_BYTES 4096
/* How long a draining server still listens to an idle connection. A client that sends just then
 * gets its answer with "Connection: close"; had we closed at once, its request would have crossed
 * with our close. */
#define LINGER_MS 500

struct client {
	int fd; /* 0: this slot is free */
	int64_t due; /* when to answer the request that is in, ms; 0: none is in */
	bool close; /* the request said "Connection: close" */
	size_t have; /* bytes received */
	char request[REQUEST_BYTES];
};

static struct client clients[MAX_CLIENTS];
static int listeners[MAX_LISTENERS], n_listeners, signals = -1;
static int64_t draining; /* since when, ms; 0: not */
static char body[128];

static int64_t now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* The body says who answers: of which process and of which image. */
static void write_body(void)
{
	char line[128], version[32] = "unknown";
	FILE *release = fopen("/etc/os-release", "re");

	while (release && fgets(line, sizeof(line), release))
		if (sscanf(line, "VERSION_ID=\"%31[^\"]\"", version) == 1)
			break;
	if (release)
		(void)fclose(release);
	(void)snprintf(body, sizeof(body), "pid=%d version=%s\n", (int)getpid(), version);
}

static void notify(const char *text)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const char *path = getenv("NOTIFY_SOCKET");
	size_t length = path ? strlen(path) : 0;
	int fd;

	if (length == 0 || length >= sizeof(address.sun_path))
		return;
	memcpy(address.sun_path, path, length);
	if (path[0] == '@')
		address.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&address,
			      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)) < 0)
		warn("cannot notify %s", path);
	if (fd >= 0)
		close(fd);
}

static void add_listener(int fd)
{
	/* Non-blocking: with two servers on one socket, the other may have been faster. */
	if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		err(1, "listening socket %d", fd);
	listeners[n_listeners++] = fd;
}

static void take_passed_sockets(void)
{
	const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");

	if (!pid || !count || atoi(pid) != getpid())
		return;
	for (int i = 0; i < atoi(count) && i < MAX_LISTENERS; i++)
		add_listener(LISTEN_FDS_START + i);
}

static void listen_on(uint16_t port)
{
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(port)};
	int yes = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) < 0 ||
		bind(fd, (struct sockaddr *)&any, sizeof(any)) < 0 || listen(fd, 128) < 0)
		err(1, "cannot listen on port %u", port);
	add_listener(fd);
}

static void catch_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		err(1, "sigprocmask");
	signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (signals < 0)
		err(1, "signalfd");
}

static void drop(struct client *client)
{
	close(client->fd);
	client->fd = 0;
}

static struct client *free_slot(void)
{
	for (size_t i = 0; i < MAX_CLIENTS; i++)
		if (clients[i].fd == 0)
			return &clients[i];
	return NULL;
}

static void accept_from(int listener)
{
	struct client *client = free_slot();
	int yes = 1, fd;

	if (!client)
		return;
	fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
	client->fd = fd;
	client->due = 0;
	client->have = 0;
}

static void answer(struct client *client)
{
	bool last = client->close || draining != 0;
	char text[512];
	int length = snprintf(text, sizeof(text),
		"HTTP/1.1 200 OK\r\nServer: molt-web\r\nContent-Type: text/plain\r\n"
		"Content-Length: %zu\r\n%s\r\n%s",
		strlen(body), last ? "Connection: close\r\n" : "", body);

	client->due = 0;
	if (send(client->fd, text, (size_t)length, MSG_NOSIGNAL) != length || last)
		drop(client);
}

/* A request without a body ends at its first empty line. */
static void understand(struct client *client)
{
	char *end;
	int delay = 0;

	client->request[client->have] = '\0';
	end = strstr(client->request, "\r\n\r\n");
	if (!end)
		return;
	*end = '\0';
	(void)sscanf(client->request, "%*s /slow/%d", &delay);
	client->close = strcasestr(client->request, "\r\nConnection: close") != NULL;
	client->have -= (size_t)(end + 4 - client->request);
	memmove(client->request, end + 4, client->have);
	client->due = now_ms() + delay;
}

static void receive(struct client *client)
{
	ssize_t n = recv(client->fd, client->request + client->have,
		sizeof(client->request) - 1 - client->have, 0);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		drop(client);
		return;
	}
	client->have += (size_t)n;
	if (client->due == 0)
		understand(client);
}

static void begin_drain(void)
{
	struct signalfd_siginfo info;

	if (read(signals, &info, sizeof(info)) != sizeof(info) || draining)
		return;
	notify("STOPPING=1");
	draining = now_ms();
	for (int i = 0; i < n_listeners; i++)
		close(listeners[i]);
	n_listeners = 0;
}

/* Answers what is due, and drops what a drain has waited for long enough. */
static void answer_due(void)
{
	int64_t now = now_ms();

	for (size_t i = 0; i < MAX_CLIENTS; i++) {
		struct client *client = &clients[i];

		if (client->fd != 0 && client->due != 0 && client->due <= now) {
			answer(client);
			if (client->fd != 0 && client->have > 0)
				understand(client);
		} else if (client->fd != 0 && client->due == 0 && draining &&
			   now >= draining + LINGER_MS) {
			drop(client);
		}
	}
}

static bool any_client(void)
{
	for (size_t i = 0; i < MAX_CLIENTS; i++)
		if (clients[i].fd != 0)
			return true;
	return false;
}

static int wait_ms(void)
{
	int64_t now = now_ms(), wait = draining ? draining + LINGER_MS - now : INT32_MAX;

	if (wait < 1)
		wait = 1;
	for (size_t i = 0; i < MAX_CLIENTS; i++)
		if (clients[i].fd != 0 && clients[i].due != 0 && clients[i].due - now < wait)
			wait = clients[i].due - now;
	return wait < 0 ? 0 : (int)wait;
}

static void wait_and_serve(void)
{
	struct pollfd fds[1 + MAX_LISTENERS + MAX_CLIENTS];
	struct client *whose[MAX_CLIENTS];
	nfds_t n = 0, first;

	fds[n++] = (struct pollfd){.fd = signals, .events = POLLIN};
	/* With no slot free, new clients wait in the kernel's queue. */
	for (int i = 0; i < n_listeners && free_slot(); i++)
		fds[n++] = (struct pollfd){.fd = listeners[i], .events = POLLIN};
	first = n;
	for (size_t i = 0; i < MAX_CLIENTS; i++) {
		/* One request at a time; the next waits in the socket. */
		if (clients[i].fd == 0 || clients[i].due != 0)
			continue;
		whose[n - first] = &clients[i];
		fds[n++] = (struct pollfd){.fd = clients[i].fd, .events = POLLIN};
	}
	if (poll(fds, n, wait_ms()) < 0)
		return;
	for (nfds_t i = first; i < n; i++)
		if (fds[i].revents)
			receive(whose[i - first]);
	for (nfds_t i = 1; i < first; i++)
		if (fds[i].revents)
			accept_from(fds[i].fd);
	if (fds[0].revents)
		begin_drain();
	answer_due();
}

int main(int argc, char *argv[])
{
	if (argc > 2)
		errx(2, "usage: web [PORT]");
	catch_signals();
	take_passed_sockets();
	if (n_listeners == 0 && argc == 2)
		listen_on((uint16_t)atoi(argv[1]));
	if (n_listeners == 0)
		errx(1, "no socket was passed and no port given");
	write_body();
	notify("READY=1");
	while (!draining || any_client())
		wait_and_serve();
	return 0;
}
