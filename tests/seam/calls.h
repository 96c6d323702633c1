/* SPDX-License-Identifier: MIT */
/* The functions of libc that are counted, with the errors that can happen to each (of the four that
 * are tried) and what they return then. */
#ifndef MOLT_TESTS_SEAM_CALLS_H
#define MOLT_TESTS_SEAM_CALLS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define FILE_ERRORS (SEAM_ENOMEM | SEAM_EIO | SEAM_EPERM)

typedef void any; /* structures are only passed through */

/* clang-format off */
#define CALLS(X) \
	X(any *, fopen, (const char *path, const char *mode), (path, mode), FILE_ERRORS, NULL) \
	X(any *, opendir, (const char *path), (path), FILE_ERRORS, NULL) \
	X(any *, fdopendir, (int fd), (fd), SEAM_ENOMEM, NULL) \
	X(any *, readdir, (any *d), (d), SEAM_EIO, NULL) \
	X(int, accept4, (int fd, any *a, any *n, int flags), (fd, a, n, flags), SEAM_ENOMEM | SEAM_EPERM, -1) \
	X(int, access, (const char *path, int mode), (path, mode), FILE_ERRORS, -1) \
	X(int, bind, (int fd, const any *a, unsigned n), (fd, a, n), FILE_ERRORS, -1) \
	X(int, chdir, (const char *path), (path), FILE_ERRORS, -1) \
	X(int, fchdir, (int fd), (fd), SEAM_EIO | SEAM_EPERM, -1) \
	X(int, chmod, (const char *path, unsigned mode), (path, mode), FILE_ERRORS, -1) \
	X(int, chroot, (const char *path), (path), FILE_ERRORS, -1) \
	X(int, dup2, (int a, int b), (a, b), SEAM_EBUSY, -1) \
	X(int, epoll_create1, (int flags), (flags), SEAM_ENOMEM, -1) \
	X(int, epoll_ctl, (int fd, int op, int other, any *e), (fd, op, other, e), SEAM_ENOMEM | SEAM_EPERM, -1) \
	X(int, fstat, (int fd, any *st), (fd, st), SEAM_ENOMEM | SEAM_EIO, -1) \
	X(int, stat, (const char *path, any *st), (path, st), FILE_ERRORS, -1) \
	X(int, lstat, (const char *path, any *st), (path, st), FILE_ERRORS, -1) \
	X(int, statfs, (const char *path, any *st), (path, st), FILE_ERRORS, -1) \
	X(int, fstatfs, (int fd, any *st), (fd, st), SEAM_ENOMEM | SEAM_EIO, -1) \
	X(int, statx, (int fd, const char *path, int flags, unsigned mask, any *st), (fd, path, flags, mask, st), FILE_ERRORS, -1) \
	X(int, getsockopt, (int fd, int level, int name, any *v, any *n), (fd, level, name, v, n), SEAM_ENOMEM, -1) \
	X(int, setsockopt, (int fd, int level, int name, const any *v, unsigned n), (fd, level, name, v, n), SEAM_ENOMEM | SEAM_EPERM, -1) \
	X(int, lchown, (const char *path, unsigned u, unsigned g), (path, u, g), FILE_ERRORS, -1) \
	X(int, listen, (int fd, int n), (fd, n), SEAM_ENOMEM, -1) \
	X(int, memfd_create, (const char *name, unsigned flags), (name, flags), SEAM_ENOMEM, -1) \
	X(int, mkdir, (const char *path, unsigned mode), (path, mode), FILE_ERRORS, -1) \
	X(int, mkdirat, (int fd, const char *path, unsigned mode), (fd, path, mode), FILE_ERRORS, -1) \
	X(int, mlockall, (int flags), (flags), SEAM_ENOMEM | SEAM_EPERM, -1) \
	X(int, mount, (const char *a, const char *b, const char *c, unsigned long flags, const any *data), (a, b, c, flags, data), FILE_ERRORS | SEAM_EBUSY, -1) \
	X(int, umount2, (const char *path, int flags), (path, flags), FILE_ERRORS | SEAM_EBUSY, -1) \
	X(int, pidfd_open, (int pid, unsigned flags), (pid, flags), SEAM_ENOMEM, -1) \
	X(int, pidfd_send_signal, (int fd, int signal, any *info, unsigned flags), (fd, signal, info, flags), SEAM_ENOMEM, -1) \
	X(int, pipe2, (int *fds, int flags), (fds, flags), SEAM_ENOMEM, -1) \
	X(int, poll, (any *fds, unsigned long n, int timeout), (fds, n, timeout), SEAM_ENOMEM, -1) \
	X(int, ppoll, (any *fds, unsigned long n, const any *timeout, const any *mask), (fds, n, timeout, mask), SEAM_ENOMEM, -1) \
	X(int, prlimit, (int pid, int resource, const any *set, any *get), (pid, resource, set, get), SEAM_EPERM, -1) \
	X(int, setrlimit, (int resource, const any *set), (resource, set), SEAM_EPERM, -1) \
	X(int, signalfd, (int fd, const any *mask, int flags), (fd, mask, flags), SEAM_ENOMEM, -1) \
	X(int, socket, (int a, int b, int c), (a, b, c), SEAM_ENOMEM | SEAM_EPERM, -1) \
	X(int, socketpair, (int a, int b, int c, int *fds), (a, b, c, fds), SEAM_ENOMEM | SEAM_EPERM, -1) \
	X(int, unlink, (const char *path), (path), FILE_ERRORS | SEAM_EBUSY, -1) \
	X(int, unlinkat, (int fd, const char *path, int flags), (fd, path, flags), FILE_ERRORS | SEAM_EBUSY, -1) \
	X(int, reboot, (int how), (how), SEAM_EPERM, -1) \
	X(int, rename, (const char *a, const char *b), (a, b), FILE_ERRORS | SEAM_EBUSY, -1) \
	X(int, renameat, (int fd, const char *a, int other, const char *b), (fd, a, other, b), FILE_ERRORS | SEAM_EBUSY, -1) \
	X(int, symlinkat, (const char *text, int fd, const char *path), (text, fd, path), FILE_ERRORS, -1) \
	X(int, fsync, (int fd), (fd), SEAM_EIO, -1) \
	X(int, setns, (int fd, int type), (fd, type), SEAM_ENOMEM | SEAM_EPERM, -1) \
	X(int, unshare, (int flags), (flags), SEAM_ENOMEM | SEAM_EPERM, -1) \
	X(ssize_t, pread, (int fd, void *buf, size_t n, off_t at), (fd, buf, n, at), FILE_ERRORS, -1) \
	X(ssize_t, read, (int fd, void *buf, size_t n), (fd, buf, n), FILE_ERRORS, -1) \
	X(ssize_t, write, (int fd, const void *buf, size_t n), (fd, buf, n), FILE_ERRORS | SEAM_EBUSY, -1) \
	X(ssize_t, process_vm_readv, (int pid, const any *a, unsigned long n, const any *b, unsigned long m, unsigned long flags), (pid, a, n, b, m, flags), SEAM_ENOMEM | SEAM_EPERM, -1) \
	X(ssize_t, process_vm_writev, (int pid, const any *a, unsigned long n, const any *b, unsigned long m, unsigned long flags), (pid, a, n, b, m, flags), SEAM_ENOMEM | SEAM_EPERM, -1) \
	X(ssize_t, readlink, (const char *path, char *buf, size_t n), (path, buf, n), FILE_ERRORS, -1) \
	X(ssize_t, readlinkat, (int fd, const char *path, char *buf, size_t n), (fd, path, buf, n), FILE_ERRORS, -1) \
	X(ssize_t, recv, (int fd, void *buf, size_t n, int flags), (fd, buf, n, flags), SEAM_ENOMEM, -1) \
	X(ssize_t, recvmsg, (int fd, any *m, int flags), (fd, m, flags), SEAM_ENOMEM, -1) \
	X(ssize_t, send, (int fd, const void *buf, size_t n, int flags), (fd, buf, n, flags), SEAM_ENOMEM, -1) \
	X(ssize_t, sendmsg, (int fd, const any *m, int flags), (fd, m, flags), SEAM_ENOMEM, -1)

#define CALL_ENUM(type, name, parameters, arguments, errors, failed) CALL_##name,
enum call { CALLS(CALL_ENUM) CALL_malloc, CALL_calloc, CALL_realloc, CALL_open, CALL_openat, CALL_fcntl, CALL_ioctl, CALL_ptrace, CALL_prctl,
	CALL_close, CALL_execve, CALL_syscall, N_CALLS };

#define CALL_NAME(type, name, parameters, arguments, errors, failed) #name,
static const char *const CALL_NAMES[] = { CALLS(CALL_NAME) "malloc", "calloc", "realloc", "open", "openat", "fcntl", "ioctl", "ptrace", "prctl",
	"close", "execve", "syscall" };
/* clang-format on */

#endif
