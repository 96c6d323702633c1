/* SPDX-License-Identifier: MIT */
#include "seam.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "calls.h"

/* Of older architectures alone. */
#ifndef PTRACE_SETREGS
#define PTRACE_SETREGS PTRACE_SETREGSET
#endif

#define HOLD_MSEC_MAX 5000

static struct seam *seam;
static unsigned long entry;

/* Raw, so that nothing of ours is counted or fails. */
static long raw(long number, long a, long b, long c, long d, long e, long f)
{
	static long (*real)(long, ...);

	if (!real)
		real = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
	return real(number, a, b, c, d, e, f);
}

/* The file, or -1: this library is not the one for this life (see seam.h). */
static int open_page(int argc, char **argv, const char *path)
{
	int from = SEAM_AWAY ? -1 : AT_FDCWD;
	bool crashed = !SEAM_AWAY;

	for (int i = 1; SEAM_AWAY && i + 1 < argc; i++) {
		crashed |= strcmp(argv[i], "--molt-crashed") == 0;
		if (strcmp(argv[i], "--molt-returned") == 0) {
			from = atoi(argv[i + 1]);
			path += strspn(path, "/");
		}
	}
	return from == -1 || !crashed
		       ? -1
		       : (int)raw(SYS_openat, from, (long)path, O_RDWR | O_CLOEXEC, 0, 0, 0);
}

