/* SPDX-License-Identifier: MIT */
/* What was asked for on the command line, and the ways to carry it out. */
#ifndef MOLT_INITCTL_COMMAND_H
#define MOLT_INITCTL_COMMAND_H

#include "initctl/log.h"
#include "initctl/print.h"

enum verb_option {
	OPTION_JSON = 1 << 0,
	OPTION_FORCE = 1 << 1,
	OPTION_DRY_RUN = 1 << 2,
	OPTION_FOLLOW = 1 << 3,
	OPTION_LINES = 1 << 4,
	OPTION_READ_ONLY = 1 << 5,
	OPTION_MOUNT_OPTIONS = 1 << 6,
	OPTION_VERITY = 1 << 7, /* any of the three */
	OPTIONS_IMAGE = OPTION_READ_ONLY | OPTION_MOUNT_OPTIONS | OPTION_VERITY,
	OPTION_AUTO_COMMIT = 1 << 8,
	OPTION_NO_AUTO_COMMIT = 1 << 9,
	OPTION_COMMIT_WITHIN = 1 << 10,
	OPTIONS_COMMIT = OPTION_AUTO_COMMIT | OPTION_NO_AUTO_COMMIT | OPTION_COMMIT_WITHIN,
};

/* NULL: not given. The paths are absolute, and so is a root hash that is one. */
struct image_arguments {
	char *mount_options, *verity_hash, *root_hash, *root_hash_signature;
};

/* What the arguments of a verb are. */
enum subject {
	SUBJECT_NONE,
	SUBJECT_SERVICE,
	SUBJECT_LOG, /* a service, or "init": PID 1 itself */
	SUBJECT_IMAGE,
	SUBJECT_VERB,
};

struct invocation;

struct verb {
	const char *name;
	const char *arguments; /* as usage shows them */
	enum subject subject;
	int min_arguments, max_arguments;
	unsigned options; /* of enum verb_option: those it takes */
	int (*run)(const struct invocation *i);
	const struct renderer *renderer; /* of run_document() */
	const char *help;
};

struct invocation {
	const struct verb *verb;
	char **arguments; /* services as NAME.service, images as absolute paths */
	int n_arguments;
	unsigned options;
	long lines; /* of OPTION_LINES */
	struct image_arguments image; /* of OPTIONS_IMAGE */
	const char *within; /* of OPTION_COMMIT_WITHIN */
};

/* Each returns the exit code. */
int run_document(const struct invocation *i); /* ask once, show the whole answer */
int run_status(const struct invocation *i); /* the same; of one service the exit code tells too */
int run_services(const struct invocation *i); /* once for each service named */
int run_transaction(const struct invocation *i); /* show each record as it comes */
int run_log(const struct invocation *i);

/* "initctl: TEXT" on stderr, clean. */
void complain(const char *text);

#endif
