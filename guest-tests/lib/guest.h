/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What every C guest test stands on: KTAP output, page observation, knobs.
 *
 * Nothing here decides what a kernel ought to do; that is the case's business.
 * Each test program runs one case per call and exits from inside this file.
 */
#ifndef TWINBOOT_GUEST_H
#define TWINBOOT_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PAGE_SIZE 4096UL
#define PRINTF(f, a) __attribute__((format(printf, f, a)))
#define NORETURN __attribute__((noreturn))

/* ---- one case, one run -------------------------------------------------- */

struct guest_case {
	const char *name;
	void (*run)(void);
};

/* @cases ends with a row whose name is NULL. Refuses to run outside a guest. */
int guest_main(int argc, char **argv, const struct guest_case *cases);
/* What the row's program line says after the name of the case. */
long case_number(long otherwise);

void pin_cpu(int cpu);

/* Kind of swap the runner set up ("none", "zram", ...) and its block device. */
const char *swap_kind(void);
const char *swap_dev(void);
bool swap_is(const char *kind);
long swap_delay_ms(void);
/*
 * How long something that ends soon may take, in ms: 10 s, more on a kernel
 * whose deadlines are stretched, and the time for which swap holds a page.
 */
int patience_ms(void);
uint64_t seed(void);

/* ---- KTAP --------------------------------------------------------------- */

void plan(int invariants);
void proof(const char *name, bool ok, const char *fmt, ...) PRINTF(3, 4);
/* The usual proof: all of @want things happened. */
void proof_count(const char *name, size_t got, size_t want, const char *what);
void measure(const char *name, long long value, const char *unit);
void tries(const char *name, long tried, long failed);
void verdict(const char *name, bool ok, const char *fmt, ...) PRINTF(3, 4);
void verdict_skip(const char *name, const char *fmt, ...) PRINTF(2, 3);
/* The invariant data_intact: no page may differ from what was last written. */
void verdict_data(size_t wrong, size_t pages);
/* A line for the reader of the transcript. */
void note(const char *fmt, ...) PRINTF(1, 2);
/* This kernel or swap cannot have the precondition: SKIP, exit 4. */
NORETURN void skip_all(const char *fmt, ...) PRINTF(1, 2);
/* The precondition should have held: "# proof: setup missing", exit 4. */
NORETURN void broken(const char *fmt, ...) PRINTF(1, 2);

/* ---- mapping and contents ----------------------------------------------- */

/* Anonymous memory of base pages, not populated. */
void *map_pages(size_t pages);
/* The same aligned to huge pages and asking for them; skips without THP. */
void *map_thp(size_t huge_pages);
void unmap_pages(void *addr, size_t pages);
size_t thp_pages(void);			/* base pages in a huge page; 0: no THP */

/*
 * Every word gets a value that depends on salt, page and place: no two pages
 * are alike (so KSM and zram's same-filled path stay out of it).
 */
void fill(void *addr, size_t pages, unsigned char salt);
/* Pages that differ from fill(); reads, so it swaps in. */
size_t check_fill(const void *addr, size_t pages, unsigned char salt);
/*
 * Write one word at the start of each page: the smallest write fault. Page i
 * gets value + i.
 */
void mark(void *addr, size_t pages, uint64_t value);
/* Pages that are not fill() followed by mark(). */
size_t check_marked(const void *addr, size_t pages, unsigned char salt,
		    uint64_t value);
/* The same for pages [from, from + pages) of a set that starts at @addr. */
void mark_part(void *addr, size_t from, size_t pages, uint64_t value);
size_t check_marked_part(const void *addr, size_t from, size_t pages,
			 unsigned char salt, uint64_t value);
void touch_read(const void *addr, size_t pages);
/*
 * Content of one page held in a buffer, against page @index of fill(), or of
 * fill() and mark().
 */
bool page_is_fill(const void *buf, size_t index, unsigned char salt);
bool page_is_marked(const void *buf, size_t index, unsigned char salt,
		    uint64_t value);

/* ---- observing pages ---------------------------------------------------- */

/* pfn is 0 unless present, slot is 0 unless swapped. */
struct page_state {
	bool present, swapped;
	uint64_t pfn, slot;
};

