// SPDX-License-Identifier: GPL-2.0-only
/*
 * The swap area itself: turned off while it is in use, and more than half
 * full. It puts the area back as it was, because the next case in this guest
 * needs it. What an area fills up with is growth.c's business.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/swap.h>
#include <unistd.h>

#include "guest.h"

#define SALT 0x39
#define PARENT_VALUE 0x2000000
#define CHILD_VALUE 0x3000000

/* ---- the area ------------------------------------------------------------- */

/* union swap_header, linux/swap.h: behind 1024 bytes for a boot loader */
struct header {
	char bootbits[1024];
	uint32_t version, last_page;
	char rest[PAGE_SIZE - 1032];
};

struct area {
	long long kb;
	int prio;
};

static struct area first;		/* as the runner set it up */
static struct header full_size, shrunk;	/* the second while version is not 0 */
static bool is_off;

/* What /proc/swaps says of our device; false if it is not there. */
static bool area_now(struct area *area)
{
	char line[256], name[128];
	FILE *f = fopen("/proc/swaps", "re");
	bool found = false;

	while (f && !found && fgets(line, sizeof(line), f))
		found = sscanf(line, "%127s %*s %lld %*s %d", name, &area->kb,
			       &area->prio) == 3 && !strcmp(name, swap_dev());
	if (f)
		fclose(f);
	return found;
}

static bool header_copy(struct header *h, bool to_device)
{
	int fd = open(swap_dev(), (to_device ? O_RDWR : O_RDONLY) | O_CLOEXEC);
	bool ok;

	if (fd < 0)
		return false;
	if (to_device)
		ok = pwrite(fd, h, sizeof(*h), 0) == sizeof(*h) && !fsync(fd);
	else
		ok = pread(fd, h, sizeof(*h), 0) == sizeof(*h);
	close(fd);
	return ok;
}

static bool area_on(void)
{
	int flags = first.prio < 0 ? 0 : SWAP_FLAG_PREFER | first.prio;

	is_off = swapon(swap_dev(), flags);
	return !is_off;
}

/* Also at exit, when a case ends early */
static void area_restore(void)
{
	if (shrunk.version && !is_off)
		is_off = !swapoff(swap_dev());
	if (shrunk.version && header_copy(&full_size, true))
		shrunk.version = 0;
	if (is_off)
		area_on();
}

static void area_off(void)
{
	struct area gone;

	if (!first.kb && !area_now(&first))
		skip_all("no swap on %s", swap_dev());
	atexit(area_restore);
	if (swapoff(swap_dev()))
		broken("swapoff %s does not succeed", swap_dev());
	is_off = true;
	if (area_now(&gone))
		broken("%s is in use after swapoff", swap_dev());
}

/* A smaller area on the same device. */
static void area_shrink(uint32_t slots)
{
	area_off();
	if (!header_copy(&full_size, false))
		broken("%s has no readable header", swap_dev());
	shrunk = full_size;
	shrunk.last_page = slots;
	if (!header_copy(&shrunk, true) || !area_on())
		broken("no smaller swap on %s", swap_dev());
}

/* The same size and priority as before, and pages go out and come back. */
static void judge_area(char *set, size_t pages)
{
	struct area now = { 0 };
	size_t out, wrong;
	bool same;

	area_restore();
	if (!area_now(&now))
		note("%s is not in /proc/swaps", swap_dev());
	fill(set, pages, SALT);
	out = pageout_all(set, pages);
	wrong = check_fill(set, pages, SALT);
	same = now.kb == first.kb && now.prio == first.prio;
	verdict("swap_is_back", same && out == pages && !wrong,
		"%lld kB of %lld, priority %d of %d, %zu of %zu pages go out, %zu come back wrong",
		now.kb, first.kb, now.prio, first.prio, out, pages, wrong);
}

/* ---- swapoff -------------------------------------------------------------- */

/* Each part is in another state when the area is turned off */
#define PART ((size_t)64)
enum own_part { OUT, READ_BACK, IN_FLIGHT, OWN_PARTS };
enum shared_part { BOTH_OUT, PARENT_IN, BOTH_IN, SHARED_PARTS };
#define OWN (OWN_PARTS * PART)
#define SHARED (SHARED_PARTS * PART)

struct mix {
	char *own, *shared;
	struct gate child_ready, parent_wrote;
	size_t *wrong;		/* in memory shared with the child: read, written */
};

static char *part(char *set, size_t index)
{
	return set + index * PART * PAGE_SIZE;
}

static int mix_child(void *arg)
{
	struct mix *m = arg;

	touch_read(part(m->shared, BOTH_IN), PART);
	gate_open(&m->child_ready);
	if (!gate_wait(&m->parent_wrote))
		return 1;
	m->wrong[0] = check_fill(m->shared, SHARED, SALT);
	mark(m->shared, SHARED, CHILD_VALUE);
	m->wrong[1] = check_marked(m->shared, SHARED, SALT, CHILD_VALUE);
	return 0;
}

static void mix_swap_out(struct mix *m)
{
	static uint64_t pfns[OWN + SHARED];
	size_t out;

	fill(m->own, OWN, SALT);
	fill(m->shared, SHARED, SALT);
	pfns_read(m->own, OWN, pfns);
	pfns_read(m->shared, SHARED, pfns + OWN);
	out = pageout_all(m->own, IN_FLIGHT * PART) +
	      pageout_all(m->shared, SHARED);
	proof_count("swapped_out", out, IN_FLIGHT * PART + SHARED, "pages");
	wait_written(pfns, OWN + SHARED);
}

