# SPDX-License-Identifier: GPL-2.0-only
"""Subsets to search: which of many differences are needed for the symptom. Pure.

The algorithm is ddmin of Zeller and Hildebrandt, Simplifying and Isolating Failure-Inducing
Input (IEEE TSE 28-2, 2002): differences that need each other are found together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from runner.bisect.space import Answers, Found, Next, Term

Items = tuple[int, ...]


class _Unknown(Exception):
    """The search needs an answer that nobody has given yet."""

    def __init__(self, asked: Items, left: int) -> None:
        super().__init__()
        self.asked, self.left = asked, left


@dataclass(frozen=True, slots=True)
class Subsets:
    """Differences 0 to count - 1; a candidate is the set of those taken from the bad end."""

    count: int

    @property
    def good(self) -> str:
        return name_of(())

    @property
    def bad(self) -> str:
        return name_of(tuple(range(self.count)))

    @property
    def size(self) -> int:
        return self.count

    @property
    def fixes(self) -> bool:
        return False

    def choose(self, answers: Answers) -> Next | Found:
        """ddmin from the beginning, over the answers there are."""

        def bad(items: Items, left: int) -> bool:
            term = answers.get(name_of(items))
            if term is None:
                raise _Unknown(items, left)
            return term is Term.BAD

        try:
            least = _ddmin(tuple(range(self.count)), bad)
        except _Unknown as unknown:
            return Next(name_of(unknown.asked), unknown.left)
        smaller = [name_of(_without(least, (each,))) for each in least]
        clean = tuple(each for each in smaller if answers[each] is Term.GOOD)
        unjudged = tuple(each for each in smaller if answers[each] is Term.SKIP)
        return Found((name_of(least),), clean, (name_of(least),), unjudged)


def name_of(items: Items) -> str:
    """A set as a hexadecimal number, bit by bit."""
    return f"{sum(1 << item for item in items):x}"


def items_of(name: str) -> Items:
    """The set that name_of() named."""
    number = int(name, 16)
    return tuple(bit for bit in range(number.bit_length()) if number >> bit & 1)


def _ddmin(items: Items, bad: Callable[[Items, int], bool]) -> Items:
    """A subset that is bad, and without any single item of it good or not to be judged."""
    parts = 2
    while len(items) > 1:
        chunks = tuple(_split(items, parts))
        others = tuple(_without(items, chunk) for chunk in chunks)
        smaller = next((each for each in chunks if bad(each, len(items))), None)
        if smaller is not None:
            items, parts = smaller, 2
            continue
        smaller = next((each for each in others if bad(each, len(items))), None)
        if smaller is not None:
            items, parts = smaller, max(parts - 1, 2)
        elif parts >= len(items):
            return items
        else:
            parts = min(len(items), 2 * parts)
    return items


def _split(items: Items, parts: int) -> Iterator[Items]:
    """As many parts of nearly equal size; all of them have an item."""
    for number in range(parts):
        first, last = number * len(items) // parts, (number + 1) * len(items) // parts
        yield items[first:last]


def _without(items: Items, left_out: Items) -> Items:
    gone = frozenset(left_out)
    return tuple(item for item in items if item not in gone)
