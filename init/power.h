/* SPDX-License-Identifier: MIT */
/*
 * SIGPWR, by which a daemon that watches the power supply says that something has changed, and
 * /run/powerstatus or /etc/powerstatus, in which it says what, as to sysvinit: F, it fails; L, the
 * battery is low; O, it is back.
 */
#ifndef MOLT_INIT_POWER_H
#define MOLT_INIT_POWER_H

void power_changed(void);

#endif
