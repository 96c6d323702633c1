/* SPDX-License-Identifier: MIT */
/* initctl: asks PID 1 over its control socket, and prints for people or as JSON. */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "initctl/format.h"
#include "initctl/help.h"
#include "initctl/legacy.h"
#include "initctl/memory.h"
#include "initctl/verbs.h"

/* What is on the command line, before it is known which verb it is for. */
struct command_line {
	unsigned options;
	long lines;
	struct image_arguments image; /* as they were written */
	const char *within;
	bool help;
	bool version;
	const char *verb; /* NULL: none was said */
	char **arguments;
	int n_arguments;
};

static int __attribute__((format(printf, 1, 2))) usage_error(const char *format, ...)
{
	char *text = NULL;
	va_list ap;

	va_start(ap, format);
	if (vasprintf(&text, format, ap) < 0)
		text = NULL;
	va_end(ap);
	complain(text ? text : "wrong usage");
	free(text);
	return CONTROL_EXIT_USAGE;
}

static int parse_lines(const char *text, long *ret)
{
	char *end = NULL;

	if (strcmp(text, "all") == 0) {
		*ret = LOG_ALL;
		return 0;
	}
	errno = 0;
	long n = strtol(text, &end, 10);
	if (errno || end == text || *end || n < 0)
		return usage_error("not a number of lines: %s", text);
	*ret = n;
	return 0;
}

/* The option that getopt has just turned down, as it was written. */
static int complain_option(char **argv, bool wants_argument)
{
	const char *what = wants_argument ? "this option wants an argument" : "no such option";
	const char *word = argv[optind - 1];

	/* Of a bundle like -fx, getopt is still at the word, and only the letter is wrong. */
	if (optopt > 0 && optopt < 128 && strncmp(word, "--", 2) != 0)
		return usage_error("%s: -%c (`initctl help` lists them)", what, optopt);
	return usage_error("%s: %s (`initctl help` lists them)", what, word);
}

enum {
	VALUE_JSON = 256,
	VALUE_FORCE,
	VALUE_DRY_RUN,
	VALUE_READ_ONLY,
	VALUE_MOUNT_OPTIONS,
	VALUE_VERITY_HASH,
	VALUE_ROOT_HASH,
	VALUE_ROOT_HASH_SIGNATURE,
	VALUE_AUTO_COMMIT,
	VALUE_NO_AUTO_COMMIT,
	VALUE_COMMIT_WITHIN,
	VALUE_VERSION
};

static const struct option long_options[] = {
	{"json", no_argument, NULL, VALUE_JSON},
	{"force", no_argument, NULL, VALUE_FORCE},
	{"dry-run", no_argument, NULL, VALUE_DRY_RUN},
	{"read-only", no_argument, NULL, VALUE_READ_ONLY},
	{"mount-options", required_argument, NULL, VALUE_MOUNT_OPTIONS},
	{"verity-hash", required_argument, NULL, VALUE_VERITY_HASH},
	{"root-hash", required_argument, NULL, VALUE_ROOT_HASH},
	{"root-hash-sig", required_argument, NULL, VALUE_ROOT_HASH_SIGNATURE},
	{"auto-commit", no_argument, NULL, VALUE_AUTO_COMMIT},
	{"no-auto-commit", no_argument, NULL, VALUE_NO_AUTO_COMMIT},
	{"commit-within", required_argument, NULL, VALUE_COMMIT_WITHIN},
	{"follow", no_argument, NULL, 'f'},
	{"lines", required_argument, NULL, 'n'},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, VALUE_VERSION},
	{0},
};

