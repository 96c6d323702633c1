/* SPDX-License-Identifier: MIT */
/* The state of the system and its services as records for initctl. */
#ifndef MOLT_INIT_STATUS_H
#define MOLT_INIT_STATUS_H

#include "init/control.h"
#include "services/service.h"

void status_send_system(struct client *c);
/* The record of kind "attached", if there is a generation to go back to. */
void status_send_choice(struct client *c);
/* The record of kind "scheduled", if a shutdown is. */
void status_send_schedule(struct client *c);
void status_send_unit(struct client *c, const struct service *s);

#endif
