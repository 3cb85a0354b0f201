// SPDX-License-Identifier: GPL-2.0-only
/*
 * CVE-2020-29374: a child keeps a parent's page through vmsplice, unmaps it,
 * and must not see what the parent writes later. One page, 8 tries.
 */
#define _GNU_SOURCE
#include "guest.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define TRIES 8
#define SALT 0x6b
#define SECRET 0x5ec2e7

enum order { NO_SWAP, SWAP_FORK, SWAP_READ_FORK, FORK_SWAP };

/* What the child tells, in memory shared with the parent. */
struct told {
	bool spliced, read;
	uint64_t pfn;
	char seen[PAGE_SIZE];
};

struct attempt {
	char *page;
	struct gate spliced, written;
	struct told *told;
};

struct score {
	size_t swapped, child_read, leaked, wrong, in_place;
};

/* Take a reference without mapping, and later look through it. */
static int child(void *arg)
{
	struct attempt *a = arg;
	struct iovec iov = { a->page, PAGE_SIZE };
	int fd[2];

	if (pipe(fd))
		return 1;
	a->told->spliced = vmsplice(fd[1], &iov, 1, 0) == (ssize_t)PAGE_SIZE;
	a->told->pfn = page_at(a->page).pfn;
	unmap_pages(a->page, 1);
	gate_open(&a->spliced);
	if (!a->told->spliced || !gate_wait(&a->written))
		return 1;
	a->told->read = read(fd[0], a->told->seen, PAGE_SIZE) == (ssize_t)PAGE_SIZE;
	return !a->told->read;
}

static bool child_holds(struct attempt *a, pid_t *pid)
{
	*pid = spawn(child, a);
	return gate_wait(&a->spliced) && a->told->spliced;
}

static void tally(struct attempt *a, struct score *s)
{
	s->child_read += a->told->read;
	s->in_place += a->told->pfn && page_at(a->page).pfn == a->told->pfn;
	s->leaked += a->told->read && !page_is_fill(a->told->seen, 0, SALT);
	s->wrong += check_marked(a->page, 1, SALT, SECRET);
}

/* On the device, too: stable-writes swap refuses a page under writeback. */
static size_t out_and_written(char *page)
{
	uint64_t pfn;
	size_t out;

	pfns_read(page, 1, &pfn);
	out = pageout_all(page, 1);
	wait_written(&pfn, 1);
	return out;
}

static void attempt_once(enum order order, struct score *s)
{
	struct attempt a = {
		.page = map_pages(1),
		.spliced = gate_make(),
		.written = gate_make(),
		.told = map_shared(sizeof(struct told)),
	};
	pid_t pid;

	fill(a.page, 1, SALT);
	if (order == SWAP_FORK || order == SWAP_READ_FORK)
		s->swapped += out_and_written(a.page);
	if (order == SWAP_READ_FORK)
		touch_read(a.page, 1);
	if (!child_holds(&a, &pid))
		broken("the child's vmsplice failed");
	if (order == FORK_SWAP)
		s->swapped += out_and_written(a.page);
	/* only the pipe may hold the page now, no per-CPU vector */
	drain_all();
	mark(a.page, 1, SECRET);
	gate_open(&a.written);
	reap(pid);
	tally(&a, s);
	unmap_pages(a.page, 1);
	unmap_pages(a.told, (sizeof(struct told) + PAGE_SIZE - 1) / PAGE_SIZE);
	gate_close(&a.spliced);
	gate_close(&a.written);
}

static void leak(enum order order)
{
	struct score s = { 0 };

	plan(2);
	for (int i = 0; i < TRIES; i++)
		attempt_once(order, &s);
	if (order != NO_SWAP)
		proof_count("swapped_out", s.swapped, TRIES,
			    "pages swapped (pagemap)");
	proof_count("child_read", s.child_read, TRIES,
		    "children read a page from their pipe");
	measure("written_in_place", (long long)s.in_place, "pages");
	tries("no_leak", TRIES, (int)s.leaked);
	verdict("no_leak", !s.leaked,
		"the parent's later write reached the child's pipe in %zu of %d tries",
		s.leaked, TRIES);
	verdict_data(s.wrong, TRIES);
}

static void leak_swap_fork(void)
{
	leak(SWAP_FORK);
}

static void leak_read_first(void)
{
	leak(SWAP_READ_FORK);
}

static void leak_fork_swap(void)
{
	leak(FORK_SWAP);
}

static void leak_base(void)
{
	leak(NO_SWAP);
}

static const struct guest_case cases[] = {
	/* reuse that sees map and swap counts only: the pipe's reference is in neither */
	{ "leak_swap_fork", leak_swap_fork },
	/* the same at the write-protect fault: a read fault had mapped the page */
	{ "leak_read_first", leak_read_first },
	/* the same, where reclaim had to leave the held page in the swap cache */
	{ "leak_fork_swap", leak_fork_swap },
	/* CVE-2020-29374 itself: do_wp_page believing the mapcount */
	{ "leak_base", leak_base },
	{ },
};

int main(int argc, char **argv)
{
	return guest_main(argc, argv, cases);
}
