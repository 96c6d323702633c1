/* SPDX-License-Identifier: MIT */
/* What a message of sd_notify(3) does to its service. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/log.h"
#include "kernel/util.h"
#include "services/fdstore.h"
#include "services/instance.h"
#include "services/life.h"
#include "services/message.h"
#include "services/policy.h"
#include "services/watchdog.h"

#define STATUS_MAX 200

/* Whose word counts */

static bool is_allowed(const struct service *s, const struct instance *i, pid_t sender)
{
	switch (s->notify_access) {
	case NOTIFY_ALL:
		return true;
	case NOTIFY_EXEC:
		return sender == i->main.pid || (i == s->current && sender == s->control.pid);
	case NOTIFY_MAIN:
		return sender == i->main.pid;
	case NOTIFY_NONE:
		/* systemd.service(5): a Type= that needs the message implies at least "main". */
		return service_type_notifies(s->unit->type) && sender == i->main.pid;
	}
	return false;
}

static void set_access(struct service *s, const char *text)
{
	static const char *const names[] = {[NOTIFY_ALL] = "all",
		[NOTIFY_NONE] = "none",
		[NOTIFY_MAIN] = "main",
		[NOTIFY_EXEC] = "exec"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (strcmp(names[i], text) == 0) {
			s->notify_access = (enum notify_access)i;
			return;
		}
	}
	log_warning("%s: NOTIFYACCESS= of a value that is none: ignored", s->unit->name);
}

/* The main process */

static void take_main_pid(struct service *s, struct instance *i, pid_t pid)
{
	int r = instance_set_main(i, pid);

	if (r < 0)
		log_warning("%s: cannot take MAINPID=%d: %s", s->unit->name, (int)pid,
			r == -EPERM ? "it is not a process of this service" : strerror(-r));
}

static void set_main_pid(struct service *s, struct instance *i, const char *value)
{
	pid_t pid;

	if (parse_pid(value, &pid))
		take_main_pid(s, i, pid);
	else
		log_warning("%s: MAINPID= is no process id", s->unit->name);
}

/* Which process a pidfd is of: proc_pid_fdinfo(5). 0: of none, or it is no pidfd. */
static pid_t pid_of(int pidfd)
{
	char path[48], text[512];
	pid_t pid;

	(void)snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", pidfd);
	if (file_read(AT_FDCWD, path, text, sizeof(text)) <= 0)
		return 0;
	char *line = strstr(text, "\nPid:\t");
	if (!line)
		return 0;
	line += strlen("\nPid:\t");
	line[strcspn(line, "\n")] = '\0';
	return parse_pid(line, &pid) ? pid : 0;
}

static void set_main_pidfd(struct service *s, struct instance *i, const int *fds, size_t n)
{
	pid_t pid = n == 1 ? pid_of(fds[0]) : 0;

	if (pid)
		take_main_pid(s, i, pid);
	else
		log_warning("%s: MAINPIDFD=1 without the one pidfd it is about", s->unit->name);
}

/* Descriptors */

static void store(struct service *s, const struct notification *n, int *fds, size_t n_fds)
{
	const char *name = n->fd_name ? n->fd_name : "stored";

	for (size_t i = 0; i < n_fds; i++) {
		int r = fdstore_add(s, name, !n->fd_no_poll, fds[i]);
		fds[i] = -1;
		if (r == -ENOSPC)
			log_warning(
				"%s: a descriptor more than FileDescriptorStoreMax=%u: not stored",
				s->unit->name, s->unit->fd_store_max);
		else if (r == -EINVAL)
			log_warning("%s: FDNAME= is no name for a descriptor: not stored",
				s->unit->name);
		else if (r < 0)
			log_warning(
				"%s: cannot store a descriptor: %s", s->unit->name, strerror(-r));
	}
}

/* Times */

static bool has_deadline(const struct service *s)
{
	return s->state == STATE_PRE || s->state == STATE_STARTING || s->state == STATE_POST ||
	       s->state == STATE_RELOADING || s->state == STATE_STOPPING ||
	       s->state == STATE_TERMINATING || s->state == STATE_CLEANUP;
}

