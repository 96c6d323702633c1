/* SPDX-License-Identifier: MIT */
/* Where a task's own vDSO has the instruction that enters the kernel. */
#include "kernel/inject_target.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "kernel/inject_memory.h"
#include "kernel/proc_lines.h"
#include "kernel/util.h"

/* x86-64 and arm64 have two pages of it, of which we look at the first four. */
#define VDSO_MAX 16384

/* 64-bit pairs of key and value; a 32-bit task has 32-bit ones. */
static int vdso_from_auxv(pid_t tid, uint64_t *ret)
{
	char path[64];
	/* A union, so that both readings of the bytes are aligned and allowed. */
	union {
		char bytes[2048];
		Elf64_auxv_t pairs[2048 / sizeof(Elf64_auxv_t)];
		Elf32_auxv_t narrow[2048 / sizeof(Elf32_auxv_t)];
	} auxv;

	(void)snprintf(path, sizeof(path), "/proc/%d/auxv", tid);
	ssize_t size = file_read(AT_FDCWD, path, auxv.bytes, sizeof(auxv.bytes));
	if (size < 0)
		return (int)size;
	for (size_t i = 0; i < (size_t)size / sizeof(auxv.pairs[0]); i++) {
		if (auxv.pairs[i].a_type == AT_SYSINFO_EHDR) {
			*ret = auxv.pairs[i].a_un.a_val;
			return 0;
		}
	}
	/* arm64 kernels may be built without a vDSO for 32 bit. */
	for (size_t i = 0; i < (size_t)size / sizeof(auxv.narrow[0]); i++)
		if (auxv.narrow[i].a_type == AT_SYSINFO_EHDR ||
			(auxv.narrow[i].a_type == AT_PHENT &&
				auxv.narrow[i].a_un.a_val == sizeof(Elf32_Phdr)))
			return -ENOTSUP;
	return -ENOEXEC;
}

struct vdso {
	uint64_t start;
	size_t size;
};

/* "start-end perms offset device inode name": only the kernel's own mapping has no file and that
 * name. */
static int find_vdso_line(char *line, void *userdata)
{
	struct vdso *ret = userdata;
	unsigned long long start, end, inode;
	int name = 0;

	if (sscanf(line, "%llx-%llx %*s %*x %*s %llu %n", &start, &end, &inode, &name) != 3 ||
		inode != 0 || name == 0 || strcmp(line + name, "[vdso]") != 0)
		return 0;
	*ret = (struct vdso){.start = start, .size = end - start};
	if (ret->size > VDSO_MAX)
		ret->size = VDSO_MAX;
	return 1;
}

/* Slow for a task with many mappings, but follows a vDSO that was moved (mremap by a checkpointer).
 */
static int vdso_from_maps(pid_t tid, struct vdso *ret)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%d/maps", tid);
	int r = proc_lines(path, find_vdso_line, ret);
	return r < 0 ? r : r > 0 ? 0 : -ENOEXEC;
}

/* Offset of the instruction in [from, to) of the image, or -ENOEXEC. */
static ssize_t search(const unsigned char *image, size_t from, size_t to)
{
	size_t step = inject_arch_instruction_align;

	for (size_t i = (from + step - 1) / step * step; i + inject_arch_instruction_size <= to;
		i += step)
		if (!memcmp(image + i, inject_arch_instruction, inject_arch_instruction_size))
			return (ssize_t)i;
	return -ENOEXEC;
}

/* Only what is mapped executable counts: the same bytes may stand in the symbol table. */
static ssize_t search_segments(const unsigned char *image, size_t size)
{
	Elf64_Ehdr header;
	Elf64_Phdr segment;

	if (size < sizeof(header))
		return -ENOEXEC;
	memcpy(&header, image, sizeof(header));
	if (memcmp(header.e_ident, ELFMAG, SELFMAG) != 0)
		return -ENOEXEC;
	/* The class also tells x32, whose tasks have 64-bit registers. */
	if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_machine != inject_arch_elf_machine)
		return -ENOTSUP;
	for (size_t i = 0; i < header.e_phnum; i++) {
		size_t at = header.e_phoff + i * sizeof(segment);

		if (header.e_phentsize != sizeof(segment) || at > size - sizeof(segment))
			return -ENOEXEC;
		memcpy(&segment, image + at, sizeof(segment));
		if (segment.p_type != PT_LOAD || !(segment.p_flags & PF_X) ||
			segment.p_offset > size)
			continue;
		size_t length = segment.p_filesz < size - segment.p_offset
					? segment.p_filesz
					: size - segment.p_offset;
		ssize_t found = search(image, segment.p_offset, segment.p_offset + length);
		if (found >= 0)
			return found;
	}
	return -ENOEXEC;
}

/*
 * The kernel maps the image of a vDSO as it is, so an offset in it is an offset from its start.
 * `size`: how much of it may be read; what follows it may be anything.
 */
static int search_at(pid_t tid, uint64_t base, size_t size, uint64_t *ret_address)
{
	unsigned char image[VDSO_MAX];
	struct iovec local = {.iov_base = image, .iov_len = size};
	struct iovec remote = {.iov_base = (void *)(uintptr_t)base, .iov_len = size};
	ssize_t n = size > 0 ? process_vm_readv(tid, &local, 1, &remote, 1, 0) : 0;

	if (n < 0)
		return errno == ESRCH ? -ESRCH : -ENOEXEC;
	ssize_t offset = search_segments(image, (size_t)n);
	if (offset < 0)
		return (int)offset;
	*ret_address = base + (uint64_t)offset;
	return 0;
}

int inject_find_instruction(pid_t tid, uint64_t *ret_address, struct error *e)
{
	uint64_t base = 0;
	int r = vdso_from_auxv(tid, &base);

	if (r == 0)
		r = search_at(tid, base, inject_memory_readable(tid, base, VDSO_MAX), ret_address);
	if (r == -ENOEXEC) {
		struct vdso vdso = {0};
		r = vdso_from_maps(tid, &vdso);
		if (r == 0)
			r = search_at(tid, vdso.start, vdso.size, ret_address);
	}
	if (r == -ENOTSUP)
		return error_say(
			e, r, "task %d runs in 32-bit mode: its system calls are not ours", tid);
	if (r == -ENOEXEC)
		return error_say(e, r, "task %d has no vDSO to run a system call from", tid);
	if (r < 0)
		return error_set(e, r, "cannot find the vDSO of task %d", tid);
	return 0;
}
