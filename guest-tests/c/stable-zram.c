// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pages change while zram compresses them. To plain zram swap the page is
 * locked all the time (rw_page, up to 6.2), so that nobody gets at it; with a
 * backing device the write is a bio, and the page is unlocked before that is
 * submitted. 6.1 has rw_page then, too (zram_wb_devops is gone): skipped, once
 * that was seen. What zram stored is compared with what left.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/swap.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

#define PAGES 64
#define WORDS (PAGE_SIZE / sizeof(uint64_t))
#define ENOUGH 32		/* writes that met zram at work ... */
#define LIMIT_S 3		/* ... or as many as there are by then, */
#define LAST_S 20		/* or by then if there was none */
#define HELD 256		/* pages seen locked as zram wrote, and none met */
#define PRIORITY 100		/* before the swap that is there */
#define BACKING "/dev/ram0"
#define CONTROL "/sys/class/zram-control"
#define DISK_BYTES "16777216"

static char disk[32];		/* "zram1" */
static char device[48];		/* "/dev/zram1" */
static bool swapping;
static unsigned int type;

/* ---- a second zram --------------------------------------------------------- */

static bool try_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return ok;
}

static void undo(void)
{
	if (swapping)
		swapoff(device);
	swapping = false;
	/* removing it resets it, and lets go of the backing device */
	if (disk[0])
		try_write(CONTROL "/hot_remove", disk + strlen("zram"));
	disk[0] = 0;
}

static void set_up_attribute(const char *name, const char *text)
{
	char path[96];

	snprintf(path, sizeof(path), "/sys/block/%s/%s", disk, name);
	if (access(path, F_OK))
		skip_all("this kernel's zram has no %s", name);
	if (!try_write(path, text))
		broken("%s does not take %s: %s", path, text, strerror(errno));
}

/*
 * The slower it compresses, the longer can a page be written to while it does.
 * Where the kernel has no deflate, its own choice stays.
 */
static void choose_slow_compressor(void)
{
	char path[96];

	snprintf(path, sizeof(path), "/sys/block/%s/comp_algorithm", disk);
	try_write(path, "deflate");
}

/* The header of a swap area, version 1 (include/linux/swap.h, union swap_header). */
static void make_swap_area(void)
{
	static char page[PAGE_SIZE];
	uint32_t info[2] = { 1, (uint32_t)(atol(DISK_BYTES) / PAGE_SIZE - 1) };
	int fd = open(device, O_WRONLY | O_CLOEXEC);

	memcpy(page + 1024, info, sizeof(info));
	memcpy(page + PAGE_SIZE - 10, "SWAPSPACE2", 10);
	if (fd < 0 || write(fd, page, sizeof(page)) != sizeof(page) || fsync(fd))
		broken("%s takes no swap header: %s", device, strerror(errno));
	close(fd);
}

/* Which of the swap areas ours is: pagemap's number of it. */
static unsigned int swap_type(void)
{
	FILE *file = fopen("/proc/swaps", "re");
	char text[256];

	/* line 0 is the heading */
	for (unsigned int line = 0; file && fgets(text, sizeof(text), file); line++) {
		if (strncmp(text, device, strlen(device)))
			continue;
		fclose(file);
		return line - 1;
	}
	broken("/proc/swaps has no %s", device);
}

static void swap_on_backed_zram(void)
{
	FILE *file = fopen(CONTROL "/hot_add", "re");
	int number;

	if (!file || fscanf(file, "%d", &number) != 1)
		skip_all("this kernel adds no zram");
	fclose(file);
	snprintf(disk, sizeof(disk), "zram%d", number);
	snprintf(device, sizeof(device), "/dev/%s", disk);
	at_restore(undo);
	set_up_attribute("backing_dev", BACKING);
	choose_slow_compressor();
	set_up_attribute("disksize", DISK_BYTES);
	make_swap_area();
	swapping = true;
	if (swapon(device, SWAP_FLAG_PREFER | PRIORITY))
		broken("swapon %s: %s", device, strerror(errno));
	type = swap_type();
}

/* ---- one round ------------------------------------------------------------- */

/* Set before a round begins, but for what the writer finds: late[] and slots[]. */
static uint64_t *set;
static uint64_t model[PAGES][WORDS];
static uint64_t pfns[PAGES], slots[PAGES];
static bool late[PAGES];
static _Atomic int met;		/* late writes that certainly met zram at work */
static _Atomic int held;	/* pages that were locked while under writeback */
static _Atomic int begun, paged_out, written;
static _Atomic bool stop;
static int pagemap = -1, kpageflags = -1;

static uint64_t entry_of(size_t i)
{
	uint64_t entry = 0, at = (uintptr_t)(set + i * WORDS) / PAGE_SIZE;

	return pread(pagemap, &entry, 8, (off_t)at * 8) == 8 ? entry : 0;
}

static bool is_swapped(uint64_t entry)
{
	return entry >> 62 & 1;
}

static uint64_t flags_of(size_t i)
{
	uint64_t flags = 0;

	return pread(kpageflags, &flags, 8, (off_t)pfns[i] * 8) == 8 ? flags : 0;
}

