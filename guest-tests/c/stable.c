// SPDX-License-Identifier: GPL-2.0-only
/*
 * A page is written to while it is on its way to a swap device that asked for
 * stable pages: what reaches the device must be the page as it was submitted.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inflight.h"

#define MARK 0x57ab000000000000ULL

/* swapon reads the queue's flag; without it there is no promise to keep. */
static void need_stable_writes(void)
{
	const char *name = strrchr(swap_dev(), '/');
	char path[128];
	FILE *file;
	int stable = 0;

	if (swap_is("none"))
		skip_all("needs swap");
	snprintf(path, sizeof(path), "/sys/class/block/%s/queue/stable_writes",
		 name ? name + 1 : "none");
	file = fopen(path, "re");
	if (!file)
		skip_all("this kernel does not say whether %s needs stable pages",
			 swap_dev());
	if (fscanf(file, "%d", &stable) != 1)
		stable = 0;
	fclose(file);
	if (!stable)
		skip_all("needs a swap device with stable_writes, this is %s",
			 swap_kind());
}

static void judge(const struct flight *f)
{
	size_t changed = flight_changed(f);

	verdict("device_stable", !changed,
		"%zu of %d pages changed on their way to the device",
		changed, FLIGHT_PAGES);
	verdict_data(flight_wrong(f), FLIGHT_PAGES);
}

static void write_aloft(struct flight *f)
{
	plan(2);
	need_stable_writes();
	flight_write_aloft(f);
	flight_land(f);
	judge(f);
}

static void st_wr(void)
{
	struct flight f = { 0 };

	write_aloft(&f);
}

static void st_wr_undrained(void)
{
	struct flight f = { .undrained = true };

	write_aloft(&f);
}

static void read_write_aloft(struct flight *f)
{
	plan(2);
	need_stable_writes();
	flight_start(f, 'A');
	touch_read(f->base, FLIGHT_PAGES);
	if (f->undrained)
		flight_prove_undrained(f);
	flight_write(f, 0, FLIGHT_HALF, 'B');
	flight_prove_aloft(f, "written_in_flight");
	measure("reused_in_flight", flight_reused(f, 0, FLIGHT_HALF), "pages");
	flight_land(f);
	/* The device is done with these: now reuse breaks no promise */
	flight_write(f, FLIGHT_HALF, FLIGHT_HALF, 'C');
	measure("reused_landed", flight_reused(f, FLIGHT_HALF, FLIGHT_HALF), "pages");
	judge(f);
}

static void st_rd_wr(void)
{
	struct flight f = { 0 };

	read_write_aloft(&f);
}

static void st_rd_wr_undrained(void)
{
	struct flight f = { .undrained = true };

	read_write_aloft(&f);
}

/* A huge page in flight: its slots, and how many of them no longer hold 'A'. */
static size_t huge_changed(const struct page_state *slots, size_t pages)
{
	static unsigned char content[PAGE_SIZE] __attribute__((aligned(4096)));
	size_t changed = 0;

	for (size_t i = 0; i < pages; i++) {
		if (device_read(slots[i].slot, content) != PAGE_SIZE)
			broken("slot %zu of %s cannot be read",
			       (size_t)slots[i].slot, swap_dev());
		changed += !page_is_fill(content, i, 'A');
	}
	return changed;
}

static void st_thp(void)
{
	size_t pages = thp_pages(), changed, wrong;
	struct page_state *slots = calloc(pages + 1, sizeof(*slots));
	unsigned char *area;
	uint64_t head;

	plan(2);
	need_stable_writes();
	area = map_thp(1);
	fill(area, pages, 'A');
	head = page_at(area).pfn;
	proof("thp_mapped", flag_thp(page_flags(head)), "the head's flags");
	proof_count("swapped_out", pageout(area, pages), pages, "pages");
	pagemap_read(area, pages, slots);
	drain_all();
	mark(area, pages, MARK);
	/* Only the head shows writeback, the tails' flags are without meaning */
	proof("written_in_flight", flag_writeback(page_flags(head)) &&
	      flag_thp(page_flags(head)), "the huge page is under writeback");
	wait_written(&head, 1);
	changed = huge_changed(slots, pages);
	wrong = check_marked(area, pages, 'A', MARK);
	verdict("device_stable", !changed,
		"%zu of %zu pages changed on their way to the device", changed, pages);
	verdict_data(wrong, pages);
}

static const struct guest_case cases[] = {
	/* the swap-in fault reuses a page under writeback to stable swap */
	{ "st_wr", st_wr },
	/* the same while vectors hold some of the pages: a drain in the fault, or a copy */
	{ "st_wr_undrained", st_wr_undrained },
	/* the write-protect fault after a read fault does */
	{ "st_rd_wr", st_rd_wr },
	{ "st_rd_wr_undrained", st_rd_wr_undrained },
	/* a part of a huge page under writeback is taken for a page of its own */
	{ "st_thp", st_thp },
	{ NULL, NULL }
};

int main(int argc, char **argv)
{
	return guest_main(argc, argv, cases);
}
