// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pages that their one owner has handed to the kernel by reference: they go
 * out to swap and are written to while it holds them. A copy leaves the pipe
 * or the device with a page that the owner no longer sees.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "dm.h"

#define PAGES 8
#define SECTOR 512
#define SALT 0x4d
#define DISK_SALT 0x2e
#define VALUE 0x3000000

/*
 * What holds them keeps them in the swap cache, whatever the device. If it
 * pins them, as newer kernels do for O_DIRECT, reclaim leaves them alone.
 */
static void out_and_back(char *set, bool read_first)
{
	size_t out = pageout_all(set, PAGES);

	if (!out)
		skip_all("reclaim leaves pages alone that are held like this");
	proof_count("swapped_out", out, PAGES, "held pages swapped (pagemap)");
	if (read_first)
		touch_read(set, PAGES);
	/* only the holder may have them now, no per-CPU vector */
	drain_all();
}

/* ---- vmsplice: a pipe holds them ------------------------------------------ */

static void getref(bool read_first)
{
	char *set = map_pages(PAGES);
	size_t in_sync = 0;
	struct iovec iov = { set, PAGES * PAGE_SIZE };
	static char seen[PAGE_SIZE];
	int fd[2];

	plan(1);
	fill(set, PAGES, SALT);
	if (pipe(fd))
		broken("pipe: %s", strerror(errno));
	if (vmsplice(fd[1], &iov, 1, 0) != (ssize_t)iov.iov_len)
		broken("vmsplice: %s", strerror(errno));
	out_and_back(set, read_first);
	mark(set, PAGES, VALUE);
	for (size_t i = 0; i < PAGES; i++) {
		if (read(fd[0], seen, PAGE_SIZE) != (ssize_t)PAGE_SIZE)
			broken("the pipe is short: page %zu", i);
		in_sync += page_is_marked(seen, i, SALT, VALUE);
	}
	measure("in_sync", (long long)in_sync, "pages");
	verdict_data(check_marked(set, PAGES, SALT, VALUE), PAGES);
}

static void getref_wr(void)
{
	getref(false);
}

static void getref_rd_wr(void)
{
	getref(true);
}

/* ---- O_DIRECT: a device holds them ---------------------------------------- */

/* Another content than the pages have, at the same places. */
static int data_disk(void)
{
	static char content[PAGES * PAGE_SIZE] __attribute__((aligned(4096)));
	int fd = dm_open(dm_linear("twinboot-data", null_disk(1)), O_RDWR | O_DIRECT);

	fill(content, PAGES, DISK_SALT);
	if (pwrite(fd, content, sizeof(content), 0) != sizeof(content))
		broken("the data disk takes no data: %s", strerror(errno));
	return fd;
}

/* Submits a read of the first sector of each page, and returns meanwhile. */
static aio_context_t reads_begin(int fd, char *set)
{
	static struct iocb cb[PAGES];
	struct iocb *list[PAGES];
	aio_context_t ctx = 0;

	if (syscall(SYS_io_setup, PAGES, &ctx))
		skip_all("this kernel has no asynchronous I/O: %s", strerror(errno));
	for (size_t i = 0; i < PAGES; i++) {
		cb[i] = (struct iocb) {
			.aio_lio_opcode = IOCB_CMD_PREAD,
			.aio_fildes = (unsigned int)fd,
			.aio_buf = (uintptr_t)set + i * PAGE_SIZE,
			.aio_nbytes = SECTOR,
			.aio_offset = (long long)(i * PAGE_SIZE),
		};
		list[i] = &cb[i];
	}
	if (syscall(SYS_io_submit, ctx, PAGES, list) != PAGES)
		broken("io_submit: %s", strerror(errno));
	return ctx;
}

/* Reads of whole sectors that have ended within @seconds; all at once or late. */
static size_t reads_ended(aio_context_t ctx, long at_least, long seconds)
{
	struct timespec limit = { .tv_sec = seconds };
	struct io_event event[PAGES];
	size_t whole = 0;
	long n = syscall(SYS_io_getevents, ctx, at_least, PAGES, event, &limit);

	for (long i = 0; i < n; i++)
		whole += event[i].res == SECTOR;
	return whole;
}

/* The owner writes the last byte of each page, the device the first sector. */
static void odirect(bool read_first)
{
	static unsigned char model[PAGES][PAGE_SIZE], disk[PAGES][PAGE_SIZE];
	unsigned char (*set)[PAGE_SIZE];
	size_t lost = 0, wrong = 0;
	aio_context_t ctx;
	int fd;

	plan(2);
	fd = data_disk();
	set = map_pages(PAGES);
	fill(set, PAGES, SALT);
	fill(model, PAGES, SALT);
	fill(disk, PAGES, DISK_SALT);
	dm_suspend("twinboot-data");
	ctx = reads_begin(fd, (char *)set);
	proof("held", !reads_ended(ctx, 0, 0), "no read has ended");
	out_and_back((char *)set, read_first);
	for (size_t i = 0; i < PAGES; i++)
		set[i][PAGE_SIZE - 1] = model[i][PAGE_SIZE - 1] ^= 0xff;
	proof("still_held", !reads_ended(ctx, 0, 0), "no read has ended");
	dm_resume("twinboot-data");
	proof_count("read_done", reads_ended(ctx, PAGES, 10), PAGES, "reads ended well");
	for (size_t i = 0; i < PAGES; i++) {
		lost += !!memcmp(set[i], disk[i], SECTOR);
		wrong += !!memcmp(set[i] + SECTOR, model[i] + SECTOR, PAGE_SIZE - SECTOR);
	}
	verdict("data_arrives", !lost,
		"%zu of %d sectors that were read never reached their page", lost, PAGES);
	verdict_data(wrong, PAGES);
}

static void odirect_hold(void)
{
	odirect(false);
}

static void odirect_hold_rd(void)
{
	odirect(true);
}

static const struct guest_case cases[] = {
	/* a copy at swap-in, which a pipe that holds the page does not see */
	{ "getref_wr", getref_wr },
	/* the same at the write-protect fault that follows a read fault */
	{ "getref_rd_wr", getref_rd_wr },
	/* a copy at swap-in, while a device reads into the old page */
	{ "odirect_hold", odirect_hold },
	/* the same at the write-protect fault that follows a read fault */
	{ "odirect_hold_rd", odirect_hold_rd },
	{ },
};

int main(int argc, char **argv)
{
	return guest_main(argc, argv, cases);
}
