/* SPDX-License-Identifier: MIT */
/* A root shell on the console, for a person where the boot cannot go on, or was asked not to. */
#ifndef MOLT_INIT_RESCUE_H
#define MOLT_INIT_RESCUE_H

/* Starts it with a sentence on why; `ended` is called once it has exited (or could not be started).
 */
void rescue_shell(const char *why, void (*ended)(void));

#endif
