/* SPDX-License-Identifier: MIT */
/* Block devices that are made of others: what nothing is mounted from any more is taken apart, so
 * that what they lie on is closed too and can be unmounted. */
#ifndef MOLT_INIT_DETACH_H
#define MOLT_INIT_DETACH_H

/* One round: loop devices, device mapper (LVM, dm-crypt, dm-verity), md arrays. Those in use, such
 * as the root's own, stay as they are. How many have gone; what lies on one another takes several.
 */
unsigned detach_devices(void);

#endif
