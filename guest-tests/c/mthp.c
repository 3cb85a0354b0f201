// SPDX-License-Identifier: GPL-2.0-only
/*
 * Huge pages of 64 KiB on their way to swap and back, written while they are
 * in the swap cache, and shared there with a child. Each is touched in its
 * middle first: what maps it as a whole has to find its head.
 */
#include "mthp.h"

#define FOLIOS 24UL		/* a multiple of 4, and less than 32 */
#define PAGES (FOLIOS * MTHP_PAGES)
#define HALF (PAGES / 2)
#define QUARTER (PAGES / 4)
#define SALT 0x64
#define MARK 0x6d74000000000000ULL
#define CHILD_MARK 0x6d75000000000000ULL

struct area {
	unsigned char *base;
	uint64_t pfn[PAGES];		/* as they were when the area went out */
};

static unsigned char *area_page(const struct area *a, size_t index)
{
	return a->base + index * PAGE_SIZE;
}

static long long since(const char *counter, long long before)
{
	return vmstat(counter) - before;
}

static void from_middle(const struct area *a, size_t from, size_t pages,
			void (*touch)(const struct area *a, size_t from, size_t pages))
{
	const size_t half = MTHP_PAGES / 2;

	for (size_t i = from; i < from + pages; i += MTHP_PAGES) {
		touch(a, i + half, half);
		touch(a, i, half);
	}
}

static void write_pages(const struct area *a, size_t from, size_t pages)
{
	mark_part(a->base, from, pages, MARK);
}

static void child_writes_pages(const struct area *a, size_t from, size_t pages)
{
	mark_part(a->base, from, pages, CHILD_MARK);
}

static void read_pages(const struct area *a, size_t from, size_t pages)
{
	touch_read(area_page(a, from), pages);
}

static size_t wrong_fill(const struct area *a, size_t from, size_t pages)
{
	size_t wrong = 0;

	for (size_t i = from; i < from + pages; i++)
		wrong += !page_is_fill(area_page(a, i), i, SALT);
	return wrong;
}

/* All that is in memory leaves; returns how much. */
static size_t area_leave(struct area *a)
{
	size_t out;

	pfns_read(a->base, PAGES, a->pfn);
	out = pageout_all(a->base, PAGES);
	/* a ram disk allocates as it is written to */
	wait_written(a->pfn, PAGES);
	drain_all();
	return out;
}

/* Fresh, and out. */
static void area_make(struct area *a)
{
	long long whole;

	if (swap_is("none"))
		skip_all("needs swap");
	/* one slot, one read */
	knob_set("/proc/sys/vm/page-cluster", "0");
	a->base = map_mthp(FOLIOS);
	whole = mthp_stat("swpout");
	if (whole < 0)
		skip_all("this kernel does not count huge pages of 64 KiB that go to swap");
	fill(a->base, PAGES, SALT);
	proof_count("mthp_mapped", count_whole(a->base, FOLIOS), FOLIOS,
		    "huge pages of 64 KiB");
	proof_count("swapped_out", area_leave(a), PAGES, "pages swapped (pagemap)");
	measure("swapped_whole", mthp_stat("swpout") - whole, "huge pages");
}

/* Reads the second half, then writes it; returns how many pages were wrong. */
static size_t second_half(struct area *a)
{
	size_t wrong;

	from_middle(a, HALF, HALF, read_pages);
	wrong = wrong_fill(a, HALF, HALF);
	measure("read_whole", (long long)count_whole(area_page(a, HALF), FOLIOS / 2),
		"huge pages");
	drain_all();
	pfns_read(area_page(a, HALF), HALF, a->pfn + HALF);
	from_middle(a, HALF, HALF, write_pages);
	measure("reused_after_read",
		(long long)count_same_pfn(area_page(a, HALF), HALF, a->pfn + HALF),
		"pages");
	return wrong;
}

/* All is marked now; what a second trip brings back has to be, too. */
static void judge(struct area *a, size_t wrong)
{
	wrong += check_marked(a->base, PAGES, SALT, MARK);
	proof_count("out_again", area_leave(a), PAGES, "pages");
	leave_swap_cache(a->pfn, PAGES);
	verdict_data(wrong + check_marked(a->base, PAGES, SALT, MARK), HALF + 2 * PAGES);
}

