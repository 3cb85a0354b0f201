// SPDX-License-Identifier: GPL-2.0-only
/*
 * Transparent huge pages on their way to swap and back, and written while
 * they are still in the swap cache. Who shares them is thp_share.c's business.
 */
#include <stdlib.h>

#include "guest.h"

#define HUGE 4			/* huge pages per case; an even number */
#define MARK 0x5eed000000000000ULL

/* Two halves, each a fill() of its own, and the frames they first had. */
struct area {
	unsigned char *base, *half;
	size_t pages, half_pages;
	uint64_t *pfn;
};

static void area_map(struct area *a, size_t huge)
{
	if (swap_is("none"))
		skip_all("needs swap");
	a->base = map_thp(huge);
	a->pages = huge * thp_pages();
	a->half_pages = a->pages / 2;
	a->half = a->base + a->half_pages * PAGE_SIZE;
	fill(a->base, a->half_pages, 'A');
	fill(a->half, a->half_pages, 'A');
	a->pfn = calloc(a->pages, sizeof(*a->pfn));
	if (!a->pfn)
		broken("out of memory");
	pfns_read(a->base, a->pages, a->pfn);
	proof_count("thp_mapped", count_flagged(a->pfn, a->pages, flag_thp),
		    a->pages, "pages are part of a huge page");
}

/*
 * A ram disk allocates as it is written to: let a delayed one take all the
 * pages first, or its allocations are counted with those of the faults.
 */
static void area_land(const struct area *a)
{
	wait_written(a->pfn, a->pages);
	drain_all();
}

static size_t wrong_marks(const struct area *a)
{
	return check_marked(a->base, a->half_pages, 'A', MARK) +
	       check_marked(a->half, a->half_pages, 'A', MARK);
}

static long long since(const char *counter, long long before)
{
	return vmstat(counter) - before;
}

/* Frames of the second half as they are now, and how many survive a write. */
static size_t write_half_reused(struct area *a)
{
	uint64_t *pfn = a->pfn + a->half_pages;

	pfns_read(a->half, a->half_pages, pfn);
	mark(a->half, a->half_pages, MARK);
	return count_same_pfn(a->half, a->half_pages, pfn);
}

static void judge_after_another_trip(struct area *a, size_t wrong)
{
	size_t out;

	wrong += wrong_marks(a);
	/* The frames of the last trip may still be on their way */
	pfns_read(a->base, a->pages, a->pfn);
	area_land(a);
	out = pageout_all(a->base, a->pages);
	proof_count("out_again", out, a->pages, "pages");
	verdict_data(wrong + wrong_marks(a), a->pages);
}

static bool cached_whole(uint64_t flags)
{
	return flag_swapcache(flags) && flag_thp(flags);
}

static void roundtrip(void)
{
	long long whole = vmstat("thp_swpout"), allocated, read;
	struct area a;
	size_t wrong;

	plan(1);
	in_memcg(NULL, NULL);
	area_map(&a, HUGE);
	knob_set("/proc/sys/vm/page-cluster", "0");
	proof_count("swapped_out", pageout_all(a.base, a.pages), a.pages, "pages");
	area_land(&a);
	measure("swapped_whole", since("thp_swpout", whole), "huge pages");
	/*
	 * Swap that is not synchronous leaves the pages in the swap cache, where
	 * a fault would find them
	 */
	leave_swap_cache(a.pfn, a.pages);
	read = vmstat("pswpin");
	allocated = vmstat("pgalloc_*");
	mark(a.base, a.half_pages, MARK);
	measure("allocations", since("pgalloc_*", allocated), "pages");
	wrong = check_fill(a.half, a.half_pages, 'A');
	/* a few more are the program's own */
	read = since("pswpin", read);
	proof("read_back", read >= (long long)a.pages,
	      "%lld pages read from the device, %zu were out", read, a.pages);
	drain_all();
	measure("reused_after_read", write_half_reused(&a), "pages");
	judge_after_another_trip(&a, wrong);
}

/*
 * The whole huge page is in the swap cache, no part of it is mapped. The
 * first half is written at once, the second is read first.
 */
static void cached_wr(void)
{
	long long allocated;
	struct area a;
	size_t wrong;

	plan(1);
	area_map(&a, HUGE);
	proof_count("swapped_out", pageout(a.base, a.pages), a.pages, "pages");
	area_land(&a);
	proof_count("cached_whole", count_flagged(a.pfn, a.pages, cached_whole),
		    a.pages, "pages are in the swap cache as part of a huge page");
	allocated = vmstat("pgalloc_*");
	mark(a.base, a.half_pages, MARK);
	measure("allocations", since("pgalloc_*", allocated), "pages");
	measure("pages_reused", count_same_pfn(a.base, a.half_pages, a.pfn), "pages");
	wrong = check_fill(a.half, a.half_pages, 'A');
	drain_all();
	measure("reused_after_read", write_half_reused(&a), "pages");
	judge_after_another_trip(&a, wrong);
}

static const struct guest_case cases[] = {
	/* a huge page that went through swap comes back with a part swapped for another */
	{ "roundtrip", roundtrip },
	/* one subpage's write takes the slots of the other 511 with it */
	{ "cached_wr", cached_wr },
	{ NULL, NULL }
};

int main(int argc, char **argv)
{
	return guest_main(argc, argv, cases);
}
