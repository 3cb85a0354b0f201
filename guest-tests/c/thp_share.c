// SPDX-License-Identifier: GPL-2.0-only
/*
 * Transparent huge pages and others who map or hold them: a child's reference
 * to one part, a child that is gone, the last part mapped. References that
 * come and go are thp_transient.c's business.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "mthp.h"

#define TRIES 8
#define SALT 0x73
#define MARK 0x5a4e000000000000ULL
#define CHILD_MARK 0x5a4f000000000000ULL

static void *page_in(void *addr, size_t index)
{
	return (char *)addr + index * PAGE_SIZE;
}

static void *filled(void *addr, size_t pages, uint64_t *pfn)
{
	fill(addr, pages, SALT);
	pfns_read(addr, pages, pfn);
	return addr;
}

/* Filled, and each of the pages is a part of a huge page that is mapped whole. */
static void *map_filled(size_t huge_pages, uint64_t *pfn)
{
	return filled(map_thp(huge_pages), huge_pages * thp_pages(), pfn);
}

static uint64_t *pfn_array(size_t pages)
{
	uint64_t *pfn = calloc(pages + 1, sizeof(*pfn));

	if (!pfn)
		broken("out of memory");
	return pfn;
}

/* ---- a child that keeps one part by reference only ----------------------- */

struct holder {
	void *area;		/* what the child unmaps */
	size_t pages;
	void *held;		/* the part that its pipe keeps */
	struct gate holds, written;
	char *seen;		/* what it read afterwards, shared */
};

static int hold_unmap_and_look(void *arg)
{
	struct holder *h = arg;
	struct iovec part = { h->held, PAGE_SIZE };
	int fd[2];

	if (pipe(fd) || vmsplice(fd[1], &part, 1, 0) != (ssize_t)PAGE_SIZE)
		return 1;
	unmap_pages(h->area, h->pages);
	gate_open(&h->holds);
	if (!gate_wait(&h->written))
		return 1;
	return read(fd[0], h->seen, PAGE_SIZE) != (ssize_t)PAGE_SIZE;
}

static pid_t holder_start(struct holder *h)
{
	pid_t child;

	h->holds = gate_make();
	h->written = gate_make();
	child = spawn(hold_unmap_and_look, h);
	if (!gate_wait(&h->holds))
		broken("the child's vmsplice failed");
	/* only the pipe may hold the part now, no per-CPU vector */
	drain_all();
	return child;
}

/* The child has looked; true if it read its part. */
static bool holder_end(struct holder *h, pid_t child)
{
	bool looked;

	gate_open(&h->written);
	looked = !reap(child);
	gate_close(&h->holds);
	gate_close(&h->written);
	return looked;
}

struct score {
	size_t huge, swapped, looked, leaks, wrong;
};

/* @pages are those of a huge page, of the largest size or of 64 KiB. */
static void leak_once(struct score *s, int try, size_t pages, bool swap)
{
	/* the head and other parts in turn: they do not always go the same way */
	size_t part = (size_t)(try % 2) * try * 37 % pages;
	void *addr = pages == MTHP_PAGES ? map_mthp(1) : map_thp(1);
	uint64_t *pfn = pfn_array(pages);
	struct holder h = { .pages = pages, .seen = map_shared(PAGE_SIZE) };
	pid_t child;

	h.area = filled(addr, pages, pfn);
	h.held = page_in(h.area, part);
	s->huge += count_flagged(pfn, pages, flag_thp) == pages;
	if (swap) {
		s->swapped += pageout_all(h.area, pages) == pages;
		wait_written(pfn, 1);
	}
	child = holder_start(&h);
	mark_part(h.area, part, 1, MARK);
	s->looked += holder_end(&h, child);
	s->leaks += !page_is_fill(h.seen, part, SALT);
	s->wrong += check_marked_part(h.area, part, 1, SALT, MARK) +
		    check_fill(h.area, part, SALT);
	unmap_pages(h.area, pages);
	unmap_pages(h.seen, 1);
	free(pfn);
}

static struct score leak_tries(size_t pages, bool swap)
{
	struct score s = { 0 };

	plan(2);
	if (!pages)
		skip_all("this kernel has no transparent huge pages");
	if (swap && swap_is("none"))
		skip_all("needs swap");
	for (int i = 0; i < TRIES; i++)
		leak_once(&s, i, pages, swap);
	proof_count("thp_mapped", s.huge, TRIES, "secrets were in a huge page");
	if (swap)
		proof_count("swapped_out", s.swapped, TRIES, "huge pages swapped");
	proof_count("child_read", s.looked, TRIES,
		    "children looked at the page they hold");
	return s;
}

static void leak_judge(struct score s, size_t pages)
{
	tries("no_leak", TRIES, (int)s.leaks);
	verdict("no_leak", !s.leaks,
		"the parent's later write reached the child in %zu of %d tries",
		s.leaks, TRIES);
	verdict_data(s.wrong, TRIES * pages);
}

static void leak_thp(void)
{
	long long splits = vmstat("thp_split_pmd");
	struct score s = leak_tries(thp_pages(), false);

	measure("pmd_splits", vmstat("thp_split_pmd") - splits, "splits");
	leak_judge(s, thp_pages());
}

static void leak_thp_swap(void)
{
	long long splits = vmstat("thp_split_page");
	struct score s = leak_tries(thp_pages(), true);

	measure("page_splits", vmstat("thp_split_page") - splits, "splits");
	leak_judge(s, thp_pages());
}

