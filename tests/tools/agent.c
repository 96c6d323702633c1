/* SPDX-License-Identifier: MIT */
/*
 * The host's hand inside a guest: runs shell scripts that arrive over a serial line and sends back
 * what they print. A serial line and not the network, so that it works before the network is up,
 * while it is broken, and across everything an upgrade does.
 *
 *   host -> guest   run ID LENGTH\n  then LENGTH bytes: the script, for /bin/sh -c
 *   guest -> host   hello PID\n                        the agent is there
 *                   out ID LENGTH\n  then the bytes    standard output and error, as they come
 *                   exit ID CODE\n                     128 + signal for a killed shell
 *
 * ID is a number the host chose; scripts run side by side.
 *
 * usage: agent DEVICE
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define MAX_JOBS 8
#define MAX_SCRIPT 65536

struct job {
	pid_t pid; /* 0: this slot is free */
	long id;
	int out;
};

static struct job jobs[MAX_JOBS];
static int line = -1;

/* Opens the line as eight clean bits: no echo, no translation, no signals from control bytes. */
static int open_line(const char *path)
{
	struct termios mode;
	int fd = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);

	if (fd < 0)
		err(1, "cannot open %s", path);
	if (tcgetattr(fd, &mode) < 0) {
		if (errno != ENOTTY) /* a socket or a pipe will do: tests use one */
			err(1, "cannot read the mode of %s", path);
		return fd;
	}
	cfmakeraw(&mode);
	mode.c_cflag |= CLOCAL;
	if (tcsetattr(fd, TCSANOW, &mode) < 0)
		err(1, "cannot set the mode of %s", path);
	return fd;
}

static void write_all(const char *data, size_t length)
{
	while (length > 0) {
		ssize_t n = write(line, data, length);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			err(1, "cannot write to the host");
		data += n;
		length -= (size_t)n;
	}
}

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
	char text[96];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	write_all(text, strlen(text));
}

static void read_exactly(char *data, size_t length)
{
	while (length > 0) {
		ssize_t n = read(line, data, length);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			errx(1, "the host has hung up");
		data += n;
		length -= (size_t)n;
	}
}

/* A header is short and rare, so byte by byte is good enough. */
static void read_header(char *header, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		read_exactly(&header[i], 1);
		if (header[i] == '\n') {
			header[i] = '\0';
			return;
		}
	}
	errx(1, "a header from the host has no end");
}

static struct job *free_job(void)
{
	for (size_t i = 0; i < MAX_JOBS; i++)
		if (jobs[i].pid == 0)
			return &jobs[i];
	return NULL;
}

__attribute__((noreturn)) static void become_shell(const char *script, int out)
{
	int null = open("/dev/null", O_RDONLY);

	if (null < 0 || dup2(null, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0)
		_exit(126);
	(void)setsid();
	(void)signal(SIGPIPE, SIG_DFL);
	execl("/bin/sh", "sh", "-c", script, (char *)NULL);
	_exit(127);
}

static void start_job(long id, const char *script)
{
	struct job *job = free_job();
	int ends[2];
	pid_t pid;

	if (!job || pipe2(ends, O_CLOEXEC) < 0) {
		say("exit %ld 125\n", id);
		return;
	}
	pid = fork();
	if (pid == 0)
		become_shell(script, ends[1]);
	close(ends[1]);
	if (pid < 0) {
		close(ends[0]);
		say("exit %ld 125\n", id);
		return;
	}
	*job = (struct job){.pid = pid, .id = id, .out = ends[0]};
}

static void take_request(void)
{
	static char script[MAX_SCRIPT + 1];
	char header[64];
	size_t length;
	long id;

	read_header(header, sizeof(header));
	if (sscanf(header, "run %ld %zu", &id, &length) != 2 || length > MAX_SCRIPT)
		errx(1, "no request: %s", header);
	read_exactly(script, length);
	script[length] = '\0';
	start_job(id, script);
}

/* The end of the output is the end of the job: a child left in the background that kept the pipe
 * is waited for, and one that closed it is not. */
static void finish_job(struct job *job)
{
	int status = 0;

	while (waitpid(job->pid, &status, 0) < 0 && errno == EINTR)
		;
	close(job->out);
	say("exit %ld %d\n", job->id,
		WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
	job->pid = 0;
}

static void take_output(struct job *job)
{
	char data[4096];
	ssize_t n = read(job->out, data, sizeof(data));

	if (n < 0 && errno == EINTR)
		return;
	if (n <= 0) {
		finish_job(job);
		return;
	}
	say("out %ld %zd\n", job->id, n);
	write_all(data, (size_t)n);
}

/* Waits for a request or output. A free slot has fd -1, which poll skips. */
static void wait_and_serve(void)
{
	struct pollfd fds[MAX_JOBS + 1] = {[MAX_JOBS] = {.fd = line, .events = POLLIN}};

	for (size_t i = 0; i < MAX_JOBS; i++)
		fds[i] = (struct pollfd){.fd = jobs[i].pid ? jobs[i].out : -1, .events = POLLIN};
	if (poll(fds, MAX_JOBS + 1, -1) < 0) {
		if (errno == EINTR)
			return;
		err(1, "poll");
	}
	for (size_t i = 0; i < MAX_JOBS; i++)
		if (fds[i].revents)
			take_output(&jobs[i]);
	if (fds[MAX_JOBS].revents)
		take_request();
}

int main(int argc, char *argv[])
{
	if (argc != 2)
		errx(2, "usage: agent DEVICE");
	line = open_line(argv[1]);
	(void)signal(SIGPIPE, SIG_IGN);
	say("hello %d\n", (int)getpid());
	for (;;)
		wait_and_serve();
}
