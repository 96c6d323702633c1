/* SPDX-License-Identifier: MIT */
#include "init/status.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "init/schedule.h"
#include "init/system.h"
#include "kernel/proc.h"
#include "kernel/util.h"
#include "services/instance.h"
#include "services/output.h"
#include "upgrade/image.h"
#include "upgrade/upgrade.h"

static const char *system_state_name(void)
{
	switch (sys.state) {
	case SYSTEM_BOOTING:
		return "booting";
	case SYSTEM_STOPPING:
		return "stopping";
	case SYSTEM_RUNNING:
		break;
	}
	return upgrade_state_name();
}

void status_send_choice(struct client *c)
{
	struct upgrade_choice choice = upgrade_choice();
	struct record_writer w = {0};
	uint64_t now = clock_usec();
	char id[16];

	if (!choice.attached)
		return;
	(void)snprintf(id, sizeof(id), "%u", choice.attached);
	record_begin(&w, "attached", id);
	record_bool(&w, "committed", choice.committed);
	if (choice.deadline_usec)
		record_int(&w, "left_usec",
			choice.deadline_usec > now ? (int64_t)(choice.deadline_usec - now) : 0);
	record_end(&w);
	control_send_record(c, &w);
}

void status_send_schedule(struct client *c)
{
	struct record_writer w = {0};

	if (schedule_describe(&w))
		control_send_record(c, &w);
}

void status_send_system(struct client *c)
{
	struct record_writer w = {0};
	struct utsname u;
	char image[256];

	image_name(AT_FDCWD, image, sizeof(image));
	record_begin(&w, "system", MOLT_VERSION);
	record_int(&w, "generation", upgrade_generation());
	record_text(&w, "state", system_state_name());
	record_text(&w, "image", image);
	record_int(&w, "up_usec", (int64_t)(clock_usec() - sys.boot_usec));
	record_int(&w, "rss_bytes", (int64_t)proc_rss(getpid()));
	record_text(&w, "kernel", uname(&u) == 0 ? u.release : NULL);
	record_int(&w, "init_pid", getpid());
	record_int(&w, "crashes", sys.crashes);
	record_text(&w, "last_crash", sys.last_crash[0] ? sys.last_crash : NULL);
	record_end(&w);
	control_send_record(c, &w);
}

static void write_usage(struct record_writer *w, const struct service *s)
{
	struct pid_array list = {0};
	uint64_t bytes = 0;

	if (!s->current || instance_pids(s->current, &list) < 0) {
		pid_array_free(&list);
		return;
	}
	for (size_t i = 0; i < list.count; i++)
		bytes += proc_rss(list.pids[i]);
	record_int(w, "memory_bytes", (int64_t)bytes);
	record_int(w, "tasks", (int64_t)list.count);
	pid_array_free(&list);
}

/* Whose code it runs: the image that its program was started from. */
static void write_generation(struct record_writer *w, pid_t pid)
{
	uint64_t mount_id;
	unsigned generation;

	if (proc_link_mount(pid, "exe", &mount_id) < 0)
		return;
	generation = upgrade_generation_of(mount_id);
	if (!generation && proc_runs_from_copy_of_root(pid))
		generation = upgrade_generation();
	if (generation)
		record_int(w, "exe_generation", generation);
}

void status_send_unit(struct client *c, const struct service *s)
{
	const struct unit *u = s->unit;
	struct record_writer w = {0};
	char log[600];

	output_find(log, sizeof(log), u->name);
	record_begin(&w, "unit", u->name);
	record_text(&w, "description", u->description);
	record_text(&w, "state", service_state_name(s->state));
	record_text(&w, "type", service_type_name(u->type));
	record_text(&w, "policy", upgrade_policy_name(u->policy));
	if (service_main_pid(s)) {
		record_int(&w, "main_pid", service_main_pid(s));
		write_generation(&w, service_main_pid(s));
	}
	record_int(&w, "state_usec", (int64_t)(clock_usec() - s->since_usec));
	record_int(&w, "restarts", s->n_restarts);
	record_text(&w, "status", s->status_text);
	if (s->status_errno)
		record_int(&w, "errno", s->status_errno);
	record_text(&w, "bus_error", s->bus_error[0] ? s->bus_error : NULL);
	if (s->exit_status >= 0)
		record_int(&w, "exit_status", s->exit_status);
	record_text(&w, "result", s->why[0] ? s->why : NULL);
	record_text(&w, "source", u->source);
	record_text(&w, "log", log);
	write_usage(&w, s);
	for (size_t i = 0; i < s->n_listen; i++)
		record_text(&w, "listen", s->listen[i].address);
	record_end(&w);
	control_send_record(c, &w);
}
