/* SPDX-License-Identifier: MIT */
/* What a single key cannot tell: whether the whole unit makes sense. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/specifier.h"
#include "conf/unit_internal.h"
#include "kernel/util.h"

struct check {
	struct unit *unit;
	unit_warn warn;
	void *userdata;
	struct error *error;
};

/* No line is to blame, so the message names the file. */
static int refuse(const struct check *c, const char *why)
{
	return error_say(c->error, -EINVAL, "%s: %s", c->unit->source, why);
}

static void warn(const struct check *c, const char *what)
{
	char text[512];

	if (!c->warn)
		return;
	(void)snprintf(text, sizeof(text), "%s: %s", c->unit->source, what);
	c->warn(c->userdata, text);
}

static void warn_of_sandbox(const struct check *c)
{
	char text[400] = "sandboxing is not supported, ignored:";
	size_t used = strlen(text), i = 0, count = strings_count(c->unit->sandbox);

	for (; i < count && used < sizeof(text) - 64; i++)
		used += (size_t)snprintf(
			text + used, sizeof(text) - used, " %s=", c->unit->sandbox[i]);
	if (i < count)
		(void)snprintf(text + used, sizeof(text) - used, " and %zu more", count - i);
	if (count > 0)
		warn(c, text);
}

static int check_commands(const struct check *c)
{
	const struct unit *u = c->unit;

	if (u->exec_start.count == 0) {
		bool can_do_without =
			u->type == SERVICE_ONESHOT && (u->exec_stop.count > 0 || u->n_listen > 0);
		if (!can_do_without)
			return refuse(c, "no ExecStart= (only Type=oneshot with ExecStop= or "
					 "Listen= can do without)");
	}
	if (u->exec_start.count > 1 && u->type != SERVICE_ONESHOT)
		return refuse(c, "more than one ExecStart=, which only Type=oneshot can have");
	return 0;
}

static int check_type(const struct check *c)
{
	const struct unit *u = c->unit;

	if (u->type == SERVICE_ONESHOT &&
		(u->restart == RESTART_ALWAYS || u->restart == RESTART_ON_SUCCESS))
		return refuse(c, "Restart=always and on-success would run Type=oneshot for ever");
	if (u->type == SERVICE_FORKING && !u->pid_file)
		warn(c, "Type=forking without PIDFile=: the main process has to be guessed");
	return 0;
}

static int check_upgrade(const struct check *c)
{
	const struct unit *u = c->unit;

	if (u->policy == POLICY_HANDOVER && u->n_listen == 0)
		return refuse(c, "Policy=handover hands over sockets, but [Socket] has no Listen=");
	if (u->prepare_timeout_usec != UNIT_PREPARE_TIMEOUT_USEC && !u->handshake)
		warn(c, "PrepareTimeoutSec= has no effect without Handshake=yes");
	if (u->policy != POLICY_REEXEC && u->reexec_signal)
		warn(c, "ReexecSignal= has no effect without Policy=reexec");
	if (!u->reexec_signal && u->reexec_finish_signal)
		warn(c, "ReexecFinishSignal= has no effect without ReexecSignal=");
	return 0;
}

/* systemd.exec(5): DynamicUser= without User= is a user of the service's own name. Without one at
 * all it would be root, which is the last that was meant. */
static int name_dynamic_user(struct unit *u)
{
	if (!u->dynamic_user || u->user)
		return 0;
	u->user = strndup(u->name, strlen(u->name) - strlen(".service"));
	return u->user ? 0 : -ENOMEM;
}

/* systemd.mount(5): the name of the unit is that of the place, "srv-data.mount". */
static int add_mount_unit(struct unit *u, const char *name)
{
	struct error e;
	char *instance, *path;

	if (asprintf(&instance, "@%s", name) < 0)
		return -ENOMEM;
	int r = specifiers_expand("/%I", instance, &path, &e);
	free(instance);
	if (r < 0)
		return r;
	r = strings_contain(u->mounts_for, path) ? 0 : strings_append(&u->mounts_for, path);
	free(path);
	return r;
}

static int add_mount_units(struct unit *u)
{
	int r = strings_ensure(&u->mounts_for);

	for (char **name = u->requires; r == 0 && *name; name++)
		if (ends_with(*name, ".mount"))
			r = add_mount_unit(u, *name);
	return r;
}

static int fill_in(struct unit *u)
{
	char ***const lists[] = {&u->after, &u->before, &u->requires, &u->wants, &u->environment,
		&u->environment_files, &u->groups};

	if (u->type == SERVICE_ONESHOT && !u->timeout_start_set)
		u->timeout_start_usec = UNIT_USEC_INFINITY;
	if (!u->description && !(u->description = strdup(u->name)))
		return -ENOMEM;
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		int r = strings_ensure(lists[i]);
		if (r < 0)
			return r;
	}
	int r = name_dynamic_user(u);
	return r < 0 ? r : add_mount_units(u);
}

int unit_finish(struct unit *u, unit_warn warning, void *userdata, struct error *e)
{
	struct check c = {.unit = u, .warn = warning, .userdata = userdata, .error = e};
	int r = fill_in(u);

	if (r < 0)
		return error_set(e, r, "cannot load %s", u->name);
	warn_of_sandbox(&c);
	r = check_commands(&c);
	if (r == 0)
		r = check_type(&c);
	if (r == 0)
		r = check_upgrade(&c);
	return r;
}
