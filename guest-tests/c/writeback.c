// SPDX-License-Identifier: GPL-2.0-only
/*
 * A page is written to while it is on its way to a swap device that does not
 * ask for stable pages. Reuse or copy, both are legal; losing a write is not.
 */
#include "inflight.h"

#define MARK 0xc0ffee0000000000ULL

static size_t wrong_fill(const struct flight *f, unsigned char salt)
{
	return check_fill(f->base, FLIGHT_HALF, salt) +
	       check_fill(f->half, FLIGHT_HALF, salt);
}

static void write_all(struct flight *f, unsigned char salt)
{
	fill(f->base, FLIGHT_HALF, salt);
	fill(f->half, FLIGHT_HALF, salt);
}

/*
 * One more write, through whatever mapping the kernel has left, and then the
 * way over the device: a page that is clean in the swap cache but dirty in
 * the page table is dropped by a kernel that forgets the latter.
 */
static void last_write(struct flight *f, unsigned char salt, size_t wrong)
{
	mark(f->base, FLIGHT_HALF, MARK);
	mark(f->half, FLIGHT_HALF, MARK);
	flight_return(f);
	wrong += check_marked(f->base, FLIGHT_HALF, salt, MARK) +
		 check_marked(f->half, FLIGHT_HALF, salt, MARK);
	verdict("last_write_wins", !wrong, "%zu of %d pages lost a write",
		wrong, FLIGHT_PAGES);
}

static void wb_wr(void)
{
	struct flight f;
	size_t wrong;

	plan(1);
	flight_start(&f, 'A');
	write_all(&f, 'B');
	flight_prove_aloft(&f, "written_in_flight");
	measure("pages_reused", flight_reused(&f, 0, FLIGHT_PAGES), "pages");
	wrong = wrong_fill(&f, 'B');
	flight_land(&f);
	measure("in_flight_changed", flight_changed(&f, 'A'), "pages");
	wrong += wrong_fill(&f, 'B');
	last_write(&f, 'B', wrong);
}

static void wb_rd_wr(void)
{
	struct flight f;
	size_t wrong;

	plan(1);
	flight_start(&f, 'A');
	wrong = wrong_fill(&f, 'A');
	fill(f.base, FLIGHT_HALF, 'B');
	flight_prove_aloft(&f, "written_in_flight");
	measure("reused_in_flight", flight_reused(&f, 0, FLIGHT_HALF), "pages");
	flight_land(&f);
	fill(f.half, FLIGHT_HALF, 'B');
	measure("reused_landed", flight_reused(&f, FLIGHT_HALF, FLIGHT_HALF), "pages");
	measure("in_flight_changed", flight_changed(&f, 'A'), "pages");
	wrong += wrong_fill(&f, 'B');
	last_write(&f, 'B', wrong);
}

static void wb_refault(void)
{
	struct flight f;
	size_t wrong;

	plan(1);
	flight_start(&f, 'A');
	write_all(&f, 'B');
	flight_prove_aloft(&f, "written_in_flight");
	/* Out again at once: an older write may still be under way */
	measure("out_again_in_flight", pageout(f.base, FLIGHT_PAGES), "pages");
	wrong = wrong_fill(&f, 'B');
	write_all(&f, 'D');
	flight_land(&f);
	flight_return(&f);
	wrong += wrong_fill(&f, 'D');
	last_write(&f, 'D', wrong);
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
