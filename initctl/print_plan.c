/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "initctl/format.h"
#include "initctl/memory.h"
#include "initctl/print.h"
#include "initctl/table.h"

/* "squashfs file, read-only, with dm-verity, on /dev/dm-0" */
static void print_image(const struct record *plan)
{
	const char *device = field(plan, "device");

	if (!*field(plan, "image"))
		return; /* an older PID 1 */
	char *text = format_text("%s %s, %s%s%s%s", field(plan, "fstype"), field(plan, "image"),
		strcmp(field(plan, "mode"), "ro") == 0 ? "read-only" : "to be written to",
		record_get_bool(plan, "verity", false) ? ", with dm-verity" : "",
		*device && strcmp(device, plan->id) != 0 ? ", on " : "",
		strcmp(device, plan->id) != 0 ? device : "");
	print_paragraph(8, "  image ", COLOUR_NONE, text);
	free(text);
}

static void print_head(const struct answer *a)
{
	const struct record *plan = answer_find(a, "plan");

	if (!plan)
		return;
	char *head =
		format_text("Upgrade to generation %s: %s", field(plan, "generation"), plan->id);
	print_paragraph(0, "", COLOUR_BOLD, head);
	print_paragraph(8, "  from  ", COLOUR_NONE, field(plan, "from"));
	print_paragraph(8, "  to    ", COLOUR_NONE, field(plan, "to"));
	print_image(plan);
	free(head);
}

/* All mount points with that action in one paragraph: there are many, and they are dull. */
static void print_mounts(const struct record **mounts, const char *action, const char *label)
{
	char *paths = copy_text("");

	for (const struct record **m = mounts; *m; m++) {
		if (strcmp(field(*m, "action"), action) != 0)
			continue;
		const char *to = record_get(*m, "to");
		char *longer = to ? format_text("%s %s (to %s)", paths, (*m)->id, to)
				  : format_text("%s %s", paths, (*m)->id);
		free(paths);
		paths = longer;
	}
	if (*paths)
		print_paragraph(strlen(label), label, COLOUR_NONE, paths);
	free(paths);
}

static void print_all_mounts(const struct answer *a)
{
	size_t n;
	const struct record **mounts = answer_select(a, "mount", &n);

	if (n > 0) {
		print_heading("Mounts");
		print_mounts(mounts, "move", "  move  ");
		print_mounts(mounts, "make", "  make  ");
		print_mounts(mounts, "leave", "  leave ");
	}
	free(mounts);
}

/* "of process 812 (bash)", or what keeps one that nobody is in. */
static char *describe_namespace(const struct record *r)
{
	const char *fd = field(r, "fd"), *path = field(r, "path");

	if (*path)
		return format_text("that is mounted at %s", path);
	if (*fd)
		return format_text("that process %s (%s) has a descriptor of (fd %s)", r->id,
			field(r, "comm"), fd);
	return format_text("of process %s (%s)", r->id, field(r, "comm"));
}

static void print_namespaces(const struct answer *a)
{
	size_t n;
	const struct record **list = answer_select(a, "namespace", &n);

	if (n > 0)
		print_heading("Mount namespaces");
	for (size_t i = 0; i < n; i++) {
		const char *action = field(list[i], "action");
		bool cannot = strcmp(action, "cannot") == 0;
		char *which = describe_namespace(list[i]);
		char *text =
			format_text("%s%s%s", which, cannot ? ": stays on the running image: " : "",
				cannot ? field(list[i], "why") : "");
		print_paragraph(9,
			cannot                        ? "  stays  "
			: strcmp(action, "swap") == 0 ? "  swap   "
						      : "  leave  ",
			cannot ? COLOUR_YELLOW : COLOUR_NONE, text);
		free(text);
		free(which);
	}
	free(list);
}

/* What is to be done first, what is not last. */
static void print_carried(const struct answer *a)
{
	static const struct {
		const char *action, *label;
	} kinds[] = {{"copy", "  copied       "}, {"bind", "  mounted over "},
		{"same", "  there already"}, {"stays", "  on a mount   "},
		{"missing", "  not here     "}};
	size_t n;
	const struct record **files = answer_select(a, "carry", &n);

	if (n > 0)
		print_heading("Files carried over");
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		print_mounts(files, kinds[i].action, kinds[i].label);
	free(files);
}

