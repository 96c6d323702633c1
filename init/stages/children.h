/* SPDX-License-Identifier: MIT */
/* The stages of the boot that have a file of their own: their children's exit codes. Each can be
 * done again. */
#ifndef MOLT_INIT_STAGES_CHILDREN_H
#define MOLT_INIT_STAGES_CHILDREN_H

/* modules-load.d(5) and modules_load= of the command line, all by one modprobe(8). */
int stage_load_modules(void);
/* machine-id(5): one for a system that has none yet. */
int stage_set_machine_id(void);
/* sysctl.d(5) and /etc/sysctl.conf. */
int stage_set_sysctls(void);
/* fsck(8) where fstab(5) asks for it: the root alone, as long as it is read-only, then the others.
 */
int stage_check_root(void);
int stage_check_others(void);
int stage_swap_on(void);

#endif