static void roundtrip(void)
{
	static struct area a;
	long long allocated, in;
	size_t wrong;

	plan(1);
	in_memcg(NULL, NULL);
	area_make(&a);
	leave_swap_cache(a.pfn, PAGES);
	in = vmstat("pswpin");
	allocated = vmstat("pgalloc_*");
	from_middle(&a, 0, HALF, write_pages);
	measure("allocations", since("pgalloc_*", allocated), "pages");
	wrong = second_half(&a);
	in = since("pswpin", in);
	proof("read_back", in >= (long long)PAGES,
	      "%lld pages read from the device, %lu were out", in, PAGES);
	judge(&a, wrong);
}

static void cached_wr(void)
{
	static struct area a;
	long long allocated;

	plan(1);
	in_memcg(NULL, NULL);
	area_make(&a);
	proof_count("in_swap_cache", count_flagged(a.pfn, PAGES, flag_swapcache), PAGES,
		    "pages in the swap cache");
	allocated = vmstat("pgalloc_*");
	from_middle(&a, 0, HALF, write_pages);
	measure("allocations", since("pgalloc_*", allocated), "pages");
	measure("pages_reused", (long long)count_same_pfn(a.base, HALF, a.pfn), "pages");
	judge(&a, second_half(&a));
}

/* ---- a child that has the same swap entries -------------------------------- */

/*
 * The first quarter has been read by the child, the third by the parent, when
 * the parent writes to the first two, and then the child to the last two.
 */
struct family {
	struct area a;
	struct gate ready, written;
	size_t *found;			/* swapped, wrong, wrong of its own; shared */
};

static int child_reads_and_writes(void *arg)
{
	struct family *f = arg;

	from_middle(&f->a, 0, QUARTER, read_pages);
	gate_open(&f->ready);
	if (!gate_wait(&f->written))
		return 1;
	f->found[0] = count_swapped(area_page(&f->a, QUARTER), 3 * QUARTER);
	from_middle(&f->a, HALF, HALF, child_writes_pages);
	f->found[1] = wrong_fill(&f->a, 0, HALF);
	f->found[2] = check_marked_part(f->a.base, HALF, HALF, SALT, CHILD_MARK);
	return 0;
}

static void last_user(struct area *a)
{
	long long allocated;

	read_pages(a, HALF, HALF);
	drain_all();
	allocated = vmstat("pgalloc_*");
	from_middle(a, HALF, HALF, write_pages);
	measure("last_allocations", since("pgalloc_*", allocated), "pages");
}

static void fork_cached(void)
{
	static struct family f;
	long long used = swap_used();
	size_t isolated, wrong;
	pid_t child;

	plan(2);
	area_make(&f.a);
	f.ready = gate_make();
	f.written = gate_make();
	f.found = map_shared(PAGE_SIZE);
	child = spawn(child_reads_and_writes, &f);
	if (!gate_wait(&f.ready))
		broken("the child does not run");
	drain_all();
	from_middle(&f.a, HALF, QUARTER, read_pages);
	from_middle(&f.a, 0, HALF, write_pages);
	gate_open(&f.written);
	proof("child_looked", !reap(child), "the child compared its pages");
	proof_count("child_swapped", f.found[0], 3 * QUARTER,
		    "of the child's pages swapped until the parent had written");
	isolated = f.found[1] + wrong_fill(&f.a, HALF, HALF);
	wrong = f.found[2] + check_marked_part(f.a.base, 0, HALF, SALT, MARK);
	last_user(&f.a);
	wrong += check_marked(f.a.base, PAGES, SALT, MARK);
	unmap_pages(f.a.base, PAGES);
	measure("slots_left", swap_used() - used, "slots");
	verdict("isolated", !isolated,
		"%zu of %lu pages show what the other has written since the fork",
		isolated, PAGES);
	verdict_data(wrong, 2 * PAGES);
}

static const struct guest_case cases[] = {
	/* a part of a huge page of 64 KiB comes back as another, as old, or as nothing */
	{ "roundtrip", roundtrip },
	/* a part that is written in the swap cache is copied, or takes others with it */
	{ "cached_wr", cached_wr },
	/* parent or child writes into a part that the other has, by its map or its slot */
	{ "fork_cached", fork_cached },
	{ },
};

int main(int argc, char **argv)
{
	return guest_main(argc, argv, cases);
}
