/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Pages caught while the kernel writes them to a delayed swap device: what
 * the writeback and the stable-writes cases share.  It observes and waits;
 * what is right or wrong is the cases' business.
 */
#ifndef TWINBOOT_INFLIGHT_H
#define TWINBOOT_INFLIGHT_H

#include <string.h>

#include "guest.h"

/* Few enough that all of them are rewritten well within the device's delay */
#define FLIGHT_PAGES 96
#define FLIGHT_HALF (FLIGHT_PAGES / 2)

struct flight {
	bool undrained;			/* leave pages in the per-CPU vectors */
	unsigned char *base;
	uint64_t pfn[FLIGHT_PAGES];	/* frames that the device reads from */
	uint64_t slot[FLIGHT_PAGES];	/* where they go on the device */
};

/* What the pages held when they left, and what they have to hold now. */
static unsigned char flight_left[FLIGHT_PAGES][PAGE_SIZE];
static unsigned char flight_model[FLIGHT_PAGES][PAGE_SIZE];

static inline unsigned char *flight_page(const struct flight *f, size_t i)
{
	return f->base + i * PAGE_SIZE;
}

/*
 * Writes one word in each of pages [from, from + n), and each letter another
 * word: a lost write is not hidden by a later one, nor is a page that a copy
 * took from somewhere else.
 */
static inline void flight_write(struct flight *f, size_t from, size_t n, char letter)
{
	size_t at = (size_t)(letter - 'A') * 64 % PAGE_SIZE;

	for (size_t i = from; i < from + n; i++) {
		uint64_t word = (uint64_t)letter << 56 | i;

		memcpy(flight_page(f, i) + at, &word, sizeof(word));
		memcpy(flight_model[i] + at, &word, sizeof(word));
	}
}

/* Pages that do not hold what was written; reads, so it swaps in. */
static inline size_t flight_wrong(const struct flight *f)
{
	size_t wrong = 0;

	for (size_t i = 0; i < FLIGHT_PAGES; i++)
		wrong += !!memcmp(flight_page(f, i), flight_model[i], PAGE_SIZE);
	return wrong;
}

/*
 * Reclaim puts what it keeps back through the per-CPU vectors, and the end of
 * writeback moves pages through those of whichever CPU it ran on. The last few
 * stay there, with a reference more than the others.
 */
static inline void flight_drain(const struct flight *f)
{
	if (!f->undrained)
		drain_all();
}

static inline bool flag_off_lru(uint64_t flags)
{
	return !flag_lru(flags);
}

/* How many frames reclaim left in a vector: those are not on the LRU yet. */
static inline void flight_prove_undrained(const struct flight *f)
{
	size_t held = count_flagged(f->pfn, FLIGHT_PAGES, flag_off_lru);

	proof("in_vectors", held > 0, "%zu of %d frames not on the LRU", held,
	      FLIGHT_PAGES);
}

static inline void flight_prove_aloft(const struct flight *f, const char *name)
{
	proof_count(name, count_flagged(f->pfn, FLIGHT_PAGES, flag_writeback),
		    FLIGHT_PAGES, "frames under writeback");
}

/* Pages out what is in memory; returns how many left. */
static inline size_t flight_depart(struct flight *f)
{
	struct page_state state[FLIGHT_PAGES];
	size_t out;

	pfns_read(f->base, FLIGHT_PAGES, f->pfn);
	memcpy(flight_left, flight_model, sizeof(flight_left));
	/* Once: a second round would find them under writeback already */
	out = pageout(f->base, FLIGHT_PAGES);
	pagemap_read(f->base, FLIGHT_PAGES, state);
	for (size_t i = 0; i < FLIGHT_PAGES; i++)
		f->slot[i] = state[i].slot;
	flight_drain(f);
	return out;
}

/*
 * Fresh pages, paged out: from here on they are under writeback for the
 * device's delay.
 */
static inline void flight_start(struct flight *f, unsigned char salt)
{
	if (!swap_delay_ms())
		skip_all("needs swap with delayed writes, this is %s", swap_kind());
	/* One slot, one read: then pswpin says which pages came from the device */
	knob_set("/proc/sys/vm/page-cluster", "0");
	f->base = map_pages(FLIGHT_PAGES);
	fill(f->base, FLIGHT_PAGES, salt);
	memcpy(flight_model, f->base, sizeof(flight_model));
	proof_count("swapped_out", flight_depart(f), FLIGHT_PAGES, "pages");
	flight_prove_aloft(f, "under_writeback");
}

/* Waits until the device has taken all frames. */
static inline void flight_land(const struct flight *f)
{
	wait_written(f->pfn, FLIGHT_PAGES);
	flight_drain(f);
}

/* Slots whose content on the device is not what left. */
static inline size_t flight_changed(const struct flight *f)
{
	static unsigned char content[PAGE_SIZE] __attribute__((aligned(4096)));
	size_t changed = 0;

	for (size_t i = 0; i < FLIGHT_PAGES; i++) {
		if (device_read(f->slot[i], content) != PAGE_SIZE)
			broken("slot %zu of %s cannot be read",
			       (size_t)f->slot[i], swap_dev());
		changed += !!memcmp(content, flight_left[i], PAGE_SIZE);
	}
	return changed;
}

/* Pages of [from, from + n) that still have the frame in which they left. */
static inline size_t flight_reused(const struct flight *f, size_t from, size_t n)
{
	return count_same_pfn(flight_page(f, from), n, f->pfn + from);
}

/* Pages out, and all of them written while the device still takes them. */
static inline void flight_write_aloft(struct flight *f)
{
	flight_start(f, 'A');
	if (f->undrained)
		flight_prove_undrained(f);
	flight_write(f, 0, FLIGHT_PAGES, 'B');
	flight_prove_aloft(f, "written_in_flight");
	measure("pages_reused", flight_reused(f, 0, FLIGHT_PAGES), "pages");
}

/*
 * Sends the pages out and reads them back from the device, not from memory.
 * The first pageout writes them, but leaves them in the swap cache; a clean
 * page that is paged out again is dropped.
 */
static inline void flight_return(struct flight *f)
{
	long long before;

	for (int round = 0; round < 2; round++) {
		touch_read(f->base, FLIGHT_PAGES);
		pfns_read(f->base, FLIGHT_PAGES, f->pfn);
		pageout_all(f->base, FLIGHT_PAGES);
		flight_land(f);
	}
	before = vmstat("pswpin");
	touch_read(f->base, FLIGHT_PAGES);
	proof_count("read_back", (size_t)(vmstat("pswpin") - before),
		    FLIGHT_PAGES, "pages read from the device");
}

#endif
