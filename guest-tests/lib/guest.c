// SPDX-License-Identifier: GPL-2.0-only
/*
 * What every C guest test stands on: KTAP output, page observation, knobs.
 * It knows no scenario: those are in c/.
 */
#define _GNU_SOURCE
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef MADV_COLD
#define MADV_COLD 20
#endif
#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

#define MAX_KNOBS 16
#define MAX_CHILDREN 256
#define KNOB_TEXT 256
#define WORDS (PAGE_SIZE / sizeof(uint64_t))
#define EXIT_FAIL 1
#define EXIT_USAGE 2
#define EXIT_SKIP 4

struct knob {
	char path[128];
	char old[KNOB_TEXT];
	size_t len;
};

static struct knob knobs[MAX_KNOBS];
static int nr_knobs;
static pid_t children[MAX_CHILDREN];
static char memcg[64];
static pid_t owner;
static int planned, given, failed;

/* ---- restoring: async-signal-safe, so that SIGTERM restores too ---------- */

static bool write_file(const char *path, const char *text, size_t len)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool ok;

	if (fd < 0)
		return false;
	ok = write(fd, text, len) == (ssize_t)len;
	close(fd);
	return ok;
}

static void kill_children(void)
{
	for (int i = 0; i < MAX_CHILDREN; i++) {
		if (children[i] <= 0)
			continue;
		kill(children[i], SIGKILL);
		waitpid(children[i], NULL, 0);
		children[i] = 0;
	}
}

static void leave_memcg(void)
{
	if (!memcg[0])
		return;
	write_file("/sys/fs/cgroup/cgroup.procs", "0", 1);
	rmdir(memcg);
	memcg[0] = 0;
}

static void restore(void)
{
	/* a forked child inherits this list, but the knobs are not its own */
	if (getpid() != owner)
		return;
	kill_children();
	leave_memcg();
	while (nr_knobs > 0) {
		struct knob *k = &knobs[--nr_knobs];

		write_file(k->path, k->old, k->len);
	}
}

static void on_signal(int sig)
{
	restore();
	signal(sig, SIG_DFL);
	raise(sig);
}

static void restore_at_any_end(void)
{
	static const int signals[] = {
		SIGTERM, SIGINT, SIGHUP, SIGALRM, SIGSEGV, SIGBUS, SIGABRT,
	};

	owner = getpid();
	atexit(restore);
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		signal(signals[i], on_signal);
}

/* ---- KTAP ---------------------------------------------------------------- */

void plan(int invariants)
{
	planned = invariants;
	printf("1..%d\n", invariants);
}

static void say(const char *prefix, const char *fmt, va_list ap)
{
	fputs(prefix, stdout);
	vprintf(fmt, ap);
	putchar('\n');
}

#define SAY(prefix, fmt) do {			\
	va_list ap;				\
	va_start(ap, fmt);			\
	say(prefix, fmt, ap);			\
	va_end(ap);				\
} while (0)

void note(const char *fmt, ...)
{
	SAY("# ", fmt);
}

void proof(const char *name, bool ok, const char *fmt, ...)
{
	printf("# proof: %s %s", name, ok ? "ok" : "missing");
	SAY(" ", fmt);
}

void proof_count(const char *name, size_t got, size_t want, const char *what)
{
	proof(name, got == want, "%zu of %zu %s", got, want, what);
}

void measure(const char *name, long long value, const char *unit)
{
	printf("# measure: %s %lld %s\n", name, value, unit);
}

void tries(const char *name, int tried, int lost)
{
	printf("# tries: %s %d failed %d\n", name, tried, lost);
}

void verdict(const char *name, bool ok, const char *fmt, ...)
{
	failed += !ok;
	printf("%s %d %s", ok ? "ok" : "not ok", ++given, name);
	SAY(" ", fmt);
}

void verdict_skip(const char *name, const char *fmt, ...)
{
	printf("ok %d %s # SKIP", ++given, name);
	SAY(" ", fmt);
}

void verdict_data(size_t wrong, size_t pages)
{
	verdict("data_intact", !wrong, "%zu of %zu pages differ from what was written",
		wrong, pages);
}

static void skip_rest(const char *fmt, va_list ap)
{
	char reason[512];

	vsnprintf(reason, sizeof(reason), fmt, ap);
	if (!planned)
		printf("1..0 # SKIP %s\n", reason);
	while (given < planned)
		verdict_skip("not_reached", "%s", reason);
}

void skip_all(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	skip_rest(fmt, ap);
	va_end(ap);
	exit(EXIT_SKIP);
}

void broken(const char *fmt, ...)
{
	va_list ap;

	SAY("# proof: setup missing ", fmt);
	va_start(ap, fmt);
	skip_rest(fmt, ap);
	va_end(ap);
	exit(EXIT_SKIP);
}

/* ---- one case, one run --------------------------------------------------- */

static bool in_guest(void)
{
	char cmdline[4096] = "";
	int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);

	if (fd >= 0) {
		if (read(fd, cmdline, sizeof(cmdline) - 1) < 0)
			cmdline[0] = 0;
		close(fd);
	}
	return getenv("TWINBOOT_GUEST") || strstr(cmdline, "twinboot.guest=1");
}

static int finish(void)
{
	if (given != planned) {
		printf("Bail out! %d of %d invariants judged\n", given, planned);
		return EXIT_FAIL;
	}
	return failed ? EXIT_FAIL : 0;
}

