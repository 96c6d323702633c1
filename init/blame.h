/* SPDX-License-Identifier: MIT */
/* What the boot took its time for, as records for `initctl blame`: conf/protocol.h. */
#ifndef MOLT_INIT_BLAME_H
#define MOLT_INIT_BLAME_H

#include "init/control.h"

void blame_send(struct client *c);

#endif
