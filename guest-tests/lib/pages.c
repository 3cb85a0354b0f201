// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pages: mapping and filling them, looking at them from outside, pushing them
 * out and off the per-CPU vectors. What they ought to do is the cases' business.
 */
#define _GNU_SOURCE
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#ifndef MADV_COLD
#define MADV_COLD 20
#endif
#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

#define WORDS (PAGE_SIZE / sizeof(uint64_t))

/* ---- mapping and contents ------------------------------------------------ */

static void *map_anon(size_t bytes)
{
	void *addr = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (addr == MAP_FAILED)
		broken("mmap of %zu bytes: %s", bytes, strerror(errno));
	return addr;
}

void *map_pages(size_t pages)
{
	void *addr = map_anon(pages * PAGE_SIZE);

	/* EINVAL without CONFIG_TRANSPARENT_HUGEPAGE: as good */
	madvise(addr, pages * PAGE_SIZE, MADV_NOHUGEPAGE);
	return addr;
}

size_t thp_pages(void)
{
	FILE *f = fopen("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", "re");
	unsigned long bytes = 0;

	if (!f)
		return 0;
	if (fscanf(f, "%lu", &bytes) != 1)
		bytes = 0;
	fclose(f);
	return bytes / PAGE_SIZE;
}

void *map_thp(size_t huge_pages)
{
	size_t huge = thp_pages() * PAGE_SIZE;
	uintptr_t start, begin, end;

	if (!huge)
		skip_all("this kernel has no transparent huge pages");
	/* one more than asked, and the ends cut off, gives the alignment */
	start = (uintptr_t)map_anon((huge_pages + 1) * huge);
	begin = (start + huge - 1) / huge * huge;
	end = begin + huge_pages * huge;
	if (begin > start)
		munmap((void *)start, begin - start);
	if (start + (huge_pages + 1) * huge > end)
		munmap((void *)end, start + (huge_pages + 1) * huge - end);
	if (madvise((void *)begin, end - begin, MADV_HUGEPAGE))
		skip_all("MADV_HUGEPAGE: %s", strerror(errno));
	return (void *)begin;
}

void unmap_pages(void *addr, size_t pages)
{
	if (munmap(addr, pages * PAGE_SIZE))
		broken("munmap: %s", strerror(errno));
}

static inline uint64_t pattern(unsigned char salt, size_t page, size_t word)
{
	uint64_t x = (uint64_t)salt << 56 ^ (uint64_t)page << 16 ^ (word + 1);

	/* the finalizer of splitmix64: cheap, and nothing a compressor likes */
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
	return x ^ x >> 31;
}

static uint64_t *page_of(const void *addr, size_t index)
{
	return (uint64_t *)((uintptr_t)addr + index * PAGE_SIZE);
}

void fill(void *addr, size_t pages, unsigned char salt)
{
	for (size_t p = 0; p < pages; p++) {
		uint64_t *word = page_of(addr, p);

		for (size_t w = 0; w < WORDS; w++)
			word[w] = pattern(salt, p, w);
	}
}

static bool tail_is_fill(const uint64_t *word, size_t from, size_t page,
			 unsigned char salt)
{
	for (size_t w = from; w < WORDS; w++)
		if (word[w] != pattern(salt, page, w))
			return false;
	return true;
}

bool page_is_fill(const void *buf, size_t index, unsigned char salt)
{
	return tail_is_fill(buf, 0, index, salt);
}

size_t check_fill(const void *addr, size_t pages, unsigned char salt)
{
	size_t wrong = 0;

	for (size_t p = 0; p < pages; p++)
		wrong += !tail_is_fill(page_of(addr, p), 0, p, salt);
	return wrong;
}

void mark_part(void *addr, size_t from, size_t pages, uint64_t value)
{
	for (size_t p = from; p < from + pages; p++)
		*(volatile uint64_t *)page_of(addr, p) = value + p;
}

void mark(void *addr, size_t pages, uint64_t value)
{
	mark_part(addr, 0, pages, value);
}

bool page_is_marked(const void *buf, size_t index, unsigned char salt,
		    uint64_t value)
{
	const uint64_t *word = buf;

	return *word == value + index && tail_is_fill(word, 1, index, salt);
}

size_t check_marked_part(const void *addr, size_t from, size_t pages,
			 unsigned char salt, uint64_t value)
{
	size_t wrong = 0;

	for (size_t p = from; p < from + pages; p++)
		wrong += !page_is_marked(page_of(addr, p), p, salt, value);
	return wrong;
}

size_t check_marked(const void *addr, size_t pages, unsigned char salt,
		    uint64_t value)
{
	return check_marked_part(addr, 0, pages, salt, value);
}

