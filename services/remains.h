/* SPDX-License-Identifier: MIT */
/*
 * Cgroups of instances that are over, with a process in them that is not: KillMode=process leaves
 * it, or it does not even end on SIGKILL. Each goes when the last process in it has. Nobody writes
 * them down: the next life finds them again (instance_sweep()).
 */
#ifndef MOLT_SERVICES_REMAINS_H
#define MOLT_SERVICES_REMAINS_H

/* `name` below `base`, which stays open. One that is watched already, or one too many, is left to
 * the next start of its service. */
void remains_watch(int base, const char *name);

#endif
