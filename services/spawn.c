/* SPDX-License-Identifier: MIT */
#include "services/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/process.h"
#include "kernel/util.h"
#include "kernel/utmp.h"
#include "services/output.h"
#include "services/spawn_user.h"

#define LISTEN_FDS_START 3
#define FILE_MAX_BYTES (1024 * 1024)

/* What follows runs in the child, where waiting, NSS and exit are fine. */

static void __attribute__((noreturn)) give_up(int pipe, const struct error *e)
{
	/* The reader may be gone, or never have been: the service's log has it too. */
	(void)signal(SIGPIPE, SIG_IGN);
	(void)!write(pipe, e->text, strlen(e->text));
	(void)dprintf(STDERR_FILENO, "molt: %s\n", e->text);
	_exit(203); /* systemd.exec(5): EXIT_EXEC */
}

static int __attribute__((format(printf, 3, 4)))
append_format(char ***list, struct error *e, const char *format, ...)
{
	char *text;
	va_list ap;

	va_start(ap, format);
	int n = vasprintf(&text, format, ap);
	va_end(ap);
	if (n < 0)
		return error_set(e, ENOMEM, "cannot make the environment");
	int r = strings_append(list, text);
	free(text);
	return r < 0 ? error_set(e, r, "cannot make the environment") : 0;
}

static int read_environment_file(const char *name, char ***list, struct error *e)
{
	bool optional = name[0] == '-';
	const char *path = optional ? name + 1 : name;
	CLEANUP_FREE char *text = malloc(FILE_MAX_BYTES);

	if (!text)
		return error_set(e, ENOMEM, "cannot read EnvironmentFile=%s", path);
	ssize_t n = file_read(AT_FDCWD, path, text, FILE_MAX_BYTES);
	if (n < 0)
		return optional && n == -ENOENT
			       ? 0
			       : error_set(e, (int)n, "cannot read EnvironmentFile=%s", path);
	int r = environment_file_parse(text, (size_t)n, list);
	return r < 0 ? error_set(e, r, "cannot read EnvironmentFile=%s", path) : 0;
}

/* Later assignments win for a program that looks up the first: so drop an earlier one of the same
 * name. */
static void keep_last(char **list)
{
	size_t n = strings_count(list), kept = 0;

	for (size_t i = 0; i < n; i++) {
		size_t name = strcspn(list[i], "=") + 1;
		bool again = false;
		for (size_t j = i + 1; j < n && !again; j++)
			again = strncmp(list[i], list[j], name) == 0;
		if (!again)
			list[kept++] = list[i];
	}
	list[kept] = NULL;
}

