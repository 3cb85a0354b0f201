# SPDX-License-Identifier: GPL-2.0-only
"""fork/snapshot_server: a key-value server forks to save its store while it is written to.

It does not save to a file. Bugs it would catch: a write of the server's reaches the snapshot,
or one of the saver's reaches the server, because a page or a slot that both need was reused.
"""

from __future__ import annotations

import os
from array import array

import guest
from records import RECORD, Chance, Store

LIMIT = 8 << 20
RECORDS = LIMIT // RECORD * 5 // 4
SNAPSHOTS = 3
TURNS = 16
LONG_SAVED = 6  # turns


class Server:
    """The store, what ought to be in it, and the keys by which it is found."""

    def __init__(self) -> None:
        self.store = Store(RECORDS, guest.seed())
        self.versions: array[int] = array("Q", [0] * RECORDS)
        self.chance = Chance(guest.seed())
        self.keys = {f"user:{index}": index for index in range(RECORDS)}
        self.written = 0
        self.wrong = 0

    def put(self, key: str) -> None:
        index = self.keys[key]
        self.versions[index] += 1
        change = self.store.renew if self.written % 2 else self.store.put
        change(index, self.versions[index])
        self.written += 1

    def serve_some(self) -> None:
        for _ in range(RECORDS // TURNS // 2):
            self.put(f"user:{self.chance.below(RECORDS)}")
            self.get(f"user:{self.chance.below(RECORDS)}")

    def get(self, key: str) -> None:
        index = self.keys[key]
        self.wrong += self.store.get(index) != self.versions[index]


class Turns:
    """Two pipes that make saver and server go in step, so that each run is the same run."""

    def __init__(self) -> None:
        self.to_saver = os.pipe()
        self.to_server = os.pipe()
        self.report = os.pipe()

    def close(self) -> None:
        for end in (*self.to_saver, *self.to_server, *self.report):
            os.close(end)


def save(store: Store, turns: Turns) -> int:
    """In the child: read the store a part per turn and report what was seen in it."""
    seen: array[int] = array("q", [0] * RECORDS)
    part = RECORDS // TURNS
    for turn in range(TURNS):
        if os.read(turns.to_saver[0], 1) != b"s":
            return 1
        for index in range(turn * part, (turn + 1) * part):
            seen[index] = store.get(index)
        # It writes to its own copy too, to parts long saved, some of which are out again: what
        # it does there is nobody else's business
        for index in range((turn - LONG_SAVED) * part, (turn - LONG_SAVED + 1) * part, 4):
            if index >= 0:
                store.put(index, 1 << 40)
        os.write(turns.to_server[1], b"p")
    os.write(turns.report[1], seen.tobytes())
    return 0


def await_saver(turns: Turns) -> None:
    if os.read(turns.to_server[0], 1) != b"p":
        raise guest.Broken("the saver is gone")


def read_report(turns: Turns) -> array[int]:
    seen: array[int] = array("q")
    data = b""
    while len(data) < RECORDS * seen.itemsize:
        data += os.read(turns.report[0], RECORDS * seen.itemsize)
    seen.frombytes(data)
    return seen


def snapshot(server: Server) -> tuple[int, int]:
    """Fork, serve while the child saves; pages out at the fork, records that are not as then."""
    out = guest.count_swapped(server.store.address, RECORDS)
    expected = server.versions[:]
    turns = Turns()
    child = guest.spawn(lambda: save(server.store, turns))
    for _ in range(TURNS):
        server.serve_some()
        os.write(turns.to_saver[1], b"s")
        await_saver(turns)
    seen = read_report(turns)
    if guest.reap(child):
        raise guest.Broken("the saver failed")
    turns.close()
    return out, sum(a != b for a, b in zip(seen, expected, strict=True))


def case() -> None:
    guest.plan(2)
    if guest.swap_kind() == "none":
        raise guest.Skip("needs swap")
    server = Server()
    guest.enter_memcg(LIMIT)
    for index in range(RECORDS):
        server.store.put(index, 0)
    traffic = guest.SwapTraffic()
    results = [snapshot(server) for _ in range(SNAPSHOTS)]
    traffic.measure()
    out = min(out for out, _ in results)
    wrong = sum(wrong for _, wrong in results)
    guest.proof("swapped_at_fork", out > 0, f"at least {out} of {RECORDS} pages")
    guest.proof("written_while_saving", server.written > 0, f"{server.written} records")
    guest.verdict(
        "snapshot_equals_fork",
        not wrong,
        f"{wrong} of {SNAPSHOTS * RECORDS} saved records are not as they were at the fork",
    )
    for key in server.keys:
        server.get(key)
    guest.verdict(
        "server_intact", not server.wrong, f"{server.wrong} records read are not as last put"
    )


guest.run(case)
