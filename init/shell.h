/* SPDX-License-Identifier: MIT */
/* A root shell on the console, for when nothing else can be done. */
#ifndef MOLT_INIT_SHELL_H
#define MOLT_INIT_SHELL_H

/* The whole life of a child, in a session of its own. `text`: what the person is told. */
void shell_run(const char *console, const char *path, const char *text) __attribute__((noreturn));
/* The same, but sulogin(8) asks for root's password first, and runs `shell` then. Which consoles it
 * asks on it finds out itself, beginning with this one. */
void shell_run_login(const char *console, const char *sulogin, const char *shell, const char *text)
	__attribute__((noreturn));

#endif
