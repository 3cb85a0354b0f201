// SPDX-License-Identifier: GPL-2.0-only
/*
 * What swap did the kernel really make of the device? A page that is paged out
 * and read back stays in the swap cache on an asynchronous device and never
 * enters it on a synchronous one (SWP_SYNCHRONOUS_IO, mm/memory.c do_swap_page()).
 * Kernels from 6.18 on go through the swap cache always and say "no" everywhere.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif
#define PAGES 4
#define PAGE 4096UL
#define KPF_SWAPCACHE (1ULL << 13)

static uint64_t read_word(const char *path, uint64_t index)
{
	uint64_t word = 0;
	int fd = open(path, O_RDONLY);

	if (fd < 0)
		return 0;
	if (pread(fd, &word, sizeof(word), index * sizeof(word)) != sizeof(word))
		word = 0;
	close(fd);
	return word;
}

static uint64_t pagemap(const void *addr)
{
	return read_word("/proc/self/pagemap", (uintptr_t)addr / PAGE);
}

int main(void)
{
	volatile char *area = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t entry, flags;

	if (area == MAP_FAILED)
		return 1;
	memset((void *)area, 0x5a, PAGES * PAGE);
	madvise((void *)area, PAGES * PAGE, MADV_PAGEOUT);
	usleep(600 * 1000);	/* a delayed device writes for a while */
	madvise((void *)area, PAGES * PAGE, MADV_PAGEOUT);
	if (!(pagemap((void *)area) >> 62 & 1)) {
		puts("synchronous=unknown");
		return 0;
	}
	(void)area[0];
	entry = pagemap((void *)area);
	flags = read_word("/proc/kpageflags", entry & ((1ULL << 55) - 1));
	printf("synchronous=%s\n", flags & KPF_SWAPCACHE ? "no" : "yes");
	return 0;
}
