# SPDX-License-Identifier: GPL-2.0-only
"""A bench without kernels: each candidate shows the symptom at a rate that a test chose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from random import Random

from runner.bisect.space import Answers
from runner.bisect.walk import Tally


@dataclass
class FakeBench:
    """`rate` of a candidate; None: it cannot be judged. It remembers, as a real one does."""

    rate: Callable[[str], float | None]
    random: Random = field(default_factory=lambda: Random(1))
    runs: Counter[str] = field(default_factory=Counter)
    known: dict[str, Tally] = field(default_factory=dict)
    noted: Mapping[str, str] = field(default_factory=dict)
    expected: list[tuple[str, ...]] = field(default_factory=list)
    dies_after: int = 10**9

    def look(self, candidate: str, clean: int) -> Tally:
        return self._run(candidate, lambda tally: tally.shown > 0 or tally.clean >= clean)

    def measure(self, candidate: str, runs: int) -> Tally:
        return self._run(candidate, lambda tally: tally.told >= runs)

    def _run(self, candidate: str, enough: Callable[[Tally], bool]) -> Tally:
        rate = self.rate(candidate)
        if rate is None:
            return Tally(problem="it does not build")
        tally = self.known.get(candidate, Tally())
        while not enough(tally):
            if sum(self.runs.values()) >= self.dies_after:
                raise KeyboardInterrupt
            self.runs[candidate] += 1
            if self.random.random() < rate:
                tally = replace(tally, shown=tally.shown + 1)
            else:
                tally = replace(tally, clean=tally.clean + 1)
            self.known[candidate] = tally
        return tally

    def expect(self, candidates: tuple[str, ...]) -> None:
        self.expected.append(candidates)

    def note(self, answers: Answers) -> None:
        self.noted = {name: str(term) for name, term in answers.items()}