/* Returns 0 or an exit code. */
static int take_option(int value, struct command_line *line, char **argv)
{
	switch (value) {
	case VALUE_JSON:
		line->options |= OPTION_JSON;
		return 0;
	case VALUE_FORCE:
		line->options |= OPTION_FORCE;
		return 0;
	case VALUE_DRY_RUN:
		line->options |= OPTION_DRY_RUN;
		return 0;
	case VALUE_READ_ONLY:
		line->options |= OPTION_READ_ONLY;
		return 0;
	case VALUE_MOUNT_OPTIONS:
		line->options |= OPTION_MOUNT_OPTIONS;
		line->image.mount_options = optarg;
		return 0;
	case VALUE_VERITY_HASH:
		line->options |= OPTION_VERITY;
		line->image.verity_hash = optarg;
		return 0;
	case VALUE_ROOT_HASH:
		line->options |= OPTION_VERITY;
		line->image.root_hash = optarg;
		return 0;
	case VALUE_ROOT_HASH_SIGNATURE:
		line->options |= OPTION_VERITY;
		line->image.root_hash_signature = optarg;
		return 0;
	case VALUE_AUTO_COMMIT:
		line->options |= OPTION_AUTO_COMMIT;
		return 0;
	case VALUE_NO_AUTO_COMMIT:
		line->options |= OPTION_NO_AUTO_COMMIT;
		return 0;
	case VALUE_COMMIT_WITHIN:
		line->options |= OPTION_COMMIT_WITHIN;
		line->within = optarg;
		return 0;
	case 'f':
		line->options |= OPTION_FOLLOW;
		return 0;
	case 'n':
		line->options |= OPTION_LINES;
		return parse_lines(optarg, &line->lines);
	case 'h':
		line->help = true;
		return 0;
	case VALUE_VERSION:
		line->version = true;
		return 0;
	default:
		return complain_option(argv, value == ':');
	}
}

static int read_command_line(int argc, char **argv, struct command_line *ret)
{
	struct command_line line = {0};
	int value;

	opterr = 0;
	while ((value = getopt_long(argc, argv, ":fn:h", long_options, NULL)) != -1) {
		int code = take_option(value, &line, argv);

		if (code != 0)
			return code;
	}
	if (optind < argc)
		line.verb = argv[optind++];
	line.arguments = argv + optind;
	line.n_arguments = argc - optind;
	*ret = line;
	return 0;
}

/* ---- arguments ---- */

/* "nginx" and "nginx.service" are the same service. */
static int full_service_name(const char *name, char **ret)
{
	if (!*name || *name == '.' || strchr(name, '/'))
		return usage_error("not the name of a service: \"%s\"", name);
	*ret = complete_service(name);
	return 0;
}

/* PID 1 stands in another directory. */
static int absolute_path(const char *path, char **ret)
{
	if (!*path)
		return usage_error("the path of the image is empty");
	if (strlen(path) >= PATH_MAX)
		return usage_error("a path of %zu bytes leads nowhere: %d are the most",
			strlen(path), PATH_MAX - 1);
	if (*path == '/') {
		*ret = copy_text(path);
		return 0;
	}
	char *here = getcwd(NULL, 0);
	if (!here) {
		complain("cannot tell which directory a relative path begins in; give an absolute "
			 "one");
		return CONTROL_EXIT_FAILED;
	}
	*ret = format_text("%s/%s", here, path);
	free(here);
	return 0;
}

static bool is_tag(const char *text)
{
	static const char *const TAGS[] = {CONTROL_IMAGE_TAGS};

	for (size_t i = 0; i < sizeof(TAGS) / sizeof(TAGS[0]); i++)
		if (strncmp(text, TAGS[i], strlen(TAGS[i])) == 0 && text[strlen(TAGS[i])] == '=')
			return true;
	return false;
}

static int complete_argument(enum subject subject, const char *argument, char **ret)
{
	switch (subject) {
	case SUBJECT_LOG:
		if (strcmp(argument, "init") == 0) {
			*ret = copy_text(argument);
			return 0;
		}
		return full_service_name(argument, ret);
	case SUBJECT_SERVICE:
		return full_service_name(argument, ret);
	case SUBJECT_IMAGE:
		/* UUID=..., LABEL=... and the like: PID 1 knows which device that is. */
		if (is_tag(argument)) {
			*ret = copy_text(argument);
			return 0;
		}
		return absolute_path(argument, ret);
	case SUBJECT_NONE:
	case SUBJECT_VERB:
		*ret = copy_text(argument);
		return 0;
	}
	return CONTROL_EXIT_USAGE;
}

