/* SPDX-License-Identifier: MIT */
/* All services there are: found by name, loaded from their files together with what they need,
 * ranked by their order. */
#ifndef MOLT_SERVICES_CATALOG_H
#define MOLT_SERVICES_CATALOG_H

#include "services/service.h"

struct service *catalog_first(void); /* then ->next; sorted by name */
struct service *catalog_find(const char *name); /* with or without ".service"; NULL */

/*
 * Loads NAME with all it Requires= and Wants=, and ranks anew. A wanted one that cannot be loaded
 * is left out with a warning; with a required one missing NAME itself is left out (and whatever
 * came in for its sake but needs it too). 0 or negative errno with text: nothing has changed then.
 */
int catalog_load(const char *name, struct service **ret, struct error *e);
/* Reads the files of a service again. A broken edit leaves it as it was. 0 or negative errno with
 * text. */
int catalog_reload(struct service *s, struct error *e);

/* For a service of a life before: loaded with no regard to what it needs; `bare`: even if its file
 * has gone or cannot be read. */
int catalog_adopt(const char *name, bool bare, struct service **ret, struct error *e);
/* After the last of them: what they need and their ranks. */
void catalog_complete(void);

#endif
