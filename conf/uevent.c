/* SPDX-License-Identifier: MIT */
#include "conf/uevent.h"

#include <string.h>

bool uevent_is_of_disk(const char *message, size_t length)
{
	static const char PROPERTY[] = "\0SUBSYSTEM=block"; /* and the NUL at its end */

	return memmem(message, length, PROPERTY, sizeof(PROPERTY)) != NULL;
}
