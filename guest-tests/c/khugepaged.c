// SPDX-License-Identifier: GPL-2.0-only
/*
 * khugepaged gathers base pages into a huge page while some of them are in
 * the swap cache, share a swap slot or a mapping with a child, are on their
 * way to swap that needs stable pages, or are held by a reference. It copies;
 * nobody may notice by what they read.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "collapse.h"
#include "inflight.h"

#define SALT RANGE_SALT
#define MARK 0x6b48000000000000ULL

/* The first huge page's worth goes out, and the device has it. */
static void out_and_landed(struct range *r)
{
	proof_count("swapped_out", pageout_all(r->base, thp_pages()), thp_pages(),
		    "pages");
	wait_written(r->pfn, thp_pages());
}

static void need_swap(void)
{
	if (swap_is("none"))
		skip_all("needs swap");
	/* one slot, one read: readahead would map nothing, but fill the cache */
	knob_set("/proc/sys/vm/page-cluster", "0");
}

/* ---- pages in the swap cache ---------------------------------------------- */

static void kh_cached(void)
{
	long long used = swap_used();
	struct range r;
	size_t wrong, last;

	plan(1);
	need_swap();
	khugepaged_awake();
	range_map(&r, 1);
	out_and_landed(&r);
	touch_read(r.base, r.pages);
	/* without a page that is writable, older kernels leave the range alone */
	last = r.pages - 1;
	mark_part(r.base, last, 1, MARK);
	pfns_read(r.base, r.pages, r.pfn);
	proof_count("in_swap_cache", count_flagged(r.pfn, last, flag_swapcache),
		    last, "pages are mapped and in the swap cache");
	prove_collapse(&r);
	measure("collapsed", (long long)huge_parts(r.base, r.pages), "pages");
	measure("slots_left", swap_used() - used, "slots");
	wrong = wrong_fill(&r, 0, last) + check_marked_part(r.base, last, 1, SALT, MARK);
	mark(r.base, r.pages, MARK);
	verdict_data(wrong + check_marked(r.base, r.pages, SALT, MARK), r.pages);
}

/* ---- slots and pages shared with a child ---------------------------------- */

struct family {
	struct range r;		/* first huge page: slots; second: mappings */
	struct gate ready, done;
	size_t *wrong;		/* found by the child, shared */
};

static int child_reads_last(void *arg)
{
	struct family *f = arg;

	gate_open(&f->ready);
	if (!gate_wait(&f->done))
		return 1;
	*f->wrong = wrong_fill(&f->r, 0, f->r.pages);
	return 0;
}

/*
 * Of each huge page's worth the second half is the parent's alone; of the
 * first, a quarter is read and a quarter left where it is.
 */
static void parent_mixes(struct family *f, size_t half)
{
	mark_part(f->r.base, half, half, MARK);
	mark_part(f->r.base, 3 * half, half, MARK);
	/* the control must not be shared, or nothing would show the scan */
	mark(f->r.control, 2 * half, MARK);
	touch_read(f->r.base, half / 2);
}

static void family_judge(struct family *f, size_t half, pid_t child)
{
	struct range *r = &f->r;
	size_t wrong;

	wrong = wrong_fill(r, 0, half) + wrong_fill(r, 2 * half, half) +
		check_marked_part(r->base, half, half, SALT, MARK) +
		check_marked_part(r->base, 3 * half, half, SALT, MARK);
	mark(r->base, r->pages, MARK);
	gate_open(&f->done);
	proof("child_read", !reap(child), "the child read after the parent had written");
	verdict("child_intact", !*f->wrong,
		"%zu of %zu pages that the child read were not as at the fork",
		*f->wrong, r->pages);
	verdict_data(wrong + check_marked(r->base, r->pages, SALT, MARK), r->pages);
}

static void kh_shared_slot(void)
{
	struct family f = { .ready = gate_make(), .done = gate_make() };
	size_t half = thp_pages() / 2, swapped;
	pid_t child;

	plan(2);
	need_swap();
	khugepaged_awake();
	range_map(&f.r, 2);
	out_and_landed(&f.r);
	f.wrong = map_shared(sizeof(*f.wrong));
	child = spawn(child_reads_last, &f);
	if (!gate_wait(&f.ready))
		broken("the child does not run");
	parent_mixes(&f, half);
	swapped = count_swapped(f.r.base, half);
	proof_count("shared_swapped", swapped, half / 2, "pages are still swapped");
	prove_collapse(&f.r);
	measure("swapped_in", (long long)(swapped - count_swapped(f.r.base, half)), "pages");
	measure("collapsed_slots", (long long)huge_parts(f.r.base, 2 * half), "pages");
	measure("collapsed_mapped", (long long)huge_parts(range_page(&f.r, 2 * half), 2 * half),
		"pages");
	family_judge(&f, half, child);
}

