/* SPDX-License-Identifier: MIT */
/*
 * A process that holds something of the image, does what processes do meanwhile, and checks itself.
 *
 * Prints "ready", goes on until its standard input ends, and then says what it saw: "ok", or "bad:"
 * with everything that should not have been. Whether it has moved to another image along with the
 * system it knows by mount ids: what it holds must lie on the same mount as "/".
 *
 * usage: holder SUBJECT DIRECTORY [MSEC]      (DIRECTORY: one of the image, not its root; MSEC: how
 *                                              long "vfork" keeps its parents waiting)
 */
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

static const char *directory;
static char faults[4096];
static pthread_mutex_t faults_lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_bool over;

static void __attribute__((format(printf, 1, 2))) fault(const char *format, ...)
{
	va_list ap;

	(void)pthread_mutex_lock(&faults_lock);
	size_t used = strlen(faults);
	va_start(ap, format);
	(void)vsnprintf(faults + used, sizeof(faults) - used, format, ap);
	va_end(ap);
	(void)strncat(faults, "; ", sizeof(faults) - strlen(faults) - 1);
	(void)pthread_mutex_unlock(&faults_lock);
}

/* What is on which mount */

static uint64_t mount_of(int fd, const char *path)
{
	struct statx st = {0};

	if (statx(fd, path, *path ? 0 : AT_EMPTY_PATH, STATX_MNT_ID, &st) < 0)
		fault("statx of %d \"%s\": %s", fd, path, strerror(errno));
	return st.stx_mnt_id;
}

static void check_cwd(const char *whose)
{
	char path[4096];

	if (mount_of(AT_FDCWD, ".") != mount_of(AT_FDCWD, "/"))
		fault("%s: the working directory is on another mount than /", whose);
	if (syscall(SYS_getcwd, path, sizeof(path)) < 0)
		fault("%s: getcwd: %s", whose, strerror(errno));
	else if (strcmp(path, directory) != 0)
		fault("%s: the working directory is %s", whose, path);
}

static void enter_directory(void)
{
	if (chdir(directory) < 0)
		err(1, "chdir %s", directory);
}

/* Descriptors of a directory, with their flags */

static const int FLAGS[] = {O_RDONLY, O_RDONLY | O_CLOEXEC, O_PATH, O_PATH | O_CLOEXEC};
static int fds[ARRAY_SIZE(FLAGS)];

static void open_fds(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(FLAGS); i++) {
		fds[i] = open(directory, FLAGS[i] | O_DIRECTORY);
		if (fds[i] < 0)
			err(1, "open %s", directory);
	}
}

static void check_fds(const char *whose)
{
	for (size_t i = 0; i < ARRAY_SIZE(FLAGS); i++) {
		int cloexec = fcntl(fds[i], F_GETFD), mode = fcntl(fds[i], F_GETFL);

		if (mount_of(fds[i], "") != mount_of(AT_FDCWD, "/"))
			fault("%s: descriptor %d is on another mount than /", whose, fds[i]);
		if (cloexec != (FLAGS[i] & O_CLOEXEC ? FD_CLOEXEC : 0))
			fault("%s: descriptor %d has flags %d", whose, fds[i], cloexec);
		if (mode < 0 || (mode & O_PATH) != (FLAGS[i] & O_PATH))
			fault("%s: descriptor %d has status flags %o", whose, fds[i], mode);
	}
}

/* The subjects: each sets up, and checks at the end. */

static void cwd_set_up(void)
{
	enter_directory();
}

static void cwd_check(void)
{
	check_cwd("the process");
}

static DIR *stream;
static char first_name[256];

static void fds_set_up(void)
{
	struct dirent *entry;

	open_fds();
	stream = opendir(directory);
	if (!stream || !(entry = readdir(stream)))
		err(1, "readdir %s", directory);
	(void)snprintf(first_name, sizeof(first_name), "%s", entry->d_name);
}

static void fds_check(void)
{
	bool found = false;
	struct dirent *entry;

	check_fds("the process");
	rewinddir(stream);
	while ((entry = readdir(stream)))
		found = found || strcmp(entry->d_name, first_name) == 0;
	if (!found)
		fault("the directory stream has lost %s", first_name);
}

/* Threads that share less than usual */

static pthread_t thread;
static pthread_barrier_t barrier;

static void wait_until_over(void)
{
	while (!over)
		(void)usleep(1000);
}

static void *own_fs_thread(void *unused)
{
	(void)unused;
	if (unshare(CLONE_FS) < 0)
		err(1, "unshare");
	enter_directory();
	(void)pthread_barrier_wait(&barrier);
	wait_until_over();
	check_cwd("the thread");
	return NULL;
}

