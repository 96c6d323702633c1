/* SPDX-License-Identifier: MIT */
/*
 * A process that has something of the image, of one kind after another. Unlike holder/ it does not
 * check itself: it is there to be found.
 *
 * Prints "ready" and goes on until its standard input ends.
 *
 * usage: possess DIRECTORY KIND...      (DIRECTORY: of the image; files and sockets are made in it)
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define MANY_FDS 3000
#define MANY_MAPS 3000
#define VERY_MANY_FDS 100000
#define N_SHARING 20

static const char *directory;

static const char *in_directory(const char *name)
{
	static char path[4096];

	(void)snprintf(path, sizeof(path), "%s/%s", directory, name);
	return path;
}

static int open_data(int flags)
{
	int fd = open(in_directory("data"), flags | O_CLOEXEC, 0644);

	if (fd < 0)
		err(1, "data");
	return fd;
}

static void read_file(void)
{
	(void)open_data(O_RDONLY);
}

static void write_file(void)
{
	(void)open_data(O_RDWR | O_CREAT);
}

static void write_removed_file(void)
{
	(void)open(in_directory("removed"), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	if (unlink(in_directory("removed")) < 0)
		err(1, "unlink");
}

static void map(int flags, int protection, int sharing)
{
	int fd = open_data(flags);

	if (mmap(NULL, 4096, protection, sharing, fd, 0) == MAP_FAILED)
		err(1, "mmap");
	close(fd);
}

static void map_private(void)
{
	map(O_RDONLY, PROT_READ, MAP_PRIVATE);
}

static void map_shared(void)
{
	map(O_RDWR, PROT_READ | PROT_WRITE, MAP_SHARED);
}

/* Not writable now, but mprotect(2) may make it so. */
static void map_latent(void)
{
	map(O_RDWR, PROT_READ, MAP_SHARED);
}

/* A private copy: it cannot write, whatever it was opened for. */
static void map_once_writable(void)
{
	map(O_RDWR, PROT_READ | PROT_WRITE, MAP_PRIVATE);
}

static int bind_socket(int type, const char *name)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", name);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		err(1, "bind %s", name);
	return fd;
}

static int listen_at(const char *name)
{
	int fd = bind_socket(SOCK_STREAM, name);

	if (listen(fd, 4) < 0)
		err(1, "listen");
	return fd;
}

static void listen_socket(void)
{
	(void)listen_at(in_directory("stream"));
}

static void datagram_socket(void)
{
	(void)bind_socket(SOCK_DGRAM, in_directory("datagram"));
}

static void relative_socket(void)
{
	if (chdir(directory) < 0)
		err(1, "chdir");
	(void)listen_at("relative");
	if (chdir("/") < 0)
		err(1, "chdir");
}

static void removed_socket(void)
{
	(void)listen_at(in_directory("gone"));
	if (unlink(in_directory("gone")) < 0)
		err(1, "unlink");
}

/* A connection that outlives its listener; the other end is in another process. */
static void accepted_socket(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int listener = listen_at(in_directory("accepted"));
	int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", in_directory("accepted"));
	if (connect(client, (struct sockaddr *)&address, sizeof(address)) < 0 ||
		accept4(listener, NULL, NULL, SOCK_CLOEXEC) < 0)
		err(1, "accept");
	close(listener);
	if (unlink(address.sun_path) < 0)
		err(1, "unlink");
}

static void foreign_network_socket(void)
{
	if (unshare(CLONE_NEWNET) < 0)
		err(1, "unshare");
	(void)listen_at(in_directory("foreign"));
}

/* Its name lies on the image's file system, but not on the image's mount. */
static void elsewhere_socket(void)
{
	(void)listen_at("/run/elsewhere");
}

static void watch(void)
{
	int fd = inotify_init1(IN_CLOEXEC);

	if (fd < 0 || inotify_add_watch(fd, directory, IN_MODIFY) < 0 ||
		inotify_add_watch(fd, "/run", IN_MODIFY) < 0)
		err(1, "inotify");
}

