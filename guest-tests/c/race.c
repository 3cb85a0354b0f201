// SPDX-License-Identifier: GPL-2.0-only
/*
 * Threads and processes that write, read, page out and fault one set of pages
 * at the same time, for a given number of seconds. Which of them meet is luck:
 * the seed repeats what each thread chooses, not when it is scheduled.
 *
 * Every word says what it is: its page, its place in it, who may write it and
 * how often that has happened. It has one writer, so that it is never a matter
 * of timing what it ought to hold.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

#define PAGES 64
#define WORDS ((int)(PAGE_SIZE / sizeof(uint64_t)))
#define WRITERS 3		/* words of a page are dealt among them ... */
#define OWNERS 4		/* ... and the children, who are the last */
#define MAX_MISSES 8		/* that are shown; all are counted */
#define MAX_RUN 8		/* pages paged out at once */
#define CHILDREN 4		/* alive at the same time */
#define LOOK_PAGES 16		/* that a child looks at */
#define LEAST 16		/* pages paged out, for the race to count */
#define GRACE_S 20		/* beyond the duration, if little has happened */
#define VISIT 200		/* words that a thread takes in turn on one page */

struct place {
	int page, word;
};

/* What was not as it ought to be. */
struct miss {
	struct place at;
	uint64_t expected, found;
	int finder;
};

/* How often a kind of finding was looked for, and what was found. */
struct finding {
	_Atomic long tried, failed;
	struct miss miss[MAX_MISSES];
};

/* Shared with the children, so that they can report. */
struct board {
	struct finding data, isolation;
	_Atomic uint32_t announced[PAGES][WORDS];
	_Atomic bool stop;
};

static struct board *board;
static uint64_t *set;
/* Each word's writer alone touches its count. */
static uint32_t written[PAGES][WORDS];
static _Atomic long pageouts;

/* ---- words --------------------------------------------------------------- */

static uint64_t *word_at(struct place at)
{
	return set + (size_t)at.page * WORDS + at.word;
}

static int owner_of(int word)
{
	return word % OWNERS;
}

/* 8 bits of mark, 12 of page, 9 of place, 3 of writer, 32 of sequence */
static uint64_t value(struct place at, uint32_t sequence)
{
	return 0xa5ULL << 56 | (uint64_t)at.page << 44 | (uint64_t)at.word << 35 |
	       (uint64_t)owner_of(at.word) << 32 | sequence;
}

static uint64_t look(struct place at)
{
	return __atomic_load_n(word_at(at), __ATOMIC_RELAXED);
}

static void put(struct place at, uint32_t sequence)
{
	__atomic_store_n(word_at(at), value(at, sequence), __ATOMIC_RELAXED);
}

/*
 * Looks of this thread that are not in a finding yet: counting each of them for
 * all to see would keep the threads apart.
 */
static _Thread_local long looked;

static void count_looks(struct finding *f)
{
	f->tried += looked;
	looked = 0;
}

static void check(struct finding *f, struct place at, bool ok, uint64_t expected,
		  uint64_t found, int finder)
{
	long n;

	looked++;
	if (ok)
		return;
	n = f->failed++;
	if (n < MAX_MISSES)
		f->miss[n] = (struct miss){ at, expected, found, finder };
}

static void check_equal(struct finding *f, struct place at, uint64_t expected, int finder)
{
	uint64_t found = look(at);

	check(f, at, found == expected, expected, found, finder);
}

/* ---- what the threads do ------------------------------------------------- */

struct dice {
	uint64_t state;
};

static struct dice dice_for(int thread)
{
	return (struct dice){ (seed() + 1) * 0x9e3779b97f4a7c15ULL + (uint64_t)thread * 2 + 1 };
}

/* splitmix64, reduced to [0, below) */
static int roll(struct dice *d, int below)
{
	uint64_t x = d->state += 0x9e3779b97f4a7c15ULL;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
	return (int)((x ^ x >> 31) % (uint64_t)below);
}

static int word_of(struct dice *d, int owner)
{
	return roll(d, WORDS / OWNERS) * OWNERS + owner;
}

static int cpus(void)
{
	return (int)sysconf(_SC_NPROCESSORS_ONLN);
}

static void write_once(struct place at, bool read_first, int id)
{
	uint32_t *sequence = &written[at.page][at.word];

	if (read_first)
		check_equal(&board->data, at, value(at, *sequence), id);
	board->announced[at.page][at.word] = ++*sequence;
	put(at, *sequence);
	check_equal(&board->data, at, value(at, *sequence), id);
}

/*
 * A visit is long, so that each page is left alone for most of the time: what
 * is always in use is never paged out. Half of the visits begin with a read:
 * other faults, in another order.
 */