void pagemap_read(const void *addr, size_t pages, struct page_state *out);
struct page_state page_at(const void *addr);
size_t count_present(const void *addr, size_t pages);
size_t count_swapped(const void *addr, size_t pages);
/* PFNs of present pages; broken() if one is not present. */
void pfns_read(const void *addr, size_t pages, uint64_t *pfns);
/* How many pages are present with the PFN they had: reused, not copied. */
size_t count_same_pfn(const void *addr, size_t pages, const uint64_t *pfns);

uint64_t page_flags(uint64_t pfn);	/* /proc/kpageflags */
uint64_t page_count(uint64_t pfn);	/* /proc/kpagecount: the mapcount */
size_t count_flagged(const uint64_t *pfns, size_t n, bool (*test)(uint64_t));

static inline bool flag_locked(uint64_t flags)	{ return flags & 1; }
static inline bool flag_dirty(uint64_t flags)	{ return flags >> 4 & 1; }
static inline bool flag_lru(uint64_t flags)	{ return flags >> 5 & 1; }
static inline bool flag_writeback(uint64_t flags) { return flags >> 8 & 1; }
static inline bool flag_swapcache(uint64_t flags) { return flags >> 13 & 1; }
static inline bool flag_ksm(uint64_t flags)	{ return flags >> 21 & 1; }
static inline bool flag_thp(uint64_t flags)	{ return flags >> 22 & 1; }

/*
 * One page of the swap device at @slot, past the page cache (O_DIRECT);
 * @buf is page aligned. Returns the bytes read.
 */
size_t device_read(uint64_t slot, void *buf);
/*
 * Pages whose slot does not hold fill() and mark(), of those that are out; their
 * frames were @pfns. Proves on_device: more than half of them were compared.
 */
size_t stale_on_device(const void *addr, size_t pages, const uint64_t *pfns,
		       unsigned char salt, uint64_t value);

/* @name may end in '*': the sum over that prefix. -1: this kernel has none. */
long long vmstat(const char *name);
long long meminfo_kb(const char *name);
/* Swap in use, in pages; up to 64 per CPU of it sit in the slot caches. */
long long swap_used(void);

/* ---- steering pages ----------------------------------------------------- */

/*
 * MADV_PAGEOUT; returns how many pages are then swapped (pagemap bit 62).
 * Skips on a kernel without it.
 */
size_t pageout(void *addr, size_t pages);
/*
 * The same until all are out or 8 rounds passed: a page that is not yet on
 * the LRU, or is busy, is passed over the first time.
 */
size_t pageout_all(void *addr, size_t pages);
/*
 * Reclaim all that the memory group (in_memcg() below) holds, also pages with
 * several mappings, which MADV_PAGEOUT passes over, and as if nothing had been
 * accessed. It may take several rounds.
 */
void memcg_reclaim(void);
/* Reclaim until none of @pfns is in the swap cache: mapped nowhere, and clean. */
void leave_swap_cache(const uint64_t *pfns, size_t n);
/* Wait until none of @pfns is under writeback; broken() after patience_ms(). */
void wait_written(const uint64_t *pfns, size_t n);

/*
 * Empty the per-CPU LRU vectors, which hold a reference per page. Neither
 * moves a page (compact_memory would, and PFNs would lose their meaning).
 */
void drain_local(void);
void drain_all(void);

/* ---- system state, restored at exit, also on failure and by signal ------- */

/* Saves first; skips if there is no such knob. */
void knob_set(const char *path, const char *value);
/*
 * Create and enter /sys/fs/cgroup/twinboot.<pid> at the first call, then
 * write @value into its file @knob ("memory.high"); @knob may be NULL.
 */
void in_memcg(const char *knob, const char *value);
const char *memcg_path(void);

/*
 * Have undo() called first of all when the state is restored. It is
 * async-signal-safe, and may be called again when nothing is left to undo.
 */
void at_restore(void (*undo)(void));

/*
 * Fork a child that runs fn(arg) and _exit()s with its return value. It dies
 * with us, and is killed and reaped at exit if reap() was not called. It must
 * not print verdicts nor call broken() or skip_all(): it returns a value.
 */
pid_t spawn(int (*fn)(void *), void *arg);
/* Wait for it: its exit value, or -signal. */
int reap(pid_t child);

/* A one-way signal between processes; make it before spawn(). */
struct gate {
	int fd[2];
};

struct gate gate_make(void);
void gate_open(const struct gate *g);
/* False when nobody opened it within patience_ms(); each opening lets one through. */
bool gate_wait(const struct gate *g);
void gate_close(const struct gate *g);
/* Zeroed memory that children write results into. */
void *map_shared(size_t bytes);

#endif
