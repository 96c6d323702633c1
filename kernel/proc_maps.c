/* SPDX-License-Identifier: MIT */
#include "kernel/proc_maps.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "kernel/proc_lines.h"
#include "kernel/util.h"

/* A mapping may be split or merged between the line that tells of it and the look at it: then the
 * process is looked at again. */
#define PASSES_MAX 3
/* Distinct files remembered of one process; a power of two. Who maps more has some told twice. */
#define SEEN_MAX 4096

struct maps_job {
	pid_t pid;
	proc_map_visit visit;
	void *userdata;
	bool missed;
	size_t n_seen;
};

/* Static: one thread, no recursion. */
static uint64_t seen[SEEN_MAX];

int proc_map_parse(char *line, struct proc_map *ret)
{
	struct proc_map m = {0};
	char perms[5];
	unsigned major, minor;
	int path = 0;

	/* start-end perms offset major:minor inode path */
	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %*x %x:%x %" SCNu64 " %n", &m.start, &m.end,
		    perms, &major, &minor, &m.ino, &path) != 6 ||
		path == 0 || strlen(perms) != 4)
		return -EBADMSG;
	m.writable = perms[1] == 'w';
	m.shared = perms[3] == 's';
	m.dev = (uint64_t)major << 32 | minor;
	m.path = line + path;
	*ret = m;
	return m.ino != 0 && m.path[0] == '/';
}

static uint64_t mix(uint64_t hash, const void *data, size_t size)
{
	const unsigned char *bytes = data;

	for (size_t i = 0; i < size; i++)
		hash = (hash ^ bytes[i]) * 0x100000001b3; /* FNV-1a */
	return hash;
}

static uint64_t key_of(const struct proc_map *m)
{
	uint64_t hash = 0xcbf29ce484222325;

	hash = mix(hash, &m->dev, sizeof(m->dev));
	hash = mix(hash, &m->ino, sizeof(m->ino));
	hash = mix(hash, m->path, strlen(m->path));
	hash = mix(hash, &m->shared, sizeof(m->shared));
	hash = mix(hash, &m->writable, sizeof(m->writable));
	return hash ? hash : 1;
}

/* Where it is or would be; NULL: it is in no place, and none is left. */
static uint64_t *place_of(const struct maps_job *job, uint64_t key)
{
	for (size_t i = 0; i < SEEN_MAX; i++) {
		uint64_t *place = &seen[(key + i) % SEEN_MAX];
		if (*place == key)
			return place;
		if (!*place)
			return job->n_seen < SEEN_MAX / 2 ? place : NULL;
	}
	return NULL;
}

static int look_at(pid_t pid, struct proc_map *m)
{
	char path[96];
	struct statx st;
	struct stat link;

	(void)snprintf(path, sizeof(path), "/proc/%d/map_files/%" PRIx64 "-%" PRIx64, (int)pid,
		m->start, m->end);
	if (statx(AT_FDCWD, path, AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC, STATX_MNT_ID, &st) < 0)
		return -errno;
	m->mount_id = st.stx_mnt_id;
	/* The permissions of the link are those that the file was opened with (fs/proc/base.c,
	 * proc_map_files_instantiate()). */
	if (lstat(path, &link) == 0)
		m->file_writable = link.st_mode & S_IWUSR;
	return 0;
}

static int visit_line(char *line, void *userdata)
{
	struct maps_job *job = userdata;
	struct proc_map m;

	if (proc_map_parse(line, &m) != 1)
		return 0;
	uint64_t key = key_of(&m);
	uint64_t *place = place_of(job, key);
	if (place && *place == key)
		return 0;
	int r = look_at(job->pid, &m);
	if (r == -ENOENT) {
		job->missed = true;
		return 0;
	}
	if (r < 0)
		return r;
	if (place) {
		*place = key;
		job->n_seen++;
	}
	return job->visit(&m, job->userdata);
}

int proc_maps(pid_t pid, proc_map_visit visit, void *userdata)
{
	struct maps_job job = {.pid = pid, .visit = visit, .userdata = userdata};
	char path[32];
	int r = 0;

	(void)snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	memset(seen, 0, sizeof(seen));
	for (unsigned pass = 0; r == 0 && pass < PASSES_MAX; pass++) {
		job.missed = false;
		r = proc_lines(path, visit_line, &job);
		if (!job.missed)
			break;
	}
	return r;
}
