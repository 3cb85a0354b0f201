// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pages registered as a fixed buffer of io_uring, which pins them for long:
 * as long as they are, the ring and the owner must mean the same pages.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/io_uring.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "mthp.h"

#define PAGES 8
#define SALT 0x19
#define VALUE 0x7000000
#define ENTRIES 4

struct ring {
	int fd;
	struct io_uring_params params;
	char *sq, *cq;
	struct io_uring_sqe *sqes;
};

/* ---- a ring, without a library -------------------------------------------- */

static void *ring_map(const struct ring *r, size_t bytes, off_t what)
{
	void *addr = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_POPULATE, r->fd, what);

	if (addr == MAP_FAILED)
		broken("mmap of the ring: %s", strerror(errno));
	return addr;
}

static struct ring ring_make(void)
{
	struct ring r = { 0 };
	const struct io_sqring_offsets *sq = &r.params.sq_off;
	const struct io_cqring_offsets *cq = &r.params.cq_off;

	r.fd = (int)syscall(SYS_io_uring_setup, ENTRIES, &r.params);
	if (r.fd < 0)
		skip_all("this kernel has no io_uring: %s", strerror(errno));
	r.sq = ring_map(&r, sq->array + r.params.sq_entries * sizeof(uint32_t),
			IORING_OFF_SQ_RING);
	r.cq = ring_map(&r, cq->cqes + r.params.cq_entries *
			sizeof(struct io_uring_cqe), IORING_OFF_CQ_RING);
	r.sqes = ring_map(&r, r.params.sq_entries * sizeof(struct io_uring_sqe),
			  IORING_OFF_SQES);
	return r;
}

static _Atomic uint32_t *ring_word(char *ring, uint32_t offset)
{
	return (_Atomic uint32_t *)(ring + offset);
}

/* One request, until it has ended; its result. */
static int ring_do(struct ring *r, const struct io_uring_sqe *request)
{
	_Atomic uint32_t *tail = ring_word(r->sq, r->params.sq_off.tail);
	_Atomic uint32_t *head = ring_word(r->cq, r->params.cq_off.head);
	uint32_t *array = (uint32_t *)(r->sq + r->params.sq_off.array);
	const struct io_uring_cqe *cqes = (void *)(r->cq + r->params.cq_off.cqes);
	uint32_t at = *tail % r->params.sq_entries;
	int result;

	r->sqes[at] = *request;
	array[at] = at;
	++*tail;
	if (syscall(SYS_io_uring_enter, r->fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) != 1)
		broken("io_uring_enter: %s", strerror(errno));
	result = cqes[*head % r->params.cq_entries].res;
	++*head;
	return result;
}

/*
 * Are the pages as the ring has them fill(), or fill() and mark()? It writes
 * them to a file. Returns how many are not.
 */
static size_t ring_wrong(struct ring *r, const char *set, size_t pages, bool marked)
{
	struct io_uring_sqe sqe = {
		.opcode = IORING_OP_WRITE_FIXED,
		.fd = memfd_create("twinboot", MFD_CLOEXEC),
		.addr = (uintptr_t)set,
		.len = (uint32_t)(pages * PAGE_SIZE),
	};
	static char seen[PAGE_SIZE];
	size_t wrong = 0;

	if (sqe.fd < 0)
		broken("memfd_create: %s", strerror(errno));
	if (ring_do(r, &sqe) != (int)sqe.len)
		broken("WRITE_FIXED was short or failed");
	for (size_t i = 0; i < pages; i++) {
		if (pread(sqe.fd, seen, PAGE_SIZE, (off_t)(i * PAGE_SIZE)) !=
		    (ssize_t)PAGE_SIZE)
			broken("page %zu cannot be read back", i);
		wrong += marked ? !page_is_marked(seen, i, SALT, VALUE) :
				  !page_is_fill(seen, i, SALT);
	}
	close(sqe.fd);
	return wrong;
}

static struct ring pin(void *set, size_t pages)
{
	struct iovec iov = { set, pages * PAGE_SIZE };
	struct ring r = ring_make();

	if (syscall(SYS_io_uring_register, r.fd, IORING_REGISTER_BUFFERS, &iov, 1))
		broken("the buffer cannot be registered: %s", strerror(errno));
	proof_count("ring_works", pages - ring_wrong(&r, set, pages, false), pages,
		    "pages in the ring's buffer are the owner's");
	return r;
}

