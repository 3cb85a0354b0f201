# SPDX-License-Identifier: GPL-2.0-only
"""What a bisection searches: candidates between a good end and a bad one, and who is next.

A space knows neither kernels nor guests: it is asked with all answers so far, each time anew.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


class Term(enum.StrEnum):
    """What is known of a candidate: bad shows the symptom, good does not."""

    GOOD = "good"
    BAD = "bad"
    SKIP = "skip"


Answers = Mapping[str, Term]


@dataclass(frozen=True, slots=True)
class Next:
    """The candidate to look at; `left` are those that may still be the answer."""

    candidate: str
    left: int


@dataclass(frozen=True, slots=True)
class Found:
    """The end of the search. More than one `answer`: those between them could not be tested.

    It rests on its neighbours: `clean` were called good, and would make it wrong if they were not;
    `shown` are bad. `unjudged` are smaller answers, one of which may do, that cannot be judged.
    """

    answer: tuple[str, ...]
    clean: tuple[str, ...]
    shown: tuple[str, ...]
    unjudged: tuple[str, ...] = ()


class Space(Protocol):
    """`size` is the number of candidates. `fixes`: the good end is the newer one."""

    @property
    def good(self) -> str: ...

    @property
    def bad(self) -> str: ...

    @property
    def size(self) -> int: ...

    @property
    def fixes(self) -> bool: ...

    def choose(self, answers: Answers) -> Next | Found:
        """Who is next. The answers are in the order in which they were given, ends first."""
        ...
