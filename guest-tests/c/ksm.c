// SPDX-License-Identifier: GPL-2.0-only
/*
 * Merged pages: one of those who share a KSM page writes, and the others must
 * keep what they have; also when the page went to swap in between, and when
 * the writer was the last one and somebody new joins later.
 */
#define _GNU_SOURCE
#include "guest.h"

#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define KSM "/sys/kernel/mm/ksm/"
#define PAGES 64
/*
 * The low bytes, which differ by page, come first in memory: KSM keeps its
 * tree in the order of contents, and marking a page does not change its place
 * there. A page changed behind KSM's back is still found.
 */
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

	/*
	 * A page written in place is still in KSM's tree, under its new content:
	 * who joins now is given the page that its owner can write to
	 */
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

/* Returns how many of both views' mappings are out. */
static size_t reclaim_shared(struct twins *t)
{
	size_t out = 0;

	for (int round = 0; round < 8 && out < 2 * PAGES; round++) {
		memcg_reclaim();
		out = count_swapped(t->a, PAGES) + count_swapped(t->b, PAGES);
	}
	return out;
}

/* In a memory group, for reclaim_shared(); one slot, one read, for pswpin. */
static void twins_merge_for_swap(struct twins *t)
{
	if (swap_is("none"))
		skip_all("needs swap");
	in_memcg(NULL, NULL);
	knob_set("/proc/sys/vm/page-cluster", "0");
	twins_merge(t);
}