static void judge(struct ring *r, const char *set, size_t pages)
{
	size_t wrong = ring_wrong(r, set, pages, true);

	verdict("ring_sees_write", !wrong,
		"%zu of %zu pages that the ring wrote to a file are not the owner's",
		wrong, pages);
}

/* ---- swap and fork --------------------------------------------------------- */

struct heir {
	char *set;
	struct gate go;
};

static int heir_looks(void *arg)
{
	struct heir *h = arg;

	if (!gate_wait(&h->go))
		return 2;
	return check_fill(h->set, PAGES, SALT) ? 1 : 0;
}

/* A round of swap: pages that are not pinned go. */
static void page_out_with_control(char *set)
{
	char *control = map_pages(PAGES);

	fill(control, PAGES, SALT + 1);
	measure("pinned_out", (long long)pageout_all(set, PAGES), "pages");
	proof_count("others_out", pageout_all(control, PAGES), PAGES,
		    "pages without a pin swapped (pagemap)");
	touch_read(set, PAGES);
	drain_all();
}

static void pin_and_fork(char *set)
{
	struct heir h = { .set = set, .go = gate_make() };
	uint64_t pfns[PAGES];
	struct ring r;
	size_t kept;
	int looked;
	pid_t pid;

	plan(3);
	fill(h.set, PAGES, SALT);
	r = pin(h.set, PAGES);
	pfns_read(h.set, PAGES, pfns);
	page_out_with_control(h.set);
	pid = spawn(heir_looks, &h);
	mark(h.set, PAGES, VALUE);
	gate_open(&h.go);
	looked = reap(pid);
	proof("child_looked", looked == 0 || looked == 1, "the child compared its pages");
	kept = count_same_pfn(h.set, PAGES, pfns);
	verdict("pages_kept", kept == PAGES, "%zu of %d pinned pages are where they were",
		kept, PAGES);
	verdict("child_intact", looked != 1, "the child's pages as they were at the fork");
	judge(&r, h.set, PAGES);
}

static void uring_pin(void)
{
	pin_and_fork(map_pages(PAGES));
}

/* One half of a huge page is pinned, and the other goes with it wherever it goes. */
static void uring_pin_mthp(void)
{
	char *set = map_mthp(1);

	fill(set, MTHP_PAGES, SALT);
	proof("mthp_mapped", count_whole(set, 1), "it is a huge page of 64 KiB");
	pin_and_fork(set);
}

/* ---- read-only for a while ------------------------------------------------- */

static void ro_map(char *set, size_t pages, bool huge)
{
	struct rusage before, after;
	struct ring r;

	plan(2);
	fill(set, pages, SALT);
	if (huge)
		proof("thp_mapped", flag_thp(page_flags(page_at(set).pfn)),
		      "the head's flags");
	r = pin(set, pages);
	/* the way back gives no right to write to a page: the next write faults */
	if (mprotect(set, pages * PAGE_SIZE, PROT_READ) ||
	    mprotect(set, pages * PAGE_SIZE, PROT_READ | PROT_WRITE))
		broken("mprotect: %s", strerror(errno));
	getrusage(RUSAGE_SELF, &before);
	mark(set, pages, VALUE);
	getrusage(RUSAGE_SELF, &after);
	measure("write_faults", after.ru_minflt - before.ru_minflt, "faults");
	judge(&r, set, pages);
	verdict_data(check_marked(set, pages, SALT, VALUE), pages);
}

static void uring_ro_map(void)
{
	ro_map(map_pages(PAGES), PAGES, false);
}

static void uring_ro_map_thp(void)
{
	ro_map(map_thp(1), thp_pages(), true);
}

static const struct guest_case cases[] = {
	/* a pinned page that reclaim unmaps or fork shares, and a write then copies */
	{ "pin", uring_pin },
	/* the same for a part of a huge page of 64 KiB */
	{ "pin_mthp", uring_pin_mthp },
	/* a write-protect fault that copies a pinned page */
	{ "ro_map", uring_ro_map },
	/* the same for a huge page */
	{ "ro_map_thp", uring_ro_map_thp },
	{ },
};

int main(int argc, char **argv)
{
	return guest_main(argc, argv, cases);
}
