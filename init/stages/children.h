/* SPDX-License-Identifier: MIT */
/* The stages of the boot that have a file of their own: their children's exit codes. Each can be
 * done again. */
#ifndef MOLT_INIT_STAGES_CHILDREN_H
#define MOLT_INIT_STAGES_CHILDREN_H

/* modules-load.d(5) and modules_load= of the command line, all by one modprobe(8). */
int stage_load_modules(void);
/* The nodes of modules that are loaded when these are opened. */
int stage_make_nodes(void);
/* machine-id(5): one for a system that has none yet. */
int stage_set_machine_id(void);
/* sysctl.d(5) and /etc/sysctl.conf. */
int stage_set_sysctls(void);
/* fsck(8) where fstab(5) asks for it: the root alone, as long as it is read-only, then the others.
 */
int stage_check_root(void);
int stage_check_others(void);
int stage_swap_on(void);
/* No stage: the device of a line whose turn has come later. 0, or 1: it is not to be mounted. */
int stage_check_late(const char *device);
/* The kernel's clock: in the zone that the hardware's has, and not before this init was built;
 * then, where /var is mounted, not before the last shutdown. */
int stage_set_clock(void);
int stage_advance_clock(void);
/* The random seed that the last shutdown has left. */
int stage_seed(void);
/* sysusers.d(5) and tmpfiles.d(5), where the image has systemd's tools for them. */
int stage_make_users(void);
int stage_make_files(void);

/* What the stages of the next boot need, while /var is mounted still: for the child of the shutdown
 * that unmounts. */
void stage_save_clock(void);
void stage_save_seed(void);

#define STAGE_STATE "/var/lib/molt"
/* A descriptor of that directory, which is made if it is not there; -1 and errno. */
int stage_open_state(void);

#endif
