/* SPDX-License-Identifier: MIT */
/*
 * What `kexec --load --kexec-file-syscall` does, for guests that have no kexec(8): has the kernel
 * load another one, to be booted when it is told to. reboot(2): RB_KEXEC.
 *
 * usage: kexecload KERNEL INITRAMFS COMMAND-LINE
 */
#include <err.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int open_file(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		err(1, "cannot open %s", path);
	return fd;
}

int main(int argc, char **argv)
{
	if (argc != 4)
		errx(2, "usage: kexecload KERNEL INITRAMFS COMMAND-LINE");
	int kernel = open_file(argv[1]), initramfs = open_file(argv[2]);
	/* The length counts the NUL (kexec_file_load(2)). */
	if (syscall(SYS_kexec_file_load, kernel, initramfs, strlen(argv[3]) + 1, argv[3], 0UL) < 0)
		err(1, "cannot load %s", argv[1]);
	return 0;
}
