// SPDX-License-Identifier: GPL-2.0-only
/*
 * Merged pages: one of those who share a KSM page writes, and the others must
 * keep what they have; also when the page went to swap in between, and when
 * the writer was the last one and somebody new joins later.
 */
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"

#define KSM "/sys/kernel/mm/ksm/"
#define PAGES 64
/* The low bytes, which differ by page, come first in memory: KSM keeps its
 * tree in the order of contents, and marking a page does not change its place
 * there. A page changed behind KSM's back is still found. */
#define FIRST_MARK 0x4d52000000000000ULL
#define MARK 0x4d53000000000000ULL
#define OTHER_MARK 0x4d54000000000000ULL
#define MERGE_MS 8000

/* Two views of the same contents, and room for frames. */
struct twins {
	unsigned char *a, *b;
	uint64_t pfn[PAGES];
};

static void sleep_ms(int ms)
{
	const struct timespec nap = { ms / 1000, ms % 1000 * 1000000L };

	nanosleep(&nap, NULL);
}

static void ksm_start(void)
{
	if (access(KSM "run", F_OK))
		skip_all("this kernel has no KSM");
	knob_set(KSM "sleep_millisecs", "10");
	knob_set(KSM "pages_to_scan", "1000");
	/* since v6.7 a page that did not merge at once is passed over for a while */
	if (!access(KSM "smart_scan", F_OK))
		knob_set(KSM "smart_scan", "0");
	knob_set(KSM "run", "1");
}

static unsigned char *map_mergeable(uint64_t first)
{
	unsigned char *area = map_pages(PAGES);

	fill(area, PAGES, 'K');
	mark(area, PAGES, first);
	if (madvise(area, PAGES * PAGE_SIZE, MADV_MERGEABLE))
		skip_all("MADV_MERGEABLE is refused");
	return area;
}

/* Pages of both views that are the same KSM page at this moment. */
static size_t count_merged(const void *a, const void *b)
{
	struct page_state sa[PAGES], sb[PAGES];
	size_t n = 0;

	pagemap_read(a, PAGES, sa);
	pagemap_read(b, PAGES, sb);
	for (size_t i = 0; i < PAGES; i++)
		n += sa[i].present && sb[i].present && sa[i].pfn == sb[i].pfn &&
		     flag_ksm(page_flags(sa[i].pfn));
	return n;
}

static void prove_merged(const char *name, const void *a, const void *b)
{
	size_t merged = 0;

	for (int ms = 0; ms < MERGE_MS && merged < PAGES; ms += 20) {
		sleep_ms(20);
		merged = count_merged(a, b);
	}
	proof_count(name, merged, PAGES, "pages are one KSM page in both views");
}

static void twins_merge(struct twins *t)
{
	ksm_start();
	t->a = map_mergeable(FIRST_MARK);
	t->b = map_mergeable(FIRST_MARK);
	prove_merged("merged", t->a, t->b);
}

static void last_sharer_writes(struct twins *t)
{
	unsigned char *late;
	size_t wrong;

	/* By now the first view's pages are its own: b is the only mapping */
	pfns_read(t->b, PAGES, t->pfn);
	proof_count("last_sharer", count_flagged(t->pfn, PAGES, flag_ksm),
		    PAGES, "KSM pages have one mapping");
	drain_all();
	mark(t->b, PAGES, MARK);
	measure("last_sharer_reused", count_same_pfn(t->b, PAGES, t->pfn), "pages");

	/* A page written in place is still in KSM's tree, under its new content:
	 * who joins now is given the page that its owner can write to */
	late = map_mergeable(MARK);
	prove_merged("late_merged", t->b, late);
	mark(t->b, PAGES, OTHER_MARK);
	wrong = check_marked(late, PAGES, 'K', MARK) +
		check_marked(t->b, PAGES, 'K', OTHER_MARK);
	verdict("late_sharer_intact", !wrong,
		"%zu of %d pages are not as their owner left them", wrong, 2 * PAGES);
}

static void ksm_wr(void)
{
	struct twins t;
	size_t wrong;

	plan(2);
	twins_merge(&t);
	pfns_read(t.a, PAGES, t.pfn);
	mark(t.a, PAGES, OTHER_MARK);
	measure("pages_reused", count_same_pfn(t.a, PAGES, t.pfn), "pages");
	wrong = check_marked(t.b, PAGES, 'K', FIRST_MARK) +
		check_marked(t.a, PAGES, 'K', OTHER_MARK);
	verdict("sharer_intact", !wrong,
		"%zu of %d pages are not as their owner left them", wrong, 2 * PAGES);
	last_sharer_writes(&t);
}

/*
 * MADV_PAGEOUT passes over pages with more than one mapping. The memory
 * cgroup's limit does not, and a limit of nothing leaves nothing.
 */
static size_t reclaim_shared(struct twins *t)
{
	size_t out = 0;

	for (int round = 0; round < 8 && out < 2 * PAGES; round++) {
		drain_all();
		/* Reclaim happens in the write. Lifted again at once: above
		 * memory.high every return from the kernel is made to wait */
		in_memcg("memory.high", "0");
		in_memcg("memory.high", "max");
		out = count_swapped(t->a, PAGES) + count_swapped(t->b, PAGES);
	}
	return out;
}

static void ksm_swap_wr(void)
{
	long long in;
	struct twins t;
	size_t wrong;

	plan(2);
	if (swap_is("none"))
		skip_all("needs swap");
	in_memcg(NULL, NULL);
	knob_set("/proc/sys/vm/page-cluster", "0");
	twins_merge(&t);
	/* no new merging: what is shared below is shared through swap */
	knob_set(KSM "run", "0");
	proof_count("swapped_out", reclaim_shared(&t), 2 * PAGES, "mappings");
	in = vmstat("pswpin");
	mark(t.a, PAGES, MARK);
	touch_read(t.b, PAGES);
	measure("swap_ins", vmstat("pswpin") - in, "pages");
	wrong = check_marked(t.b, PAGES, 'K', FIRST_MARK);
	verdict("reader_intact", !wrong,
		"%zu of %d pages were changed by another's write", wrong, PAGES);
	wrong = check_marked(t.a, PAGES, 'K', MARK);
	verdict("writer_intact", !wrong, "%zu of %d written pages are not as written",
		wrong, PAGES);
}

static const struct guest_case cases[] = {
	/* a KSM page with one mapping left is written in place */
	{ "ksm_wr", ksm_wr },
	/* a shared slot's page is reused although another still needs the slot */
	{ "ksm_swap_wr", ksm_swap_wr },
	{ NULL, NULL }
};

int main(int argc, char **argv)
{
	return guest_main(argc, argv, cases);
}