static void mark(void)
{
	int fd = fanotify_init(FAN_CLOEXEC, O_RDONLY);

	if (fd < 0 || fanotify_mark(fd, FAN_MARK_ADD | FAN_MARK_MOUNT, FAN_OPEN, AT_FDCWD, "/") < 0)
		err(1, "fanotify");
}

static void ring(void)
{
	struct io_uring_params parameters = {0};
	int files[] = {open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
	int fd = (int)syscall(SYS_io_uring_setup, 4, &parameters);

	if (fd < 0 || files[0] < 0 ||
		syscall(SYS_io_uring_register, fd, IORING_REGISTER_FILES, files, 1) < 0)
		err(1, "io_uring");
	close(files[0]);
}

/* Sent, and never received. */
static void send_away(int fd)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr head;
	} control = {.head = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
	struct iovec iov = {(char[]){"x"}, 1};
	struct msghdr message = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};
	int ends[2];

	memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
	if (fd < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0 ||
		sendmsg(ends[0], &message, 0) < 0)
		err(1, "SCM_RIGHTS");
	close(fd);
}

static void queue(void)
{
	send_away(open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

/* Writes on the old image, and only the kernel knows. */
static void queue_writer(void)
{
	send_away(open_data(O_RDWR | O_CREAT));
}

static void namespace(void)
{
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		err(1, "unshare");
}

static void namespace_with_own_root(void)
{
	namespace();
	if (mount("own", "/mnt", "tmpfs", 0, NULL) < 0 || chdir("/mnt") < 0 ||
		mkdir("old", 0755) < 0 || syscall(SYS_pivot_root, ".", "old") < 0 ||
		chdir("/") < 0 || umount2("/old", MNT_DETACH) < 0)
		err(1, "pivot_root");
}

static void many_fds(void)
{
	for (int i = 0; i < MANY_FDS; i++)
		(void)open_data(O_RDONLY);
}

/* Descriptors of a file and of what is not of the image, as many as it may have. Returns how many.
 */
static int fill_table(int first)
{
	struct rlimit limit;
	int n = 0, fds[] = {first, open("/dev/null", O_RDONLY)};

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		err(1, "getrlimit");
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		err(1, "setrlimit");
	while (n < VERY_MANY_FDS && dup(fds[n % 2]) >= 0)
		n++;
	return n;
}

static void __attribute__((noreturn)) wait_for_parent(void)
{
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;)
		(void)pause();
}

/* In one process, or in as many as it takes where the limit is lower. */
static void fill_tables(int first)
{
	int n = fill_table(first);

	for (int total = n; total < VERY_MANY_FDS; total += n) {
		pid_t pid = fork();
		if (pid < 0)
			err(1, "fork");
		if (pid == 0)
			wait_for_parent();
	}
}

static void very_many_fds(void)
{
	fill_tables(open_data(O_RDONLY));
}

static void very_many_dirs(void)
{
	fill_tables(open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

static int sharer(void *unused)
{
	(void)unused;
	wait_for_parent();
}

/* Processes with one table. */
static void shared_table(void)
{
	static char stacks[N_SHARING][16384] __attribute__((aligned(16)));

	(void)fill_table(open_data(O_RDONLY));
	for (int i = 0; i < N_SHARING; i++)
		if (clone(sharer, stacks[i] + sizeof(stacks[i]), CLONE_FILES | SIGCHLD, NULL) < 0)
			err(1, "clone");
}

static void many_maps(void)
{
	int fd = open_data(O_RDONLY);

	/* Every other page, or the kernel makes one of them. */
	char *room = mmap(NULL, MANY_MAPS * 8192L, PROT_NONE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	for (int i = 0; i < MANY_MAPS; i++)
		if (mmap(room + i * 8192L, 4096, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0) ==
			MAP_FAILED)
			err(1, "mmap");
	close(fd);
}

static void stand_in_directory(void)
{
	if (chdir(directory) < 0)
		err(1, "chdir");
}

static void drop_privileges(void)
{
	for (int capability = 0; prctl(PR_CAPBSET_READ, capability) >= 0; capability++)
		(void)prctl(PR_CAPBSET_DROP, capability);
	if (setresgid(65534, 65534, 65534) < 0 || setresuid(65534, 65534, 65534) < 0)
		err(1, "cannot drop privileges");
}

static void jail(void)
{
	if (chroot(directory) < 0 || chdir("/") < 0)
		err(1, "chroot");
}

/* Its child stands in the directory and is traced; it ends along. */
static void traced_child(void)
{
	pid_t child = fork();

	if (child == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		stand_in_directory();
		for (;;)
			(void)pause();
	}
	if (child < 0 || ptrace(PTRACE_SEIZE, child, NULL, NULL) < 0)
		err(1, "ptrace");
}

/* Waits for its child, which says that all is set up. */
static void wait_in_vfork(void)
{
	char byte;

	stand_in_directory();
	if (vfork() == 0) {
		(void)!write(STDOUT_FILENO, "ready\n", 6);
		while (read(STDIN_FILENO, &byte, 1) > 0)
			;
		_exit(0);
	}
}

static void leave_zombie(void)
{
	siginfo_t info;
	pid_t child = fork();

	if (child == 0) {
		stand_in_directory();
		_exit(0);
	}
	if (child < 0 || waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT) < 0)
		err(1, "waitid");
}

static void __attribute__((noreturn)) go_on(void)
{
	char byte;

	puts("ready");
	(void)fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	_exit(0);
}

static void *outlive_leader(void *unused)
{
	(void)unused;
	go_on();
	return NULL;
}

/* The last kind of all: what it has is a thread's, its first one is a zombie. */
static void lose_leader(void)
{
	pthread_t thread;

	stand_in_directory();
	if (pthread_create(&thread, NULL, outlive_leader, NULL) != 0)
		errx(1, "pthread_create");
	(void)syscall(SYS_exit, 0);
}

static const struct kind {
	const char *name;
	void (*get)(void);
} KINDS[] = {
	{"read", read_file},
	{"write", write_file},
	{"write-removed", write_removed_file},
	{"map-private", map_private},
	{"map-shared", map_shared},
	{"map-latent", map_latent},
	{"map-once-writable", map_once_writable},
	{"listen", listen_socket},
	{"datagram", datagram_socket},
	{"relative", relative_socket},
	{"removed-socket", removed_socket},
	{"accepted", accepted_socket},
	{"foreign-network", foreign_network_socket},
	{"elsewhere", elsewhere_socket},
	{"watch", watch},
	{"mark", mark},
	{"ring", ring},
	{"queue", queue},
	{"queue-writer", queue_writer},
	{"namespace", namespace},
	{"own-root", namespace_with_own_root},
	{"many-fds", many_fds},
	{"many-maps", many_maps},
	{"very-many-fds", very_many_fds},
	{"very-many-dirs", very_many_dirs},
	{"shared-table", shared_table},
	{"cwd", stand_in_directory},
	{"nobody", drop_privileges},
	{"jail", jail},
	{"traced", traced_child},
	{"vfork", wait_in_vfork},
	{"zombie", leave_zombie},
	{"leaderless", lose_leader},
};

static void get(const char *name)
{
	for (size_t i = 0; i < sizeof(KINDS) / sizeof(KINDS[0]); i++) {
		if (strcmp(KINDS[i].name, name) == 0) {
			KINDS[i].get();
			return;
		}
	}
	errx(2, "unknown kind %s", name);
}

int main(int argc, char *argv[])
{
	if (argc < 3)
		errx(2, "usage: possess DIRECTORY KIND...");
	directory = argv[1];
	for (int i = 2; i < argc; i++)
		get(argv[i]);
	go_on();
}
