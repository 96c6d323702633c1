/* SPDX-License-Identifier: MIT */
#include "kernel/crash.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "kernel/environment.h"
#include "kernel/util.h"

#define INIT_PATH "/sbin/init"
#define HISTORY 8
#define THAW_MAX 4096
#define FD_SCAN_MAX 65536
#define ARGUMENTS_MAX 12
#define ARGUMENT_BYTES 64
/* SIGSTKSZ is no constant any more, and the frame of a machine with AVX-512 alone is 3 KiB. */
#define STACK_BYTES (128 * 1024)

static const int SIGNALS[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGTRAP, SIGSYS};

static char stack[STACK_BYTES] __attribute__((aligned(16)));

static int program = -1, own_root = -1, wake = -1;
static int state = -1, notes = -1, back_root = -1, away_from = -1;
static char console[256], shell[256], cause[128] = "0", ending[16];
static char arguments[ARGUMENTS_MAX][ARGUMENT_BYTES];
static unsigned n_arguments;
static uint64_t interval_usec = CRASH_LOOP_USEC;
static uint64_t history[HISTORY];
static unsigned n_history;
static int thaw[THAW_MAX];
static volatile unsigned n_thaw;
static void (*give_up_hook)(void);
static sigjmp_buf *volatile recovery;
static volatile sig_atomic_t asked, dying, last_signal;
static bool fault; /* not sent by anybody else */
static uintptr_t where, address; /* of the fault */
extern const char __executable_start[], etext[]; /* the linker's: where the program is */

/* What the handler needs of libc is here, so that it is known to be safe in it. */

