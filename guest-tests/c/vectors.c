// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pages that nobody shares, while one of the kernel's own per-CPU LRU vectors
 * holds a reference: is a write fault fooled by it, and is the content right
 * either way? cow.c has the same pages without such a reference.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "swapset.h"

#ifndef MADV_COLD
#define MADV_COLD 20
#endif

/* Fewer than a vector holds (PAGEVEC_SIZE, 15 and later 31), or it is emptied. */
#define BATCH 8

static void rd_wr_sync(void)
{
	struct counters before;
	size_t reused = 0;
	char *set;

	plan(2);
	set = freed_set();
	before = counters_now();
	for (size_t i = 0; i < SET_PAGES; i++) {
		char *page = set + i * PAGE_SIZE;
		uint64_t pfn;

		touch_read(page, 1);
		pfns_read(page, 1, &pfn);
		mark_part(set, i, 1, SET_VALUE);
		reused += count_same_pfn(page, 1, &pfn);
	}
	prove_swapped_in(before);
	measure("pages_reused", (long long)reused, "pages");
	judge_written(set);
}

/* Read on one CPU, whose vector keeps the pages, and written on the other. */
static size_t remote_batch(char *set, size_t from)
{
	uint64_t pfns[BATCH];

	pin_cpu(0);
	drain_local();
	touch_read(set + from * PAGE_SIZE, BATCH);
	pfns_read(set + from * PAGE_SIZE, BATCH, pfns);
	pin_cpu(1);
	mark_part(set, from, BATCH, SET_VALUE);
	return count_same_pfn(set + from * PAGE_SIZE, BATCH, pfns);
}

static void remote_pagevec(void)
{
	struct counters before;
	size_t reused = 0;
	char *set;

	plan(2);
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		skip_all("needs two CPUs");
	set = freed_set();
	before = counters_now();
	for (size_t i = 0; i < SET_PAGES; i += BATCH)
		reused += remote_batch(set, i);
	prove_swapped_in(before);
	measure("pages_reused", (long long)reused, "pages");
	pin_cpu(0);
	judge_written(set);
}

static bool flag_active(uint64_t flags)
{
	return flags >> 6 & 1;
}

/* Two references taken in passing make an inactive page active. */
static void activate(char *set)
{
	static char buf[SET_PAGES];

	for (int round = 0; round < 2; round++) {
		for (size_t i = 0; i < SET_PAGES; i++) {
			struct iovec to = { buf + i, 1 };
			struct iovec from = { set + i * PAGE_SIZE, 1 };

			if (process_vm_readv(getpid(), &to, 1, &from, 1, 0) != 1)
				skip_all("process_vm_readv: %s", strerror(errno));
		}
		drain_all();
	}
	pfns_read(set, SET_PAGES, set_pfns);
	proof_count("active", count_flagged(set_pfns, SET_PAGES, flag_active),
		    SET_PAGES, "pages on the active list");
}

static void cold_ref(void)
{
	size_t reused[2] = { 0, 0 };
	char *set;

	plan(2);
	set = swapped_set();
	touch_read(set, SET_PAGES);
	activate(set);
	for (size_t i = 0; i < SET_PAGES; i += BATCH) {
		char *batch = set + i * PAGE_SIZE;
		bool cold = i / BATCH % 2;

		/* empties the vectors first, so it holds this batch alone */
		if (cold && madvise(batch, BATCH * PAGE_SIZE, MADV_COLD))
			skip_all("MADV_COLD: %s", strerror(errno));
		mark_part(set, i, BATCH, SET_VALUE);
		reused[cold] += count_same_pfn(batch, BATCH, set_pfns + i);
	}
	measure("cold_reused", (long long)reused[1], "pages");
	measure("plain_reused", (long long)reused[0], "pages");
	judge_written(set);
}

static const struct guest_case cases[] = {
	/* a page that was read a moment ago is copied, for its place in a vector */
	{ "rd_wr_sync", rd_wr_sync },
	/* the same where the vector is another CPU's, and a local drain is no help */
	{ "remote_pagevec", remote_pagevec },
	/* the same where the page is on its way to the inactive list */
	{ "cold_ref", cold_ref },
	{ },
};

int main(int argc, char **argv)
{
	return guest_main(argc, argv, cases);
}
