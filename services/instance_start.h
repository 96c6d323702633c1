/* SPDX-License-Identifier: MIT */
/* The processes of an instance, from fork to exec and to their end; internal to the instance. */
#ifndef MOLT_SERVICES_INSTANCE_START_H
#define MOLT_SERVICES_INSTANCE_START_H

#include "services/service.h"

/* Of its main process: tells the service how the exec went, if that is not known yet, and then of
 * the end. */
void instance_main_exited(struct process *p, const struct process_exit *ended);
/* Nobody waits for the exec of its main process any more. */
void instance_close_exec_pipe(struct instance *i);

#endif