int guest_main(int argc, char **argv, const struct guest_case *cases)
{
	if (!in_guest()) {
		fputs("Refusing to run: this is not a twinboot guest.\n", stderr);
		return EXIT_USAGE;
	}
	for (; argc == 2 && cases->name; cases++) {
		if (strcmp(cases->name, argv[1]))
			continue;
		setvbuf(stdout, NULL, _IOLBF, 0);
		restore_at_any_end();
		pin_cpu(0);
		puts("KTAP version 1");
		cases->run();
		return finish();
	}
	fputs("Usage: give the name of one case of this group.\n", stderr);
	return EXIT_USAGE;
}

const char *swap_kind(void)
{
	const char *kind = getenv("TWINBOOT_SWAP");

	return kind ? kind : "none";
}

const char *swap_dev(void)
{
	const char *dev = getenv("TWINBOOT_SWAP_DEV");

	return dev ? dev : "";
}

bool swap_is(const char *kind)
{
	return !strcmp(swap_kind(), kind);
}

long swap_delay_ms(void)
{
	const char *ms = getenv("TWINBOOT_SWAP_DELAY_MS");

	return ms ? strtol(ms, NULL, 10) : 0;
}

uint64_t seed(void)
{
	const char *text = getenv("TWINBOOT_SEED");

	return text ? strtoull(text, NULL, 0) : 1;
}

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

bool wait_written(const uint64_t *pfns, size_t n, int ms)
{
	const struct timespec tick = { .tv_nsec = 2000000 };

	for (; ms > 0; ms -= 2) {
		if (!count_flagged(pfns, n, flag_writeback))
			return true;
		nanosleep(&tick, NULL);
	}
	return false;
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

void pin_cpu(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		broken("cannot run on CPU %d: %s", cpu, strerror(errno));
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

/* ---- system state -------------------------------------------------------- */

void knob_set(const char *path, const char *value)
{
	struct knob *k = &knobs[nr_knobs];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got = -1;

	if (fd >= 0) {
		got = read(fd, k->old, sizeof(k->old));
		close(fd);
	}
	if (got <= 0)
		skip_all("this kernel has no %s", path);
	if (nr_knobs == MAX_KNOBS)
		broken("more than %d knobs", MAX_KNOBS);
	snprintf(k->path, sizeof(k->path), "%s", path);
	k->len = (size_t)got;
	nr_knobs++;
	if (!write_file(path, value, strlen(value)))
		broken("%s does not take %s: %s", path, value, strerror(errno));
}

static void enter_memcg(void)
{
	char path[128];

	/* fails harmlessly where the runner has already enabled it */
	write_file("/sys/fs/cgroup/cgroup.subtree_control", "+memory", 7);
	snprintf(memcg, sizeof(memcg), "/sys/fs/cgroup/twinboot.%d", getpid());
	if (mkdir(memcg, 0755))
		skip_all("no cgroup v2 at /sys/fs/cgroup: %s", strerror(errno));
	snprintf(path, sizeof(path), "%s/memory.max", memcg);
	if (access(path, F_OK))
		skip_all("no memory controller in cgroup v2");
	snprintf(path, sizeof(path), "%s/cgroup.procs", memcg);
	if (!write_file(path, "0", 1))
		broken("cannot enter %s: %s", memcg, strerror(errno));
}

void in_memcg(const char *knob, const char *value)
{
	char path[128];

	if (!memcg[0])
		enter_memcg();
	if (!knob)
		return;
	snprintf(path, sizeof(path), "%s/%s", memcg, knob);
	if (access(path, F_OK))
		skip_all("this kernel has no %s", knob);
	if (!write_file(path, value, strlen(value)))
		broken("%s does not take %s: %s", path, value, strerror(errno));
}

const char *memcg_path(void)
{
	return memcg;
}

/* ---- children ------------------------------------------------------------ */

static pid_t *child_slot(pid_t pid)
{
	for (int i = 0; i < MAX_CHILDREN; i++)
		if (children[i] == pid)
			return &children[i];
	broken("more than %d children", MAX_CHILDREN);
}

pid_t spawn(int (*fn)(void *), void *arg)
{
	pid_t *slot = child_slot(0);
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid < 0)
		broken("fork: %s", strerror(errno));
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(fn(arg));
	}
	*slot = pid;
	return pid;
}

int reap(pid_t child)
{
	pid_t *slot = child_slot(child);
	int status;

	if (waitpid(child, &status, 0) != child)
		broken("waitpid: %s", strerror(errno));
	*slot = 0;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

struct gate gate_make(void)
{
	struct gate g;

	if (pipe2(g.fd, O_CLOEXEC))
		broken("pipe: %s", strerror(errno));
	return g;
}

void gate_open(const struct gate *g)
{
	/* one byte into a fresh pipe cannot block, and the waiter has a limit */
	if (write(g->fd[1], "", 1) != 1)
		note("a gate could not be opened: %s", strerror(errno));
}

bool gate_wait(const struct gate *g)
{
	struct pollfd p = { .fd = g->fd[0], .events = POLLIN };
	char byte;

	return poll(&p, 1, 10000) == 1 && read(g->fd[0], &byte, 1) == 1;
}

void gate_close(const struct gate *g)
{
	close(g->fd[0]);
	close(g->fd[1]);
}

void *map_shared(size_t bytes)
{
	void *addr = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (addr == MAP_FAILED)
		broken("mmap of %zu shared bytes: %s", bytes, strerror(errno));
	return addr;
}
