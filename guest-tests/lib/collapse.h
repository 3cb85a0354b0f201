/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A range of base pages that khugepaged is to look at, and the proof that it
 * did: what the khugepaged cases share. What it makes of it is their business.
 */
#ifndef TWINBOOT_COLLAPSE_H
#define TWINBOOT_COLLAPSE_H

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include "guest.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define KHUGEPAGED "/sys/kernel/mm/transparent_hugepage/khugepaged/"
#define RANGE_SALT 0x6b
#define SCAN_MS 10000

/* What a case gives to khugepaged; the first huge page is the control. */
struct range {
	unsigned char *control, *base;
	size_t pages;		/* without the control */
	uint64_t *pfn;
};

static inline unsigned char *range_page(const struct range *r, size_t index)
{
	return r->base + index * PAGE_SIZE;
}

/* Base pages where a huge page fits, hidden from khugepaged. */
static inline void range_map(struct range *r, size_t huge_pages)
{
	size_t huge = thp_pages(), bytes = (huge_pages + 1) * huge * PAGE_SIZE;

	r->control = map_thp(huge_pages + 1);
	if (madvise(r->control, bytes, MADV_NOHUGEPAGE))
		broken("MADV_NOHUGEPAGE is refused");
	r->base = r->control + huge * PAGE_SIZE;
	r->pages = huge_pages * huge;
	r->pfn = calloc(r->pages, sizeof(*r->pfn));
	if (!r->pfn)
		broken("out of memory");
	fill(r->control, huge, RANGE_SALT);
	fill(r->base, r->pages, RANGE_SALT);
	pfns_read(r->base, r->pages, r->pfn);
	if (count_flagged(r->pfn, r->pages, flag_thp))
		broken("the range begins with huge pages");
}

static inline long long full_scans(void)
{
	FILE *file = fopen(KHUGEPAGED "full_scans", "re");
	long long scans = -1;

	if (!file)
		skip_all("this kernel has no khugepaged");
	if (fscanf(file, "%lld", &scans) != 1)
		scans = -1;
	fclose(file);
	return scans;
}

static inline size_t huge_parts(const void *addr, size_t pages)
{
	struct page_state *state = calloc(pages, sizeof(*state));
	size_t n = 0;

	if (!state)
		broken("out of memory");
	pagemap_read(addr, pages, state);
	for (size_t i = 0; i < pages; i++)
		n += state[i].present && flag_thp(page_flags(state[i].pfn));
	free(state);
	return n;
}

static inline bool control_collapsed(const struct range *r)
{
	return huge_parts(r->control, 1);
}

/* Since 6.1 one can ask for it; the same code as khugepaged's, but at once. */
static inline bool collapse_now(const struct range *r)
{
	size_t huge = thp_pages() * PAGE_SIZE;

	if (madvise(r->control, huge, MADV_COLLAPSE))
		return false;
	for (size_t at = 0; at < r->pages * PAGE_SIZE; at += huge)
		madvise(r->base + at, huge, MADV_COLLAPSE);
	return true;
}

static inline void khugepaged_awake(void)
{
	knob_set(KHUGEPAGED "scan_sleep_millisecs", "5");
	knob_set(KHUGEPAGED "alloc_sleep_millisecs", "100");
	knob_set(KHUGEPAGED "pages_to_scan", "8192");
	knob_set(KHUGEPAGED "max_ptes_swap", "256");
	knob_set(KHUGEPAGED "defrag", "1");
}

/* Two more ends of a scan: one whole scan has begun and ended in between. */
static inline bool scan_all(const struct range *r)
{
	const struct timespec nap = { .tv_nsec = 5000000 };
	long long before = full_scans();

	for (int ms = 0; ms < SCAN_MS; ms += 5) {
		if (control_collapsed(r) && full_scans() >= before + 2)
			return true;
		nanosleep(&nap, NULL);
	}
	return false;
}

/*
 * Shows the range to khugepaged until it has been through all of it. True if
 * it has: the control, which nothing keeps from becoming a huge page, is one.
 */
static inline bool collapse(const struct range *r)
{
	size_t bytes = r->pages * PAGE_SIZE + thp_pages() * PAGE_SIZE;

	/* a page in a per-CPU vector has a reference too many */
	drain_all();
	if (madvise(r->control, bytes, MADV_HUGEPAGE))
		broken("MADV_HUGEPAGE is refused");
	return (collapse_now(r) || scan_all(r)) && control_collapsed(r);
}

/* Hidden again, so that what follows is not a race with the next scan. */
static inline void hide(const struct range *r)
{
	size_t bytes = r->pages * PAGE_SIZE + thp_pages() * PAGE_SIZE;

	if (madvise(r->control, bytes, MADV_NOHUGEPAGE))
		broken("MADV_NOHUGEPAGE is refused");
}

static inline void prove_collapse(const struct range *r)
{
	proof("scanned", collapse(r),
	      "a range beside it became a huge page within the same scan");
	hide(r);
}

/* Pages [from, from + n) that are not as range_map() filled them. */
static inline size_t wrong_fill(const struct range *r, size_t from, size_t n)
{
	size_t wrong = 0;

	for (size_t i = from; i < from + n; i++)
		wrong += !page_is_fill(range_page(r, i), i, RANGE_SALT);
	return wrong;
}

#endif