static void __attribute__((constructor)) begin(int argc, char **argv)
{
	const char *path = getenv("MOLT_SEAM");

	if (!path || getpid() != 1)
		return;
	entry = getauxval(AT_ENTRY);
	int fd = open_page(argc, argv, path);
	if (fd < 0)
		return;
	struct seam *map = mmap(NULL, sizeof(*map), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	(void)raw(SYS_close, fd, 0, 0, 0, 0, 0);
	if (map == MAP_FAILED || map->magic != SEAM_MAGIC)
		return;
	for (unsigned i = 0; i < N_CALLS; i++)
		(void)snprintf(map->names[i], sizeof(map->names[i]), "%s", CALL_NAMES[i]);
	map->n_names = N_CALLS;
	__atomic_add_fetch(&map->lives, 1, __ATOMIC_SEQ_CST);
	if (map->armed && map->hit && map->again) {
		map->name = SEAM_ANY;
		map->nth = map->n_meant + map->again;
		map->again = 0;
	}
	seam = map;
}

static void hold(void)
{
	static const struct timespec pause = {.tv_nsec = 1000000};

	seam->released = 0;
	__atomic_store_n(&seam->held, 1, __ATOMIC_SEQ_CST);
	for (int i = 0; i < HOLD_MSEC_MAX && !__atomic_load_n(&seam->released, __ATOMIC_SEQ_CST);
		i++)
		(void)raw(SYS_nanosleep, (long)&pause, 0, 0, 0, 0, 0);
	__atomic_store_n(&seam->held, 0, __ATOMIC_SEQ_CST);
}

/* For real, not as a signal that somebody sends. */
static void crash(int signal)
{
	static volatile int zero;
	static volatile int *volatile nowhere;

	if (signal == SIGSEGV)
		*nowhere = 1;
	else if (signal == SIGFPE)
		zero = 1 / zero;
	else if (signal == SIGILL)
		__builtin_trap();
	else
		abort();
}

static unsigned bit_of(int error)
{
	return error == ENOMEM  ? SEAM_ENOMEM
	       : error == EIO   ? SEAM_EIO
	       : error == EPERM ? SEAM_EPERM
				: SEAM_EBUSY;
}

static int end_after;

static void seam_after(void)
{
	if (end_after)
		(void)raw(SYS_exit_group, 1, 0, 0, 0, 0, 0);
}

static bool in_program(long offset)
{
	return offset > -SEAM_PROGRAM_BYTES && offset < SEAM_PROGRAM_BYTES;
}

static bool is_meant(enum call name, long offset)
{
	if (seam->name == SEAM_ANY)
		return true;
	return seam->name == (int32_t)name &&
	       (seam->site == SEAM_EVERYWHERE ||
		       (seam->site == SEAM_ANY ? !in_program(offset) : seam->site == offset));
}

/* 0, or the errno that the call is to fail with. */
static int seam_hit(enum call name, unsigned errors, const void *site)
{
	if (!seam || !__atomic_load_n(&seam->armed, __ATOMIC_SEQ_CST))
		return 0;
	if (!(seam->who & (raw(SYS_getpid, 0, 0, 0, 0, 0, 0) == 1 ? SEAM_INIT : SEAM_CHILDREN)))
		return 0;
	long offset = (long)((unsigned long)site - entry);
	uint64_t n = __atomic_add_fetch(&seam->count, 1, __ATOMIC_SEQ_CST);
	if (n <= SEAM_LOG_MAX)
		seam->log[n - 1] = (struct seam_call){.name = (uint16_t)name,
			.errors = (uint16_t)errors,
			.site = in_program(offset) ? (int32_t)offset : SEAM_ANY};
	if (seam->mode == SEAM_COUNT || seam->mode >= SEAM_MUTE || !is_meant(name, offset) ||
		__atomic_add_fetch(&seam->n_meant, 1, __ATOMIC_SEQ_CST) != seam->nth)
		return 0;
	/* The calls are never quite the same ones again: the next that can fail so. */
	if (seam->mode == SEAM_FAIL && !(errors & bit_of(seam->argument))) {
		seam->nth++;
		return 0;
	}
	__atomic_store_n(&seam->hit, 1, __ATOMIC_SEQ_CST);
	switch ((enum seam_mode)seam->mode) {
	case SEAM_FAIL:
		return seam->argument;
	case SEAM_CRASH:
		crash(seam->argument);
		return 0;
	case SEAM_EXIT:
		(void)raw(SYS_exit_group, 1, 0, 0, 0, 0, 0);
		return 0;
	case SEAM_EXIT_AFTER:
		end_after = 1;
		return 0;
	case SEAM_HOLD:
		hold();
		return 0;
	case SEAM_COUNT:
	case SEAM_MUTE:
	case SEAM_STUCK:
		break;
	}
	return 0;
}

static bool is_armed(enum seam_mode mode)
{
	return seam && __atomic_load_n(&seam->armed, __ATOMIC_SEQ_CST) && seam->mode == mode &&
	       raw(SYS_getpid, 0, 0, 0, 0, 0, 0) == 1;
}

/* The first INTERRUPT is that of its seizure. */
static bool is_mute(int request, long tid)
{
	if (!is_armed(SEAM_MUTE) || tid != seam->site)
		return false;
	if (request == PTRACE_INTERRUPT)
		seam->hit = ++seam->n_meant > 1;
	return seam->hit;
}

#define FAIL_AS(name, errors, failed)                                                      \
	do {                                                                               \
		int error_ = seam_hit(CALL_##name, (errors), __builtin_return_address(0)); \
		if (error_) {                                                              \
			errno = error_;                                                    \
			return (failed);                                                   \
		}                                                                          \
	} while (0)

#define REAL(type, name, parameters)    \
	static type(*real_) parameters; \
	if (!real_)                     \
	real_ = (type(*) parameters)dlsym(RTLD_NEXT, #name)

/* The symbol is what counts: under its own name each would have to be declared as in its header. */
#define WRAP(type, name, parameters, arguments, errors, failed) \
	type seam_##name parameters __asm__(#name);             \
	type seam_##name parameters                             \
	{                                                       \
		REAL(type, name, parameters);                   \
		FAIL_AS(name, errors, failed);                  \
		type result_ = real_ arguments;                 \
		seam_after();                                   \
		return result_;                                 \
	}
CALLS(WRAP)

/* dlsym(3) allocates itself: glibc's own names for them. What else allocates (strdup(3), fopen(3))
 * comes through here too. */
#define WRAP_ALLOCATION(name, parameters, arguments) \
	void *__libc_##name parameters;              \
	void *seam_##name parameters __asm__(#name); \
	void *seam_##name parameters                 \
	{                                            \
		FAIL_AS(name, SEAM_ENOMEM, NULL);    \
		return __libc_##name arguments;      \
	}
WRAP_ALLOCATION(malloc, (size_t n), (n))
WRAP_ALLOCATION(calloc, (size_t n, size_t size), (n, size))
WRAP_ALLOCATION(realloc, (void *p, size_t n), (p, n))

/* What takes a variable number of arguments, or is something else as well. */

int seam_open(const char *path, int flags, ...) __asm__("open");
int seam_open(const char *path, int flags, ...)
{
	va_list ap;
	REAL(int, open, (const char *, int, ...));

	FAIL_AS(open, FILE_ERRORS, -1);
	va_start(ap, flags);
	int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, int) : 0;
	va_end(ap);
	return real_(path, flags, mode);
}

int seam_openat(int fd, const char *path, int flags, ...) __asm__("openat");
int seam_openat(int fd, const char *path, int flags, ...)
{
	va_list ap;
	REAL(int, openat, (int, const char *, int, ...));

	FAIL_AS(openat, FILE_ERRORS, -1);
	va_start(ap, flags);
	int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, int) : 0;
	va_end(ap);
	return real_(fd, path, flags, mode);
}

int seam_fcntl(int fd, int command, ...) __asm__("fcntl");
int seam_fcntl(int fd, int command, ...)
{
	va_list ap;
	REAL(int, fcntl, (int, int, ...));

	if (command == F_ADD_SEALS)
		FAIL_AS(fcntl, SEAM_EPERM, -1);
	else if (command == F_DUPFD_CLOEXEC)
		FAIL_AS(fcntl, SEAM_ENOMEM, -1);
	va_start(ap, command);
	long argument = va_arg(ap, long);
	va_end(ap);
	return real_(fd, command, argument);
}

int seam_ioctl(int fd, unsigned long request, ...) __asm__("ioctl");
int seam_ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	REAL(int, ioctl, (int, unsigned long, ...));

	FAIL_AS(ioctl, FILE_ERRORS | SEAM_EBUSY, -1);
	va_start(ap, request);
	long argument = va_arg(ap, long);
	va_end(ap);
	return real_(fd, request, argument);
}

