/* SPDX-License-Identifier: MIT */
/* A root shell on the console, for a person where the boot cannot go on, or was asked not to. */
#ifndef MOLT_INIT_RESCUE_H
#define MOLT_INIT_RESCUE_H

#include <stdbool.h>
#include <sys/types.h>

/* Starts it with a sentence on why, and notes it for a life after a crash as the child of step
 * `what`; `ended` is called once it has exited (or could not be started). */
void rescue_shell(const char *why, const char *what, void (*ended)(void));
/* One that a life before started; false: there is none to wait for. */
bool rescue_adopt(pid_t pid, void (*ended)(void));
pid_t rescue_pid(void); /* 0: none */

#endif
