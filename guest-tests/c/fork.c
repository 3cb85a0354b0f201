// SPDX-License-Identifier: GPL-2.0-only
/*
 * Swapped pages shared by fork: the swap entry has two users, and each must
 * end up with its own copy. References that are not maps are gup.c's business.
 */
#include "guest.h"

#define PAGES 960
#define HALF ((size_t)PAGES / 2)
#define SALT 0x7c
#define PARENT_VALUE 0x2000000
#define CHILD_VALUE 0x3000000

/* What the child found, in memory shared with the parent. */
struct found {
	size_t swapped, wrong_read, wrong_written;
	long long allocations;
};

struct family {
	char *set;
	uint64_t *pfns;		/* before the pageout */
	struct gate child_ready, parent_wrote;
	struct found *found;
};

/* One half is read, to see what the parent left; the other written outright,
 * which is where the last user of an entry may take the page over. */
static int child(void *arg)
{
	struct family *f = arg;
	struct found *found = f->found;
	long long before;

	gate_open(&f->child_ready);
	if (!gate_wait(&f->parent_wrote))
		return 1;
	found->swapped = count_swapped(f->set, PAGES);
	before = vmstat("pgalloc_*");
	mark_part(f->set, HALF, HALF, CHILD_VALUE);
	found->allocations = vmstat("pgalloc_*") - before;
	found->wrong_read = check_fill(f->set, HALF, SALT);
	found->wrong_written = check_marked_part(f->set, HALF, HALF, SALT,
						 CHILD_VALUE);
	return 0;
}

static void swap_out(struct family *f)
{
	fill(f->set, PAGES, SALT);
	pfns_read(f->set, PAGES, f->pfns);
	proof_count("swapped_out", pageout_all(f->set, PAGES), PAGES,
		    "pages swapped (pagemap)");
	if (!wait_written(f->pfns, PAGES, 10000 + (int)swap_delay_ms()))
		broken("pages are under writeback after 10 s");
	drain_all();
}

/* Parent first: the entries then still have the child as a user. */
static void parent_then_child(struct family *f)
{
	pid_t pid = spawn(child, f);
	long long before;

	/* both have copied their stacks by now: no faults but the pages' own */
	if (!gate_wait(&f->child_ready))
		broken("the child does not run");
	before = vmstat("pgalloc_*");
	mark(f->set, PAGES, PARENT_VALUE);
	measure("parent_allocations", vmstat("pgalloc_*") - before, "pages");
	gate_open(&f->parent_wrote);
	if (reap(pid))
		broken("the child did not get to its end");
}

static void judge_family(struct family *f)
{
	struct found *c = f->found;

	proof_count("child_swapped", c->swapped, PAGES,
		    "of the child's pages swapped until the parent had written");
	measure("child_allocations", c->allocations, "pages");
	verdict("isolated", !c->wrong_read,
		"%zu of %zu pages that the child read were not as at the fork",
		c->wrong_read, HALF);
	verdict_data(c->wrong_written +
		     check_marked(f->set, PAGES, SALT, PARENT_VALUE),
		     HALF + PAGES);
}

static void both_swapped(void)
{
	static uint64_t pfns[PAGES];
	long long used = swap_used();
	struct family f = {
		.set = map_pages(PAGES),
		.pfns = pfns,
		.child_ready = gate_make(),
		.parent_wrote = gate_make(),
		.found = map_shared(sizeof(struct found)),
	};

	plan(2);
	swap_out(&f);
	parent_then_child(&f);
	judge_family(&f);
	unmap_pages(f.set, PAGES);
	measure("slots_left", swap_used() - used, "slots");
}

static const struct guest_case cases[] = {
	/* the first of two users of a swap entry writes into the page of both */
	{ "both_swapped", both_swapped },
	{ },
};

int main(int argc, char **argv)
{
	return guest_main(argc, argv, cases);
}