static const struct column service_columns[] = {
	{.title = "SERVICE", .cut = true},
	{.title = "POLICY"},
	{.title = "WHAT HAPPENS", .cut = true},
	{0},
};

static void print_services(const struct answer *a)
{
	size_t n;
	const struct record **services = answer_select(a, "service", &n);
	struct table *t = table_new(service_columns, 2);

	for (size_t i = 0; i < n; i++) {
		const char *policy = field(services[i], "policy");

		table_owned(t, COLOUR_NONE, format_service(services[i]->id));
		table_cell(t, strcmp(policy, "keep") == 0 ? COLOUR_YELLOW : COLOUR_NONE, policy);
		table_cell(t, COLOUR_NONE, field(services[i], "action"));
	}
	if (n > 0) {
		print_heading("Services, in this order");
		table_print(t);
	}
	table_free(t);
	free(services);
}

static void print_holders(const struct answer *a)
{
	if (!answer_find(a, "holder"))
		return;
	print_heading("What refers to the running image");
	print_holder_table(a);
}

static void print_hooks(const struct answer *a)
{
	size_t n;
	const struct record **hooks = answer_select(a, "hook", &n);

	if (n > 0)
		print_heading("Which hooks run");
	for (size_t i = 0; i < n; i++) {
		char *text = format_text("%-12s %s", field(hooks[i], "phase"), hooks[i]->id);

		print_paragraph(2, "", COLOUR_NONE, text);
		free(text);
	}
	free(hooks);
}

static void print_blockers(const struct answer *a)
{
	size_t n;
	const struct record **blockers = answer_select(a, "blocker", &n);

	if (n > 0)
		print_heading("What forbids it");
	for (size_t i = 0; i < n; i++)
		print_paragraph(4, "  - ", COLOUR_RED, field(blockers[i], "text"));
	free(blockers);
}

/* The sentence that says what to do now. */
static void print_conclusion(const struct answer *a, size_t n_blockers)
{
	const struct record *plan = answer_find(a, "plan");
	const char *path = plan ? plan->id : "/new";
	char *text;

	if (n_blockers > 0)
		text = format_text("%s above forbid%s the upgrade. Remove %s, or `initctl upgrade"
				   " --force %s` says yes to %s.",
			n_blockers == 1 ? "One thing" : "The things", n_blockers == 1 ? "s" : "",
			n_blockers == 1 ? "it" : "them", path, n_blockers == 1 ? "it" : "them");
	else
		text = format_text(
			"Nothing forbids it: `initctl upgrade %s` carries it out.", path);
	print_paragraph(0, "", n_blockers > 0 ? COLOUR_NONE : COLOUR_GREEN, text);
	free(text);
}

bool plan_is_refused(const struct answer *a)
{
	return a->result.exit == CONTROL_EXIT_REFUSED && answer_find(a, "blocker");
}

void print_plan_body(const struct answer *a)
{
	print_head(a);
	print_all_mounts(a);
	print_namespaces(a);
	print_carried(a);
	print_services(a);
	print_hooks(a);
	print_holders(a);
	print_skew(a);
	print_blockers(a);
	if (answer_find(a, "warning"))
		(void)putchar('\n');
	print_warnings(a);
}

static void plan_people(const struct answer *a)
{
	size_t n_blockers;

	if (a->result.exit == CONTROL_EXIT_OK && !answer_find(a, "plan")) {
		print_paragraph(0, "", COLOUR_GREEN, a->result.text); /* there already */
		return;
	}
	free(answer_select(a, "blocker", &n_blockers));
	print_plan_body(a);
	if (a->result.exit != CONTROL_EXIT_OK && !plan_is_refused(a))
		return; /* what went wrong is said on stderr */
	(void)putchar('\n');
	print_holder_advice(a, true);
	print_conclusion(a, n_blockers);
}

static void plan_json(struct json *j, const struct answer *a)
{
	json_first_record(j, "plan", a, "plan");
	json_records(j, "mounts", a, "mount");
	json_records(j, "namespaces", a, "namespace");
	json_records(j, "carried", a, "carry");
	json_records(j, "services", a, "service");
	json_records(j, "hooks", a, "hook");
	json_records(j, "holders", a, "holder");
	json_records(j, "skew", a, "skew");
	json_texts(j, "blockers", a, "blocker");
	json_texts(j, "warnings", a, "warning");
}

const struct renderer render_plan = {plan_people, plan_json};