/* What the last word of a page becomes after the page has left. */
static uint64_t late_word(size_t i)
{
	return 0x57ab000000000000ULL | (uint64_t)begun << 16 | i;
}

/*
 * Waits until page @i has left, and returns the one that left last: reclaim
 * takes them in the order of their addresses, and those before it may be stored
 * already. PAGES when the round's pageout has ended before.
 */
static size_t next_out(size_t i, uint64_t *entry)
{
	uint64_t next;

	do {
		bool last = paged_out == begun;

		*entry = entry_of(i);
		if (last && !is_swapped(*entry))
			return PAGES;
	} while (!is_swapped(*entry));
	while (i + 1 < PAGES && is_swapped(next = entry_of(i + 1))) {
		*entry = next;
		i++;
	}
	return i;
}

/* Writes to pages as they leave. */
static void write_late(void)
{
	uint64_t entry;

	for (size_t i = next_out(0, &entry); i < PAGES; i = next_out(i + 1, &entry)) {
		uint64_t flags = flags_of(i);

		*(volatile uint64_t *)(set + (i + 1) * WORDS - 1) = late_word(i);
		late[i] = true;
		/* the first few slots come from the caches of the other swap */
		if ((entry & 31) == type) {
			held += flag_locked(flags) && flag_writeback(flags);
			/* Under writeback even now, so the write was not too late */
			met += flag_writeback(flags_of(i));
			slots[i] = entry >> 5 & ((1ULL << 50) - 1);
		}
		if (i + 1 == PAGES)
			break;
	}
}

static void *writer(void *arg)
{
	(void)arg;
	pin_cpu(1);
	while (!stop) {
		if (written == begun)
			continue;
		write_late();
		written++;
	}
	return NULL;
}

/* Few symbols in no order: what a compressor takes longest for. */
static void fill_slow(int salt)
{
	fill(set, PAGES, (unsigned char)salt);
	for (size_t i = 0; i < PAGES * WORDS; i++)
		set[i] &= 0x0303030303030303ULL;
}

static void play_round(int salt)
{
	fill_slow(salt);
	memcpy(model, set, sizeof(model));
	memset(slots, 0, sizeof(slots));
	memset(late, 0, sizeof(late));
	drain_all();
	pfns_read(set, PAGES, pfns);
	begun++;
	madvise(set, PAGES * PAGE_SIZE, MADV_PAGEOUT);
	paged_out++;
	while (written != begun)
		sched_yield();
}

/* ---- what came of it ------------------------------------------------------- */

struct tally {
	int late, changed;
	size_t wrong;
};

/* Whether zram holds the late word, which was written after the page had left. */
static bool slot_changed(size_t i)
{
	static uint64_t content[WORDS] __attribute__((aligned(4096)));
	int fd = open(device, O_RDONLY | O_DIRECT | O_CLOEXEC);
	off_t at = (off_t)(slots[i] * PAGE_SIZE);
	bool ok = fd >= 0 && pread(fd, content, PAGE_SIZE, at) == (ssize_t)PAGE_SIZE;

	if (fd >= 0)
		close(fd);
	if (!ok)
		broken("slot %zu of %s cannot be read", (size_t)slots[i], device);
	return content[WORDS - 1] == late_word(i);
}

static void count_round(struct tally *t)
{
	/* before the pages are read: that may free their slots */
	for (size_t i = 0; i < PAGES; i++) {
		t->late += !!slots[i];
		t->changed += slots[i] && slot_changed(i);
	}
	for (size_t i = 0; i < PAGES; i++) {
		if (late[i])
			model[i][WORDS - 1] = late_word(i);
		t->wrong += !!memcmp(set + i * WORDS, model[i], PAGE_SIZE);
	}
}

static void play(struct tally *t)
{
	struct timespec now, start;
	pthread_t thread;

	if (pthread_create(&thread, NULL, writer, NULL))
		broken("no thread can be made");
	clock_gettime(CLOCK_MONOTONIC, &start);
	do {
		play_round(begun);
		count_round(t);
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (met < ENOUGH && (met || held < HELD) &&
		 now.tv_sec - start.tv_sec < (met ? LIMIT_S : LAST_S));
	stop = true;
	pthread_join(thread, NULL);
}

static void st_crash(void)
{
	struct tally t = { 0 };

	plan(2);
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		skip_all("a race needs two CPUs");
	swap_on_backed_zram();
	pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	kpageflags = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	if (pagemap < 0 || kpageflags < 0)
		skip_all("the pages of this kernel cannot be observed");
	set = map_pages(PAGES);
	play(&t);
	if (!met && held >= HELD)
		skip_all("this kernel's zram keeps a page locked while it compresses");
	proof("met", met > 0, "in %d rounds %d of %d late writes met zram at work",
	      (int)begun, (int)met, t.late);
	tries("device_stable", t.late, t.changed);
	verdict("device_stable", !t.changed,
		"%d of %d pages changed on their way into zram", t.changed, t.late);
	verdict_data(t.wrong, (size_t)begun * PAGES);
}

static const struct guest_case cases[] = {
	/* a page under writeback is reused, and zram compresses it a second time */
	{ "st_crash", st_crash },
	{ NULL, NULL }
};

int main(int argc, char **argv)
{
	return guest_main(argc, argv, cases);
}
