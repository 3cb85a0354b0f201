// SPDX-License-Identifier: GPL-2.0-only
/*
 * Swapped pages shared by fork: the swap entry has two users, and each must
 * end up with its own copy. References that are not maps are gup.c's business,
 * more users than two crowd.c's.
 */
#include "guest.h"

#include <unistd.h>

#define PAGES 960
#define HALF ((size_t)PAGES / 2)
#define SALT 0x7c
#define PARENT_VALUE 0x2000000
#define CHILD_VALUE 0x3000000

/* What the child found, in memory shared with the parent. */
struct found {
	size_t swapped, reused, wrong_read, wrong_written;
	long long allocations;
};

struct family {
	char *set;
	uint64_t pfns[PAGES];		/* before the pageout */
	struct gate child_ready, parent_wrote;
	struct found *found;
	long long used;			/* slots, before all of it */
};

static struct family family_make(void)
{
	return (struct family) {
		.used = swap_used(),
		.set = map_pages(PAGES),
		.child_ready = gate_make(),
		.parent_wrote = gate_make(),
		.found = map_shared(sizeof(struct found)),
	};
}

static void family_done(struct family *f)
{
	unmap_pages(f->set, PAGES);
	measure("slots_left", swap_used() - f->used, "slots");
}

static void wait_until_written(struct family *f)
{
	wait_written(f->pfns, PAGES);
	drain_all();
}

static void swap_out(struct family *f)
{
	fill(f->set, PAGES, SALT);
	pfns_read(f->set, PAGES, f->pfns);
	proof_count("swapped_out", pageout_all(f->set, PAGES), PAGES,
		    "pages swapped (pagemap)");
	wait_until_written(f);
}

static bool child_waits(struct family *f)
{
	gate_open(&f->child_ready);
	return gate_wait(&f->parent_wrote);
}

/* Writes the second half; returns what that allocated. */
static long long write_half(char *set, uint64_t value)
{
	long long before = vmstat("pgalloc_*");

	mark_part(set, HALF, HALF, value);
	return vmstat("pgalloc_*") - before;
}

/*
 * One half is read, to see what the parent left; the other written outright,
 * which is where the last user of an entry may take the page over.
 */
static int child(void *arg)
{
	struct family *f = arg;
	struct found *found = f->found;

	if (!child_waits(f))
		return 1;
	found->swapped = count_swapped(f->set, PAGES);
	found->allocations = write_half(f->set, CHILD_VALUE);
	found->wrong_read = check_fill(f->set, HALF, SALT);
	found->wrong_written = check_marked_part(f->set, HALF, HALF, SALT,
						 CHILD_VALUE);
	return 0;
}

static pid_t spawn_child(struct family *f, int (*fn)(void *))
{
	pid_t pid = spawn(fn, f);

	if (!gate_wait(&f->child_ready))
		broken("the child does not run");
	return pid;
}

static void let_child_go(struct family *f, pid_t pid)
{
	gate_open(&f->parent_wrote);
	if (reap(pid))
		broken("the child did not get to its end");
	proof_count("child_swapped", f->found->swapped, PAGES,
		    "of the child's pages swapped until the parent had written");
}

/* The parent first: the entries then still have the child as a user. */
static void parent_then_child(struct family *f, pid_t pid)
{
	long long before = vmstat("pgalloc_*");

	/* both have copied their stacks by now: no faults but the pages' own */
	mark(f->set, PAGES, PARENT_VALUE);
	measure("parent_allocations", vmstat("pgalloc_*") - before, "pages");
	let_child_go(f, pid);
}

static void judge_read(size_t wrong, size_t pages, const char *reader)
{
	verdict("isolated", !wrong,
		"%zu of %zu pages that %s read were not as at the fork",
		wrong, pages, reader);
}

static void judge_family(struct family *f)
{
	struct found *c = f->found;

	measure("child_allocations", c->allocations, "pages");
	judge_read(c->wrong_read, HALF, "the child");
	verdict_data(c->wrong_written +
		     check_marked(f->set, PAGES, SALT, PARENT_VALUE),
		     HALF + PAGES);
	family_done(f);
}