static void *own_files_thread(void *unused)
{
	(void)unused;
	if (unshare(CLONE_FILES) < 0)
		err(1, "unshare");
	open_fds();
	(void)pthread_barrier_wait(&barrier);
	wait_until_over();
	check_fds("the thread");
	return NULL;
}

static void begin_thread(void *(*run)(void *))
{
	(void)pthread_barrier_init(&barrier, NULL, 2);
	if (pthread_create(&thread, NULL, run, NULL) != 0)
		errx(1, "pthread_create");
	(void)pthread_barrier_wait(&barrier);
}

static void fsthread_set_up(void)
{
	begin_thread(own_fs_thread);
}

static void filesthread_set_up(void)
{
	begin_thread(own_files_thread);
	if (fcntl(fds[0], F_GETFD) >= 0)
		errx(1, "the table is not the thread's own");
}

static void thread_check(void)
{
	(void)pthread_join(thread, NULL);
}

/* Sleeps of a known length: none may end early, none with an error. */

#define SLEEP_MSEC 1500

static int64_t now_usec(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static const struct timespec SPAN = {SLEEP_MSEC / 1000, SLEEP_MSEC % 1000 * 1000000L};

static int sleep_relative(void)
{
	return nanosleep(&SPAN, NULL);
}

static int sleep_absolute(void)
{
	int64_t until = now_usec() + SLEEP_MSEC * 1000;
	struct timespec at = {until / 1000000, until % 1000000 * 1000};

	errno = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
	return errno ? -1 : 0;
}

static int sleep_poll(void)
{
	return poll(NULL, 0, SLEEP_MSEC);
}

static int sleep_select(void)
{
	struct timeval span = {SLEEP_MSEC / 1000, SLEEP_MSEC % 1000 * 1000};

	return select(0, NULL, NULL, NULL, &span);
}

static int sleep_futex(void)
{
	int word = 0;
	long r = syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &SPAN, NULL, 0);

	return r < 0 && errno == ETIMEDOUT ? 0 : -1;
}

static struct sleeper {
	const char *name;
	int (*sleep)(void);
	pthread_t thread;
} sleepers[] = {
	{.name = "nanosleep", .sleep = sleep_relative},
	{.name = "clock_nanosleep", .sleep = sleep_absolute},
	{.name = "poll", .sleep = sleep_poll},
	{.name = "select", .sleep = sleep_select},
	{.name = "futex", .sleep = sleep_futex},
};

static void *sleep_once(void *userdata)
{
	struct sleeper *s = userdata;
	int64_t begin = now_usec();
	int r = s->sleep();
	int code = errno;
	int64_t took = (now_usec() - begin) / 1000;

	if (r != 0)
		fault("%s: %s (%d) after %lld ms", s->name, strerror(code), code, (long long)took);
	if (took < SLEEP_MSEC || took > SLEEP_MSEC + 1000)
		fault("%s took %lld ms, not %d", s->name, (long long)took, SLEEP_MSEC);
	return NULL;
}

static void sleeper_set_up(void)
{
	enter_directory();
	for (size_t i = 0; i < ARRAY_SIZE(sleepers); i++)
		if (pthread_create(&sleepers[i].thread, NULL, sleep_once, &sleepers[i]) != 0)
			errx(1, "pthread_create");
}

static void sleeper_check(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(sleepers); i++)
		(void)pthread_join(sleepers[i].thread, NULL);
	check_cwd("the process");
}

/* Waits without end that end well, with what they waited for and nothing else. */

static int quiet_pipe[2], epoll_pipe[2];
static pthread_t readers[2];

static void *read_once(void *unused)
{
	char byte;
	ssize_t n = read(quiet_pipe[0], &byte, 1);

	(void)unused;
	if (n != 1)
		fault("read of a pipe: %zd, %s (%d)", n, strerror(errno), errno);
	return NULL;
}

static void *epoll_once(void *unused)
{
	struct epoll_event event = {.events = EPOLLIN};
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	(void)unused;
	if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, epoll_pipe[0], &event) < 0)
		err(1, "epoll");
	int n = epoll_wait(epoll, &event, 1, -1);
	if (n != 1)
		fault("epoll_wait without a timeout: %d, %s (%d)", n, strerror(errno), errno);
	return NULL;
}

static void waiter_set_up(void)
{
	enter_directory();
	if (pipe(quiet_pipe) < 0 || pipe(epoll_pipe) < 0 ||
		pthread_create(&readers[0], NULL, read_once, NULL) != 0 ||
		pthread_create(&readers[1], NULL, epoll_once, NULL) != 0)
		err(1, "cannot set up");
}