long seam_ptrace(int request, ...) __asm__("ptrace");
long seam_ptrace(int request, ...)
{
	long a[3];
	va_list ap;
	REAL(long, ptrace, (int, ...));

	/* Of a task that is ours and stopped, only ESRCH can come. */
	if (request == PTRACE_SEIZE)
		FAIL_AS(ptrace, SEAM_EPERM | SEAM_EIO, -1);
	va_start(ap, request);
	for (int i = 0; i < 3; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	if (is_mute(request, a[0])) {
		if (request == PTRACE_CONT)
			return 0;
		if (request == PTRACE_GETSIGINFO || request == PTRACE_DETACH ||
			(seam->argument &&
				(request == PTRACE_SETREGSET || request == PTRACE_SETREGS))) {
			errno = ESRCH;
			return -1;
		}
	}
	return real_(request, a[0], a[1], a[2]);
}

ssize_t seam_pwrite(int fd, const void *buf, size_t n, off_t at) __asm__("pwrite");
ssize_t seam_pwrite(int fd, const void *buf, size_t n, off_t at)
{
	REAL(ssize_t, pwrite, (int, const void *, size_t, off_t));

	struct stat st;

	if (is_armed(SEAM_STUCK) && n == 1 && *(const char *)buf == seam->argument &&
		raw(SYS_fstat, fd, (long)&st, 0, 0, 0, 0) == 0 && st.st_ino == seam->nth) {
		seam->hit = 1;
		errno = EIO;
		return -1;
	}
	return real_(fd, buf, n, at);
}

int seam_prctl(int option, ...) __asm__("prctl");
int seam_prctl(int option, ...)
{
	long a[4];
	va_list ap;
	REAL(int, prctl, (int, ...));

	FAIL_AS(prctl, SEAM_EPERM, -1);
	va_start(ap, option);
	for (int i = 0; i < 4; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	return real_(option, a[0], a[1], a[2], a[3]);
}

/* The descriptor is closed all the same: Linux never leaves it open. */
int seam_close(int fd) __asm__("close");
int seam_close(int fd)
{
	REAL(int, close, (int));
	int r = real_(fd), number = errno;

	FAIL_AS(close, SEAM_EIO, -1);
	errno = number;
	return r;
}

int seam_execve(const char *path, char *const *arguments, char *const *environment) __asm__(
	"execve");
int seam_execve(const char *path, char *const *arguments, char *const *environment)
{
	REAL(int, execve, (const char *, char *const *, char *const *));

	FAIL_AS(execve, FILE_ERRORS, -1);
	return real_(path, arguments, environment);
}

static unsigned errors_of(long number)
{
	switch (number) {
	case SYS_move_mount:
	case SYS_pivot_root:
	case SYS_mount_setattr:
	case SYS_open_tree:
	case SYS_fsmount:
		return SEAM_ENOMEM | SEAM_EIO | SEAM_EPERM | SEAM_EBUSY;
	case SYS_clone3:
	case SYS_pidfd_open:
	case SYS_pidfd_getfd:
	case SYS_memfd_create:
	case SYS_setns:
		return SEAM_ENOMEM | SEAM_EPERM;
	case SYS_kcmp:
	case SYS_pidfd_send_signal:
		return SEAM_EPERM;
	default:
		return FILE_ERRORS;
	}
}

long seam_syscall(long number, ...) __asm__("syscall");
long seam_syscall(long number, ...)
{
	long a[6];
	va_list ap;

	va_start(ap, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	FAIL_AS(syscall, errors_of(number), -1);
	long result = raw(number, a[0], a[1], a[2], a[3], a[4], a[5]);
	seam_after();
	return result;
}
