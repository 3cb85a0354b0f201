# SPDX-License-Identifier: GPL-2.0-only
"""server/shm_queue: two pairs of processes pass messages through shared memory that is swapped.

The memory is shared (shmem): its pages go to swap from the page cache, not from page tables.
Bugs it would catch: a page of it comes back as it was not sent, is dropped as clean after it
came in, or one of the two who map it goes on with a page that the other one has lost.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib

import guest
from records import NOISE, noise
from talk import Child, Gone

LIMIT = 4 << 20
PAIRS = 2
SLOTS = 512  # of each pair, one page each
ROUNDS = 2
HEADER = struct.Struct("<QQI")  # round, slot, check
RECEIPT = struct.Struct("<Q")
SEND, RECEIVE, ACKNOWLEDGE = range(3)


class Ring:
    """One pair's part of the shared memory: a message and its receipt in each page."""

    def __init__(self, memory: mmap.mmap, pair: int) -> None:
        self._memory = memory
        self._first = pair * SLOTS
        self._noise = noise(guest.seed())

    def _message(self, slot: int, number: int) -> bytes:
        size = guest.PAGE - HEADER.size - RECEIPT.size
        start = (slot * 7919 + number * 104729) % (NOISE - size)
        body = self._noise[start : start + size]
        return HEADER.pack(number, self._first + slot, zlib.crc32(body)) + body

    def _start(self, slot: int) -> int:
        return (self._first + slot) * guest.PAGE

    def send(self, number: int) -> int:
        """Write the round's messages; how many receipts of the round before are not there."""
        missing = 0
        for slot in range(SLOTS):
            start = self._start(slot)
            end = start + guest.PAGE - RECEIPT.size
            missing += RECEIPT.unpack_from(self._memory, end)[0] != number
            self._memory[start:end] = self._message(slot, number)
        return missing

    def receive(self, number: int) -> int:
        """Read the round's messages and no more; how many are not what was sent."""
        return sum(not self._arrived(slot, number) for slot in range(SLOTS))

    def acknowledge(self, number: int) -> int:
        """receive() once more, writing receipts."""
        wrong = 0
        for slot in range(SLOTS):
            wrong += not self._arrived(slot, number)
            end = self._start(slot) + guest.PAGE - RECEIPT.size
            RECEIPT.pack_into(self._memory, end, number + 1)
        return wrong

    def _arrived(self, slot: int, number: int) -> bool:
        start = self._start(slot)
        page = self._memory[start : start + guest.PAGE - RECEIPT.size]
        named, place, check = HEADER.unpack_from(page)
        expected = (number, self._first + slot, zlib.crc32(memoryview(page)[HEADER.size :]))
        return (named, place, check) == expected

    def work(self, question: int) -> int:
        number, task = divmod(question, 3)
        return (self.send, self.receive, self.acknowledge)[task](number)


def all_at_once(children: list[Child], question: int) -> int:
    """Ask all, so that they work side by side; the sum of their answers."""
    for child in children:
        child.tell(question)
    return sum(child.hear() for child in children)


class Queue:
    """The pairs' processes, and what they found wrong."""

    def __init__(self, memory: mmap.mmap) -> None:
        rings = [Ring(memory, pair) for pair in range(PAIRS)]
        self.senders = [Child(ring.work) for ring in rings]
        self.receivers = [Child(ring.work) for ring in rings]
        self.messages = self.receipts = 0

    def run(self) -> None:
        for number in range(ROUNDS):
            self.receipts += all_at_once(self.senders, number * 3 + SEND)
            self.messages += all_at_once(self.receivers, number * 3 + RECEIVE)
            self.messages += all_at_once(self.receivers, number * 3 + ACKNOWLEDGE)

    def end(self) -> bool:
        exits = [child.end() for child in (*self.senders, *self.receivers)]
        return not any(exits)


def case() -> None:
    guest.plan(2)
    guest.require_swap()
    os.sched_setaffinity(0, {0, 1})
    guest.enter_memcg(LIMIT)
    queue = Queue(mmap.mmap(-1, PAIRS * SLOTS * guest.PAGE))
    traffic = guest.SwapTraffic()
    try:
        queue.run()
    except Gone as gone:
        raise guest.Broken(f"{gone} is gone") from gone
    came_in = traffic.swap_ins()
    traffic.measure()
    guest.proof("swapped_in", came_in >= PAIRS * SLOTS, f"{came_in} pages")
    guest.proof("all_ended", queue.end(), "each process went to its end")
    guest.verdict("messages_intact", not queue.messages, f"{queue.messages} are not as sent")
    guest.verdict("receipts_intact", not queue.receipts, f"{queue.receipts} are not as written")


guest.run(case)
