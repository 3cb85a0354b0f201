/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A set of pages that goes out to swap and comes back: what the cases of
 * unshared copy-on-write have in common. One set is out at a time.
 */
#ifndef TWINBOOT_SWAPSET_H
#define TWINBOOT_SWAPSET_H

#include "guest.h"

#define SET_PAGES 960
#define SET_SALT 0x5a
#define SET_VALUE 0x1000000

extern uint64_t set_pfns[SET_PAGES];	/* as they were when the set went out */

struct counters {
	long long reuse, alloc, in;
};

struct counters counters_now(void);
/* What the write pass cost; an old or new kernel may lack pgreuse. */
void measure_since(struct counters before);
/* Kept by their page table, and kept (mapped or not) by the swap cache. */
void measure_kept(const char *set);
/* The proof that all came from the device since @before. */
void prove_swapped_in(struct counters before);

/* Filled and swapped out. */
char *swapped_set(void);
/* Swapped out, written, and still in the swap cache with their old PFNs. */
char *cached_set(void);
/* Swapped out and freed at once: the next access must read the device. */
char *freed_set(void);
/*
 * Swapped out to a device that leaves pages in the swap cache, and freed from
 * there: the next access must read the device through the swap cache.
 */
char *dropped_set(void);

/*
 * The set has been marked with SET_VALUE. The last write must also be what a
 * second trip through swap brings back: a stale slot may hide behind a swap
 * cache page until reclaim drops that.
 */
void judge_written(char *set);

#endif