static void ksm_swap_wr(void)
{
	long long in;
	struct twins t;
	size_t wrong;

	plan(2);
	twins_merge_for_swap(&t);
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

/* Pages that both views have in one frame, KSM's or not. */
static size_t count_common(struct twins *t)
{
	pfns_read(t->a, PAGES, t->pfn);
	return count_same_pfn(t->b, PAGES, t->pfn);
}

/* What was one page must come back as two when merging is being undone. */
static void ksm_unmerge_swapin(void)
{
	size_t common, wrong;
	struct twins t;
	long long in;

	plan(2);
	twins_merge_for_swap(&t);
	proof_count("swapped_out", reclaim_shared(&t), 2 * PAGES, "mappings");
	knob_set(KSM "run", "2");
	in = vmstat("pswpin");
	touch_read(t.a, PAGES);
	touch_read(t.b, PAGES);
	measure("swap_ins", vmstat("pswpin") - in, "pages");
	common = count_common(&t);
	verdict("unmerged", !common, "%zu of %d pages are still one in both views",
		common, PAGES);
	mark(t.a, PAGES, MARK);
	/* A page whose reverse map knows only one of its places stays in memory */
	measure("out_again", (long long)reclaim_shared(&t), "mappings");
	wrong = check_marked(t.a, PAGES, 'K', MARK) +
		check_marked(t.b, PAGES, 'K', FIRST_MARK);
	verdict_data(wrong, 2 * PAGES);
}

/*
 * Pages out what one view holds, so that it is in the swap cache and mapped:
 * read back or, where writeback takes its time, written while it lasts, which
 * leaves the page there with a writable mapping. What is written then is
 * nowhere else. Returns the pages that came as far.
 */
static size_t cache_view(unsigned char *view, uint64_t *pfns)
{
	size_t out;

	pfns_read(view, PAGES, pfns);
	out = pageout(view, PAGES);
	/* the last few that reclaim kept are in a per-CPU vector otherwise */
	drain_all();
	if (swap_delay_ms())
		mark(view, PAGES, FIRST_MARK);
	else
		out = pageout_all(view, PAGES);
	wait_written(pfns, PAGES);
	if (swap_delay_ms())
		mark(view, PAGES, MARK);
	else
		touch_read(view, PAGES);
	drain_all();
	pfns_read(view, PAGES, pfns);
	return out;
}

static void ksm_merge_cached(void)
{
	uint64_t first = swap_delay_ms() ? MARK : FIRST_MARK;
	static uint64_t pfns[2 * PAGES];
	struct twins t;
	size_t n;

	plan(2);
	if (swap_is("none"))
		skip_all("needs swap");
	in_memcg(NULL, NULL);
	knob_set("/proc/sys/vm/page-cluster", "0");
	t.a = map_mergeable(FIRST_MARK);
	t.b = map_mergeable(FIRST_MARK);
	n = cache_view(t.a, pfns) + cache_view(t.b, pfns + PAGES);
	proof_count("swapped_out", n, 2 * PAGES, "pages swapped (pagemap)");
	n = count_flagged(pfns, 2 * PAGES, flag_swapcache);
	if (!n)
		skip_all("on %s swap pages leave the swap cache at once", swap_kind());
	proof_count("in_swap_cache", n, 2 * PAGES, "pages mapped and in the swap cache");
	ksm_start();
	prove_merged("merged", t.a, t.b);
	knob_set(KSM "run", "0");
	/* half of the frames are merged into the others and ought to be free */
	measure("cache_left", (long long)count_flagged(pfns, 2 * PAGES, flag_swapcache),
		"pages");
	mark(t.b, PAGES, OTHER_MARK);
	n = check_marked(t.a, PAGES, 'K', first) +
	    check_marked(t.b, PAGES, 'K', OTHER_MARK);
	verdict("sharer_intact", !n,
		"%zu of %d pages are not as their owner left them", n, 2 * PAGES);
	proof_count("swapped_again", reclaim_shared(&t), 2 * PAGES, "mappings");
	n = check_marked(t.a, PAGES, 'K', first) +
	    check_marked(t.b, PAGES, 'K', OTHER_MARK);
	verdict("survives_swap", !n,
		"%zu of %d pages are not what went to swap", n, 2 * PAGES);
}

/*
 * The other one of a merged page: a program of its own, for a fork would make
 * relatives of both. In step with its starter over standard input and output.
 */
#define SHARER "sharer"

static bool in_step(void)
{
	char byte = 0;

	return write(STDOUT_FILENO, &byte, 1) == 1 && read(STDIN_FILENO, &byte, 1) == 1;
}

/* Exits with the number of pages that changed in its pipe, or with 255. */
static int sharer(void)
{
	unsigned char *area = map_mergeable(FIRST_MARK);
	struct iovec iov = { area, PAGES * PAGE_SIZE };
	static char seen[PAGE_SIZE];
	int fd[2], changed = 0;

	if (!in_step() || pipe(fd))
		return 255;
	if (fcntl(fd[1], F_SETPIPE_SZ, PAGES * PAGE_SIZE) < 0 ||
	    vmsplice(fd[1], &iov, 1, 0) != (ssize_t)iov.iov_len)
		return 255;
	if (!in_step())
		return 255;
	unmap_pages(area, PAGES);
	if (!in_step())
		return 255;
	for (size_t i = 0; i < PAGES; i++) {
		if (read(fd[0], seen, PAGE_SIZE) != (ssize_t)PAGE_SIZE)
			return 255;
		changed += !page_is_marked(seen, i, 'K', FIRST_MARK);
	}
	return changed;
}

struct partner {
	pid_t pid;
	int to, from;
};

/* posix_spawn() shares memory with us until it execs: no fork happens. */
static struct partner start_sharer(void)
{
	char *const argv[] = { "ksm", SHARER, NULL };
	posix_spawn_file_actions_t act;
	int in[2], out[2];
	struct partner p;

	if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC))
		broken("no pipe");
	posix_spawn_file_actions_init(&act);
	posix_spawn_file_actions_adddup2(&act, in[0], STDIN_FILENO);
	posix_spawn_file_actions_adddup2(&act, out[1], STDOUT_FILENO);
	if (posix_spawn(&p.pid, "/proc/self/exe", &act, NULL, argv, environ))
		broken("the sharer does not start");
	posix_spawn_file_actions_destroy(&act);
	close(in[0]);
	close(out[1]);
	p.to = in[1];
	p.from = out[0];
	return p;
}

