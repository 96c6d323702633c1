/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "kernel/util.h"
#include "upgrade/answer.h"
#include "upgrade/hook_list.h"
#include "upgrade/plan.h"

static void send_warning(void *userdata, const char *text)
{
	answer_text(*(const int *)userdata, "warning", text);
}

static void send_hook(int socket, const char *path, enum hook_kind kind)
{
	struct record_writer w = {0};

	record_begin(&w, "hook", path);
	record_text(&w, "phase", hook_kind_name(kind));
	record_end(&w);
	answer_send(socket, &w);
}

static int send_hooks(int socket, int root, enum hook_kind kind, struct error *e)
{
	struct hook_list list;
	int r = hook_list_read(&list, root, kind, send_warning, &socket, e);

	for (size_t i = 0; r == 0 && i < list.count; i++)
		send_hook(socket, list.paths[i], kind);
	hook_list_free(&list);
	return r;
}

int plan_hooks(int socket, int root, struct error *e)
{
	int r = send_hooks(socket, AT_FDCWD, HOOK_PRE_UPGRADE, e);

	if (r == 0)
		r = send_hooks(socket, root, HOOK_POST_PIVOT, e);
	return r < 0 ? r : send_hooks(socket, root, HOOK_COMMIT, e);
}
