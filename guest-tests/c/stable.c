// SPDX-License-Identifier: GPL-2.0-only
/*
 * A page is written to while it is on its way to a swap device that asked for
 * stable pages: what reaches the device must be the page as it was submitted.
 */
#include <stdio.h>
#include <string.h>

#include "inflight.h"

/* swapon reads the queue's flag; without it there is no promise to keep. */
static void need_stable_writes(void)
{
	const char *name = strrchr(swap_dev(), '/');
	char path[128];
	FILE *file;
	int stable = 0;

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
	size_t changed = flight_changed(f, 'A');
	size_t wrong = check_fill(f->base, FLIGHT_HALF, 'B') +
		       check_fill(f->half, FLIGHT_HALF, 'B');

	verdict("device_stable", !changed,
		"%zu of %d pages changed on their way to the device",
		changed, FLIGHT_PAGES);
	verdict_data(wrong, FLIGHT_PAGES);
}

static void st_wr(void)
{
	struct flight f;

	plan(2);
	need_stable_writes();
	flight_start(&f, 'A');
	fill(f.base, FLIGHT_HALF, 'B');
	fill(f.half, FLIGHT_HALF, 'B');
	flight_prove_aloft(&f, "written_in_flight");
	measure("pages_reused", flight_reused(&f, 0, FLIGHT_PAGES), "pages");
	flight_land(&f);
	judge(&f);
}

static void st_rd_wr(void)
{
	struct flight f;

	plan(2);
	need_stable_writes();
	flight_start(&f, 'A');
	touch_read(f.base, FLIGHT_PAGES);
	fill(f.base, FLIGHT_HALF, 'B');
	flight_prove_aloft(&f, "written_in_flight");
	measure("reused_in_flight", flight_reused(&f, 0, FLIGHT_HALF), "pages");
	flight_land(&f);
	/* The device is done with these: now reuse breaks no promise */
	fill(f.half, FLIGHT_HALF, 'B');
	measure("reused_landed", flight_reused(&f, FLIGHT_HALF, FLIGHT_HALF), "pages");
	judge(&f);
}

static const struct guest_case cases[] = {
	/* the swap-in fault reuses a page under writeback to stable swap */
	{ "st_wr", st_wr },
	/* the write-protect fault after a read fault does */
	{ "st_rd_wr", st_rd_wr },
	{ NULL, NULL }
};

int main(int argc, char **argv)
{
	return guest_main(argc, argv, cases);
}