static void waiter_check(void)
{
	(void)!write(quiet_pipe[1], "", 1);
	(void)!write(epoll_pipe[1], "", 1);
	(void)pthread_join(readers[0], NULL);
	(void)pthread_join(readers[1], NULL);
	check_cwd("the process");
}

/* Without any privilege */

static const uid_t user = 65534;

static void drop_privileges(void)
{
	for (int capability = 0; prctl(PR_CAPBSET_READ, capability) >= 0; capability++)
		if (prctl(PR_CAPBSET_DROP, capability) < 0)
			err(1, "PR_CAPBSET_DROP");
	if (setresgid(user, user, user) < 0 || setresuid(user, user, user) < 0 ||
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		err(1, "cannot drop privileges");
}

static void nobody_set_up(void)
{
	enter_directory();
	open_fds();
	drop_privileges();
}

static void nobody_check(void)
{
	check_cwd("the process");
	check_fds("the process");
	if (getuid() != user || geteuid() != user)
		fault("became user %u", geteuid());
}

/* A working directory that it may not enter itself: it was there before it became somebody else. */
static void shutout_set_up(void)
{
	enter_directory();
	drop_privileges();
}

static void shutout_check(void)
{
	char path[4096];

	if (syscall(SYS_getcwd, path, sizeof(path)) < 0 && errno != ENOENT)
		fault("getcwd: %s", strerror(errno));
}

/* Anything but what it needs for its last words kills it. */
static void seccomp_set_up(void)
{
	static const int ALLOWED[] = {SYS_read, SYS_write, SYS_statx, SYS_getcwd, SYS_fcntl,
		SYS_exit_group, SYS_restart_syscall};
	struct sock_filter filter[2 + 2 * ARRAY_SIZE(ALLOWED)];
	size_t n = 0;

	filter[n++] = (struct sock_filter)BPF_STMT(
		BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	for (size_t i = 0; i < ARRAY_SIZE(ALLOWED); i++) {
		filter[n++] = (struct sock_filter)BPF_JUMP(
			BPF_JMP | BPF_JEQ | BPF_K, (unsigned)ALLOWED[i], 0, 1);
		filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	}
	filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
	struct sock_fprog program = {.len = (unsigned short)n, .filter = filter};
	enter_directory();
	open_fds();
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
		prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		err(1, "seccomp");
}

static void seccomp_check(void)
{
	check_cwd("the process");
	check_fds("the process");
}

/* A stopped child: stays stopped, and its parent hears nothing of it. */

static pid_t child;

static void stopped_set_up(void)
{
	siginfo_t info;

	enter_directory();
	child = fork();
	if (child == 0) {
		(void)raise(SIGSTOP);
		check_cwd("the stopped process");
		_exit(*faults ? 1 : 0);
	}
	if (child < 0 || waitid(P_PID, (id_t)child, &info, WSTOPPED) < 0)
		err(1, "cannot stop a child");
}

static char state_of(pid_t pid)
{
	char path[64], text[256] = "";

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0)
		fault("cannot read %s", path);
	close(fd);
	char *end = strrchr(text, ')');
	return end ? end[2] : '?';
}

static void stopped_check(void)
{
	siginfo_t info = {0};
	int status;

	if (state_of(child) != 'T')
		fault("the stopped process is in state %c", state_of(child));
	if (waitid(P_PID, (id_t)child, &info, WEXITED | WSTOPPED | WCONTINUED | WNOHANG) < 0 ||
		info.si_pid != 0)
		fault("the parent of the stopped process heard %d", info.si_code);
	check_cwd("its parent");
	(void)kill(child, SIGCONT);
	if (waitpid(child, &status, 0) != child || status != 0)
		fault("the stopped process ended with %#x", status);
}

/* Parents in vfork(2) at any moment one may look */

static long vfork_msec = 3;

/* In a thread that stands in the directory by itself: who is to be moved is who waits. */
static void *vfork_for_ever(void *unused)
{
	struct timespec pause = {0, vfork_msec < 3000 ? vfork_msec * 300000 : 0};

	(void)unused;
	if (unshare(CLONE_FS) < 0)
		err(1, "unshare");
	enter_directory();
	(void)pthread_barrier_wait(&barrier);
	while (!over) {
		int status;
		pid_t pid = vfork();
		if (pid == 0) {
			struct timespec span = {vfork_msec / 1000, vfork_msec % 1000 * 1000000};
			(void)nanosleep(&span, NULL);
			(void)execl("/bin/true", "true", NULL);
			_exit(127);
		}
		if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
			fault("vfork: pid %d, %s, status %#x", (int)pid, strerror(errno), status);
		(void)nanosleep(&pause, NULL);
	}
	check_cwd("the parent");
	return NULL;
}

static void vfork_set_up(void)
{
	begin_thread(vfork_for_ever);
}

/* Many threads, some busy: what they compute is right, in whichever registers they do it */

#define N_THREADS 60
#define N_BUSY 4

static pthread_t crowd[N_THREADS];

static double compute(void)
{
	double x = 0.25;
	uint64_t y = 1;

	for (int i = 0; i < 100000; i++) {
		x = 3.9 * x * (1 - x);
		y = y * 6364136223846793005u + 1442695040888963407u;
	}
	return x + (double)y;
}

static void *busy(void *unused)
{
	double expected = compute();

	(void)unused;
	while (!over)
		if (compute() != expected)
			fault("a busy thread has computed nonsense");
	return NULL;
}

static void *idle(void *unused)
{
	struct timespec span = {0, 20000000};

	(void)unused;
	while (!over)
		if (nanosleep(&span, NULL) < 0)
			fault("an idle thread: %s (%d)", strerror(errno), errno);
	return NULL;
}

static void threads_set_up(void)
{
	enter_directory();
	open_fds();
	for (size_t i = 0; i < N_THREADS; i++)
		if (pthread_create(&crowd[i], NULL, i < N_BUSY ? busy : idle, NULL) != 0)
			errx(1, "pthread_create");
}

static void threads_check(void)
{
	for (size_t i = 0; i < N_THREADS; i++)
		(void)pthread_join(crowd[i], NULL);
	check_cwd("the process");
	check_fds("the process");
}

/* A root of its own, a directory of the image */

static void jail_set_up(void)
{
	enter_directory();
	if (chroot(".") < 0)
		err(1, "chroot");
	directory = "/";
}

static void jail_check(void)
{
	check_cwd("the prisoner");
}

static void jailnobody_set_up(void)
{
	jail_set_up();
	drop_privileges();
}

/* A file of the image, open for writing */
static void writer_set_up(void)
{
	enter_directory();
	if (open("data", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644) < 0)
		err(1, "data");
}

static void nothing(void)
{
}

static const struct subject {
	const char *name;
	void (*set_up)(void);
	void (*check)(void);
} SUBJECTS[] = {
	{"cwd", cwd_set_up, cwd_check},
	{"fds", fds_set_up, fds_check},
	{"fsthread", fsthread_set_up, thread_check},
	{"filesthread", filesthread_set_up, thread_check},
	{"sleeper", sleeper_set_up, sleeper_check},
	{"waiter", waiter_set_up, waiter_check},
	{"nobody", nobody_set_up, nobody_check},
	{"shutout", shutout_set_up, shutout_check},
	{"seccomp", seccomp_set_up, seccomp_check},
	{"stopped", stopped_set_up, stopped_check},
	{"vfork", vfork_set_up, thread_check},
	{"threads", threads_set_up, threads_check},
	{"jail", jail_set_up, jail_check},
	{"jailnobody", jailnobody_set_up, jail_check},
	{"writer", writer_set_up, nothing},
};

static void say(const char *text)
{
	/* Not by stdio, which asks the kernel more than a filter may allow. */
	if (write(STDOUT_FILENO, text, strlen(text)) < 0 || write(STDOUT_FILENO, "\n", 1) < 0)
		_exit(3);
}

static void wait_for_end_of_input(void)
{
	char byte;
	ssize_t n;

	while ((n = read(STDIN_FILENO, &byte, 1)) > 0)
		;
	if (n < 0)
		fault("read of the standard input: %s (%d)", strerror(errno), errno);
}

int main(int argc, char *argv[])
{
	const struct subject *subject = NULL;

	for (size_t i = 0; argc >= 3 && i < ARRAY_SIZE(SUBJECTS); i++)
		if (strcmp(SUBJECTS[i].name, argv[1]) == 0)
			subject = &SUBJECTS[i];
	if (!subject)
		errx(2, "usage: holder SUBJECT DIRECTORY [MSEC]");
	directory = argv[2];
	if (argc > 3)
		vfork_msec = atol(argv[3]);
	subject->set_up();
	say("ready");
	wait_for_end_of_input();
	over = true;
	subject->check();
	if (*faults)
		say("bad: ");
	say(*faults ? faults : "ok");
	_exit(*faults ? 1 : 0);
}
