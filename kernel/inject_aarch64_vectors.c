/* SPDX-License-Identifier: MIT */
/*
 * SVE and SME. A system call leaves of the vector registers only what is also in V0 to V31, and
 * ends the streaming mode of SME (ZA and ZT0 stay): Documentation/arch/arm64/sve.rst and sme.rst,
 * "System call behaviour". For a task that has called the kernel itself that was lost before; one
 * that was stopped in between must not notice, so it gets back what it had.
 */
#include "kernel/inject_arch.h"

#if defined(__aarch64__)

#include <asm/ptrace.h>
#include <asm/sigcontext.h>
#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

#ifndef NT_ARM_SSVE
#define NT_ARM_SSVE 0x40b /* Linux 5.19 */
#endif
#define HWCAP_SVE_BIT (1UL << 22)
#define HWCAP2_SME_BIT (1UL << 23)

/* The architecture allows vectors of 16 quadwords, 2048 bits; the kernel's limit is theoretical. */
#define QUADWORDS_MAX 16

struct inject_vectors {
	uintptr_t type; /* of the regset */
	size_t size;
	union {
		struct user_sve_header header;
		unsigned char bytes[SVE_PT_SIZE(QUADWORDS_MAX, SVE_PT_REGS_SVE)];
	} data;
};

/* Stores what the regset has, unless that is nothing but the V registers or nothing at all. */
static int save(pid_t tid, uintptr_t type, struct inject_vectors **ret)
{
	struct inject_vectors *v = malloc(sizeof(*v));

	if (!v)
		return -ENOMEM;
	struct iovec iov = {.iov_base = &v->data, .iov_len = sizeof(v->data)};
	int r = ptrace(PTRACE_GETREGSET, tid, (void *)type, &iov) < 0 ? -errno : 0;
	bool kept = r < 0 || iov.iov_len <= sizeof(v->data.header) ||
		    v->data.header.size <= sizeof(v->data.header) ||
		    (v->data.header.flags & SVE_PT_REGS_MASK) != SVE_PT_REGS_SVE;
	if (!kept && v->data.header.size > sizeof(v->data))
		r = -E2BIG;
	if (r < 0 || kept) {
		free(v);
		return r;
	}
	v->type = type;
	v->size = v->data.header.size;
	*ret = v;
	return 0;
}

int inject_arch_save_vectors(pid_t tid, struct inject_vectors **ret)
{
	int r = 0;

	*ret = NULL;
	if (getauxval(AT_HWCAP2) & HWCAP2_SME_BIT)
		r = save(tid, NT_ARM_SSVE, ret);
	if (r == 0 && !*ret && getauxval(AT_HWCAP) & HWCAP_SVE_BIT)
		r = save(tid, NT_ARM_SVE, ret);
	return r;
}

int inject_arch_restore_vectors(pid_t tid, const struct inject_vectors *vectors)
{
	struct inject_vectors copy;
	struct iovec iov = {.iov_base = &copy.data};

	if (!vectors)
		return 0;
	copy = *vectors; /* struct iovec knows no const */
	iov.iov_len = copy.size;
	return ptrace(PTRACE_SETREGSET, tid, (void *)copy.type, &iov) < 0 ? -errno : 0;
}

#endif