static int complain_arguments(const struct verb *v, const char *what)
{
	char *usage = usage_of(v);

	(void)usage_error("%s: %s", v->name, what);
	(void)fprintf(stderr, "%s\n", usage);
	free(usage);
	return CONTROL_EXIT_USAGE;
}

static int check(const struct verb *v, const struct command_line *line)
{
	if (line->n_arguments < v->min_arguments)
		return complain_arguments(
			v, v->subject == SUBJECT_IMAGE ? "which image?" : "which service?");
	if (line->n_arguments > v->max_arguments)
		return complain_arguments(v, "too many arguments");
	if (line->options & ~v->options)
		return complain_arguments(v, "it takes no such option");
	if (line->options & OPTION_AUTO_COMMIT &&
		line->options & (OPTION_NO_AUTO_COMMIT | OPTION_COMMIT_WITHIN))
		return complain_arguments(v, "committed by itself, or not? One of both");
	return 0;
}

static int complete_path(const char *path, char **ret)
{
	return path ? absolute_path(path, ret) : 0;
}

/* A root hash with a slash in it is the file that has it. */
static int complete_image(const struct image_arguments *given, struct image_arguments *ret)
{
	const char *hash = given->root_hash;
	int code = complete_path(given->verity_hash, &ret->verity_hash);

	if (code == 0)
		code = complete_path(given->root_hash_signature, &ret->root_hash_signature);
	if (code == 0 && hash && strchr(hash, '/'))
		code = absolute_path(hash, &ret->root_hash);
	else if (hash)
		ret->root_hash = copy_text(hash);
	if (given->mount_options)
		ret->mount_options = copy_text(given->mount_options);
	return code;
}

static void free_image(struct image_arguments *a)
{
	free(a->mount_options);
	free(a->verity_hash);
	free(a->root_hash);
	free(a->root_hash_signature);
}

static int run(const struct verb *v, const struct command_line *line)
{
	struct invocation i = {
		.verb = v, .options = line->options, .lines = line->lines, .within = line->within};
	int code = check(v, line);

	if (code == 0)
		code = complete_image(&line->image, &i.image);
	i.arguments = allocate(((size_t)line->n_arguments + 1) * sizeof(*i.arguments));
	for (int n = 0; code == 0 && n < line->n_arguments; n++) {
		code = complete_argument(v->subject, line->arguments[n], &i.arguments[n]);
		i.n_arguments += code == 0;
	}
	if (code == 0)
		code = v->run(&i);
	for (int n = 0; n < i.n_arguments; n++)
		free(i.arguments[n]);
	free(i.arguments);
	free_image(&i.image);
	return code;
}

static int dispatch(const struct command_line *line)
{
	const struct verb *v = verb_find(line->verb ? line->verb : "status");

	if (line->version) {
		(void)printf("initctl %s\n", MOLT_VERSION);
		return CONTROL_EXIT_OK;
	}
	if (!v)
		return complain_unknown_verb(line->verb);
	if (!line->help)
		return run(v, line);
	if (line->verb)
		help_verb(v);
	else
		help_all();
	return CONTROL_EXIT_OK;
}

/* Whoever closed our output has read enough; any other loss of it is told. */
static int finish_output(int code)
{
	int r = output_flush();

	if (r == 0)
		return code;
	(void)usage_error("cannot write the output: %s", strerrordesc_np(-r));
	return code == CONTROL_EXIT_OK ? CONTROL_EXIT_FAILED : code;
}

int main(int argc, char **argv)
{
	struct command_line line;

	/* A closed pipe is an error of the write, not the end: of an upgrade the exit code counts.
	 */
	(void)signal(SIGPIPE, SIG_IGN);
	(void)terminal();
	int code;
	if (legacy_run(argc, argv, &code))
		return finish_output(code);
	code = read_command_line(argc, argv, &line);
	if (code == 0)
		code = dispatch(&line);
	return finish_output(code);
}
