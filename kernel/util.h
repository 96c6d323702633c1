/* SPDX-License-Identifier: MIT */
/* Small helpers that every room needs: owned descriptors, clocks, whole-file reads. */
#ifndef MOLT_KERNEL_UTIL_H
#define MOLT_KERNEL_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define USEC_PER_SEC 1000000ULL
#define USEC_PER_MSEC 1000ULL
#define USEC_INFINITY UINT64_MAX

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
/* The struct that has that member, of which this is the address. */
#define CONTAINER_OF(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))

/* Declares a descriptor that is closed at the end of the scope; -1 is none. */
#define CLEANUP_FD __attribute__((cleanup(fd_closep)))
#define CLEANUP_FREE __attribute__((cleanup(freep)))

void fd_closep(int *fd);
void freep(void *pointer); /* takes the address of any pointer */

/* Closes fd (if >= 0) and returns -1, so that `x = fd_close(x)` leaves no stale number. Keeps
 * errno. What the state names is closed by this alone: see identity.h. */
int fd_close(int fd);
/* Takes the descriptor out of the variable: it will not be closed by its scope. */
int fd_steal(int *fd);
int fd_set_cloexec(int fd, bool on); /* 0 or negative errno */

uint64_t clock_usec(void); /* CLOCK_MONOTONIC */
uint64_t deadline_in(uint64_t usec); /* now + usec; infinity stays infinity */
uint64_t usec_add(uint64_t a, uint64_t b); /* saturates at infinity */

/*
 * Reads a whole small file (procfs, cgroupfs, sysfs) relative to dirfd into buf and ends it with
 * NUL. Returns the length without the NUL, -E2BIG if it does not fit, or another negative errno.
 */
ssize_t file_read(int dirfd, const char *path, char *buf, size_t size);
/* Writes a string in one write(2). 0 or negative errno. */
int file_write(int dirfd, const char *path, const char *text);

/* Decimal text to a number; false if it is anything else than digits alone or too large. */
bool parse_u64(const char *text, uint64_t *ret);
bool parse_pid(const char *text, pid_t *ret);

bool starts_with(const char *text, const char *prefix);
bool ends_with(const char *text, const char *suffix);

#endif
