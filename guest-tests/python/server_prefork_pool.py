# SPDX-License-Identifier: GPL-2.0-only
"""server/prefork_pool: a server loads its heap, goes out to swap, and forks workers that share it.

It serves no network. The heap is Python's own: looking an object up writes its reference count,
so each worker copies nearly every page that it reads. Bugs it would catch: such a write reaches
another worker or the server, through a page or a slot that all of them need.
"""

from __future__ import annotations

import ctypes
import zlib

import guest
from records import NOISE, noise
from talk import Child, Gone

WORKERS = 3
ENTRIES = 2400
BODY = 440  # below 512, so that it lies in the same arenas as all other objects
TURNS = 6
ROUNDS = 2


class Entry:
    """One object of the server's: what it answers with, and what changes when it does.

    It is larger than its key, so that the two lie in different pages.
    """

    __slots__ = ("body", "check", "expires", "flags", "hits", "kind", "owner", "size")

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.check = zlib.crc32(body)
        self.size = len(body)
        self.hits = self.expires = self.flags = self.kind = self.owner = 0

    def is_whole(self, hits: int) -> bool:
        return zlib.crc32(self.body) == self.check and self.hits == hits


def load() -> dict[str, Entry]:
    text = noise(guest.seed())
    starts = (index * 7919 % (NOISE - BODY) for index in range(ENTRIES))
    return {
        f"user:{index}": Entry(text[start : start + BODY]) for index, start in enumerate(starts)
    }


def page_out_heap() -> int:
    """Send this process's anonymous memory to swap; how many of its pages are out."""
    libc = ctypes.CDLL(None)
    for line in guest.read_text("/proc/self/maps").splitlines():
        area, mode, _, _, inode, *name = line.split(maxsplit=5)
        if mode == "rw-p" and inode == "0" and name in ([], ["[heap]"]):
            start, end = (int(edge, 16) for edge in area.split("-"))
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), guest.MADV_PAGEOUT)
    return guest.own_swapped()


class Worker:
    """What a worker does with its heap, a part per turn; it begins where no other one does."""

    def __init__(self, heap: dict[str, Entry], number: int) -> None:
        self.heap = heap
        self.first = number * ENTRIES // WORKERS
        self.mark = number + 1

    def serve(self, turn: int) -> int:
        """Returns how many entries were not as this worker had left them."""
        part = ENTRIES // TURNS
        before = turn // TURNS * self.mark
        wrong = 0
        for place in range(turn % TURNS * part, (turn % TURNS + 1) * part):
            entry = self.heap[f"user:{(self.first + place) % ENTRIES}"]
            wrong += not entry.is_whole(before)
            entry.hits = before + self.mark
        return wrong


def serve_all(workers: list[Child]) -> str:
    """Let all workers take their turns; what went wrong, or nothing."""
    wrong = 0
    try:
        for turn in range(TURNS * ROUNDS):
            wrong += sum(worker.ask(turn) for worker in workers)
    except Gone as gone:
        return f"{gone} died of what it found in its heap"
    return f"{wrong} of {WORKERS * ROUNDS * ENTRIES} answers" if wrong else ""


def case() -> None:
    guest.plan(2)
    guest.require_swap()
    heap = load()
    tasks = [Worker(heap, number) for number in range(WORKERS)]
    out = page_out_heap()
    workers = [Child(task.serve) for task in tasks]
    needed = ENTRIES * BODY // guest.PAGE
    guest.proof("swapped_at_fork", out >= needed, f"{out} pages, of which {needed} hold entries")
    before = guest.vmstat("pgalloc_*")
    wrong = serve_all(workers)
    guest.measure("allocations", guest.vmstat("pgalloc_*") - before, "pages")
    ended = [worker.end() for worker in workers]
    guest.verdict("workers_isolated", not wrong and not any(ended), wrong or f"exits {ended}")
    changed = sum(not entry.is_whole(0) for entry in heap.values())
    guest.verdict("server_intact", not changed, f"{changed} of {ENTRIES} entries changed")


guest.run(case)
