// SPDX-License-Identifier: GPL-2.0-only
/*
 * Transparent huge pages: out to swap and back, written while still in the
 * swap cache, and shared with a child that holds a reference.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "guest.h"

#define HUGE 4			/* huge pages per case; an even number */
#define MARK 0x5eed000000000000ULL
#define TRIES 8
#define LAND_MS 10000

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

/* A ram disk allocates as it is written to: let a delayed one take all the
 * pages first, or its allocations are counted with those of the faults. */
static void area_land(const struct area *a)
{
	if (!wait_written(a->pfn, a->pages, LAND_MS))
		broken("still under writeback after %d ms", LAND_MS);
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

static void roundtrip(void)
{
	long long whole = vmstat("thp_swpout"), allocated;
	struct area a;
	size_t wrong;

	plan(1);
	area_map(&a, HUGE);
	proof_count("swapped_out", pageout_all(a.base, a.pages), a.pages, "pages");
	area_land(&a);
	measure("swapped_whole", since("thp_swpout", whole), "huge pages");
	allocated = vmstat("pgalloc_*");
	mark(a.base, a.half_pages, MARK);
	measure("allocations", since("pgalloc_*", allocated), "pages");
	wrong = check_fill(a.half, a.half_pages, 'A');
	drain_all();
	measure("reused_after_read", write_half_reused(&a), "pages");
	judge_after_another_trip(&a, wrong);
}

static bool cached_whole(uint64_t flags)
{
	return flag_swapcache(flags) && flag_thp(flags);
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

/* ---- the parent's new secret and the child's old reference --------------- */

#define OLD_SECRET 0x41
#define NEW_SECRET 0x42
#define NO_BYTE 0x7f

struct leak {
	unsigned char *huge;
	size_t bytes;
	unsigned char *secret;
	int pipe[2];		/* holds the child's reference */
	int ready[2];		/* child: "I have it, and no mapping" */
	int written[2];		/* parent: "I have written" */
};

/* The child stays alive while the parent writes: it is the one who looks. */
static int take_unmap_and_look(void *arg)
{
	struct leak *l = arg;
	struct iovec one = { .iov_base = l->secret, .iov_len = 1 };
	unsigned char byte;

	if (vmsplice(l->pipe[1], &one, 1, 0) != 1)
		return NO_BYTE;
	unmap_pages(l->huge, l->bytes / PAGE_SIZE);
	if (write(l->ready[1], "x", 1) != 1)
		return NO_BYTE;
	if (read(l->written[0], &byte, 1) != 1 || read(l->pipe[0], &byte, 1) != 1)
		return NO_BYTE;
	return byte;
}

/* What the child saw after the parent's write. */
static int leak_once(struct leak *l)
{
	unsigned char byte;
	pid_t child;

	*l->secret = OLD_SECRET;
	child = spawn(take_unmap_and_look, l);
	if (read(l->ready[0], &byte, 1) != 1)
		broken("the child did not report");
	*l->secret = NEW_SECRET;
	if (write(l->written[1], "x", 1) != 1)
		broken("the child is gone");
	return reap(child);
}

static void leak_map(struct leak *l, int try)
{
	l->huge = map_thp(1);
	l->bytes = thp_pages() * PAGE_SIZE;
	/* not always the head: the write takes the subpage's way */
	l->secret = l->huge + (try * 37 % thp_pages()) * PAGE_SIZE;
	memset(l->huge, try + 1, l->bytes);
}

static void leak_thp(void)
{
	int huge = 0, looked = 0, leaks = 0;
	long long splits;
	struct leak l;

	plan(1);
	if (pipe(l.pipe) || pipe(l.ready) || pipe(l.written))
		broken("no pipe");
	splits = vmstat("thp_split_pmd");
	for (int i = 0; i < TRIES; i++) {
		int seen;

		leak_map(&l, i);
		huge += flag_thp(page_flags(page_at(l.secret).pfn));
		seen = leak_once(&l);
		looked += seen == OLD_SECRET || seen == NEW_SECRET;
		leaks += seen == NEW_SECRET;
		unmap_pages(l.huge, thp_pages());
	}
	proof_count("thp_mapped", huge, TRIES, "secrets were in a huge page");
	proof_count("child_read", looked, TRIES, "children looked at the page they hold");
	measure("pmd_splits", since("thp_split_pmd", splits), "splits");
	tries("no_leak", TRIES, leaks);
	verdict("no_leak", !leaks, "the parent's later write reached the child in %d of %d tries",
		leaks, TRIES);
}

static const struct guest_case cases[] = {
	/* a huge page that went through swap comes back with a part swapped for another */
	{ "roundtrip", roundtrip },
	/* CVE-2020-29374 for huge pages: mapcount 1 is taken for exclusive */
	{ "leak_thp", leak_thp },
	/* one subpage's write takes the slots of the other 511 with it */
	{ "cached_wr", cached_wr },
	{ NULL, NULL }
};

int main(int argc, char **argv)
{
	return guest_main(argc, argv, cases);
}