static void extend(struct service *s, const struct instance *i, const char *text)
{
	uint64_t usec;

	if (!parse_u64(text, &usec))
		return;
	if (i == s->current && has_deadline(s) && timer_armed(&s->timer) &&
		s->timer.deadline_usec < deadline_in(usec))
		timer_set(&s->timer, deadline_in(usec));
	if (s->roll.state == ROLL_ASKED && s->roll.deadline_usec < deadline_in(usec))
		s->roll.deadline_usec = deadline_in(usec);
}

static void set_watchdog(struct service *s, const char *text)
{
	uint64_t usec;

	if (parse_u64(text, &usec))
		watchdog_set(s, usec);
	else
		log_warning("%s: WATCHDOG_USEC= is no number", s->unit->name);
}

/* Words for people */

static void set_status(struct service *s, const char *text)
{
	char *copy = strndup(text, STATUS_MAX);

	if (!copy)
		return; /* an old status is better than none */
	free(s->status_text);
	s->status_text = copy;
}

static void set_errno(struct service *s, const char *text)
{
	uint64_t number;

	s->status_errno = parse_u64(text, &number) && number <= 4095 ? (int)number : 0;
}

static void set_bus_error(struct service *s, const char *text)
{
	message_sanitize(text, strlen(text), s->bus_error, sizeof(s->bus_error));
}

static void set_exit_status(struct service *s, const char *text)
{
	uint64_t number;

	if (parse_u64(text, &number) && number <= 255)
		s->exit_status = (int)number;
	else
		log_warning("%s: EXIT_STATUS= is no number from 0 to 255", s->unit->name);
}

/* States */

/* systemd.service(5), Type=notify-reload: a message from before the signal is not its answer. */
static bool answers_reload(const struct service *s, const struct notification *n)
{
	uint64_t usec;

	if (s->reload != RELOAD_ASKED)
		return true;
	return n->monotonic_usec && parse_u64(n->monotonic_usec, &usec) &&
	       usec >= s->reload_asked_usec;
}

static void change_state(struct service *s, struct instance *i, const struct notification *n)
{
	if (n->stopping) {
		log_debug("%s: says that it is stopping", s->unit->name);
		return;
	}
	if (n->ready)
		policy_ready(s, i);
	if (i != s->current)
		return;
	if (n->ready)
		service_event(s, EVENT_READY);
	else if (n->reloading && answers_reload(s, n))
		service_event(s, EVENT_RELOADING);
}

static void hear_watchdog(struct service *s, const struct notification *n)
{
	if (n->watchdog)
		watchdog_rearm(s);
	if (n->watchdog_usec)
		set_watchdog(s, n->watchdog_usec);
	if (n->watchdog_trigger)
		service_event(s, EVENT_WATCHDOG);
}

void service_notify(struct service *s, unsigned instance, pid_t sender,
	const struct notification *n, int *fds, size_t n_fds)
{
	struct instance *i = s->incoming && s->incoming->number == instance ? s->incoming
			     : s->current && s->current->number == instance ? s->current
									    : NULL;

	if (!i)
		return; /* the one that drains has nothing to say any more */
	if (!is_allowed(s, i, sender)) {
		log_debug("%s: a message of its process %d, which NotifyAccess= does not let speak",
			s->unit->name, (int)sender);
		return;
	}
	/* First what must have happened when it counts as ready. */
	if (n->main_pidfd)
		set_main_pidfd(s, i, fds, n_fds);
	else if (n->main_pid)
		set_main_pid(s, i, n->main_pid);
	if (n->fd_store_remove && n->fd_name)
		fdstore_remove(s, n->fd_name);
	else if (n->fd_store)
		store(s, n, fds, n_fds);
	if (n->status)
		set_status(s, n->status);
	if (n->error_number)
		set_errno(s, n->error_number);
	if (n->bus_error)
		set_bus_error(s, n->bus_error);
	if (n->exit_status)
		set_exit_status(s, n->exit_status);
	if (n->notify_access)
		set_access(s, n->notify_access);
	if (n->extend_timeout_usec)
		extend(s, i, n->extend_timeout_usec);
	change_state(s, i, n);
	/* The new state may have ended the instance. */
	if (i == s->current)
		hear_watchdog(s, n);
}