void touch_read(const void *addr, size_t pages)
{
	for (size_t p = 0; p < pages; p++)
		(void)*(volatile uint64_t *)page_of(addr, p);
}

/* ---- observing pages ----------------------------------------------------- */

/* One read; false if the file is not there or ended early. */
static bool read_at(const char *path, void *buf, size_t len, uint64_t offset)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got = -1;

	if (fd >= 0) {
		got = pread(fd, buf, len, (off_t)offset);
		close(fd);
	}
	return got == (ssize_t)len;
}

static struct page_state decode(uint64_t entry)
{
	struct page_state s = {
		.present = entry >> 63 & 1,
		.swapped = entry >> 62 & 1,
	};

	if (s.present)
		s.pfn = entry & ((1ULL << 55) - 1);
	else if (s.swapped)
		s.slot = entry >> 5 & ((1ULL << 50) - 1);
	return s;
}

void pagemap_read(const void *addr, size_t pages, struct page_state *out)
{
	uint64_t entries[512];

	for (size_t done = 0; done < pages;) {
		size_t n = pages - done < 512 ? pages - done : 512;
		uint64_t at = (uintptr_t)addr / PAGE_SIZE + done;

		if (!read_at("/proc/self/pagemap", entries, n * 8, at * 8))
			skip_all("/proc/self/pagemap cannot be read");
		for (size_t i = 0; i < n; i++)
			out[done + i] = decode(entries[i]);
		done += n;
	}
}

struct page_state page_at(const void *addr)
{
	struct page_state s;

	pagemap_read(addr, 1, &s);
	return s;
}

static struct page_state *states(const void *addr, size_t pages)
{
	struct page_state *s = calloc(pages, sizeof(*s));

	if (!s)
		broken("out of memory");
	pagemap_read(addr, pages, s);
	return s;
}

size_t count_present(const void *addr, size_t pages)
{
	struct page_state *s = states(addr, pages);
	size_t n = 0;

	for (size_t i = 0; i < pages; i++)
		n += s[i].present;
	free(s);
	return n;
}

size_t count_swapped(const void *addr, size_t pages)
{
	struct page_state *s = states(addr, pages);
	size_t n = 0;

	for (size_t i = 0; i < pages; i++)
		n += s[i].swapped;
	free(s);
	return n;
}

void pfns_read(const void *addr, size_t pages, uint64_t *pfns)
{
	struct page_state *s = states(addr, pages);

	for (size_t i = 0; i < pages; i++) {
		if (!s[i].present || !s[i].pfn)
			broken("page %zu has no readable PFN", i);
		pfns[i] = s[i].pfn;
	}
	free(s);
}

size_t count_same_pfn(const void *addr, size_t pages, const uint64_t *pfns)
{
	struct page_state *s = states(addr, pages);
	size_t n = 0;

	for (size_t i = 0; i < pages; i++)
		n += s[i].present && s[i].pfn == pfns[i];
	free(s);
	return n;
}

static uint64_t per_pfn(const char *path, uint64_t pfn)
{
	uint64_t value = 0;

	if (!read_at(path, &value, sizeof(value), pfn * sizeof(value)))
		skip_all("%s cannot be read", path);
	return value;
}

uint64_t page_flags(uint64_t pfn)
{
	return per_pfn("/proc/kpageflags", pfn);
}

uint64_t page_count(uint64_t pfn)
{
	return per_pfn("/proc/kpagecount", pfn);
}

size_t count_flagged(const uint64_t *pfns, size_t n, bool (*test)(uint64_t))
{
	size_t hits = 0;

	for (size_t i = 0; i < n; i++)
		hits += test(page_flags(pfns[i]));
	return hits;
}

size_t device_read(uint64_t slot, void *buf)
{
	int fd = open(swap_dev(), O_RDONLY | O_DIRECT | O_CLOEXEC);
	ssize_t got = -1;

	if (fd >= 0) {
		got = pread(fd, buf, PAGE_SIZE, (off_t)(slot * PAGE_SIZE));
		close(fd);
	}
	return got < 0 ? 0 : (size_t)got;
}

/* Reclaim may rightly have kept it back: nothing to expect on the device. */
static bool flag_dirty_in_cache(uint64_t flags)
{
	return flag_swapcache(flags) && flag_dirty(flags);
}

