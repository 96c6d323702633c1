/* SPDX-License-Identifier: MIT */
/*
 * The child that runs the hooks of one kind, one after the other, and tells PID 1 over a
 * SOCK_SEQPACKET socket: a record "hook" (id: its path) as each begins, "line" for what it prints,
 * "ended" as it ends, with `failure` unless all is well; and at last "done". It stops at the first
 * that fails.
 */
#ifndef MOLT_UPGRADE_HOOK_RUNNER_H
#define MOLT_UPGRADE_HOOK_RUNNER_H

#include "upgrade/hooks.h"

/* The child's whole life. `cgroup`: its own, below which each hook gets one. */
void hook_runner(const struct hooks_request *q, int cgroup, int socket) __attribute__((noreturn));

#endif
