// SPDX-License-Identifier: GPL-2.0-only
/*
 * A page is written to while it is on its way to a swap device that does not
 * ask for stable pages. Reuse or copy, both are legal; losing a write is not.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "dm.h"
#include "inflight.h"

#define STALL_TICKS 200		/* of 10 ms: a write that takes as long waits */

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

static void write_aloft(struct flight *f)
{
	size_t wrong;

	plan(1);
	flight_write_aloft(f);
	wrong = flight_wrong(f);
	flight_land(f);
	measure("in_flight_changed", flight_changed(f), "pages");
	last_write(f, wrong + flight_wrong(f));
}

static void wb_wr(void)
{
	struct flight f = { 0 };

	write_aloft(&f);
}

static void wb_wr_undrained(void)
{
	struct flight f = { .undrained = true };

	write_aloft(&f);
}

static void wb_rd_wr(void)
{
	struct flight f = { 0 };
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
	struct flight f = { 0 };
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

/* ---- held: the device takes nothing until the case says so ----------------- */

struct held_write {
	struct flight *flight;
	atomic_size_t done;
};

/* Writes every page, and then asks for every page to go out again. */
static void *write_held(void *arg)
{
	struct held_write *w = arg;

	for (size_t i = 0; i < FLIGHT_PAGES; i++) {
		/* Half of them come in by a read fault, the others by the write */
		if (i < FLIGHT_HALF)
			touch_read(flight_page(w->flight, i), 1);
		flight_write(w->flight, i, 1, 'B');
		w->done++;
	}
	for (size_t i = 0; i < FLIGHT_PAGES; i++) {
		pageout(flight_page(w->flight, i), 1);
		w->done++;
	}
	return NULL;
}

/* How much of that does not end before the device is resumed? */
static void write_and_resume(struct flight *f)
{
	const struct timespec tick = { .tv_nsec = 10000000 };
	struct held_write w = { .flight = f };
	size_t seen = 0, written;
	pthread_t thread;

	/* by another thread: who waits for the device cannot resume it */
	if (pthread_create(&thread, NULL, write_held, &w))
		broken("no thread can be made");
	for (int stall = 0; w.done < 2 * FLIGHT_PAGES && stall < STALL_TICKS; stall++) {
		if (w.done != seen)
			stall = 0;
		seen = w.done;
		nanosleep(&tick, NULL);
	}
	seen = w.done;
	flight_prove_aloft(f, "held_to_the_end");
	dm_resume("swap");
	pthread_join(thread, NULL);
	written = seen < FLIGHT_PAGES ? seen : FLIGHT_PAGES;
	measure("waited_for_device", (long long)(FLIGHT_PAGES - written), "pages");
	measure("reclaim_waited", (long long)(FLIGHT_PAGES - (seen - written)), "pages");
}

static void wb_hold(void)
{
	struct flight f = { 0 };
	size_t wrong;

	plan(1);
	if (!swap_delay_ms())
		skip_all("needs swap on device-mapper, this is %s", swap_kind());
	dm_suspend("swap");
	flight_start(&f, 'A');
	write_and_resume(&f);
	measure("reused_after_read", (long long)flight_reused(&f, 0, FLIGHT_HALF), "pages");
	measure("reused_at_once",
		(long long)flight_reused(&f, FLIGHT_HALF, FLIGHT_HALF), "pages");
	wrong = flight_wrong(&f);
	flight_land(&f);
	last_write(&f, wrong + flight_wrong(&f));
}

static const struct guest_case cases[] = {
	/* a page reused while it is written out is freed or dropped clean */
	{ "wb_wr", wb_wr },
	/* the same while vectors hold some of the pages */
	{ "wb_wr_undrained", wb_wr_undrained },
	/* the same through a read fault first: the page is mapped and cached */
	{ "wb_rd_wr", wb_rd_wr },
	/* an old write that ends late wins over a new one */
	{ "wb_refault", wb_refault },
	/* a fault or reclaim waits for the device, or the hold is longer than a kernel expects */
	{ "wb_hold", wb_hold },
	{ NULL, NULL }
};

int main(int argc, char **argv)
{
	return guest_main(argc, argv, cases);
}
