/* SPDX-License-Identifier: MIT */
/* swapon(2) as fstab(5) asks for it. */
#ifndef MOLT_KERNEL_SWAP_H
#define MOLT_KERNEL_SWAP_H

/* The flags of swapon(2) for the options of a line of fstab (NULL: none): pri=, discard,
 * discard=once, discard=pages. What is none of these is left out, and so is a priority past 32767.
 */
int swap_flags(const char *options);

#endif
