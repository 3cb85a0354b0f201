// SPDX-License-Identifier: GPL-2.0-only
/*
 * A swapped set that many processes share by fork: more of them than the first
 * byte of a swap count can tell, so that the count has a continuation.
 */
#include <unistd.h>

#include "guest.h"

#define SHARERS 200		/* a byte tells 62: SWAP_MAP_MAX, linux/swap.h */
#define PAGES 16
#define SALT 0x6e
#define PARENT_VALUE 0x2000000
#define SHARER_VALUE 0x3000000

/* What the children found, in memory shared with the parent. */
struct result {
	size_t turns, swapped, wrong_read, wrong_written;
};

struct crowd {
	char *set;
	struct gate turn, done;
	struct result *result;
};

/*
 * Takes its turn: writes every other page outright and reads those that the
 * one before wrote, then gives all of them up.
 */
static int sharer(void *arg)
{
	struct crowd *c = arg;
	struct result *res = c->result;
	uint64_t value;
	char byte;

	/* A blocked read wakes one of us, where poll() would wake all */
	if (read(c->turn.fd[0], &byte, 1) != 1)
		return 1;
	value = SHARER_VALUE + 0x1000 * res->turns;
	res->swapped += count_swapped(c->set, PAGES);
	for (size_t i = res->turns % 2; i < PAGES; i += 2)
		mark_part(c->set, i, 1, value);
	for (size_t i = 0; i < PAGES; i++)
		if (i % 2 == res->turns % 2)
			res->wrong_written += check_marked_part(c->set, i, 1,
								SALT, value);
		else
			res->wrong_read += !page_is_fill(c->set + i * PAGE_SIZE,
							 i, SALT);
	res->turns++;
	unmap_pages(c->set, PAGES);
	gate_open(&c->done);
	return 0;
}

static void take_turns(struct crowd *c)
{
	static pid_t pids[SHARERS];

	for (size_t i = 0; i < SHARERS; i++)
		pids[i] = spawn(sharer, c);
	for (size_t i = 0; i < SHARERS; i++) {
		gate_open(&c->turn);
		if (!gate_wait(&c->done))
			broken("child %zu did not get to its end", i);
	}
	for (size_t i = 0; i < SHARERS; i++)
		if (reap(pids[i]))
			broken("child %zu did not end well", i);
}

static void many_sharers(void)
{
	static struct crowd c;
	long long before;

	plan(2);
	c = (struct crowd) { map_pages(PAGES), gate_make(), gate_make(),
			     map_shared(sizeof(struct result)) };
	knob_set("/proc/sys/vm/page-cluster", "0");
	fill(c.set, PAGES, SALT);
	proof_count("swapped_out", pageout_all(c.set, PAGES), PAGES,
		    "pages swapped (pagemap)");
	before = vmstat("pswpin");
	take_turns(&c);
	measure("swap_ins", vmstat("pswpin") - before, "pages");
	proof_count("all_swapped", c.result->swapped, (size_t)SHARERS * PAGES,
		    "pages swapped in the child whose turn it was");
	before = vmstat("pgalloc_*");
	mark(c.set, PAGES, PARENT_VALUE);
	measure("last_allocations", vmstat("pgalloc_*") - before, "pages");
	verdict("isolated", !c.result->wrong_read,
		"%zu of %d pages that the children read were not as at the fork",
		c.result->wrong_read, SHARERS * PAGES / 2);
	verdict_data(c.result->wrong_written +
		     check_marked(c.set, PAGES, SALT, PARENT_VALUE),
		     (size_t)SHARERS * PAGES / 2 + PAGES);
}

static const struct guest_case cases[] = {
	/* a swap count beyond its first byte is taken for a small one */
	{ "many_sharers", many_sharers },
	{ },
};

int main(int argc, char **argv)
{
	return guest_main(argc, argv, cases);
}
