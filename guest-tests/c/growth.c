// SPDX-License-Identifier: GPL-2.0-only
/*
 * What swap fills up with while the same memory goes out and comes back again
 * and again: slots that nobody needs any more.
 */
#include "guest.h"

#define ROUNDS 6
#define PAGES 240
#define SALT 0x47

static void slot_growth(void)
{
	long long before = swap_used(), after_first = 0;
	size_t wrong = 0, out = 0, cached = 0;
	char *set = map_pages(PAGES);
	uint64_t pfns[PAGES];

	plan(1);
	fill(set, PAGES, SALT);
	mark(set, PAGES, 0);
	for (uint64_t round = 1; round <= ROUNDS; round++) {
		pfns_read(set, PAGES, pfns);
		out += pageout_all(set, PAGES);
		wait_written(pfns, PAGES);
		drain_all();
		cached += count_flagged(pfns, PAGES, flag_swapcache);
		for (size_t i = 0; i < PAGES; i++) {
			wrong += check_marked_part(set, i, 1, SALT, (round - 1) << 32);
			mark_part(set, i, 1, round << 32);
		}
		if (round == 1)
			after_first = swap_used();
	}
	if (!cached)
		skip_all("on %s swap pages leave the swap cache at once", swap_kind());
	proof_count("swapped_out", out, ROUNDS * PAGES, "pages in all rounds");
	measure("slots_grown", swap_used() - after_first, "slots");
	wrong += check_marked(set, PAGES, SALT, (uint64_t)ROUNDS << 32);
	verdict_data(wrong, (ROUNDS + 1) * PAGES);
	unmap_pages(set, PAGES);
	measure("slots_left", swap_used() - before, "slots");
}

static const struct guest_case cases[] = {
	/* each trip through swap strands a slot until reclaim finds it */
	{ "slot_growth", slot_growth },
	{ },
};

int main(int argc, char **argv)
{
	return guest_main(argc, argv, cases);
}
