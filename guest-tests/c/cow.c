// SPDX-License-Identifier: GPL-2.0-only
/*
 * Copy-on-write of swapped pages in one process: is a page that nobody shares
 * reused, and is its content right either way? It shares nothing: see fork.c.
 */
#include "guest.h"

#define PAGES 960
#define SALT 0x5a
#define VALUE 0x1000000

static uint64_t pfns[PAGES];

struct counters {
	long long reuse, alloc, in;
};

static struct counters counters_now(void)
{
	return (struct counters) {
		.reuse = vmstat("pgreuse"),
		.alloc = vmstat("pgalloc_*"),
		.in = vmstat("pswpin"),
	};
}

/* What the write pass cost; an old or new kernel may lack pgreuse. */
static void measure_since(struct counters before)
{
	struct counters now = counters_now();

	if (now.reuse >= 0)
		measure("pgreuse", now.reuse - before.reuse, "faults");
	measure("allocations", now.alloc - before.alloc, "pages");
}

/* Kept by their page table, and kept (mapped or not) by the swap cache. */
static void measure_kept(const char *set)
{
	measure("pages_reused", (long long)count_same_pfn(set, PAGES, pfns),
		"pages");
	measure("swap_cache_left",
		(long long)count_flagged(pfns, PAGES, flag_swapcache), "pages");
}

static int sets;

/* A proof is printed once; a later set of the same run has to keep it. */
static void prove_set(const char *name, size_t got, const char *what)
{
	if (sets == 1)
		proof_count(name, got, PAGES, what);
	else if (got != PAGES)
		broken("set %d: only %zu of %d %s", sets, got, PAGES, what);
}

static char *swapped_set(void)
{
	char *set = map_pages(PAGES);

	sets++;
	fill(set, PAGES, SALT);
	pfns_read(set, PAGES, pfns);
	prove_set("swapped_out", pageout_all(set, PAGES), "pages swapped (pagemap)");
	return set;
}

/* Swapped out, written, and still in the swap cache with their old PFNs. */
static char *cached_set(void)
{
	char *set = swapped_set();
	size_t cached;

	if (!wait_written(pfns, PAGES, 10000 + (int)swap_delay_ms()))
		broken("pages are under writeback after 10 s");
	/* the end of the writeback put some pages into per-CPU vectors */
	drain_all();
	cached = count_flagged(pfns, PAGES, flag_swapcache);
	if (!cached)
		skip_all("on %s swap pages leave the swap cache at once",
			 swap_kind());
	prove_set("in_swap_cache", cached, "pages in the swap cache");
	return set;
}

/* Swapped out and freed: the next access must read the device. */
static char *freed_set(void)
{
	char *set = swapped_set();
	size_t cached = count_flagged(pfns, PAGES, flag_swapcache);

	if (cached == PAGES)
		skip_all("on %s swap pages stay in the swap cache", swap_kind());
	proof("freed", !cached, "%zu pages still in the swap cache", cached);
	return set;
}

/* Reclaim may rightly have kept it back: nothing to expect on the device. */
static bool flag_dirty_in_cache(uint64_t flags)
{
	return flag_swapcache(flags) && flag_dirty(flags);
}

static size_t wrong_on_device(const char *set)
{
	static char buf[PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));
	static struct page_state state[PAGES];
	size_t wrong = 0, compared = 0;

	pagemap_read(set, PAGES, state);
	for (size_t i = 0; i < PAGES; i++) {
		if (!state[i].swapped || flag_dirty_in_cache(page_flags(pfns[i])))
			continue;
		compared++;
		wrong += device_read(state[i].slot, buf) != PAGE_SIZE ||
			 !page_is_marked(buf, i, SALT, VALUE);
	}
	proof("on_device", compared > PAGES / 2,
	      "%zu of %d pages compared with their slot", compared, PAGES);
	return wrong;
}

/* The last write must also be what a second trip through swap brings back:
 * a stale slot may hide behind a swap cache page until reclaim drops that. */
static void judge_written(char *set)
{
	size_t on_device, in_memory;

	verdict_data(check_marked(set, PAGES, SALT, VALUE), PAGES);
	pfns_read(set, PAGES, pfns);
	proof_count("swapped_again", pageout_all(set, PAGES), PAGES,
		    "written pages swapped once more");
	if (!wait_written(pfns, PAGES, 10000 + (int)swap_delay_ms()))
		broken("pages are under writeback after 10 s");
	on_device = wrong_on_device(set);
	in_memory = check_marked(set, PAGES, SALT, VALUE);
	verdict("survives_swap", !on_device && !in_memory,
		"of %d written pages %zu are stale on the device, %zu in memory",
		PAGES, on_device, in_memory);
}

static void wr_hit(void)
{
	struct counters before;
	char *set;

	plan(2);
	set = cached_set();
	before = counters_now();
	mark(set, PAGES, VALUE);
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
	mark(set, PAGES, VALUE);
	measure_since(before);
	proof_count("swapped_in", (size_t)(vmstat("pswpin") - before.in), PAGES,
		    "pages read from swap (pswpin)");
	judge_written(set);
}

static void read_write_each(char *set)
{
	for (size_t i = 0; i < PAGES; i++) {
		touch_read(set + i * PAGE_SIZE, 1);
		mark_part(set, i, 1, VALUE);
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
	unmap_pages(set, PAGES);
	measure("slots_left", swap_used() - used, "slots");
	/* a second set, because the judging swaps out what is to be measured */
	set = cached_set();
	read_write_each(set);
	judge_written(set);
}

static void rd_drain_wr_sync(void)
{
	struct counters before;
	char *set;

	plan(2);
	set = freed_set();
	before = counters_now();
	touch_read(set, PAGES);
	proof_count("swapped_in", (size_t)(vmstat("pswpin") - before.in), PAGES,
		    "pages read from swap (pswpin)");
	/* a page fresh from swap sits in a per-CPU vector, which counts as a user */
	drain_all();
	pfns_read(set, PAGES, pfns);
	before = counters_now();
	mark(set, PAGES, VALUE);
	measure_since(before);
	measure("pages_reused", (long long)count_same_pfn(set, PAGES, pfns),
		"pages");
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
	{ },
};

int main(int argc, char **argv)
{
	return guest_main(argc, argv, cases);
}