size_t stale_on_device(const void *addr, size_t pages, const uint64_t *pfns,
		       unsigned char salt, uint64_t value)
{
	static char buf[PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));
	struct page_state *s = states(addr, pages);
	size_t stale = 0, compared = 0;

	for (size_t i = 0; i < pages; i++) {
		if (!s[i].swapped || flag_dirty_in_cache(page_flags(pfns[i])))
			continue;
		compared++;
		stale += device_read(s[i].slot, buf) != PAGE_SIZE ||
			 !page_is_marked(buf, i, salt, value);
	}
	free(s);
	proof("on_device", compared > pages / 2,
	      "%zu of %zu pages compared with their slot", compared, pages);
	return stale;
}

/* Sum of the numbers on the lines of @path whose name matches. */
static long long counter(const char *path, const char *name, char end)
{
	size_t len = strcspn(name, "*");
	bool prefix = name[len] == '*';
	char line[256];
	long long sum = -1;
	FILE *f = fopen(path, "re");

	while (f && fgets(line, sizeof(line), f)) {
		char *value = line + strcspn(line, " :");

		if (strncmp(line, name, len) || (!prefix && line[len] != end))
			continue;
		sum = (sum < 0 ? 0 : sum) + strtoll(value + 1, NULL, 10);
	}
	if (f)
		fclose(f);
	return sum;
}

long long vmstat(const char *name)
{
	return counter("/proc/vmstat", name, ' ');
}

long long meminfo_kb(const char *name)
{
	return counter("/proc/meminfo", name, ':');
}

long long swap_used(void)
{
	return (meminfo_kb("SwapTotal") - meminfo_kb("SwapFree")) / 4;
}

/* ---- steering pages ------------------------------------------------------ */

size_t pageout(void *addr, size_t pages)
{
	/* a page still in a per-CPU vector is not on the LRU: reclaim skips it */
	drain_all();
	if (madvise(addr, pages * PAGE_SIZE, MADV_PAGEOUT))
		skip_all("MADV_PAGEOUT: %s", strerror(errno));
	return count_swapped(addr, pages);
}

size_t pageout_all(void *addr, size_t pages)
{
	size_t out = 0;

	for (int round = 0; round < 8 && out < pages; round++)
		out = pageout(addr, pages);
	return out;
}

/* Clear the accessed marks of all pages that a process maps. */
static void forget_accesses(int pid)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/clear_refs", pid);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "1", 1) != 1)
		if (errno != ENOENT && errno != ESRCH)	/* it may have ended */
			broken("%s: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
}

/*
 * Reclaim puts what was accessed on the active list, and up to 32 pages there
 * are not in the group's statistics yet (MEMCG_CHARGE_BATCH), by which it
 * decides whether there is any to deactivate; then it leaves them alone.
 */
static void forget_group_accesses(void)
{
	char path[64];
	FILE *procs;
	int pid;

	in_memcg(NULL, NULL);
	snprintf(path, sizeof(path), "%s/cgroup.procs", memcg_path());
	procs = fopen(path, "re");
	if (!procs)
		broken("%s: %s", path, strerror(errno));
	while (fscanf(procs, "%d", &pid) == 1)
		forget_accesses(pid);
	fclose(procs);
}

void memcg_reclaim(void)
{
	forget_group_accesses();
	drain_all();
	/*
	 * Reclaim happens in the write. Lifted again at once: above memory.high
	 * every return from the kernel is made to wait
	 */
	in_memcg("memory.high", "0");
	in_memcg("memory.high", "max");
}

void leave_swap_cache(const uint64_t *pfns, size_t n)
{
	for (int round = 0; round < 8; round++) {
		if (!count_flagged(pfns, n, flag_swapcache))
			break;
		memcg_reclaim();
	}
	/* what else went out comes back now, and not within a measure */
	touch_read(pfns, n * sizeof(*pfns) / PAGE_SIZE);
	drain_all();
}

void wait_written(const uint64_t *pfns, size_t n)
{
	const struct timespec tick = { .tv_nsec = 2000000 };

	for (int ms = 0; count_flagged(pfns, n, flag_writeback); ms += 2) {
		if (ms >= patience_ms())
			broken("pages are under writeback after %d ms", patience_ms());
		nanosleep(&tick, NULL);
	}
}

void drain_local(void)
{
	static char *dummy;

	if (!dummy)
		dummy = map_pages(1);
	*(volatile char *)dummy = 1;
	/* the call drains this CPU's vectors before it looks at the page */
	if (madvise(dummy, PAGE_SIZE, MADV_COLD))
		skip_all("MADV_COLD: %s", strerror(errno));
}

void drain_all(void)
{
	cpu_set_t old, one;

	sched_getaffinity(0, sizeof(old), &old);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		if (sched_setaffinity(0, sizeof(one), &one))
			break;
		drain_local();
	}
	sched_setaffinity(0, sizeof(old), &old);
}
