/* SPDX-License-Identifier: MIT */
#include "upgrade/vault.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/close_apart.h"
#include "kernel/log.h"
#include "kernel/mounts.h"
#include "kernel/util.h"

#define RELEASE_TRIES 5

static int vault = -1;

/*
 * Below a shared /run it would appear in every namespace that shares it: so /run leaves its group
 * for that moment, and comes back by a copy that has stayed in it.
 */
static int mount_alone(int mount, int at)
{
	CLEANUP_FD int run = open("/run", O_PATH | O_DIRECTORY | O_CLOEXEC);
	CLEANUP_FD int keeper = run < 0 ? -1 : mount_copy(run, false);
	uint64_t id, parent;

	/* Where /run is no mount, or in no group, there is nothing to leave. */
	bool leave = keeper >= 0 && mount_id_of_fd(run, &id) == 0 &&
		     mount_id_of_fd(at, &parent) == 0 && id == parent &&
		     mount_set_propagation(run, MS_PRIVATE) == 0;
	int r = mount_move(mount, at);
	if (leave)
		(void)mount_join_groups(keeper, run);
	return r;
}

static int attach(int *ret_mount, struct error *e)
{
	CLEANUP_FD int mount = mount_new_tmpfs("molt-vault", "64k");
	CLEANUP_FD int at = open(VAULT_PATH, O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	if (mount < 0)
		return error_set(e, mount, "cannot make a tmpfs for %s", VAULT_PATH);
	if (at < 0)
		return error_set(e, errno, "cannot open %s", VAULT_PATH);
	int r = mount_alone(mount, at);
	if (r < 0)
		return error_set(e, r, "cannot mount on %s", VAULT_PATH);
	/* In case it has become shared itself: nothing may be moved out of a shared mount. */
	r = mount_set_propagation(mount, MS_PRIVATE);
	if (r < 0)
		return error_set(e, r, "cannot make %s private", VAULT_PATH);
	*ret_mount = fd_steal(&mount);
	return 0;
}

int vault_open(struct error *e)
{
	int inner = -1, cover = -1;

	if (vault >= 0)
		return 0;
	if (mkdir(VAULT_PATH, 0700) < 0 && errno != EEXIST)
		return error_set(e, errno, "cannot make %s", VAULT_PATH);
	int r = attach(&inner, e);
	if (r == 0)
		r = attach(&cover, e);
	if (r < 0) {
		(void)fd_close(inner);
		return r;
	}
	(void)fd_close(cover);
	vault = inner;
	return 0;
}

void vault_adopt(int fd)
{
	vault = fd;
}

int vault_fd(void)
{
	return vault;
}

/*
 * `mount --make-rshared /` reaches into the vault as well: what is put below a shared mount becomes
 * shared, cannot be moved away again and cannot become the root.
 */
static int stay_private(struct error *e)
{
	int r = mount_set_propagation(vault, MS_PRIVATE);

	return r < 0 ? error_set(e, r, "cannot make %s private", VAULT_PATH) : 0;
}

int vault_slot(unsigned generation, struct error *e)
{
	char name[16];
	int r = stay_private(e);

	if (r < 0)
		return r;
	(void)snprintf(name, sizeof(name), "%u", generation);
	if (mkdirat(vault, name, 0700) < 0 && errno != EEXIST)
		return error_set(e, errno, "cannot make a place for generation %u", generation);
	int fd = openat(vault, name, O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? error_set(e, errno, "cannot open the place of generation %u", generation)
		      : fd;
}

/* Another mount of each file system at a slot: as long as it is open none of them ends. */
static int copy_slot(const char *name)
{
	CLEANUP_FD int fd = openat(vault, name, O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	return fd < 0 ? -1 : mount_copy(fd, true);
}

static int detach_slot(const char *name)
{
	CLEANUP_FD int copy = copy_slot(name);
	int r = -EAGAIN;

	for (unsigned tries = 0; r < 0 && r != -EINVAL && r != -ENOENT && tries < RELEASE_TRIES;
		tries++)
		r = mount_detach_at(vault, name);
	/* Of an empty slot it is a copy of the vault itself. */
	if (r == 0)
		(void)fd_close_apart(fd_steal(&copy));
	return r;
}

int vault_release(unsigned generation, struct error *e)
{
	char name[16];

	(void)snprintf(name, sizeof(name), "%u", generation);
	int r = detach_slot(name);
	/* Nothing is mounted there, or there is no such place. */
	if (r < 0 && r != -EINVAL && r != -ENOENT)
		return error_set(e, r, "cannot unmount the root of generation %u", generation);
	if (unlinkat(vault, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		return error_set(e, errno, "cannot remove the place of generation %u", generation);
	return 0;
}

void vault_clear(unsigned kept)
{
	CLEANUP_FD int fd = vault < 0 ? -1 : openat(vault, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct error e;
	uint64_t generation;

	if (!dir)
		return;
	(void)fd_steal(&fd);
	for (struct dirent *entry; (entry = readdir(dir));)
		if (parse_u64(entry->d_name, &generation) && generation != kept &&
			vault_release((unsigned)generation, &e) < 0)
			log_warning("%s", e.text);
	(void)closedir(dir);
}
