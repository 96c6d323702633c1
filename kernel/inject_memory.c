/* SPDX-License-Identifier: MIT */
#include "kernel/inject_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/uio.h>
#include <unistd.h>

#include "kernel/util.h"

/* Documentation/admin-guide/mm/pagemap.rst */
#define PRESENT (1ULL << 63)
#define SWAPPED (1ULL << 62)
#define FILE_OR_SHARED (1ULL << 61)
#define WRITE_PROTECTED (1ULL << 57) /* by userfaultfd(2) */

/* What is asked for is a few pages at most. */
#define PAGES_MAX 8

static bool is_at_hand(uint64_t page, bool to_write)
{
	if (to_write && page & (FILE_OR_SHARED | WRITE_PROTECTED))
		return false;
	/* Of what is shared, the disk may be somebody's daemon. */
	return page & PRESENT || (page & SWAPPED && !(page & FILE_OR_SHARED));
}

static size_t at_hand(pid_t tid, uint64_t address, size_t size, bool to_write)
{
	uint64_t page_size = (uint64_t)sysconf(_SC_PAGESIZE), first = address / page_size;
	uint64_t pages[PAGES_MAX], count = (address + size - 1) / page_size - first + 1;
	char path[64];

	if (size == 0 || address + size < address)
		return 0;
	if (count > PAGES_MAX)
		count = PAGES_MAX;
	(void)snprintf(path, sizeof(path), "/proc/%d/pagemap", (int)tid);
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n =
		fd < 0 ? -1
		       : pread(fd, pages, count * sizeof(*pages), (off_t)(first * sizeof(*pages)));
	uint64_t good = 0;
	while (n > 0 && good < (uint64_t)n / sizeof(*pages) && is_at_hand(pages[good], to_write))
		good++;
	if (good == 0)
		return 0;
	uint64_t length = (first + good) * page_size - address;
	return length < size ? (size_t)length : size;
}

size_t inject_memory_readable(pid_t tid, uint64_t address, size_t size)
{
	return at_hand(tid, address, size, false);
}

size_t inject_memory_writable(pid_t tid, uint64_t address, size_t size)
{
	return at_hand(tid, address, size, true);
}

int inject_memory_why_not(pid_t tid)
{
	uint64_t page;
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%d/pagemap", (int)tid);
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	/* Of a task that has no memory any more there is not even the first page. */
	return fd < 0 || pread(fd, &page, sizeof(page), 0) == 0 ? -ESRCH : -EFAULT;
}

int inject_memory_read(pid_t tid, uint64_t address, void *buf, size_t size)
{
	struct iovec local = {.iov_base = buf, .iov_len = size};
	struct iovec remote = {.iov_base = (void *)(uintptr_t)address, .iov_len = size};

	if (inject_memory_readable(tid, address, size) < size)
		return inject_memory_why_not(tid);
	ssize_t n = process_vm_readv(tid, &local, 1, &remote, 1, 0);
	if (n < 0)
		return -errno;
	return (size_t)n == size ? 0 : -EFAULT;
}