/* From here to swapoff the last part's writeback must not end */
static void mix_take_off(struct mix *m)
{
	static uint64_t pfns[PART];
	size_t n;

	touch_read(part(m->own, READ_BACK), PART);
	touch_read(part(m->shared, PARENT_IN), 2 * PART);
	pfns_read(part(m->shared, PARENT_IN), PART, pfns);
	proof_count("mapped_in_cache", count_flagged(pfns, PART, flag_swapcache),
		    PART, "pages mapped here, in the swap cache, and swapped in the child");
	pfns_read(part(m->own, IN_FLIGHT), PART, pfns);
	proof_count("out_last", pageout(part(m->own, IN_FLIGHT), PART), PART, "pages");
	n = count_flagged(pfns, PART, flag_writeback);
	proof("in_flight", n == PART || !swap_delay_ms(),
	      "%zu pages under writeback, on %s swap", n, swap_kind());
	area_off();
}

static void judge_mix(struct mix *m, pid_t pid)
{
	static uint64_t pfns[OWN];
	size_t wrong = check_fill(m->own, OWN, SALT) +
		       check_fill(m->shared, SHARED, SALT);

	pfns_read(m->own, OWN, pfns);
	drain_all();
	mark(m->own, OWN, PARENT_VALUE);
	measure("pages_reused", (long long)count_same_pfn(m->own, OWN, pfns), "pages");
	mark(m->shared, SHARED, PARENT_VALUE);
	gate_open(&m->parent_wrote);
	if (reap(pid))
		broken("the child did not get to its end");
	verdict("isolated", !m->wrong[0],
		"%zu of %zu pages that the child read were not as at the fork",
		m->wrong[0], SHARED);
	wrong += check_marked(m->own, OWN, SALT, PARENT_VALUE) + m->wrong[1] +
		 check_marked(m->shared, SHARED, SALT, PARENT_VALUE);
	verdict_data(wrong, 2 * OWN + 3 * SHARED);
}

static void swapoff_mix(void)
{
	static struct mix m;
	pid_t pid;

	plan(3);
	m = (struct mix) { map_pages(OWN), map_pages(SHARED), gate_make(),
			   gate_make(), map_shared(2 * sizeof(size_t)) };
	if (madvise(m.own, OWN * PAGE_SIZE, MADV_DONTFORK))
		skip_all("MADV_DONTFORK is refused");
	mix_swap_out(&m);
	pid = spawn(mix_child, &m);
	if (!gate_wait(&m.child_ready))
		broken("the child does not run");
	mix_take_off(&m);
	judge_mix(&m, pid);
	judge_area(m.own, OWN);
}

/* ---- more than half full (vm_swap_full(), linux/swap.h) -------------------- */

#define SMALL 1600
#define BALLAST 960		/* keeps the area more than half full throughout */
#define SET 480
#define HALF ((size_t)SET / 2)

static uint64_t pfns[SET];

static void set_swap_out(char *set, size_t pages, const char *proven)
{
	pfns_read(set, pages, pfns);
	proof_count(proven, pageout_all(set, pages), pages, "pages swapped (pagemap)");
	wait_written(pfns, pages);
	drain_all();
}

/* The first half is read and written later, the second written outright. */
static void use_full(char *set)
{
	long long before;

	touch_read(set, HALF);
	measure("cache_left", (long long)count_flagged(pfns, HALF, flag_swapcache),
		"pages");
	drain_all();
	pfns_read(set, HALF, pfns);
	mark(set, HALF, PARENT_VALUE);
	measure("pages_reused", (long long)count_same_pfn(set, HALF, pfns), "pages");
	before = vmstat("pgalloc_*");
	mark_part(set, HALF, HALF, PARENT_VALUE);
	measure("allocations", vmstat("pgalloc_*") - before, "pages");
}

static void swap_full(void)
{
	char *set = map_pages(SET), *ballast = map_pages(BALLAST);
	size_t on_device;

	plan(3);
	area_shrink(SMALL);
	fill(set, SET, SALT);
	fill(ballast, BALLAST, SALT);
	if (pageout_all(ballast, BALLAST) != BALLAST)
		broken("the ballast does not go out");
	set_swap_out(set, SET, "swapped_out");
	if (!count_flagged(pfns, SET, flag_swapcache))
		skip_all("on %s swap pages leave the swap cache at once", swap_kind());
	use_full(set);
	proof("more_than_half", swap_used() > SMALL / 2, "%lld of %d slots in use",
	      swap_used(), SMALL);
	verdict_data(check_marked(set, SET, SALT, PARENT_VALUE), SET);
	set_swap_out(set, SET, "swapped_again");
	on_device = stale_on_device(set, SET, pfns, SALT, PARENT_VALUE);
	verdict("survives_swap", !on_device, "%zu of %d written pages are stale on the device",
		on_device, SET);
	unmap_pages(ballast, BALLAST);
	judge_area(set, SET);
}

static const struct guest_case cases[] = {
	/* swapoff loses a page, or gives one to two owners to write to */
	{ "swapoff_mix", swapoff_mix },
	/* a page whose slot is freed at swap-in because swap is nearly full */
	{ "swap_full", swap_full },
	{ },
};

int main(int argc, char **argv)
{
	return guest_main(argc, argv, cases);
}
