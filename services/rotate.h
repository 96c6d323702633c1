/* SPDX-License-Identifier: MIT */
/*
 * Logs of running services are kept from growing without bound (LogMaxSize=). A service writes to
 * its file itself, so that nothing stands between it and the disk and nothing ends with PID 1's
 * helpers; so the file must stay the same one. A child copies what is in it to FILE.1 and cuts it
 * off at the front (FALLOC_FL_COLLAPSE_RANGE, ext4 and xfs: no byte is lost), or, where the file
 * system cannot do that, makes it empty: what is written between the last look and that moment,
 * some microseconds, is lost.
 */
#ifndef MOLT_SERVICES_ROTATE_H
#define MOLT_SERVICES_ROTATE_H

#include <stdint.h>

/* Begins to look at the logs every now and then. */
void rotate_begin(void);

/* For the child: moves what `path` has to PATH.1 if it is larger than max_bytes. 1: it was, 0: it
 * was not, or negative errno. */
int rotate_file(const char *path, uint64_t max_bytes);

#endif