static void leak_mthp_swap(void)
{
	leak_judge(leak_tries(MTHP_PAGES, true), MTHP_PAGES);
}

/* ---- a child that is gone ------------------------------------------------ */

#define FAMILY_HUGE 4		/* an even number: the child writes to half */

/*
 * One word in each huge page of the first half: the child's page table splits,
 * and one part of each is copied.
 */
static int write_a_little(void *addr)
{
	for (size_t i = 0; i < FAMILY_HUGE / 2; i++)
		mark_part(addr, i * thp_pages(), 1, CHILD_MARK);
	return 0;
}

static void child_exit(void)
{
	size_t pages = FAMILY_HUGE * thp_pages(), wrong;
	uint64_t *pfn = pfn_array(pages);
	long long splits;
	void *area;

	plan(1);
	area = map_filled(FAMILY_HUGE, pfn);
	proof_count("thp_mapped", count_flagged(pfn, pages, flag_thp), pages,
		    "pages are part of a huge page");
	proof("child_gone", !reap(spawn(write_a_little, area)),
	      "a child shared the huge pages, wrote and exited");
	wrong = check_fill(area, pages, SALT);
	splits = vmstat("thp_split_pmd");
	mark(area, pages, MARK);
	measure("pmd_splits", vmstat("thp_split_pmd") - splits, "splits");
	measure("pages_reused", (long long)count_same_pfn(area, pages, pfn), "pages");
	verdict_data(wrong + check_marked(area, pages, SALT, MARK), pages);
}

/* ---- the last part mapped ------------------------------------------------ */

#define LAST_TRIES 4
#define LAST_SETS 3		/* huge pages in a try: held, last, rest */

struct last {
	size_t looked, leaks, wrong, reused, rest_reused;
};

static void drop_parts(void *huge, size_t parts)
{
	if (madvise(huge, parts * PAGE_SIZE, MADV_DONTNEED))
		broken("MADV_DONTNEED is refused");
}

/*
 * Three huge pages, mapped by base pages: of two only the last part is left,
 * of the third only the first is gone. A child shares them all, keeps a
 * reference to the first one's last part, and unmaps them. So the references
 * to the head, where they are counted, are 2, 1 and one less than all.
 */
static void last_once(struct last *l)
{
	size_t huge = thp_pages(), pages = LAST_SETS * huge;
	uint64_t *pfn = pfn_array(pages);
	struct holder h = { .pages = pages, .seen = map_shared(PAGE_SIZE) };
	size_t held = huge - 1, last = 2 * huge - 1, rest = 2 * huge + 1;
	pid_t child;

	h.area = map_filled(LAST_SETS, pfn);
	h.held = page_in(h.area, held);
	drop_parts(h.area, held);
	drop_parts(page_in(h.area, huge), huge - 1);
	drop_parts(page_in(h.area, 2 * huge), 1);
	child = holder_start(&h);
	mark_part(h.area, held, 1, MARK);
	mark_part(h.area, last, 1, MARK);
	mark_part(h.area, rest, huge - 1, MARK);
	l->looked += holder_end(&h, child);
	l->leaks += !page_is_fill(h.seen, held, SALT);
	l->reused += count_same_pfn(page_in(h.area, last), 1, pfn + last);
	l->rest_reused += count_same_pfn(page_in(h.area, rest), huge - 1, pfn + rest);
	l->wrong += check_marked_part(h.area, held, 1, SALT, MARK) +
		    check_marked_part(h.area, last, 1, SALT, MARK) +
		    check_marked_part(h.area, rest, huge - 1, SALT, MARK);
	unmap_pages(h.area, pages);
	unmap_pages(h.seen, 1);
	free(pfn);
}

static void last_pte(void)
{
	long long splits = vmstat("thp_split_pmd");
	struct last l = { 0 };

	plan(2);
	for (int i = 0; i < LAST_TRIES; i++)
		last_once(&l);
	proof("pte_mapped", vmstat("thp_split_pmd") - splits >= LAST_SETS * LAST_TRIES,
	      "%lld mappings of huge pages were split",
	      vmstat("thp_split_pmd") - splits);
	proof_count("child_read", l.looked, LAST_TRIES,
		    "children looked at the page they hold");
	measure("last_reused", (long long)l.reused, "pages");
	measure("rest_reused", (long long)l.rest_reused, "pages");
	tries("no_leak", LAST_TRIES, (int)l.leaks);
	verdict("no_leak", !l.leaks,
		"the parent's later write reached the child in %zu of %d tries",
		l.leaks, LAST_TRIES);
	verdict_data(l.wrong, LAST_TRIES * (thp_pages() + 1));
}

static const struct guest_case cases[] = {
	/* CVE-2020-29374 for huge pages: mapcount 1 is taken for exclusive */
	{ "leak_thp", leak_thp },
	/* the same for a part of a huge page that swap, or its cache, gives back */
	{ "leak_thp_swap", leak_thp_swap },
	/* the same for one of 64 KiB, which swap gives back as a whole or in parts */
	{ "leak_mthp_swap", leak_mthp_swap },
	/* a huge page that is nobody else's any more is split or copied, or was never its own */
	{ "child_exit", child_exit },
	/* references to a huge page are counted at its head, not at the part written */
	{ "last_pte", last_pte },
	{ NULL, NULL }
};

int main(int argc, char **argv)
{
	return guest_main(argc, argv, cases);
}
