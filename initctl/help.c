/* SPDX-License-Identifier: MIT */
#include "initctl/help.h"

#include <stdio.h>
#include <stdlib.h>

#include "initctl/memory.h"
#include "initctl/verbs.h"

struct option_help {
	enum verb_option option;
	const char *usage;
	const char *name;
	const char *help;
};

static const struct option_help option_helps[] = {
	{OPTION_FOLLOW, " [-f]", "-f, --follow", "log: go on with what is added"},
	{OPTION_LINES, " [-n LINES]", "-n, --lines=LINES",
		"log: how many of the last lines (20), or \"all\""},
	{OPTION_DRY_RUN, " [--dry-run]", "--dry-run",
		"upgrade: try all that can be tried without a change"},
	{OPTION_FORCE, " [--force]", "--force", "upgrade: in spite of what forbids it"},
	{OPTION_NO_AUTO_COMMIT, " [--no-auto-commit]", "--no-auto-commit",
		"upgrade: wait for `initctl commit`, and roll back if none comes"},
	{OPTION_COMMIT_WITHIN, " [--commit-within=SPAN]", "--commit-within=SPAN",
		"upgrade: the same, within a time such as 90 or 5min"},
	{OPTION_AUTO_COMMIT, " [--auto-commit]", "--auto-commit",
		"upgrade: commit by itself, whatever AutoCommit= says"},
	{OPTION_READ_ONLY, " [IMAGE OPTIONS]", "--read-only", "image: take it for reading only"},
	{OPTION_MOUNT_OPTIONS, "", "--mount-options=OPTS",
		"image: mount it so, instead of as MountOptions= says"},
	{OPTION_VERITY, "", "--verity-hash=DEV", "image, dm-verity: where its hashes are"},
	{OPTION_VERITY, "", "--root-hash=HASH",
		"image, dm-verity: the root hash, in hex or in a file"},
	{OPTION_VERITY, "", "--root-hash-sig=FILE",
		"image, dm-verity: the signature of the root hash"},
	{OPTION_JSON, " [--json]", "--json",
		"for programs: one document; of an upgrade, a line an event"},
};

#define N_OPTIONS (sizeof(option_helps) / sizeof(option_helps[0]))

static const struct {
	enum control_exit code;
	const char *help;
} exit_helps[] = {
	{CONTROL_EXIT_OK, "done"},
	{CONTROL_EXIT_FAILED, "tried, and it did not work"},
	{CONTROL_EXIT_USAGE, "the request makes no sense"},
	{CONTROL_EXIT_REFUSED, "the upgrade was refused, and everything is as it was"},
	{CONTROL_EXIT_ROLLED_BACK, "the upgrade was undone"},
	{CONTROL_EXIT_BUSY, "an upgrade or a shutdown is under way"},
	{CONTROL_EXIT_DENIED, "only root may"},
	{CONTROL_EXIT_NOT_FOUND, "there is no such service"},
	{CONTROL_EXIT_UNREACHABLE, "PID 1 cannot be reached, or went away before it answered"},
	{CONTROL_EXIT_INACTIVE, "status NAME: the service is not running"},
};

char *usage_of(const struct verb *v)
{
	char *text = format_text("usage: initctl %s", v->name);

	for (size_t i = 0; i < N_OPTIONS; i++) {
		if (!(v->options & (unsigned)option_helps[i].option))
			continue;
		char *longer = format_text("%s%s", text, option_helps[i].usage);
		free(text);
		text = longer;
	}
	char *whole = format_text("%s%s%s", text, *v->arguments ? " " : "", v->arguments);
	free(text);
	return whole;
}

static void print_options(unsigned options)
{
	for (size_t i = 0; i < N_OPTIONS; i++) {
		if (options & (unsigned)option_helps[i].option)
			(void)printf("  %-20s %s\n", option_helps[i].name, option_helps[i].help);
	}
}

void help_all(void)
{
	(void)puts("usage: initctl [VERB [OPTIONS] [ARGUMENTS]]\n\n"
		   "Speaks to molt, the PID 1 that swaps the root image under a running system.\n");
	for (const struct verb *v = verbs; v->name; v++) {
		char *call = format_text("%s %s", v->name, v->arguments);

		(void)printf("  %-20s %s\n", call, v->help);
		free(call);
	}
	/* Their arguments are their own: legacy.h. */
	(void)puts("  shutdown [TIME]      now or later: `initctl shutdown --help`\n"
		   "  telinit LETTER       for who is used to it: `initctl telinit --help`");
	(void)puts("\nNAME is that of a service, with or without \".service\". IMAGE is a "
		   "directory, a mount\n"
		   "point, a block device (or UUID=..., LABEL=...) or an image\n"
		   "file. Without a VERB it is status.\n");
	print_options(~0U);
	(void)puts("  -h, --help           this text, or that of one verb\n"
		   "  --version            the version of initctl\n\n"
		   "Exit codes:");
	for (size_t i = 0; i < sizeof(exit_helps) / sizeof(exit_helps[0]); i++)
		(void)printf("  %d  %s\n", (int)exit_helps[i].code, exit_helps[i].help);
}

void help_verb(const struct verb *v)
{
	char *usage = usage_of(v);

	(void)printf("%s\n\n  %s\n", usage, v->help);
	if (v->options) {
		(void)putchar('\n');
		print_options(v->options);
	}
	free(usage);
}

int complain_unknown_verb(const char *name)
{
	const char *nearest = verb_nearest(name);
	char *text = nearest ? format_text("no such verb: %s (did you mean %s?)", name, nearest)
			     : format_text("no such verb: %s (`initctl help` lists them)", name);

	complain(text);
	free(text);
	return CONTROL_EXIT_USAGE;
}

int run_help(const struct invocation *i)
{
	const struct verb *v = i->n_arguments > 0 ? verb_find(i->arguments[0]) : NULL;

	if (i->n_arguments > 0 && !v)
		return complain_unknown_verb(i->arguments[0]);
	if (v)
		help_verb(v);
	else
		help_all();
	return CONTROL_EXIT_OK;
}
