# SPDX-License-Identifier: GPL-2.0-only
"""pressure/sqlite: an SQLite database in memory, larger than its limit, is updated and rolled back.

It does not test SQLite: its pages, caches and journals are a heap that nobody laid out for swap,
and its integrity check follows every pointer. Bugs it would catch: any page that comes back from
swap wrong, old or in part.
"""

from __future__ import annotations

import sqlite3
import zlib

import guest
from records import NOISE, Chance, noise

LIMIT = 6 << 20
ROWS = 2000
BODY = 3000
TRANSACTIONS = 45
CHANGES = 10


class Bank:
    """The database, and a list of what it ought to hold."""

    def __init__(self) -> None:
        self.base = sqlite3.connect(":memory:", isolation_level=None)
        self.base.execute("create table account (id integer primary key, sum integer, body blob)")
        self.base.execute("create index by_sum on account (sum)")
        self.noise = noise(guest.seed())
        self.chance = Chance(guest.seed())
        self.rows = [(0, 0)] * ROWS

    def body(self, index: int, change: int) -> bytes:
        start = (index * 7919 + change * 104729) % (NOISE - BODY)
        return self.noise[start : start + BODY]

    def fill(self) -> None:
        self.base.execute("begin")
        for index in range(ROWS):
            body = self.body(index, 0)
            self.base.execute("insert into account values (?, 0, ?)", (index, body))
            self.rows[index] = (0, zlib.crc32(body))
        self.base.execute("commit")

    def transact(self, number: int) -> None:
        """Change some rows, and every third time take it back."""
        kept = list(self.rows)
        self.base.execute("begin")
        for change in range(CHANGES):
            index = self.chance.below(ROWS)
            body = self.body(index, number * CHANGES + change + 1)
            self.base.execute(
                "update account set sum = sum + ?, body = ? where id = ?", (number + 1, body, index)
            )
            self.rows[index] = (self.rows[index][0] + number + 1, zlib.crc32(body))
        self.base.execute("rollback" if number % 3 == 2 else "commit")
        if number % 3 == 2:
            self.rows = kept

    def wrong_rows(self) -> int:
        found = self.base.execute("select sum, body from account order by id")
        seen = [(total, zlib.crc32(body)) for total, body in found]
        return sum(a != b for a, b in zip(seen, self.rows, strict=False)) + ROWS - len(seen)

    def damage(self) -> str:
        """What SQLite's own check says, when it is not content."""
        said: str = self.base.execute("pragma integrity_check").fetchone()[0]
        return "" if said == "ok" else said


def case() -> None:
    guest.plan(2)
    guest.require_swap()
    bank = Bank()
    guest.enter_memcg(LIMIT)
    traffic = guest.SwapTraffic()
    bank.fill()
    try:
        for number in range(TRANSACTIONS):
            bank.transact(number)
        damage, wrong = bank.damage(), bank.wrong_rows()
    except sqlite3.DatabaseError as error:
        damage, wrong = str(error), ROWS
    came_in = traffic.swap_ins()
    traffic.measure()
    guest.proof("swapped_in", came_in >= ROWS // 5, f"{came_in} pages")
    guest.verdict("integrity", not damage, damage or "the integrity check is content")
    guest.verdict("rows_intact", not wrong, f"{wrong} of {ROWS} rows are not as last written")


guest.run(case)
