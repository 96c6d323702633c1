/* SPDX-License-Identifier: MIT */
/*
 * What the kernel's generator of random numbers knew goes over a reboot in a file. It counts as
 * random only once: the file is gone, on the disk too, before the kernel is told of it, and the
 * next one is made of the generator's output at once. If the generator could not be relied on when
 * a file was written, that file has the other name, and never counts.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "init/stages/children.h"
#include "init/system.h"
#include "kernel/log.h"
#include "kernel/util.h"

#define COUNTS "random-seed"
#define DOES_NOT_COUNT "random-seed.uncounted"
#define OF_SYSTEMD "/var/lib/systemd/random-seed" /* read alone: it is another's to renew */
#define SEED_BYTES 64
#define SEED_BITS 256 /* all that the generator holds */

int stage_open_state(void)
{
	(void)mkdir("/var/lib", 0755);
	(void)mkdir(STAGE_STATE, 0755);
	return open(STAGE_STATE, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static ssize_t read_some(int dir, const char *name, uint8_t *buf, size_t size)
{
	CLEANUP_FD int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	return fd < 0 ? -errno : read(fd, buf, size);
}

static int add(const uint8_t *seed, size_t size, int bits)
{
	union {
		struct rand_pool_info head;
		uint8_t room[sizeof(struct rand_pool_info) + 512];
	} pool = {.head = {.entropy_count = bits, .buf_size = (int)size}};
	CLEANUP_FD int fd = open("/dev/urandom", O_WRONLY | O_CLOEXEC);

	memcpy(pool.room + offsetof(struct rand_pool_info, buf), seed, size);
	return fd < 0 || ioctl(fd, RNDADDENTROPY, &pool) < 0 ? -errno : 0;
}

static int use(int dir, const char *name, bool counts)
{
	uint8_t seed[512];
	ssize_t n = read_some(dir, name, seed, sizeof(seed));
	int r;

	if (n == -ENOENT)
		return 0;
	if (unlinkat(dir, name, 0) < 0 || fsync(dir) < 0) {
		log_warning("cannot take away %s/%s: %s; it does not count", STAGE_STATE, name,
			strerror(errno));
		counts = false;
	}
	if (n <= 0)
		return 0;
	r = add(seed, (size_t)n, counts && n >= SEED_BYTES ? SEED_BITS : 0);
	explicit_bzero(seed, sizeof(seed));
	if (r < 0)
		log_error("cannot seed the kernel's random numbers: %s", strerror(-r));
	return r < 0;
}

static void use_systemds(void)
{
	uint8_t seed[512];
	ssize_t n = read_some(AT_FDCWD, OF_SYSTEMD, seed, sizeof(seed));

	if (n > 0)
		(void)add(seed, (size_t)n, 0);
}

static int write_seed(int dir, const char *name, const uint8_t *seed)
{
	CLEANUP_FD int fd = openat(
		dir, ".random-seed", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return -errno;
	ssize_t n = write(fd, seed, SEED_BYTES);
	if (n < 0)
		return -errno;
	if (n != SEED_BYTES)
		return -EIO;
	if (fsync(fd) < 0 || renameat(dir, ".random-seed", dir, name) < 0 || fsync(dir) < 0)
		return -errno;
	return 0;
}

static int save(int dir)
{
	uint8_t seed[SEED_BYTES];
	bool counts = getrandom(seed, sizeof(seed), GRND_NONBLOCK) == SEED_BYTES;

	if (!counts && getrandom(seed, sizeof(seed), GRND_INSECURE) != SEED_BYTES)
		return -EIO;
	int r = write_seed(dir, counts ? COUNTS : DOES_NOT_COUNT, seed);
	explicit_bzero(seed, sizeof(seed));
	return r;
}

int stage_seed(void)
{
	int r;

	if (!sys.real)
		return 0;
	use_systemds();
	CLEANUP_FD int dir = stage_open_state();
	if (dir < 0) {
		log_error("cannot open %s: %s", STAGE_STATE, strerror(errno));
		return 1;
	}
	int failed = use(dir, DOES_NOT_COUNT, false) | use(dir, COUNTS, true);
	r = save(dir);
	if (r < 0)
		log_error("cannot write %s/%s: %s", STAGE_STATE, COUNTS, strerror(-r));
	return failed || r < 0;
}

void stage_save_seed(void)
{
	CLEANUP_FD int dir = stage_open_state();
	int r = dir < 0 ? -errno : save(dir);

	if (r < 0)
		log_warning("cannot keep a random seed in %s: %s", STAGE_STATE, strerror(-r));
}
