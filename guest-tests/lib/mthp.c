// SPDX-License-Identifier: GPL-2.0-only
/*
 * Huge pages of 64 KiB: asked for by their own knob, and recognised by frames
 * in a row, a head and its tails.
 */
#include "mthp.h"

#include <stdio.h>

#define SIZE_64K "/sys/kernel/mm/transparent_hugepage/hugepages-64kB/"

static bool flag_head(uint64_t flags)
{
	return flags >> 15 & 1;
}

static bool flag_tail(uint64_t flags)
{
	return flags >> 16 & 1;
}

void *map_mthp(size_t folios)
{
	static bool asked;
	size_t pages = folios * MTHP_PAGES, huge = thp_pages();
	char *addr;

	if (!asked)
		knob_set(SIZE_64K "enabled", "madvise");
	asked = true;
	if (pages >= huge)
		broken("%zu pages have room for a larger huge page", pages);
	/* less than one of the largest size, which then cannot be */
	addr = map_thp(1);
	unmap_pages(addr + pages * PAGE_SIZE, huge - pages);
	return addr;
}

static bool is_whole(const struct page_state *page)
{
	if (!page->present || !flag_head(page_flags(page->pfn)))
		return false;
	for (size_t i = 1; i < MTHP_PAGES; i++)
		if (!page[i].present || page[i].pfn != page->pfn + i ||
		    !flag_tail(page_flags(page[i].pfn)))
			return false;
	return true;
}

size_t count_whole(const void *addr, size_t folios)
{
	struct page_state page[MTHP_PAGES];
	size_t whole = 0;

	for (size_t i = 0; i < folios; i++) {
		pagemap_read((const char *)addr + i * MTHP_PAGES * PAGE_SIZE,
			     MTHP_PAGES, page);
		whole += is_whole(page);
	}
	return whole;
}

long long mthp_stat(const char *name)
{
	char path[128];
	long long value;
	FILE *file;

	snprintf(path, sizeof(path), SIZE_64K "stats/%s", name);
	file = fopen(path, "re");
	if (!file)
		return -1;
	if (fscanf(file, "%lld", &value) != 1)
		value = -1;
	fclose(file);
	return value;
}
