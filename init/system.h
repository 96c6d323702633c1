/* SPDX-License-Identifier: MIT */
/* What PID 1 knows of the system it runs, and which part of its life it is in. */
#ifndef MOLT_INIT_SYSTEM_H
#define MOLT_INIT_SYSTEM_H

#include <stdbool.h>
#include <stdint.h>

#include "conf/record.h"
#include "conf/system.h"
#include "kernel/error.h"

enum system_state { SYSTEM_BOOTING, SYSTEM_RUNNING, SYSTEM_STOPPING };

struct system {
	/* the machine's init; false: of a PID namespace, where there is nothing to reboot */
	bool real;
	enum system_state state;
	struct system_conf *conf;
	int cgroup; /* PID 1's own cgroup: directory */
	int tree; /* the one below it that holds everything else */
	char tree_path[256];
	int storage; /* the one beside it, for what backs a mount and must not freeze */
	char storage_path[256];
	/* CLOCK_MONOTONIC when the first life began; the initramfs before it; when the services
	 * were asked for. 0: there was none, or that has not happened. */
	uint64_t boot_usec, initramfs_usec, booted_usec;
	/* from the kernel command line */
	bool single, emergency, debug;
	bool reexec_wanted;
	unsigned crashes; /* of PID 1, since the boot */
	char last_crash[96]; /* "SIGSEGV at molt+0x1234"; "": none */
	uint64_t crash_loop_usec; /* molt.crash_loop=; USEC_INFINITY: init.conf says */
};

extern struct system sys;

/* Reads the kernel command line (real) or the arguments (namespace). */
void system_read_options(int argc, char *const *argv);
/* Finds out whether this is the machine's init, and takes Ctrl-Alt-Del. */
void system_find_kind(void);
/* Opens PID 1's cgroup and makes the tree; the cgroup file system must be mounted. */
int system_open_tree(struct error *e);
/* (Re)reads init.conf; a broken one leaves what was. */
int system_configure(struct error *e);
/* The configured values, to those who work by them. */
void system_spread_conf(void);

void system_save(struct record_writer *w);
void system_load(const struct record *r);

#endif
