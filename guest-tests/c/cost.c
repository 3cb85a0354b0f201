// SPDX-License-Identifier: GPL-2.0-only
/*
 * What an operation costs, in instructions: only where the guest's time counts
 * them (QEMU's -icount shift=0, one CPU). There the TSC advances by one with
 * each instruction, whatever the host is busy with. Elsewhere nothing is
 * measured: the proof "counted" is missing.
 *
 * Timer ticks and the kernel's own work in the background are part of what is
 * counted. So an operation is repeated for millions of instructions, in several
 * batches, and the figure is the mean of their middle half.
 */
#define _GNU_SOURCE
#include "guest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

/* whole LRU vectors (15) and whole slot caches (64): all batches are alike */
#define PAGES 960
#define SALT 'c'
#define MARK 0x1000000
#define BATCHES 16
/* the first ones fill caches: slabs, per-CPU lists, page tables */
#define WARM_UP 2

/* ---- counting -------------------------------------------------------------- */

static uint64_t instructions(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
	return (uint64_t)high << 32 | low;
}

/* From one reading to the next, with 2 * @turns instructions between them. */
static uint64_t loop(uint64_t turns)
{
	uint64_t begin = instructions();

	__asm__ volatile("1: dec %0; jnz 1b" : "+r"(turns) : : "cc");
	return instructions() - begin;
}

/* The least of several: an interrupt makes one dearer, nothing makes it cheaper. */
static uint64_t least_loop(uint64_t turns)
{
	uint64_t least = loop(turns);

	for (int i = 0; i < 32; i++) {
		uint64_t now = loop(turns);

		least = now < least ? now : least;
	}
	return least;
}

/* What lies between two readings of which nothing is to be measured. */
static uint64_t reading(void)
{
	return least_loop(1) - 2;
}

static bool counts(uint64_t turns)
{
	return least_loop(turns) - reading() == 2 * turns;
}

static void prove_counted(void)
{
	static const uint64_t turns[] = { 10, 1000, 10000, 100000 };
	size_t exact = 0;

	for (size_t i = 0; i < 4; i++)
		exact += counts(turns[i]);
	proof_count("counted", exact, 4, "loops took as many ticks of the TSC as instructions");
	if (exact != 4)
		broken("the time of this guest does not count instructions");
}

/* ---- batches --------------------------------------------------------------- */

struct operation {
	unsigned int count;	/* operations in one run() */
	void (*ready)(void);	/* before each batch, not counted */
	void (*run)(void);
};

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* The kernel's threads finish what the preparation left them to do. */
static void settle(void)
{
	const struct timespec pause = { .tv_nsec = 20000000 };

	nanosleep(&pause, NULL);
}

static double one_batch(const struct operation *op)
{
	uint64_t begin, end;

	if (op->ready)
		op->ready();
	settle();
	/* all batches begin with empty LRU vectors */
	drain_all();
	begin = instructions();
	op->run();
	end = instructions();
	return (double)(end - begin - reading()) / op->count;
}

static void measure_cost(const struct operation *op)
{
	double each[BATCHES], sum = 0;

	for (int i = 0; i < WARM_UP; i++)
		one_batch(op);
	for (int i = 0; i < BATCHES; i++)
		each[i] = one_batch(op);
	qsort(each, BATCHES, sizeof(*each), by_size);
	for (int i = BATCHES / 4; i < BATCHES - BATCHES / 4; i++)
		sum += each[i];
	note("%d batches of %u: %.1f to %.1f", BATCHES, op->count, each[0],
	     each[BATCHES - 1]);
	printf("# measure: instructions %.1f instructions\n", sum / (BATCHES / 2));
}

/* ---- a set of pages -------------------------------------------------------- */

static char *set;
static size_t left_behind;

/* Not pageout(): what is counted is one system call and nothing else. */
static void push_out(void)
{
	if (madvise(set, PAGES * PAGE_SIZE, MADV_PAGEOUT))
		skip_all("MADV_PAGEOUT: %s", strerror(errno));
}

static void write_all(void)
{
	mark(set, PAGES, MARK);
}

static void read_then_write_all(void)
{
	for (size_t i = 0; i < PAGES; i++) {
		touch_read(set + i * PAGE_SIZE, 1);
		mark_part(set, i, 1, MARK);
	}
}

static void check_out(void)
{
	left_behind += PAGES - count_swapped(set, PAGES);
}

static void all_out(void)
{
	drain_all();
	push_out();
	check_out();
}

static void new_set(void)
{
	prove_counted();
	if (swap_is("none"))
		skip_all("needs swap");
	set = map_pages(PAGES);
	fill(set, PAGES, SALT);
	write_all();
}

