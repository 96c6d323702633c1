/* SPDX-License-Identifier: MIT */
/*
 * PID 1's own log: lines to /run/molt/init.log (a tmpfs, bounded by one rotation) and, when it is
 * the real init, to /dev/kmsg, so that they reach the console and dmesg. Neither sink blocks. While
 * held, lines are kept in memory (the last 64) and written afterwards: nothing is logged in a
 * blackout.
 */
#ifndef MOLT_KERNEL_LOG_H
#define MOLT_KERNEL_LOG_H

#include <stdbool.h>

#define LOG_PATH "/run/molt/init.log"

enum log_level {
	LEVEL_ERROR = 3,
	LEVEL_WARNING = 4,
	LEVEL_NOTICE = 5,
	LEVEL_INFO = 6,
	LEVEL_DEBUG = 7
};

/*
 * The kernel drops all but ten lines in five seconds of what is written there
 * (Documentation/admin-guide/kernel-parameters.txt, printk.devkmsg=): too few for a boot, and those
 * of a shutdown are nowhere else. Does nothing where that parameter says otherwise. Of the whole
 * machine: not for a container's PID 1.
 */
void log_lift_kmsg_limit(void);
void log_open_kmsg(void); /* from now on also to /dev/kmsg, if it can be opened */
void log_open_file(void); /* from now on also to LOG_PATH: once /run is there */
/* In a child that lives on beside PID 1: closes all descriptors above 2 but those of the log. */
void log_close_others(void);
void log_set_debug(bool on);
void log_hold(bool on); /* true: keep lines; false: write what was kept */

void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_line(LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LEVEL_WARNING, __VA_ARGS__)
#define log_notice(...) log_line(LEVEL_NOTICE, __VA_ARGS__)
#define log_info(...) log_line(LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LEVEL_DEBUG, __VA_ARGS__)

#endif