static void *writer(void *arg)
{
	int id = (int)(intptr_t)arg;
	struct dice d = dice_for(id);

	pin_cpu(id % cpus());
	while (!board->stop) {
		int page = roll(&d, PAGES), read_first = roll(&d, 2);

		for (int i = 0; i < VISIT; i++)
			write_once((struct place){ page, word_of(&d, id) }, read_first, id);
	}
	count_looks(&board->data);
	return NULL;
}

/* Whoever reads a word twice never finds it older than before. */
static void read_once(struct place at, int id)
{
	static uint64_t seen[PAGES][WORDS];
	uint64_t found = look(at), *last = &seen[at.page][at.word];

	if (!*last)
		*last = value(at, 0);
	check(&board->data, at, found >= *last && found >> 32 == *last >> 32,
	      *last, found, id);
	*last = found;
}

static void *reader(void *arg)
{
	int id = (int)(intptr_t)arg;
	struct dice d = dice_for(id);

	pin_cpu(id % cpus());
	while (!board->stop) {
		int page = roll(&d, PAGES);

		for (int i = 0; i < VISIT; i++)
			read_once((struct place){ page, word_of(&d, roll(&d, WRITERS)) }, id);
	}
	count_looks(&board->data);
	return NULL;
}

static void page_out_some(struct dice *d)
{
	int from = roll(d, PAGES), n = 1 + roll(d, MAX_RUN);

	if (from + n > PAGES)
		n = PAGES - from;
	if (!madvise(word_at((struct place){ from, 0 }), (size_t)n * PAGE_SIZE, MADV_PAGEOUT))
		pageouts++;
}

static void *pager(void *arg)
{
	const struct timespec breath = { .tv_nsec = 300000 };
	int id = (int)(intptr_t)arg;
	struct dice d = dice_for(id);

	pin_cpu(id % cpus());
	while (!board->stop) {
		page_out_some(&d);
		/* woken up amid what the others do, not after a time slice of theirs */
		nanosleep(&breath, NULL);
	}
	return NULL;
}

/* ---- one run ------------------------------------------------------------- */

struct run {
	long seconds;
	struct timespec end;
	long long swapped_out, swapped_in;
	pthread_t threads[WRITERS + 2];
	int started;
};

static void begin(struct run *r)
{
	r->seconds = case_number(2);
	note("seed: %llu", (unsigned long long)seed());
	note("duration: %ld s", r->seconds);
	if (swap_is("none"))
		skip_all("needs swap");
	if (cpus() < 2)
		skip_all("a race needs two CPUs");
	board = map_shared(sizeof(*board));
	set = map_pages(PAGES);
	for (int i = 0; i < PAGES * WORDS; i++)
		put((struct place){ i / WORDS, i % WORDS }, 0);
	/* here, where it may skip: a kernel without MADV_PAGEOUT */
	proof_count("swapped_out", pageout_all(set, PAGES), PAGES, "pages before the race");
	r->swapped_out = vmstat("pswpout");
	r->swapped_in = vmstat("pswpin");
	clock_gettime(CLOCK_MONOTONIC, &r->end);
	r->end.tv_sec += r->seconds;
}

static bool paged_enough(const struct run *r)
{
	return vmstat("pswpout") - r->swapped_out >= LEAST;
}

/*
 * For as long as was asked; on a host that hardly runs the guest, until the
 * least that proves anything has happened, but not for ever.
 */
static bool going(const struct run *r)
{
	struct timespec now;
	long late;

	clock_gettime(CLOCK_MONOTONIC, &now);
	late = now.tv_sec - r->end.tv_sec - (now.tv_nsec < r->end.tv_nsec);
	return late < 0 || (late < GRACE_S && !paged_enough(r));
}

static void start(struct run *r, void *(*fn)(void *))
{
	int id = r->started;

	if (pthread_create(&r->threads[r->started++], NULL, fn, (void *)(intptr_t)id))
		broken("no thread can be made");
}

/* Ends the threads; then every word is looked at, from the device if it can. */
static void finish_race(struct run *r)
{
	board->stop = true;
	while (r->started)
		pthread_join(r->threads[--r->started], NULL);
	r->swapped_out = vmstat("pswpout") - r->swapped_out;
	r->swapped_in = vmstat("pswpin") - r->swapped_in;
	pageout_all(set, PAGES);
	for (int i = 0; i < PAGES * WORDS; i++) {
		struct place at = { i / WORDS, i % WORDS };

		check_equal(&board->data, at, value(at, written[at.page][at.word]), OWNERS);
	}
	count_looks(&board->data);
	proof("raced", r->swapped_out >= LEAST,
	      "%lld pages written and %lld read meanwhile, by %ld pageouts",
	      r->swapped_out, r->swapped_in, (long)pageouts);
}

