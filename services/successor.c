/* SPDX-License-Identifier: MIT */
#include "services/successor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/proc.h"
#include "kernel/util.h"
#include "services/instance.h"

/* A daemon may try twice, or fork once more to become a daemon. */
#define GONE_USEC (500 * USEC_PER_MSEC)

bool successor_stands_on(pid_t pid, uint64_t mount_id)
{
	uint64_t id;

	if (!pid || proc_link_mount(pid, "exe", &id) < 0)
		return false;
	/* In a mount namespace of its own the image is another mount. */
	return id == mount_id || proc_runs_from_copy_of_root(pid);
}

/* proc_pid_task_children(5): numbers with a space after each. What does not fit is cut off. */
static ssize_t read_children(pid_t pid, char *text, size_t size)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid, (int)pid);
	return file_read(AT_FDCWD, path, text, size);
}

bool successor_has_children(pid_t pid)
{
	char text[256];
	ssize_t n = read_children(pid, text, sizeof(text));

	return n > 0 || n == -E2BIG;
}

pid_t successor_find(const struct service *s)
{
	pid_t pid;

	if (instance_read_pid_file(s->current, &pid) < 0 || pid == s->current->main.pid)
		return 0;
	return instance_owns(s->current, pid) && successor_stands_on(pid, s->roll.target) ? pid : 0;
}

static bool has_child_on_image(const struct service *s)
{
	char text[4096], *state = NULL;

	if (read_children(s->current->main.pid, text, sizeof(text)) <= 0)
		return false;
	for (char *word = strtok_r(text, " \n", &state); word; word = strtok_r(NULL, " \n", &state))
		if (successor_stands_on((pid_t)strtol(word, NULL, 10), s->roll.target))
			return true;
	return false;
}

/* nginx moves its PID file out of the way before it forks, and back if that came to nothing. */
static bool pid_file_is_away(const struct service *s)
{
	pid_t pid;

	return s->unit->pid_file &&
	       (instance_read_pid_file(s->current, &pid) < 0 || pid != s->current->main.pid);
}

bool successor_has_failed(struct service *s)
{
	struct roll *roll = &s->roll;
	pid_t main = s->current->main.pid;

	/* Without a main process, or with one that is there already, nothing is to be replaced. */
	if (!main || successor_stands_on(main, roll->target))
		return false;
	if (pid_file_is_away(s) || has_child_on_image(s)) {
		roll->successor_seen = true;
		roll->successor_gone_usec = 0;
		return false;
	}
	if (!roll->successor_seen)
		return false;
	if (roll->successor_gone_usec == 0)
		roll->successor_gone_usec = clock_usec();
	return clock_usec() >= usec_add(roll->successor_gone_usec, GONE_USEC);
}
