// SPDX-License-Identifier: GPL-2.0-only
/*
 * A set of pages on its way out to swap, back, and out again. It looks at
 * pages and devices; when a page is written, and how, is the cases' business.
 */
#include "swapset.h"


uint64_t set_pfns[SET_PAGES];
static int sets;

struct counters counters_now(void)
{
	return (struct counters) {
		.reuse = vmstat("pgreuse"),
		.alloc = vmstat("pgalloc_*"),
		.in = vmstat("pswpin"),
	};
}

void measure_since(struct counters before)
{
	struct counters now = counters_now();

	if (now.reuse >= 0)
		measure("pgreuse", now.reuse - before.reuse, "faults");
	measure("allocations", now.alloc - before.alloc, "pages");
}

void measure_kept(const char *set)
{
	measure("pages_reused", (long long)count_same_pfn(set, SET_PAGES, set_pfns),
		"pages");
	measure("swap_cache_left",
		(long long)count_flagged(set_pfns, SET_PAGES, flag_swapcache), "pages");
}

/* A proof is printed once; a later set of the same run has to keep it. */
static void prove_set(const char *name, size_t got, const char *what)
{
	if (sets == 1)
		proof_count(name, got, SET_PAGES, what);
	else if (got != SET_PAGES)
		broken("set %d: only %zu of %d %s", sets, got, SET_PAGES, what);
}

void prove_swapped_in(struct counters before)
{
	proof_count("swapped_in", (size_t)(vmstat("pswpin") - before.in), SET_PAGES,
		    "pages read from swap (pswpin)");
}

static void wait_landed(void)
{
	wait_written(set_pfns, SET_PAGES);
	/* the end of the writeback put some pages into per-CPU vectors */
	drain_all();
}

char *swapped_set(void)
{
	char *set = map_pages(SET_PAGES);

	sets++;
	fill(set, SET_PAGES, SET_SALT);
	pfns_read(set, SET_PAGES, set_pfns);
	prove_set("swapped_out", pageout_all(set, SET_PAGES), "pages swapped (pagemap)");
	return set;
}

char *cached_set(void)
{
	char *set = swapped_set();
	size_t cached;

	wait_landed();
	cached = count_flagged(set_pfns, SET_PAGES, flag_swapcache);
	if (!cached)
		skip_all("on %s swap pages leave the swap cache at once",
			 swap_kind());
	prove_set("in_swap_cache", cached, "pages in the swap cache");
	return set;
}

char *freed_set(void)
{
	char *set = swapped_set();
	size_t cached = count_flagged(set_pfns, SET_PAGES, flag_swapcache);

	if (cached == SET_PAGES)
		skip_all("on %s swap pages stay in the swap cache", swap_kind());
	proof("freed", !cached, "%zu pages still in the swap cache", cached);
	return set;
}

char *dropped_set(void)
{
	char *set = cached_set();
	size_t cached;

	/* a clean page of the swap cache is freed when it goes out again */
	touch_read(set, SET_PAGES);
	pfns_read(set, SET_PAGES, set_pfns);
	if (pageout_all(set, SET_PAGES) != SET_PAGES)
		broken("pages that were read do not go out again");
	cached = count_flagged(set_pfns, SET_PAGES, flag_swapcache);
	proof("freed", !cached, "%zu pages still in the swap cache", cached);
	return set;
}

void judge_written(char *set)
{
	size_t on_device, in_memory;

	verdict_data(check_marked(set, SET_PAGES, SET_SALT, SET_VALUE), SET_PAGES);
	pfns_read(set, SET_PAGES, set_pfns);
	proof_count("swapped_again", pageout_all(set, SET_PAGES), SET_PAGES,
		    "written pages swapped once more");
	wait_landed();
	on_device = stale_on_device(set, SET_PAGES, set_pfns, SET_SALT, SET_VALUE);
	in_memory = check_marked(set, SET_PAGES, SET_SALT, SET_VALUE);
	verdict("survives_swap", !on_device && !in_memory,
		"of %d written pages %zu are stale on the device, %zu in memory",
		SET_PAGES, on_device, in_memory);
}
