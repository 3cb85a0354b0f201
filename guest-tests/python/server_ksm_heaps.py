# SPDX-License-Identifier: GPL-2.0-only
"""server/ksm_heaps: workers whose equal heaps KSM has merged go to swap, and then differ.

Merging itself is ksm.c's business. Bugs it would catch: a worker that writes to a merged page,
in memory or in the swap cache, writes for the others too.
"""

from __future__ import annotations

import mmap
import os
import time

import guest
from records import Store
from talk import Child, Gone

KSM = "/sys/kernel/mm/ksm"
LIMIT = 64 << 20
SQUEEZED = 1 << 20
WORKERS = 3
RECORDS = 160
PARTS = 8
MERGE_S = 20.0
ROUNDS = 8
MERGE, COUNT = -1, -2


class Worker:
    """A heap like all others' until it writes; its marks are its own."""

    def __init__(self, number: int) -> None:
        self.mark = number + 1
        self.store: Store | None = None

    def answer(self, question: int) -> int:
        if self.store is None:
            self.store = Store(RECORDS, guest.seed(), mmap.MADV_MERGEABLE)
            for index in range(RECORDS):
                self.store.put(index, 0)
        if question == MERGE:
            return 0
        if question == COUNT:
            return guest.count_swapped(self.store.address, RECORDS)
        return self._differ(self.store, question)

    def _differ(self, store: Store, part: int) -> int:
        """Write every other record of a part; how many of it were not as this worker knows them.

        All workers write the same ones, each before it reads: the first and the last of those who
        share a page are tried.
        """
        wrong = 0
        for index in range(part, RECORDS, PARTS):
            mine = index // PARTS % 2
            if mine:
                store.renew(index, self.mark)
        for index in range(part, RECORDS, PARTS):
            wrong += store.get(index) != (self.mark if index // PARTS % 2 else 0)
        return wrong


def ksm_start() -> None:
    if not os.path.exists(f"{KSM}/run"):
        raise guest.Skip("this kernel has no KSM")
    guest.knob_set(f"{KSM}/sleep_millisecs", "10")
    guest.knob_set(f"{KSM}/pages_to_scan", "1000")
    # since v6.7 a page that did not merge at once is passed over for a while
    if os.path.exists(f"{KSM}/smart_scan"):
        guest.knob_set(f"{KSM}/smart_scan", "0")
    guest.knob_set(f"{KSM}/run", "1")


def merged() -> int:
    """Pages that share another one, once they all do or time is up."""
    wanted = (WORKERS - 1) * RECORDS
    deadline = time.monotonic() + MERGE_S
    while (sharing := int(guest.read_text(f"{KSM}/pages_sharing"))) < wanted:
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    return sharing


def squeezed_out(workers: list[Child]) -> list[int]:
    """Of each worker's heap, how much is out; newer kernels need several rounds for half of it."""
    for _ in range(ROUNDS):
        guest.squeeze_memcg()
        out = [worker.ask(COUNT) for worker in workers]
        if min(out) >= RECORDS // 2:
            break
    return out


def scenario(workers: list[Child]) -> None:
    for worker in workers:
        worker.ask(MERGE)
    sharing = merged()
    guest.proof("merged", sharing >= (WORKERS - 1) * RECORDS, f"{sharing} pages share another one")
    guest.write_text(f"{KSM}/run", "0")
    out = squeezed_out(workers)
    guest.proof("swapped_out", min(out) >= RECORDS // 2, f"{out} of {RECORDS} pages")
    before = guest.vmstat("pswpin")
    wrong = 0
    try:
        # Twice: what was written the first time is read again
        wrong = sum(
            worker.ask(part) for part in (*range(PARTS), *range(PARTS)) for worker in workers
        )
    except Gone as gone:
        raise guest.Broken(f"{gone} is gone") from gone
    guest.measure("swap_ins", guest.vmstat("pswpin") - before, "pages")
    ended = [worker.end() for worker in workers]
    guest.proof("all_ended", not any(ended), f"exits {ended}")
    tried = 2 * WORKERS * RECORDS
    guest.verdict("heaps_apart", not wrong, f"{wrong} of {tried} records are not the worker's own")


def case() -> None:
    guest.plan(1)
    guest.require_swap()
    ksm_start()
    guest.enter_memcg(LIMIT)
    scenario([Child(Worker(number).answer) for number in range(WORKERS)])


guest.run(case)
