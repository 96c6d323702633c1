/* SPDX-License-Identifier: MIT */
/*
 * Makes one system call of PID 1 fail: preloaded into its first life, with MOLT_FAULT=NUMBER:NTH,
 * the NTH call of that number by syscall(3) fails with EIO. One and no other: what is done to undo
 * things works again.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

long syscall(long number, ...);

static long (*real)(long number, ...);
static long fault_number = -1, fault_nth;

static void __attribute__((constructor)) begin(void)
{
	const char *text = getenv("MOLT_FAULT");

	real = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
	if (!text || getpid() != 1 || sscanf(text, "%ld:%ld", &fault_number, &fault_nth) != 2)
		fault_number = -1;
}

long syscall(long number, ...)
{
	long a[6];
	va_list ap;

	va_start(ap, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	if (number == fault_number && getpid() == 1 && --fault_nth == 0) {
		errno = EIO;
		return -1;
	}
	return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