/* In all batches, so it is printed last. */
static void prove_out(void)
{
	proof("swapped_out", !left_behind, "%zu times a page of the set was not out",
	      left_behind);
}

static void judge_set(void)
{
	prove_out();
	verdict_data(check_marked(set, PAGES, SALT, MARK), PAGES);
}

static void cost_of_set(const struct operation *op)
{
	plan(1);
	new_set();
	measure_cost(op);
	judge_set();
}

/* ---- operations on it ------------------------------------------------------ */

static void swap_in_write(void)
{
	cost_of_set(&(struct operation){ PAGES, all_out, write_all });
}

static void swap_in_read_write(void)
{
	cost_of_set(&(struct operation){ PAGES, all_out, read_then_write_all });
}

static void pageout_cost(void)
{
	cost_of_set(&(struct operation){ PAGES, write_all, push_out });
}

#define FORKS 64

static int nothing(void *unused)
{
	(void)unused;
	return 0;
}

static void fork_and_reap(void)
{
	for (int i = 0; i < FORKS; i++)
		reap(spawn(nothing, NULL));
}

static void fork_swapped(void)
{
	plan(1);
	new_set();
	all_out();
	measure_cost(&(struct operation){ FORKS, check_out, fork_and_reap });
	judge_set();
}

/* ---- exit ------------------------------------------------------------------ */

static struct gate is_out, may_exit;
static pid_t leaver;

/* Its exit value says whether all its pages were out. */
static int leave_swapped(void *unused)
{
	size_t out;

	(void)unused;
	drain_local();
	write_all();
	drain_local();
	push_out();
	out = count_swapped(set, PAGES);
	gate_open(&is_out);
	return !gate_wait(&may_exit) || out != PAGES;
}

static void start_leaver(void)
{
	leaver = spawn(leave_swapped, NULL);
	if (!gate_wait(&is_out))
		broken("the child is not ready after 10 s");
}

static void let_it_exit(void)
{
	gate_open(&may_exit);
	left_behind += reap(leaver) != 0;
}

static void exit_swapped(void)
{
	plan(1);
	prove_counted();
	if (swap_is("none"))
		skip_all("needs swap");
	is_out = gate_make();
	may_exit = gate_make();
	/* filled here and nowhere written: the child's copies are its own */
	set = map_pages(PAGES);
	measure_cost(&(struct operation){ 1, start_leaver, let_it_exit });
	prove_out();
	verdict("leaves_nothing", swap_used() < PAGES, "%lld pages of swap in use",
		swap_used());
}

/* ---- huge pages ------------------------------------------------------------ */

#define HUGE 2

static size_t huge_pages;

static void huge_out(void)
{
	unmap_pages(set, huge_pages);
	set = map_thp(HUGE);
	fill(set, huge_pages, SALT);
	drain_all();
	if (madvise(set, huge_pages * PAGE_SIZE, MADV_PAGEOUT))
		skip_all("MADV_PAGEOUT: %s", strerror(errno));
	left_behind += huge_pages - count_swapped(set, huge_pages);
}

static void write_huge(void)
{
	mark(set, huge_pages, MARK);
}

static void thp_refault(void)
{
	long long whole;

	plan(1);
	prove_counted();
	if (swap_is("none"))
		skip_all("needs swap");
	huge_pages = HUGE * thp_pages();
	set = map_thp(HUGE);
	whole = vmstat("thp_swpout");
	measure_cost(&(struct operation){ huge_pages, huge_out, write_huge });
	whole = vmstat("thp_swpout") - whole;
	proof_count("swapped_whole", whole, HUGE * (WARM_UP + BATCHES), "huge pages");
	prove_out();
	verdict_data(check_marked(set, huge_pages, SALT, MARK), huge_pages);
}

/* ---- KSM ------------------------------------------------------------------- */

#define KSM "/sys/kernel/mm/ksm/"
#define MERGE_MS 60000

static void ksm_runs(const char *yes)
{
	FILE *f = fopen(KSM "run", "we");

	if (!f || fputs(yes, f) < 0 || fclose(f))
		broken("%srun does not take %s", KSM, yes);
}

static size_t count_merged(void)
{
	static struct page_state s[PAGES];
	size_t n = 0;

	pagemap_read(set, PAGES, s);
	for (size_t i = 0; i < PAGES; i++)
		n += s[i].present && flag_ksm(page_flags(s[i].pfn));
	return n;
}

static void all_merged(void)
{
	/* the same first word in all of them */
	for (size_t i = 0; i < PAGES; i++)
		mark_part(set, i, 1, MARK - i);
	ksm_runs("1");
	for (int ms = 0; ms < MERGE_MS && count_merged() < PAGES; ms += 20)
		settle();
	ksm_runs("0");
	left_behind += PAGES - count_merged();
}

