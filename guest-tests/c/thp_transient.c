// SPDX-License-Identifier: GPL-2.0-only
/*
 * A huge page is written while another thread takes and drops references to
 * it: no mapping and no fork is involved, only a count that is too high for
 * a moment. How often a write meets it is chance, so this is a rate.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <sys/uio.h>
#include <unistd.h>

#include "guest.h"

#define SALT 0x74
#define MARK 0x7452000000000000ULL
#define READ_TRIES 48
#define READ_PAGES 16		/* what process_vm_readv() pins at a time */

struct reading {
	pthread_mutex_t resting;	/* not held while a read is under way */
	char *window;			/* the pages that are read */
	size_t part;			/* the one of them that is written */
	bool on, stop;
	atomic_bool written;
	atomic_size_t reads, wrong;
};

/* Old or new until the write has returned, and new afterwards. */
static bool read_true(const char *page, size_t part, bool written)
{
	return page_is_marked(page, part, SALT, MARK) ||
	       (!written && page_is_fill(page, part, SALT));
}

static void read_once(struct reading *r)
{
	static char copy[READ_PAGES * PAGE_SIZE];
	struct iovec to = { copy, sizeof(copy) };
	struct iovec from = { r->window, sizeof(copy) };
	bool written = r->written;

	if (process_vm_readv(getpid(), &to, 1, &from, 1, 0) != (ssize_t)sizeof(copy))
		return;
	r->wrong += !read_true(copy + r->part * PAGE_SIZE, r->part, written);
	r->reads++;
}

static void *read_on(void *arg)
{
	struct reading *r = arg;
	bool stop = false, on;

	pin_cpu(1);
	while (!stop) {
		pthread_mutex_lock(&r->resting);
		stop = r->stop;
		on = r->on;
		if (on)
			read_once(r);
		pthread_mutex_unlock(&r->resting);
		if (!on)
			usleep(100);
	}
	return NULL;
}

/* When it returns, no read is under way that began before. */
static void reader_set(struct reading *r, bool on, bool stop)
{
	pthread_mutex_lock(&r->resting);
	r->on = on;
	r->stop = stop;
	pthread_mutex_unlock(&r->resting);
}

/* False when the reader did not read that often in time. */
static bool wait_reads(struct reading *r, size_t more)
{
	size_t until = r->reads + more;

	for (int ms = 0; r->reads < until; ms++) {
		if (ms == patience_ms())
			return false;
		usleep(1000);
	}
	return true;
}

static int leave(void *unused)
{
	(void)unused;
	return 0;
}

struct passing {
	size_t huge, read, split, wrong;
};

/* The reader rests while the child is made: fork() splits what is pinned. */
static void transient_once(struct reading *r, int try, struct passing *p)
{
	char *area = map_thp(1);
	long long splits;
	bool read;

	r->window = area + (size_t)try * READ_PAGES % thp_pages() * PAGE_SIZE;
	r->part = (size_t)try % READ_PAGES;
	r->written = false;
	fill(r->window, READ_PAGES, SALT);
	p->huge += flag_thp(page_flags(page_at(r->window).pfn));
	/* what it leaves behind is a mapping that is not writable */
	reap(spawn(leave, NULL));
	splits = vmstat("thp_split_pmd");
	reader_set(r, true, false);
	read = wait_reads(r, 2);
	mark_part(r->window, r->part, 1, MARK);
	r->written = true;
	p->read += read && wait_reads(r, 2);
	reader_set(r, false, false);
	p->split += vmstat("thp_split_pmd") > splits;
	p->wrong += !page_is_marked(r->window + r->part * PAGE_SIZE, r->part, SALT, MARK) +
		    check_fill(r->window, r->part, SALT);
	unmap_pages(area, thp_pages());
}

static void transient(void)
{
	struct reading r = { .resting = PTHREAD_MUTEX_INITIALIZER };
	struct passing p = { 0 };
	pthread_t reader;

	plan(1);
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		skip_all("needs two CPUs");
	if (pthread_create(&reader, NULL, read_on, &r))
		broken("no second thread");
	for (int i = 0; i < READ_TRIES; i++)
		transient_once(&r, i, &p);
	reader_set(&r, false, true);
	pthread_join(reader, NULL);
	proof_count("thp_mapped", p.huge, READ_TRIES, "pages were in a huge page");
	proof_count("read_meanwhile", p.read, READ_TRIES,
		    "tries were read in before and after the write");
	measure("tries_split", (long long)p.split, "tries");
	p.wrong += r.wrong;
	tries("data_intact", READ_TRIES, (int)(p.wrong < READ_TRIES ? p.wrong : READ_TRIES));
	verdict("data_intact", !p.wrong, "%zu pages or reads of them were wrong in %zu reads",
		p.wrong, (size_t)r.reads);
}

static const struct guest_case cases[] = {
	/* a reference that comes and goes costs the huge mapping, or the write */
	{ "transient", transient },
	{ NULL, NULL }
};

int main(int argc, char **argv)
{
	return guest_main(argc, argv, cases);
}
