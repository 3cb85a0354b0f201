/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Huge pages of 64 KiB, which kernels have from 6.8 on: mapped by page table
 * entries of base pages, in one folio. What becomes of them is the cases' business.
 */
#ifndef TWINBOOT_MTHP_H
#define TWINBOOT_MTHP_H

#include "guest.h"

#define MTHP_PAGES 16UL

/*
 * Memory that gets huge pages of 64 KiB, of no other size, when it is written;
 * at most 31, or one of 2 MiB would fit. Skips on a kernel without them.
 */
void *map_mthp(size_t folios);
/* How many of them are there as a whole: one folio, mapped from its head on. */
size_t count_whole(const void *addr, size_t folios);
/* A counter of that size ("swpout"); -1: this kernel has none. */
long long mthp_stat(const char *name);

#endif