static char *put_number(char *at, uint64_t value, unsigned base)
{
	char digits[24];
	size_t n = 0;

	do {
		digits[n++] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	while (n)
		*at++ = digits[--n];
	*at = '\0';
	return at;
}

/* clock_gettime(2) is safe in a handler (signal-safety(7)). */
static uint64_t now(void)
{
	return clock_usec();
}

static void thaw_all(void)
{
	for (unsigned i = 0; i < n_thaw; i++)
		(void)!pwrite(thaw[i], "0", 1, 0);
}

static int keep(int fd)
{
	return fcntl(fd, F_SETFD, 0);
}

struct entry { /* getdents64(2) */
	uint64_t ino;
	int64_t offset;
	unsigned short length;
	unsigned char type;
	char name[];
};

/* Nothing is looked up in any table of ours, which may be what the crash has spoilt: whatever is
 * open stays open, and the next life closes what it does not know. */
static void keep_all(void)
{
	static char buf[16384] __attribute__((aligned(8)));
	int dir = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	long n;

	while (dir >= 0 && (n = syscall(SYS_getdents64, dir, buf, sizeof(buf))) > 0) {
		for (long at = 0; at < n;) {
			const struct entry *e = (const struct entry *)(buf + at);
			uint64_t fd;
			if (parse_u64(e->name, &fd) && fd > 2 && (int)fd != dir)
				(void)keep((int)fd);
			at += e->length;
		}
	}
	if (dir >= 0) {
		(void)close(dir);
		return;
	}
	for (int fd = 3; fd < FD_SCAN_MAX; fd++)
		(void)keep(fd);
}

static uint64_t mount_of(int fd, const char *path, int flags)
{
	struct statx st;

	return statx(fd, path, flags, STATX_MNT_ID, &st) < 0 ? 0 : st.stx_mnt_id;
}

/*
 * The program is loaded with the libraries of the root that it came from. In the moments between a
 * pivot and the exec of the other image's init that is not the root of the system. Returns that
 * one, to go back to, or -1: it is.
 */
static int stand_on(int root)
{
	if (root < 0 || mount_of(root, "", AT_EMPTY_PATH) == mount_of(AT_FDCWD, "/", 0))
		return -1;
	int real = open("/", O_PATH | O_DIRECTORY);
	if (real < 0)
		return -1;
	if (fchdir(root) == 0 && chroot(".") == 0)
		return real;
	(void)close(real);
	return -1;
}

static void return_to(int real)
{
	if (real >= 0 && (fchdir(real) < 0 || chroot(".") < 0))
		return; /* then the shell of the minimal life stands on the wrong one of two roots
			 */
}

struct words {
	char *argv[20 + ARGUMENTS_MAX];
	unsigned n;
	char text[6][128];
};
static struct words words;

static void add_text(const char *option, char *value)
{
	words.argv[words.n++] = (char *)option;
	words.argv[words.n++] = value;
	words.argv[words.n] = NULL;
}

static void add_fd(const char *option, int fd, char *buf)
{
	if (fd < 0)
		return;
	(void)put_number(buf, (uint64_t)fd, 10);
	add_text(option, buf);
}

static void add_cause(int signal)
{
	char *at = put_number(words.text[2], (uint64_t)signal, 10);

	*at++ = ' ';
	at = put_number(at, where, 16);
	*at++ = ' ';
	at = put_number(at, address, 16);
	*at++ = ' ';
	(void)put_number(at, fault, 10);
	add_text("--molt-crashed", words.text[2]);
}

static void add_history(void)
{
	char *at = words.text[3];

	/* The last ones are enough to tell the next loop from a crash now and then. */
	unsigned first = n_history > CRASH_LOOP_TIMES ? n_history - CRASH_LOOP_TIMES : 0;

	/* A life that crashes before it has read that none of them counts begins to count anew. */
	if (!interval_usec)
		return;
	for (unsigned i = first; i < n_history; i++) {
		if (i > first)
			*at++ = ',';
		at = put_number(at, history[i], 10);
	}
	if (n_history)
		add_text("--molt-crashes", words.text[3]);
}

/* A boot that has written nothing down yet begins again. */
static void add_arguments(void)
{
	for (unsigned i = 0; state < 0 && i < n_arguments; i++)
		words.argv[words.n++] = arguments[i];
	words.argv[words.n] = NULL;
}

static void begin_words(void)
{
	words.n = 0;
	words.argv[words.n++] = (char *)"init";
	add_fd("--molt-state", state, words.text[0]);
}

static void execute(int root, char *const *environment)
{
	int real = stand_on(root);

	add_fd("--molt-returned", real < 0 ? away_from : real, words.text[4]);
	add_arguments();
	keep_all();
	if (program >= 0)
		(void)syscall(SYS_execveat, program, "", words.argv, environment, AT_EMPTY_PATH);
	(void)execve(INIT_PATH, words.argv, environment);
	return_to(real);
}

/* It has crashed before it could take up the state: the init it came from goes on. */
static void give_back(void)
{
	int root = back_root, real;

	back_root = -1;
	begin_words();
	real = stand_on(root);
	if (real < 0)
		return;
	add_fd("--molt-returned", real, words.text[4]);
	keep_all();
	(void)execve(INIT_PATH, words.argv, environment_own());
	return_to(real);
}

static void remember(uint64_t usec)
{
	if (n_history == HISTORY) {
		memmove(history, history + 1, sizeof(history) - sizeof(history[0]));
		n_history--;
	}
	history[n_history++] = usec;
}

static bool is_loop(void)
{
	return n_history >= CRASH_LOOP_TIMES && interval_usec &&
	       history[n_history - 1] - history[n_history - CRASH_LOOP_TIMES] < interval_usec;
}

static void __attribute__((noreturn)) end(void)
{
	give_up_hook();
	for (;;)
		(void)pause();
}

static void __attribute__((noreturn)) die(int signal)
{
	dying++;
	thaw_all();
	if (back_root >= 0)
		give_back();
	remember(now());
	begin_words();
	add_cause(signal);
	add_fd("--molt-notes", notes, words.text[1]);
	add_history();
	/* Where nothing else is left to do, that. It is gone down for good when it crashes in a
	 * loop: nobody waits at the console. */
	if (ending[0] && (state < 0 || is_loop())) {
		add_text("--molt-end", ending);
	} else if (is_loop()) {
		add_text("--molt-minimal", console);
		add_text("--molt-shell", shell);
	}
	execute(own_root, is_loop() ? environment_least() : environment_own());
	end();
}

static uintptr_t instruction(const ucontext_t *c)
{
#if defined(__x86_64__)
	return (uintptr_t)c->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
	return (uintptr_t)c->uc_mcontext.pc;
#else
#error "where does this machine keep its instruction pointer?"
#endif
}

/* In the program; of what a library does wrong only the signal is told: 0. */
static uintptr_t offset_of(uintptr_t at)
{
	uintptr_t begin = (uintptr_t)__executable_start;

	return at >= begin && at < (uintptr_t)etext ? at - begin : 0;
}

static void wake_loop(void)
{
	uint64_t one = 1;

	(void)!write(wake, &one, sizeof(one));
}

static void caught(int signal, siginfo_t *info, void *context)
{
	int saved = errno;
	/* Of another process: 0 if it is outside of our PID namespace. */
	bool sent = info->si_code <= 0 && info->si_pid != getpid();

	if (sent && (!asked || dying)) {
		asked = signal;
		wake_loop();
		errno = saved;
		return;
	}
	last_signal = signal;
	fault = !sent;
	where = offset_of(instruction(context));
	address = sent || info->si_code <= 0 ? 0 : (uintptr_t)info->si_addr;
	if (recovery) {
		sigjmp_buf *point = recovery;
		recovery = NULL;
		siglongjmp(*point, signal);
	}
	if (dying)
		end();
	die(signal);
}

void crash_find_program(void)
{
	if (program < 0)
		program = open("/proc/self/exe", O_PATH | O_CLOEXEC);
}

void crash_open(void (*give_up)(void))
{
	stack_t s = {.ss_sp = stack, .ss_size = sizeof(stack)};
	/* Not blocked while it is handled: what is raised while blocked would end PID 1. */
	struct sigaction action = {
		.sa_sigaction = caught, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
	sigset_t unblocked;

	give_up_hook = give_up;
	(void)sigemptyset(&action.sa_mask);
	(void)sigemptyset(&unblocked);
	(void)sigaltstack(&s, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(SIGNALS); i++) {
		(void)sigaction(SIGNALS[i], &action, NULL);
		(void)sigaddset(&unblocked, SIGNALS[i]);
	}
	(void)sigprocmask(SIG_UNBLOCK, &unblocked, NULL);
	crash_find_program();
	own_root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

void crash_set_state(int state_fd, int notes_fd)
{
	state = state_fd;
	notes = notes_fd;
}

void crash_give_back_to(int root)
{
	back_root = root;
}

void crash_is_away_from(int root)
{
	away_from = root;
}

static void copy(char *buf, size_t size, const char *text)
{
	size_t n = strlen(text);

	if (n >= size)
		return; /* cut off it would name something else */
	memcpy(buf, text, n + 1);
}

void crash_set_rescue(const char *console_path, const char *shell_path)
{
	copy(console, sizeof(console), console_path);
	copy(shell, sizeof(shell), shell_path);
}

void crash_set_end(const char *how)
{
	copy(ending, sizeof(ending), how);
}

void crash_set_arguments(int argc, char *const *argv)
{
	for (int i = 1; i < argc && n_arguments < ARGUMENTS_MAX; i++)
		if (strlen(argv[i]) < ARGUMENT_BYTES)
			copy(arguments[n_arguments++], ARGUMENT_BYTES, argv[i]);
}

void crash_set_interval(uint64_t usec)
{
	interval_usec = usec;
}

void crash_set_history(const char *text)
{
	char number[24];

	while (text && *text) {
		size_t n = strcspn(text, ",");
		uint64_t usec;
		if (n >= sizeof(number))
			return;
		memcpy(number, text, n);
		number[n] = '\0';
		if (parse_u64(number, &usec))
			remember(usec);
		text += n + (text[n] == ',');
	}
}

void crash_set_cause(const char *text)
{
	if (text)
		copy(cause, sizeof(cause), text);
}

int crash_wake_fd(void)
{
	return wake;
}

int crash_asked(void)
{
	return asked;
}

void crash_now(int signal)
{
	die(signal);
}

void crash_start_over(void)
{
	n_history = 0;
	begin_words();
	add_text("--molt-crashed", cause);
	add_fd("--molt-notes", notes, words.text[1]);
	execute(own_root, environment_own());
}

sigjmp_buf *crash_recover_at(sigjmp_buf *point)
{
	sigjmp_buf *before = recovery;

	recovery = point;
	return before;
}

int crash_signal(void)
{
	return last_signal;
}

void crash_thaw_add(int freeze_fd)
{
	if (n_thaw < THAW_MAX && freeze_fd >= 0)
		thaw[n_thaw++] = freeze_fd;
}

void crash_thaw_remove(int freeze_fd)
{
	for (unsigned i = 0; i < n_thaw; i++) {
		if (thaw[i] != freeze_fd)
			continue;
		/* In this order: at each moment the list is one to be used. */
		thaw[i] = thaw[n_thaw - 1];
		n_thaw--;
		return;
	}
}
