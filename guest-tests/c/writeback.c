// SPDX-License-Identifier: GPL-2.0-only
/*
 * A page is written to while it is on its way to a swap device that does not
 * ask for stable pages. Reuse or copy, both are legal; losing a write is not.
 */
#include "inflight.h"

/*
 * One more write, through whatever mapping the kernel has left, and then the
 * way over the device: a page that is clean in the swap cache but dirty in
 * the page table is dropped by a kernel that forgets the latter.
 */
static void last_write(struct flight *f, size_t wrong)
{
	flight_write(f, 0, FLIGHT_PAGES, 'Z');
	flight_return(f);
	wrong += flight_wrong(f);
	verdict("last_write_wins", !wrong, "%zu times one of %d pages had lost a write",
		wrong, FLIGHT_PAGES);
}

static void wb_wr(void)
{
	struct flight f;
	size_t wrong;

	plan(1);
	flight_start(&f, 'A');
	flight_write(&f, 0, FLIGHT_PAGES, 'B');
	flight_prove_aloft(&f, "written_in_flight");
	measure("pages_reused", flight_reused(&f, 0, FLIGHT_PAGES), "pages");
	wrong = flight_wrong(&f);
	flight_land(&f);
	measure("in_flight_changed", flight_changed(&f), "pages");
	last_write(&f, wrong + flight_wrong(&f));
}

static void wb_rd_wr(void)
{
	struct flight f;
	size_t wrong;

	plan(1);
	flight_start(&f, 'A');
	wrong = flight_wrong(&f);
	flight_write(&f, 0, FLIGHT_HALF, 'B');
	flight_prove_aloft(&f, "written_in_flight");
	measure("reused_in_flight", flight_reused(&f, 0, FLIGHT_HALF), "pages");
	flight_land(&f);
	flight_write(&f, FLIGHT_HALF, FLIGHT_HALF, 'C');
	measure("reused_landed", flight_reused(&f, FLIGHT_HALF, FLIGHT_HALF), "pages");
	measure("in_flight_changed", flight_changed(&f), "pages");
	last_write(&f, wrong + flight_wrong(&f));
}

static void wb_refault(void)
{
	struct flight f;
	size_t wrong;

	plan(1);
	flight_start(&f, 'A');
	flight_write(&f, 0, FLIGHT_PAGES, 'B');
	flight_prove_aloft(&f, "written_in_flight");
	/* Out again at once: an older write is still under way */
	measure("out_again_in_flight", pageout(f.base, FLIGHT_PAGES), "pages");
	wrong = flight_wrong(&f);
	flight_land(&f);
	flight_write(&f, 0, FLIGHT_PAGES, 'C');
	proof_count("out_again", flight_depart(&f), FLIGHT_PAGES, "pages");
	flight_write(&f, 0, FLIGHT_PAGES, 'D');
	wrong += flight_wrong(&f);
	flight_land(&f);
	last_write(&f, wrong);
}

static const struct guest_case cases[] = {
	/* a page reused while it is written out is freed or dropped clean */
	{ "wb_wr", wb_wr },
	/* the same through a read fault first: the page is mapped and cached */
	{ "wb_rd_wr", wb_rd_wr },
	/* an old write that ends late wins over a new one */
	{ "wb_refault", wb_refault },
	{ NULL, NULL }
};

int main(int argc, char **argv)
{
	return guest_main(argc, argv, cases);
}