static void both_swapped(void)
{
	static struct family f;

	plan(2);
	f = family_make();
	swap_out(&f);
	parent_then_child(&f, spawn_child(&f, child));
	judge_family(&f);
}

/* The same, but what was shared are pages: reclaim makes entries of them. */
static void shared_force(void)
{
	static struct family f;
	size_t out = 0;
	pid_t pid;

	plan(2);
	if (swap_is("none"))
		skip_all("needs swap");
	in_memcg(NULL, NULL);
	f = family_make();
	fill(f.set, PAGES, SALT);
	pfns_read(f.set, PAGES, f.pfns);
	pid = spawn_child(&f, child);
	for (int round = 0; round < 8 && out < PAGES; round++) {
		memcg_reclaim();
		out = count_swapped(f.set, PAGES);
	}
	proof_count("swapped_out", out, PAGES, "pages swapped (pagemap)");
	wait_until_written(&f);
	parent_then_child(&f, pid);
	judge_family(&f);
}

/* Reads all and writes half later: by then it is the only user. */
static int late_child(void *arg)
{
	static struct page_state before[HALF], after[HALF];
	struct family *f = arg;
	struct found *found = f->found;
	char *half = f->set + HALF * PAGE_SIZE;

	if (!child_waits(f))
		return 1;
	found->swapped = count_swapped(f->set, PAGES);
	found->wrong_read = check_fill(f->set, PAGES, SALT);
	drain_all();
	pagemap_read(half, HALF, before);
	write_half(f->set, CHILD_VALUE);
	pagemap_read(half, HALF, after);
	for (size_t i = 0; i < HALF; i++)
		found->reused += before[i].present && after[i].present &&
				 before[i].pfn == after[i].pfn;
	found->wrong_written = check_marked_part(f->set, HALF, HALF, SALT,
						 CHILD_VALUE);
	return 0;
}

static void shared_slot(void)
{
	static struct family f;
	pid_t pid;

	plan(2);
	f = family_make();
	swap_out(&f);
	pid = spawn_child(&f, late_child);
	touch_read(f.set, PAGES);
	/* now nobody has the pages but the parent and the swap cache */
	drain_all();
	mark(f.set, PAGES, PARENT_VALUE);
	let_child_go(&f, pid);
	measure("child_reused", (long long)f.found->reused, "pages");
	judge_read(f.found->wrong_read, PAGES, "the child");
	verdict_data(f.found->wrong_written +
		     check_marked(f.set, PAGES, SALT, PARENT_VALUE),
		     HALF + PAGES);
	family_done(&f);
}

static int writing_child(void *arg)
{
	struct family *f = arg;

	f->found->swapped = count_swapped(f->set, PAGES);
	mark(f->set, PAGES, CHILD_VALUE);
	f->found->wrong_written = check_marked(f->set, PAGES, SALT, CHILD_VALUE);
	return 0;
}

/* The child first, and it is gone when the parent looks. */
static void child_wr_slot(void)
{
	static struct family f;
	size_t wrong;

	plan(2);
	f = family_make();
	swap_out(&f);
	if (reap(spawn(writing_child, &f)))
		broken("the child did not get to its end");
	proof_count("child_swapped", f.found->swapped, PAGES,
		    "of the child's pages swapped when it wrote");
	proof_count("parent_swapped", count_swapped(f.set, PAGES), PAGES,
		    "of the parent's pages swapped after that");
	measure("parent_allocations", write_half(f.set, PARENT_VALUE), "pages");
	judge_read(check_fill(f.set, HALF, SALT), HALF, "the parent");
	wrong = check_marked_part(f.set, HALF, HALF, SALT, PARENT_VALUE);
	verdict_data(f.found->wrong_written + wrong, PAGES + HALF);
	family_done(&f);
}

static const struct guest_case cases[] = {
	/* the first of two users of a swap entry writes into the page of both */
	{ "both_swapped", both_swapped },
	/* the same after a read: the write fault finds a page in the swap cache */
	{ "shared_slot", shared_slot },
	/* the child writes into the page of both, and is gone */
	{ "child_wr_slot", child_wr_slot },
	/* reclaim counts an entry for one of two mappings only */
	{ "shared_force", shared_force },
	{ },
};

int main(int argc, char **argv)
{
	return guest_main(argc, argv, cases);
}
