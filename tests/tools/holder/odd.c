/* SPDX-License-Identifier: MIT */
/* Memory that is not as a program's is: where the vDSO was, there is something else. */
#include <err.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "holder.h"

/* Of which the kernel tells where it is at the start of the program, and no more. */
#define VDSO_BYTES 8192

static char copy[VDSO_BYTES];
static int n_open;

static int count_open(void)
{
	int n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void *replace_vdso(void)
{
	void *place = (void *)(uintptr_t)getauxval(AT_SYSINFO_EHDR);

	memcpy(copy, place, sizeof(copy));
	if (munmap(place, VDSO_BYTES) < 0 ||
		mmap(place, VDSO_BYTES, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != place)
		err(1, "cannot replace the vDSO");
	return place;
}

/* It looks the same, but nothing can be executed there. */
static void decoy_set_up(void)
{
	enter_directory();
	open_fds();
	memcpy(replace_vdso(), copy, sizeof(copy));
	n_open = count_open();
}

/* Each page of it would come from somebody else, who never brings one. */
static void lazy_set_up(void)
{
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register range = {.mode = UFFDIO_REGISTER_MODE_MISSING};

	enter_directory();
	open_fds();
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	range.range.start = (uintptr_t)replace_vdso();
	range.range.len = VDSO_BYTES;
	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) < 0 || ioctl(fd, UFFDIO_REGISTER, &range) < 0)
		err(1, "userfaultfd");
	n_open = count_open();
}

/* It stays where it was, whole. */
static void stays_check(void)
{
	char path[4096];

	if (syscall(SYS_getcwd, path, sizeof(path)) < 0 || !strstr(path, directory))
		fault("the working directory is %s", path);
	for (int i = 0; i < N_FDS; i++)
		if (fcntl(fds[i], F_GETFD) < 0)
			fault("descriptor %d is closed", fds[i]);
	if (count_open() != n_open)
		fault("%d descriptors are open, and not %d", count_open(), n_open);
}

const struct subject ODD[] = {
	{"decoy", decoy_set_up, stays_check},
	{"lazy", lazy_set_up, stays_check},
	{0},
};
