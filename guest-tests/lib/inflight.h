/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Pages caught while the kernel writes them to a delayed swap device: what
 * the writeback and the stable-writes cases share.  It observes and waits;
 * what is right or wrong is the cases' business.
 */
#ifndef TWINBOOT_INFLIGHT_H
#define TWINBOOT_INFLIGHT_H

#include "guest.h"

/* Few enough that all of them are rewritten well within the device's delay */
#define FLIGHT_PAGES 96
#define FLIGHT_HALF (FLIGHT_PAGES / 2)
#define LAND_MS 10000

struct flight {
	unsigned char *base;
	unsigned char *half;		/* second half of the pages */
	uint64_t pfn[FLIGHT_PAGES];	/* frames that the device reads from */
	uint64_t slot[FLIGHT_PAGES];	/* where they go on the device */
};

static inline void flight_note_slots(struct flight *f)
{
	struct page_state state[FLIGHT_PAGES];

	pagemap_read(f->base, FLIGHT_PAGES, state);
	for (size_t i = 0; i < FLIGHT_PAGES; i++)
		f->slot[i] = state[i].slot;
}

static inline void flight_prove_aloft(const struct flight *f, const char *name)
{
	proof_count(name, count_flagged(f->pfn, FLIGHT_PAGES, flag_writeback),
		    FLIGHT_PAGES, "frames under writeback");
}

/* Fills fresh pages and pages them out: from here on they are under writeback
 * for the device's delay. Each half is a fill() of its own. */
static inline void flight_start(struct flight *f, unsigned char salt)
{
	size_t out;

	if (!swap_delay_ms())
		skip_all("needs swap with delayed writes, this is %s", swap_kind());
	/* One slot, one read: then pswpin says which pages came from the device */
	knob_set("/proc/sys/vm/page-cluster", "0");
	f->base = map_pages(FLIGHT_PAGES);
	f->half = f->base + FLIGHT_HALF * PAGE_SIZE;
	fill(f->base, FLIGHT_HALF, salt);
	fill(f->half, FLIGHT_HALF, salt);
	pfns_read(f->base, FLIGHT_PAGES, f->pfn);
	/* Once: a second round would find them under writeback already */
	out = pageout(f->base, FLIGHT_PAGES);
	flight_note_slots(f);
	/* Reclaim puts what it keeps back through the per-CPU vectors, and the
	 * last few would stay there with a reference more than the others */
	drain_all();
	proof_count("swapped_out", out, FLIGHT_PAGES, "pages");
	flight_prove_aloft(f, "under_writeback");
}

/* Waits until the device has taken all frames. */
static inline void flight_land(const struct flight *f)
{
	if (!wait_written(f->pfn, FLIGHT_PAGES, LAND_MS))
		broken("still under writeback after %d ms", LAND_MS);
	/* The end of writeback leaves frames in the vectors of whichever CPU
	 * it ran on; without this the counts below would be a matter of luck */
	drain_all();
}

/* Slots whose content on the device is not what flight_start() filled in. */
static inline size_t flight_changed(const struct flight *f, unsigned char salt)
{
	static unsigned char content[PAGE_SIZE] __attribute__((aligned(4096)));
	size_t changed = 0;

	for (size_t i = 0; i < FLIGHT_PAGES; i++) {
		if (device_read(f->slot[i], content) != PAGE_SIZE)
			broken("slot %zu of %s cannot be read",
			       (size_t)f->slot[i], swap_dev());
		changed += !page_is_fill(content, i % FLIGHT_HALF, salt);
	}
	return changed;
}

static inline size_t flight_reused(const struct flight *f, size_t from, size_t n)
{
	return count_same_pfn(f->base + from * PAGE_SIZE, n, f->pfn + from);
}

/*
 * Leaves the pages on the device and nowhere else. The first pageout writes
 * them, but leaves them in the swap cache; a clean page that is paged out
 * again is dropped.
 */
static inline void flight_leave(struct flight *f)
{
	for (int round = 0; round < 2; round++) {
		touch_read(f->base, FLIGHT_PAGES);
		pfns_read(f->base, FLIGHT_PAGES, f->pfn);
		pageout_all(f->base, FLIGHT_PAGES);
		flight_land(f);
	}
}

/* Sends the pages out and reads them back from the device, not from memory. */
static inline void flight_return(struct flight *f)
{
	long long before;

	flight_leave(f);
	before = vmstat("pswpin");
	touch_read(f->base, FLIGHT_PAGES);
	proof_count("read_back", (size_t)(vmstat("pswpin") - before),
		    FLIGHT_PAGES, "pages read from the device");
}

#endif