/* Wait until it has come to its next step; it waits there for let_go(). */
static void wait_step(const struct partner *p)
{
	char byte;

	if (read(p->from, &byte, 1) != 1)
		broken("the sharer is gone");
}

static void let_go(const struct partner *p)
{
	if (write(p->to, "", 1) != 1)
		broken("the sharer is gone");
}

static size_t count_mapcount(const uint64_t *pfns, uint64_t maps)
{
	size_t n = 0;

	for (size_t i = 0; i < PAGES; i++)
		n += page_count(pfns[i]) == maps;
	return n;
}

static void wait_shared_with(const unsigned char *area, uint64_t *pfns)
{
	size_t shared = 0;

	for (int ms = 0; ms < MERGE_MS && shared < PAGES; ms += 20) {
		sleep_ms(20);
		pfns_read(area, PAGES, pfns);
		shared = count_flagged(pfns, PAGES, flag_ksm);
		if (shared == PAGES)
			shared = count_mapcount(pfns, 2);
	}
	proof_count("merged", shared, PAGES, "KSM pages have two mappings");
}

/*
 * The sharer keeps merged pages in a pipe and unmaps them; they are in the swap
 * cache and nobody's by map and swap counts but the writer's.
 */
static void ksm_leak_swap(void)
{
	static uint64_t pfns[PAGES];
	unsigned char *area;
	int changed, status;
	struct partner p;
	size_t n;

	plan(2);
	if (swap_is("none"))
		skip_all("needs swap");
	in_memcg(NULL, NULL);
	knob_set("/proc/sys/vm/page-cluster", "0");
	area = map_mergeable(FIRST_MARK);
	p = start_sharer();
	wait_step(&p);
	ksm_start();
	wait_shared_with(area, pfns);
	knob_set(KSM "run", "0");
	let_go(&p);
	wait_step(&p);
	for (int round = 0; round < 8 && count_swapped(area, PAGES) < PAGES; round++)
		memcg_reclaim();
	proof_count("swapped_out", count_swapped(area, PAGES), PAGES, "pages swapped (pagemap)");
	wait_written(pfns, PAGES);
	let_go(&p);
	wait_step(&p);
	drain_all();
	n = count_flagged(pfns, PAGES, flag_swapcache);
	proof_count("kept_by_pipe", n, PAGES, "merged pages unmapped and in the swap cache");
	mark(area, PAGES, MARK);
	measure("written_in_place", (long long)count_same_pfn(area, PAGES, pfns), "pages");
	let_go(&p);
	if (waitpid(p.pid, &status, 0) != p.pid)
		broken("the sharer cannot be waited for");
	changed = WIFEXITED(status) ? WEXITSTATUS(status) : 255;
	proof("sharer_read", changed <= PAGES, "the sharer ended with status %#x", status);
	tries("no_leak", PAGES, changed);
	verdict("no_leak", !changed, "%d of %d pages changed in the sharer's pipe",
		changed, PAGES);
	verdict_data(check_marked(area, PAGES, 'K', MARK), PAGES);
}

static const struct guest_case cases[] = {
	/* a KSM page with one mapping left is written in place */
	{ "ksm_wr", ksm_wr },
	/* a shared slot's page is reused although another still needs the slot */
	{ "ksm_swap_wr", ksm_swap_wr },
	/* one page comes back for two owners although merging is being undone */
	{ "ksm_unmerge_swapin", ksm_unmerge_swapin },
	/* a page merged in the swap cache is taken for a copy of its slot */
	{ "ksm_merge_cached", ksm_merge_cached },
	/* a KSM page in the swap cache is written in place while a pipe holds it */
	{ "ksm_leak_swap", ksm_leak_swap },
	{ NULL, NULL }
};

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], SHARER))
		return sharer();
	return guest_main(argc, argv, cases);
}