static void ksm_unshare(void)
{
	size_t wrong = 0;

	plan(1);
	prove_counted();
	knob_set(KSM "run", "0");
	knob_set(KSM "pages_to_scan", "2000");
	knob_set(KSM "sleep_millisecs", "1");
	/* since v6.7 a page that did not merge at once is passed over for a while */
	if (!access(KSM "smart_scan", F_OK))
		knob_set(KSM "smart_scan", "0");
	set = map_pages(PAGES);
	for (size_t i = 0; i < PAGES; i++)
		fill(set + i * PAGE_SIZE, 1, SALT);
	if (madvise(set, PAGES * PAGE_SIZE, MADV_MERGEABLE))
		skip_all("MADV_MERGEABLE: %s", strerror(errno));
	measure_cost(&(struct operation){ PAGES, all_merged, write_all });
	proof("merged", !left_behind, "%zu times a page of the set was not a KSM page",
	      left_behind);
	for (size_t i = 0; i < PAGES; i++)
		wrong += !page_is_marked(set + i * PAGE_SIZE, 0, SALT, MARK + i);
	verdict_data(wrong, PAGES);
}

/* ---- a server under pressure ----------------------------------------------- */

#define RECORDS 1280
#define LIMIT "4194304"
#define REQUESTS 1440

struct request {
	uint32_t record, put;
};

static int line[2];
static uint64_t versions[RECORDS];
static size_t wrong_replies;

/* Half of the requests are puts. It never sends before it has its reply. */
static int client(void *unused)
{
	uint64_t chance = seed() + 1, reply;
	struct request asked;

	(void)unused;
	do {
		/* Knuth's MMIX */
		chance = chance * 6364136223846793005ULL + 1442695040888963407ULL;
		asked.record = (chance >> 33) % RECORDS;
		asked.put = chance >> 63;
	} while (write(line[1], &asked, sizeof(asked)) == sizeof(asked) &&
		 read(line[1], &reply, sizeof(reply)) == sizeof(reply));
	return 0;
}

static void serve(void)
{
	struct request asked;
	uint64_t now;

	for (int i = 0; i < REQUESTS; i++) {
		if (read(line[0], &asked, sizeof(asked)) != sizeof(asked))
			broken("the client is gone");
		memcpy(&now, set + asked.record * PAGE_SIZE, sizeof(now));
		wrong_replies += now != versions[asked.record] + asked.record;
		if (asked.put)
			mark_part(set, asked.record, 1, ++versions[asked.record]);
		if (write(line[0], &now, sizeof(now)) != sizeof(now))
			broken("the client is gone");
	}
}

static void kv_request(void)
{
	long long read_back;

	plan(1);
	prove_counted();
	if (swap_is("none"))
		skip_all("needs swap");
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, line))
		broken("socketpair: %s", strerror(errno));
	spawn(client, NULL);
	in_memcg("memory.max", LIMIT);
	set = map_pages(RECORDS);
	fill(set, RECORDS, SALT);
	mark(set, RECORDS, 0);
	read_back = vmstat("pswpin");
	measure_cost(&(struct operation){ REQUESTS, NULL, serve });
	read_back = vmstat("pswpin") - read_back;
	proof("swapped_in", read_back >= BATCHES * REQUESTS / 20,
	      "%lld pages in %d requests", read_back, (WARM_UP + BATCHES) * REQUESTS);
	verdict("data_intact", !wrong_replies, "%zu replies were not what was last put",
		wrong_replies);
}

/* ---- the ruler itself ------------------------------------------------------ */

#define TURNS 5000000

static void known_loop(void)
{
	loop(TURNS);
}

static void ruler(void)
{
	plan(1);
	prove_counted();
	measure_cost(&(struct operation){ TURNS, NULL, known_loop });
	verdict("exact", counts(1) && counts(250000), "2 instructions in each turn");
}

static const struct guest_case cases[] = {
	/* time that does not count instructions, or counts many that are not ours */
	{ "loop", ruler },
	{ "wr_sync", swap_in_write },
	{ "rd_wr_sync", swap_in_read_write },
	{ "pageout", pageout_cost },
	{ "fork_swapped", fork_swapped },
	{ "exit_swapped", exit_swapped },
	{ "thp_refault", thp_refault },
	{ "ksm_unshare", ksm_unshare },
	{ "kv_request", kv_request },
	{ NULL, NULL }
};

int main(int argc, char **argv)
{
	return guest_main(argc, argv, cases);
}
