// SPDX-License-Identifier: GPL-2.0-only
/*
 * Copy-on-write of swapped pages in one process: is a page that nobody shares
 * reused, and is its content right either way? It shares nothing: see fork.c.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "swapset.h"

static void wr_hit(void)
{
	struct counters before;
	char *set;

	plan(2);
	set = cached_set();
	before = counters_now();
	mark(set, SET_PAGES, SET_VALUE);
	measure_since(before);
	measure_kept(set);
	judge_written(set);
}

static void wr_sync(void)
{
	struct counters before;
	char *set;

	plan(2);
	set = freed_set();
	before = counters_now();
	mark(set, SET_PAGES, SET_VALUE);
	measure_since(before);
	prove_swapped_in(before);
	judge_written(set);
}

static void read_write_each(char *set)
{
	for (size_t i = 0; i < SET_PAGES; i++) {
		touch_read(set + i * PAGE_SIZE, 1);
		mark_part(set, i, 1, SET_VALUE);
	}
}

static void rd_wr_cached(void)
{
	long long used = swap_used();
	struct counters before;
	char *set;

	plan(2);
	set = cached_set();
	before = counters_now();
	read_write_each(set);
	measure_since(before);
	measure_kept(set);
	unmap_pages(set, SET_PAGES);
	measure("slots_left", swap_used() - used, "slots");
	/* a second set, because the judging swaps out what is to be measured */
	set = cached_set();
	read_write_each(set);
	judge_written(set);
}

/*
 * Reads every page; how many are on an LRU list at once. The others are in a
 * per-CPU vector until it is full, so that the list is locked once for all.
 */
static size_t read_counting_drains(const char *set)
{
	size_t drained = 0;
	uint64_t pfn;

	for (size_t i = 0; i < SET_PAGES; i++) {
		touch_read(set + i * PAGE_SIZE, 1);
		pfns_read(set + i * PAGE_SIZE, 1, &pfn);
		drained += flag_lru(page_flags(pfn));
	}
	return drained;
}

static void rd_drain_wr_sync(void)
{
	struct counters before;
	size_t drained;
	char *set;

	plan(2);
	set = freed_set();
	before = counters_now();
	drained = read_counting_drains(set);
	prove_swapped_in(before);
	measure("drained_at_once", (long long)drained, "pages");
	/* a page fresh from swap sits in a per-CPU vector, which counts as a user */
	drain_all();
	pfns_read(set, SET_PAGES, set_pfns);
	before = counters_now();
	mark(set, SET_PAGES, SET_VALUE);
	measure_since(before);
	measure("pages_reused", (long long)count_same_pfn(set, SET_PAGES, set_pfns),
		"pages");
	judge_written(set);
}

static void wr_miss(const char *page_cluster)
{
	struct counters before;
	long long ahead;
	char *set;

	plan(2);
	knob_set("/proc/sys/vm/page-cluster", page_cluster);
	set = dropped_set();
	ahead = vmstat("swap_ra");
	if (ahead < 0)
		skip_all("this kernel does not count readahead");
	before = counters_now();
	mark(set, SET_PAGES, SET_VALUE);
	measure_since(before);
	ahead = vmstat("swap_ra") - ahead;
	prove_swapped_in(before);
	proof("readahead", *page_cluster == '0' ? !ahead : ahead > SET_PAGES / 2,
	      "%lld of %d pages read ahead of their fault", ahead, SET_PAGES);
	judge_written(set);
}

static void wr_miss_single(void)
{
	wr_miss("0");
}

static void wr_miss_cluster(void)
{
	wr_miss("3");
}

static void mlock_onfault(void)
{
	struct counters before;
	char *set;

	plan(2);
	set = cached_set();
	if (mlock2(set, SET_PAGES * PAGE_SIZE, MLOCK_ONFAULT))
		skip_all("MLOCK_ONFAULT: %s", strerror(errno));
	before = counters_now();
	read_write_each(set);
	measure_since(before);
	measure_kept(set);
	/* locked pages do not go out again */
	if (munlock(set, SET_PAGES * PAGE_SIZE))
		broken("munlock: %s", strerror(errno));
	judge_written(set);
}

static const struct guest_case cases[] = {
	/* a write fault on a swap-cached page that maps wrong or stale content */
	{ "wr_hit", wr_hit },
	/* a write fault that reads a page from swap and then copies it badly */
	{ "wr_sync", wr_sync },
	/* the swap cache's own reference forces a copy of a page nobody shares */
	{ "rd_wr_cached", rd_wr_cached },
	/* a reuse test that counts one reference too many on a plain page */
	{ "rd_drain_wr_sync", rd_drain_wr_sync },
	/* a write fault that reads one page through the swap cache, and copies it */
	{ "wr_miss_single", wr_miss_single },
	/* a write fault on a page that readahead brought, mapped wrong or copied */
	{ "wr_miss_cluster", wr_miss_cluster },
	/* a locked page that keeps its place in the swap cache, and is copied */
	{ "mlock_onfault", mlock_onfault },
	{ },
};

int main(int argc, char **argv)
{
	return guest_main(argc, argv, cases);
}
