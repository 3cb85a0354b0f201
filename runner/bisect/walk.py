# SPDX-License-Identifier: GPL-2.0-only
"""The search itself: both ends first, then step by step, then once more whether it is so.

It knows no kernels: `Bench` says what a candidate does. The walk keeps nothing itself; a bench
that remembers its runs makes it start where it was interrupted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from runner.bisect.space import Answers, Found, Next, Space, Term
from runner.bisect.surety import Rate, Surety, step_runs
from runner.errors import UserError

FIRST_LOOK = 3


@dataclass(frozen=True, slots=True)
class Tally:
    """All runs of a candidate so far. `untold`: why runs said nothing; `problem`: why none can.

    `kernel` is the signature of the built code.
    """

    shown: int = 0
    clean: int = 0
    untold: tuple[str, ...] = ()
    problem: str = ""
    kernel: str = ""

    @property
    def told(self) -> int:
        return self.shown + self.clean

    @property
    def rate(self) -> Rate:
        return Rate(self.shown, self.told)

    @property
    def why(self) -> str:
        """Why it is skipped."""
        return self.problem or (self.untold[-1] if self.untold else "it was not run")


class Bench(Protocol):
    """Builds and runs candidates, and remembers."""

    def look(self, candidate: str, clean: int) -> Tally:
        """Run until the symptom shows, it stayed away `clean` times, or nothing can be told."""
        ...

    def measure(self, candidate: str, runs: int) -> Tally:
        """Run until so many runs told something, whatever they told."""
        ...

    def expect(self, candidates: tuple[str, ...]) -> None:
        """Of these, if any, will be the next one: they may be built while guests run."""
        ...

    def note(self, answers: Answers) -> None:
        """Keep the answers so far, for who reads along."""
        ...


@dataclass(frozen=True, slots=True)
class Asked:
    """How sure the answer has to be; `patience`: clean runs of the bad end before it is doubted.

    No kernel is run more often than `most`.
    """

    confidence: float = 0.99
    patience: int = 20
    most: int = 200


@dataclass(frozen=True, slots=True)
class Result:
    """The answer with all that it rests on. `rates` are those of the bad end and its neighbour."""

    found: Found
    answers: dict[str, Term]
    tallies: dict[str, Tally]
    rates: tuple[Rate, ...]
    asked: float
    confidence: float

    @property
    def decided(self) -> bool:
        return len(self.found.answer) == 1 and not self.found.unjudged


@dataclass(slots=True)
class _Walk:
    space: Space
    bench: Bench
    asked: Asked
    tell: Callable[[str], None]
    answers: dict[str, Term] = field(default_factory=dict)
    tallies: dict[str, Tally] = field(default_factory=dict)

    @property
    def first_look(self) -> int:
        return min(FIRST_LOOK, self.asked.most)

    @property
    def surety(self) -> Surety:
        return Surety(self.asked.confidence)

    @property
    def tested(self) -> int:
        """Kernels that ran, and at least as many as a search of this size needs."""
        ran = sum(1 for tally in self.tallies.values() if tally.told)
        return max(ran, math.ceil(math.log2(self.space.size + 1)) + 1)

    def look(self, candidate: str, clean: int) -> Tally:
        self.tallies[candidate] = self.bench.look(candidate, min(clean, self.asked.most))
        return self.tallies[candidate]

    def answer(self, candidate: str, term: Term) -> None:
        """The newest answer stands last, for a space that minds the order."""
        self.answers.pop(candidate, None)
        self.answers[candidate] = term
        self.bench.note(self.answers)

    def rate(self, candidate: str) -> Rate:
        """Run a bad kernel as often as the last good one will have to run by its rate.

        About there the sum of both is least: a better bound needs fewer clean runs.
        """
        runs = self.first_look
        while True:
            tally = self.tallies[candidate] = self.bench.measure(candidate, runs)
            if tally.told < runs:
                return tally.rate
            if tally.shown:
                enough = self.surety.good_runs((tally.rate,), self.tested)
                if tally.told >= min(enough, self.asked.most):
                    return tally.rate
                runs = min(enough, tally.told + max(1, tally.told // 4), self.asked.most)
            elif tally.told >= min(self.asked.patience, self.asked.most):
                return tally.rate
            else:
                runs = min(tally.told + 2, self.asked.patience, self.asked.most)


def walk(
    space: Space, bench: Bench, asked: Asked, tell: Callable[[str], None] = lambda _: None
) -> Result:
    """Find what made good bad (or bad good); UserError says which end is not what it should be."""
    here = _Walk(space, bench, asked, tell)
    _check_ends(here)
    rate = here.tallies[space.bad].rate
    quick = min(step_runs(rate), asked.most)
    while True:
        choice = space.choose(here.answers)
        if isinstance(choice, Next):
            _step(here, choice, quick)
            continue
        bench.expect(())
        if _withdrawn(here, choice, (rate,)):
            continue
        rates = (rate, *_rates_near(here, choice))
        if not _withdrawn(here, choice, rates):
            return _result(here, choice, rates)


def _check_ends(here: _Walk) -> None:
    """The bad end shows it, the good end does not; then how often the bad end does."""
    space = here.space
    here.bench.expect((space.good,))
    here.tell(f"the bad end, {space.bad}")
    first = here.bench.measure(space.bad, here.first_look)
    if not first.told:
        raise UserError(f"the bad end {space.bad} cannot be judged: {first.why}")
    if not first.shown:
        _doubt_bad(here)
    here.bench.expect(tuple(_next(here, {space.good: Term.GOOD, space.bad: Term.BAD})))
    here.tell(f"the good end, {space.good}")
    _check_good(here, 1)
    here.tell(f"how often the bad end shows it ({_of(first)})")
    _check_good(here, step_runs(_doubt_bad(here)))
    here.answer(space.good, Term.GOOD)
    here.answer(space.bad, Term.BAD)


def _doubt_bad(here: _Walk) -> Rate:
    rate = here.rate(here.space.bad)
    if not rate.shown:
        raise UserError(f"the bad end {here.space.bad} is good: none of {rate.runs} runs shows it")
    return rate


def _check_good(here: _Walk, runs: int) -> None:
    good = here.look(here.space.good, runs)
    if good.shown:
        raise UserError(f"the good end {here.space.good} is bad: {_of(good)}")
    if not good.told:
        raise UserError(f"the good end {here.space.good} cannot be judged: {good.why}")


def _of(tally: Tally) -> str:
    return f"{tally.shown} of {tally.told} runs show it"


def _step(here: _Walk, choice: Next, quick: int) -> None:
    """Look at one candidate, while those that may follow are built."""
    candidate = choice.candidate
    here.tell(f"{choice.left} left; looking at {candidate}")
    here.bench.expect(tuple(_successors(here, candidate)))
    tally = here.look(candidate, quick)
    term = _term(tally, quick)
    here.answer(candidate, term)
    why = f": {tally.why}" if term is Term.SKIP else f" ({_of(tally)})"
    here.tell(f"{candidate} is {term}{why}")


def _term(tally: Tally, wanted: int) -> Term:
    if tally.shown:
        return Term.BAD
    return Term.GOOD if tally.clean >= wanted else Term.SKIP


def _successors(here: _Walk, candidate: str) -> dict[str, None]:
    """Who would be next if this candidate were good, and if it were bad."""
    terms = (Term.GOOD, Term.BAD)
    return {each: None for term in terms for each in _next(here, {**here.answers, candidate: term})}


def _next(here: _Walk, answers: Answers) -> Iterator[str]:
    """Who would be next with these answers, unless it has been looked at."""
    try:
        choice = here.space.choose(answers)
    except UserError:  # what is only supposed may contradict the rest
        return
    if isinstance(choice, Next) and choice.candidate not in here.tallies:
        yield choice.candidate


def _rates_near(here: _Walk, choice: Found) -> tuple[Rate, ...]:
    """How often the answer's own bad neighbours show it: maybe less often than the bad end."""
    return tuple(here.rate(each) for each in choice.shown if each != here.space.bad)


def _withdrawn(here: _Walk, choice: Found, rates: tuple[Rate, ...]) -> bool:
    """Run those that were called good as often as the confidence asks; one may turn out bad."""
    wanted = here.surety.good_runs(rates, here.tested)
    for candidate in choice.clean:
        if here.tallies[candidate].clean >= min(wanted, here.asked.most):
            continue
        here.tell(f"{candidate} was called good: is it, in {wanted} runs?")
        tally = here.look(candidate, wanted)
        if not tally.shown:
            continue
        here.tell(f"{candidate} is bad after all ({_of(tally)})")
        if candidate == here.space.good:
            raise UserError(f"the good end {candidate} is bad: {_of(tally)}")
        here.answer(candidate, Term.BAD)
        return True
    return False


def _result(here: _Walk, choice: Found, rates: tuple[Rate, ...]) -> Result:
    clean = min((here.tallies[each].clean for each in choice.clean), default=0)
    reached = here.surety.reached(rates, here.tested, clean)
    return Result(choice, here.answers, here.tallies, rates, here.asked.confidence, reached)
