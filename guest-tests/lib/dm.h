/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Block devices whose I/O can be held for as long as a case wants: a suspended
 * device-mapper device parks what is submitted to it until it is resumed.
 *
 * All of it is undone at the case's end, also by signal: first every device is
 * resumed, so that nobody waits for I/O when children are killed.
 */
#ifndef TWINBOOT_DM_H
#define TWINBOOT_DM_H

#include "guest.h"

/*
 * A null_blk disk of @mib MiB that keeps its data in memory, with sectors of
 * 512 bytes; one per case. Returns "/dev/nullbN". Skips without null_blk.
 */
const char *null_disk(size_t mib);

/*
 * A linear target named @name (at most 31 characters) over all of @lower, one
 * per case. Returns its node "/dev/dm-N". Skips without device-mapper.
 */
const char *dm_linear(const char *name, const char *lower);
/* A descriptor of that node, closed at the end before the device is removed. */
int dm_open(const char *node, int flags);

/*
 * From now on I/O to the device named @name is parked, in flight and neither
 * failed nor flushed (noflush, nolockfs): "swap" is the delayed swap device,
 * others are the caller's own. A dm-delay that is suspended after a write was
 * submitted flushes it first. At most one device at a time.
 */
void dm_suspend(const char *name);
void dm_resume(const char *name);

#endif