/* ---- pages on their way to swap that needs them stable --------------------- */

#define FLIGHTS 8

/*
 * A flight whose pages are read back, shown to khugepaged and written, all
 * before the device has taken them; false if it landed too early.
 */
static bool flight_collapsed(struct flight *f, struct range *r, long long *huge)
{
	size_t out;

	range_map(r, 1);
	f->base = r->base;
	memcpy(flight_model, r->base, sizeof(flight_model));
	out = flight_depart(f);
	if (out != FLIGHT_PAGES)
		broken("%zu of %d pages went out", out, FLIGHT_PAGES);
	touch_read(f->base, FLIGHT_PAGES);
	if (!collapse(r))
		broken("no scan within %d ms", SCAN_MS);
	hide(r);
	*huge = (long long)huge_parts(r->base, r->pages);
	flight_write(f, 0, FLIGHT_PAGES, 'B');
	return count_flagged(f->pfn, FLIGHT_PAGES, flag_writeback) == FLIGHT_PAGES;
}

static void kh_wb_stable(void)
{
	bool aloft = false;
	long long huge = 0;
	struct flight f;
	struct range r;
	size_t changed;

	plan(2);
	if (!swap_is("delayed-stable"))
		skip_all("needs swap with delayed, stable writes");
	need_swap();
	khugepaged_awake();
	/* a busy host may let a flight land before khugepaged came by */
	for (int i = 0; i < FLIGHTS && !aloft; i++) {
		aloft = flight_collapsed(&f, &r, &huge);
		flight_land(&f);
	}
	proof("scanned_in_flight", aloft, "scanned and written while under writeback");
	measure("collapsed_in_flight", huge, "pages");
	changed = flight_changed(&f);
	verdict("device_stable", !changed,
		"%zu of %d pages changed on their way to the device",
		changed, FLIGHT_PAGES);
	verdict_data(flight_wrong(&f) +
		     wrong_fill(&r, FLIGHT_PAGES, r.pages - FLIGHT_PAGES), r.pages);
}

/* ---- a page that a reference holds ----------------------------------------- */

static void kh_ref(void)
{
	static char seen[PAGE_SIZE];
	size_t held, kept;
	struct iovec page;
	struct range r;
	bool in_sync;
	int fd[2];

	plan(2);
	khugepaged_awake();
	range_map(&r, 1);
	held = r.pages / 3;
	page = (struct iovec){ range_page(&r, held), PAGE_SIZE };
	if (pipe(fd) || vmsplice(fd[1], &page, 1, 0) != (ssize_t)PAGE_SIZE)
		broken("vmsplice is refused");
	prove_collapse(&r);
	kept = count_same_pfn(range_page(&r, held), 1, r.pfn + held);
	measure("collapsed_held", (long long)huge_parts(r.base, r.pages), "pages");
	mark(r.base, r.pages, MARK);
	if (read(fd[0], seen, PAGE_SIZE) != (ssize_t)PAGE_SIZE)
		broken("the pipe is empty");
	in_sync = page_is_marked(seen, held, SALT, MARK);
	verdict("in_sync", in_sync, "the page %s, its holder %s what was written last",
		kept ? "stayed" : "was replaced", in_sync ? "reads" : "does not read");
	/* nothing else kept the range from becoming a huge page */
	collapse(&r);
	hide(&r);
	proof_count("free_to_go", huge_parts(r.base, r.pages), r.pages,
		    "pages are part of a huge page without the reference");
	verdict_data(check_marked(r.base, r.pages, SALT, MARK), r.pages);
}

static const struct guest_case cases[] = {
	/* a page of the swap cache is lost, or its slot is, or no huge page forms */
	{ "kh_cached", kh_cached },
	/* a page goes, although a child still needs it by its slot or mapping */
	{ "kh_shared_slot", kh_shared_slot },
	/* a page is changed or freed while the device still reads it */
	{ "kh_wb_stable", kh_wb_stable },
	/* a held page is replaced: its holder reads, or writes, the old one */
	{ "kh_ref", kh_ref },
	{ NULL, NULL }
};

int main(int argc, char **argv)
{
	return guest_main(argc, argv, cases);
}