static int own_variables(const struct identity *id, char ***list, struct error *e)
{
	int r = append_format(
		list, e, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");

	if (r == 0 && id->name[0]) {
		if ((r = append_format(list, e, "HOME=%s", id->home)) == 0 &&
			(r = append_format(list, e, "USER=%s", id->name)) == 0 &&
			(r = append_format(list, e, "LOGNAME=%s", id->name)) == 0)
			r = append_format(list, e, "SHELL=%s", id->shell);
	}
	return r;
}

static int listen_variables(const struct spawn *s, char ***list, struct error *e)
{
	CLEANUP_FREE char *names = NULL;
	size_t size;
	FILE *out = open_memstream(&names, &size);
	int r;

	if (!out)
		return error_set(e, errno, "cannot make the environment");
	for (size_t i = 0; i < s->n_passed; i++)
		(void)fprintf(out, "%s%s", i ? ":" : "", s->passed[i].name);
	if (fclose(out) != 0)
		return error_set(e, errno, "cannot make the environment");
	if ((r = append_format(list, e, "LISTEN_PID=%d", (int)getpid())) < 0 ||
		(r = append_format(list, e, "LISTEN_FDS=%zu", s->n_passed)) < 0)
		return r;
	return append_format(list, e, "LISTEN_FDNAMES=%s", names);
}

/* The descriptor after the last that is passed. */
static int handshake_number(const struct spawn *s)
{
	return LISTEN_FDS_START + (int)s->n_passed;
}

static int protocol_variables(const struct spawn *s, char ***list, struct error *e)
{
	int r = append_format(list, e, "NOTIFY_SOCKET=%s", world.notify_path);

	if (r == 0 && s->main_pid)
		r = append_format(list, e, "MAINPID=%d", (int)s->main_pid);
	if (r == 0 && s->is_service && s->unit->fd_store_max)
		r = append_format(list, e, "FDSTORE=%u", s->unit->fd_store_max);
	if (r == 0 && s->is_service && s->unit->watchdog_usec) {
		r = append_format(
			list, e, "WATCHDOG_USEC=%llu", (unsigned long long)s->unit->watchdog_usec);
		/* With Type=forking the main process is another, and nobody knows which. */
		if (r == 0 && s->unit->type != SERVICE_FORKING)
			r = append_format(list, e, "WATCHDOG_PID=%d", (int)getpid());
	}
	if (r == 0 && s->handshake >= 0)
		r = append_format(list, e, "MOLT_FD=%d", handshake_number(s));
	return r == 0 && s->n_passed ? listen_variables(s, list, e) : r;
}

static int make_environment(
	const struct spawn *s, const struct identity *id, char ***list, struct error *e)
{
	int r = own_variables(id, list, e);

	for (char **v = s->unit->environment; r == 0 && *v; v++)
		r = append_format(list, e, "%s", *v);
	for (char **f = s->unit->environment_files; r == 0 && *f; f++)
		r = read_environment_file(*f, list, e);
	if (r == 0)
		r = protocol_variables(s, list, e);
	if (r == 0)
		keep_last(*list);
	return r;
}

static int place(int fd, int number, const char *name, struct error *e)
{
	return dup2(fd, number) < 0 ? error_set(e, errno, "cannot pass the descriptor %s", name)
				    : 0;
}

/* Standard streams first, then what is passed to 3, 4, ...; the failure pipe is moved out of their
 * way before. */
static int place_descriptors(const struct spawn *s, int *pipe, struct error *e)
{
	int above = handshake_number(s) + 1, r = 0, handshake = -1;
	int moved[s->n_passed ? s->n_passed : 1];
	int safe = fcntl(*pipe, F_DUPFD_CLOEXEC, above);

	if (safe < 0)
		return error_set(e, errno, "cannot place the descriptors");
	*pipe = safe;
	if (s->handshake >= 0 && (handshake = fcntl(s->handshake, F_DUPFD_CLOEXEC, above)) < 0)
		return error_set(e, errno, "cannot pass $MOLT_FD");
	int log = output_open(s->log_path, world.log_max_bytes, above);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (log < 0)
		log = null;
	for (size_t i = 0; i < s->n_passed; i++)
		if ((moved[i] = fcntl(s->passed[i].fd, F_DUPFD_CLOEXEC, above)) < 0)
			return error_set(
				e, errno, "cannot pass the descriptor %s", s->passed[i].name);
	if ((null >= 0 && dup2(null, STDIN_FILENO) < 0) ||
		(log >= 0 && dup2(log, STDOUT_FILENO) < 0) ||
		(log >= 0 && dup2(log, STDERR_FILENO) < 0))
		return error_set(e, errno, "cannot place the standard streams");
	for (size_t i = 0; r == 0 && i < s->n_passed; i++)
		r = place(moved[i], LISTEN_FDS_START + (int)i, s->passed[i].name, e);
	if (r == 0 && handshake >= 0)
		r = place(handshake, handshake_number(s), "$MOLT_FD", e);
	return r;
}

static int limit_files(const struct unit *u, struct error *e)
{
	struct rlimit limit = {u->limit_nofile, u->limit_nofile};
	char text[32];
	uint64_t most = 1048576;

	if (u->limit_nofile == UINT64_MAX) {
		/* setrlimit(2): "infinity" descriptors are as many as fs.nr_open. */
		if (file_read(AT_FDCWD, "/proc/sys/fs/nr_open", text, sizeof(text)) > 0) {
			text[strcspn(text, "\n")] = '\0';
			(void)parse_u64(text, &most);
		}
		limit.rlim_cur = limit.rlim_max = most;
	}
	if (world.nofile.rlim_max)
		(void)setrlimit(RLIMIT_NOFILE, &world.nofile); /* PID 1 raised its own */
	if (u->limit_nofile && setrlimit(RLIMIT_NOFILE, &limit) < 0) {
		/* In a container that may not raise it: as far as it goes. */
		struct rlimit most_allowed;
		if (errno == EPERM && getrlimit(RLIMIT_NOFILE, &most_allowed) == 0 &&
			most_allowed.rlim_max < limit.rlim_max) {
			most_allowed.rlim_cur = most_allowed.rlim_max;
			if (setrlimit(RLIMIT_NOFILE, &most_allowed) == 0)
				return 0;
		}
		return error_set(e, errno, "cannot set LimitNOFILE=%llu",
			(unsigned long long)u->limit_nofile);
	}
	return 0;
}

static void adjust_oom_score(const struct unit *u)
{
	char text[16];

	if (!u->oom_score_adjust_set)
		return;
	(void)snprintf(text, sizeof(text), "%d", u->oom_score_adjust);
	/* Lowering it can be refused in a container (CAP_SYS_RESOURCE): the service is better off
	 * started. */
	(void)file_write(AT_FDCWD, "/proc/self/oom_score_adj", text);
}

static void set_nice(const struct unit *u)
{
	/* Below what it is may be refused in a container (CAP_SYS_NICE): better started than not.
	 */
	if (u->nice_set)
		(void)setpriority(PRIO_PROCESS, 0, u->nice);
}

static int enter_directory(const struct unit *u, struct error *e)
{
	if (!u->working_directory)
		return chdir("/") < 0 ? error_set(e, errno, "cannot change to the directory /") : 0;
	if (chdir(u->working_directory) < 0 && !u->working_directory_optional)
		return error_set(
			e, errno, "cannot change to WorkingDirectory=%s", u->working_directory);
	return 0;
}

static int prepare_child(
	const struct spawn *s, int *pipe, char ***ret_env, char ***ret_argv, struct error *e)
{
	struct identity id = {0};
	int r;

	(void)setsid(); /* cannot fail in a fresh child */
	(void)umask(s->unit->umask);
	if (s->unit->ignore_sigpipe)
		(void)signal(SIGPIPE, SIG_IGN);
	adjust_oom_score(s->unit);
	set_nice(s->unit);
	if (s->is_service && s->unit->utmp_line)
		utmp_note_getty(s->unit->utmp_line);
	if ((r = user_find(s->unit, &id, e)) < 0 ||
		(r = user_make_directories(s->unit, &id, e)) < 0 ||
		(r = user_own_sockets(s->unit, e)) < 0 ||
		(r = make_environment(s, &id, ret_env, e)) < 0 ||
		(r = place_descriptors(s, pipe, e)) < 0 || (r = limit_files(s->unit, e)) < 0 ||
		(s->command->privileged ? 0 : (r = user_become(s->unit, &id, e))) < 0 ||
		(r = enter_directory(s->unit, e)) < 0)
		return r;
	r = command_expand(s->command, *ret_env, ret_argv);
	return r < 0 ? error_set(e, r, "cannot expand the command line of %s", s->command->path)
		     : 0;
}

/* Where a name without a slash is looked for, whatever PATH the service has. Returns with errno. */
static void execute(const char *path, char **argv, char **env)
{
	static const char *const directories[] = {
		"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"};
	char full[4096];

	if (path[0] == '/') {
		(void)execve(path, argv, env);
		return;
	}
	for (size_t i = 0; i < sizeof(directories) / sizeof(directories[0]); i++) {
		(void)snprintf(full, sizeof(full), "%s/%s", directories[i], path);
		(void)execve(full, argv, env);
		if (errno != ENOENT && errno != ENOTDIR)
			return;
	}
}

static void __attribute__((noreturn)) run_child(const void *argument, int pipe)
{
	const struct spawn *s = argument;
	struct error e = {0};
	char **env = NULL, **argv = NULL;

	if (prepare_child(s, &pipe, &env, &argv, &e) < 0)
		give_up(pipe, &e);
	execute(s->command->path, argv, env);
	(void)error_set(&e, errno, "cannot execute %s", s->command->path);
	give_up(pipe, &e);
}

int spawn_read_failure(int pipe, char *text, size_t size)
{
	ssize_t n = pipe < 0 ? 0 : read(pipe, text, size - 1);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return -EAGAIN;
	text[n > 0 ? n : 0] = '\0';
	return n > 0;
}

pid_t spawn_run(int cgroup, const char *what, spawn_child run, const void *argument, int *ret_pidfd,
	int *ret_pipe, struct error *e)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return error_set(e, errno, "cannot start %s: no pipe", what);
	pid_t pid = process_fork(cgroup, ret_pidfd);
	if (pid == 0)
		run(argument, ends[1]);
	(void)fd_close(ends[1]);
	if (pid < 0) {
		(void)fd_close(ends[0]);
		return error_set(e, pid, "cannot fork for %s%s", what, process_fork_hint(pid));
	}
	*ret_pipe = ends[0];
	return pid;
}

pid_t spawn_start(const struct spawn *s, int *ret_pidfd, int *ret_pipe, struct error *e)
{
	return spawn_run(s->cgroup, s->command->path, run_child, s, ret_pidfd, ret_pipe, e);
}