static void judge(const char *name, struct finding *f)
{
	const struct miss *m = f->miss;

	tries(name, f->tried, f->failed);
	for (int i = 0; i < MAX_MISSES && i < f->failed; i++, m++)
		note("%s: page %d, offset %d: expected %016llx, found %016llx, by %s %d",
		     name, m->at.page, m->at.word * 8, (unsigned long long)m->expected,
		     (unsigned long long)m->found,
		     m->finder < 0 ? "child" : "thread", abs(m->finder));
	m = f->miss;
	if (f->failed)
		verdict(name, false,
			"%ld of %ld looks; first page %d, offset %d: expected %016llx, found %016llx",
			(long)f->failed, (long)f->tried, m->at.page, m->at.word * 8,
			(unsigned long long)m->expected, (unsigned long long)m->found);
	else
		verdict(name, true, "%ld looks", (long)f->tried);
}

static void thread_race(void)
{
	struct run r = { 0 };
	const struct timespec tick = { .tv_nsec = 10000000 };

	plan(1);
	begin(&r);
	for (int i = 0; i < WRITERS; i++)
		start(&r, writer);
	start(&r, reader);
	start(&r, pager);
	while (going(&r))
		nanosleep(&tick, NULL);
	finish_race(&r);
	judge("data_intact", &board->data);
}

/* ---- fork ---------------------------------------------------------------- */

/* What each word's writer had announced before the fork, and when the child began */
static uint32_t least[PAGES][WORDS], most[PAGES][WORDS];
/* What a child found or put there. */
static uint64_t first[PAGES][WORDS];

/*
 * Word by word: memcpy() may go byte by byte, and the low byte of 0x5df beside
 * the high one of 0x60f, read a time slice later, makes a count that never was.
 */
static void read_announced(uint32_t (*to)[WORDS])
{
	for (int i = 0; i < PAGES * WORDS; i++)
		to[i / WORDS][i % WORDS] = board->announced[i / WORDS][i % WORDS];
}

/*
 * A child's words are what they were at the fork, whatever the parent does: an
 * announced write may not have been made yet, but all before it have been, and
 * nothing later than what had been announced when the child began is there.
 */
static void child_look(int page, int id)
{
	for (int w = 0; w < WORDS; w++) {
		struct place at = { page, w };
		uint64_t low = value(at, least[page][w] - !!least[page][w]);
		uint64_t high = value(at, most[page][w]), found = look(at);

		check(&board->isolation, at, found >= low && found <= high,
		      found < low ? low : high, found, -id);
		first[page][w] = found;
	}
}

static void child_look_again(int page, int id)
{
	for (int w = 0; w < WORDS; w++) {
		struct place at = { page, w };

		check_equal(&board->isolation, at, first[page][w], -id);
	}
}

/* What the parent must never see: the words that belong to the children. */
static void child_write(int page, int id)
{
	for (int w = WRITERS; w < WORDS; w += OWNERS * 16) {
		struct place at = { page, w };

		put(at, (uint32_t)id);
		first[page][w] = value(at, (uint32_t)id);
	}
}

static int child(void *arg)
{
	const struct timespec pause = { .tv_nsec = 5000000 };
	int id = (int)(intptr_t)arg;
	struct dice d = dice_for(1000 + id);
	/* some leave at once, with all that they share */
	int from = roll(&d, PAGES), n = roll(&d, LOOK_PAGES);

	read_announced(most);
	pin_cpu(id % cpus());
	for (int i = 0; i < n; i++)
		child_look((from + i) % PAGES, id);
	for (int i = 0; i < n; i += 2)
		child_write((from + i) % PAGES, id);
	if (roll(&d, 2))
		page_out_some(&d);
	/* time for the parent to do what must not be seen here */
	nanosleep(&pause, NULL);
	for (int i = 0; i < n; i++)
		child_look_again((from + i) % PAGES, id);
	count_looks(&board->isolation);
	return 0;
}

static void fork_race(void)
{
	pid_t alive[CHILDREN] = { 0 };
	struct run r = { 0 };
	int id = 0, lost = 0;

	plan(2);
	begin(&r);
	for (int i = 0; i < WRITERS; i++)
		start(&r, writer);
	start(&r, pager);
	while (going(&r)) {
		pid_t *slot = &alive[id % CHILDREN];

		if (*slot)
			lost += !!reap(*slot);
		read_announced(least);
		id++;
		*slot = spawn(child, (void *)(intptr_t)id);
	}
	for (int i = 0; i < CHILDREN; i++)
		if (alive[i])
			lost += !!reap(alive[i]);
	finish_race(&r);
	proof("forked", id >= CHILDREN && !lost, "%d children, %d did not get to their end",
	      id, lost);
	judge("isolated", &board->isolation);
	judge("data_intact", &board->data);
}

static const struct guest_case cases[] = {
	/* two threads fault at one page, or reclaim and a thread do: a write is lost */
	{ "thread_race", thread_race },
	/* a thread writes while a fork takes its pages: the child sees it */
	{ "fork_race", fork_race },
	{ NULL, NULL }
};

int main(int argc, char **argv)
{
	return guest_main(argc, argv, cases);
}
