# SPDX-License-Identifier: GPL-2.0-only
"""Tells the answer of a bisection: what it is, what it rests on, how sure it is. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from runner.bisect.space import Term
from runner.bisect.surety import Rate, Surety
from runner.bisect.walk import Result, Tally
from runner.counted import counted

Title = Callable[[str], str]
SKIPS_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Subject:
    """What was searched: the word for a candidate, and whether the first good one is wanted."""

    kind: str
    fixes: bool
    title: Title
    symptom: str

    @property
    def wanted(self) -> str:
        return "good" if self.fixes else "bad"


def told(result: Result, subject: Subject) -> str:
    """The answer first, then its reasons; nothing of it is obeyed by a terminal."""
    return "".join(f"{_plain(line)}\n" for line in _lines(result, subject))


def _plain(line: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in line)


def _lines(result: Result, subject: Subject) -> Iterator[str]:
    yield from _answer(result, subject)
    yield f"bad means: {subject.symptom}"
    for label, candidates in (("good", result.found.clean), ("bad", result.found.shown)):
        for each in candidates:
            yield f"  {label:4}  {subject.title(each)}: {_runs(result.tallies[each])}"
    yield from _skipped(result, subject)
    yield _confidence(result)
    ran = [tally for tally in result.tallies.values() if tally.told]
    kernels = {tally.kernel for tally in ran}
    runs = sum({tally.kernel: tally.told + len(tally.untold) for tally in ran}.values())
    same = f" ({len(ran) - len(kernels)} more had the same code)" if len(kernels) < len(ran) else ""
    yield f"{counted(len(kernels), 'kernel')} run{same}, {counted(runs, 'run')}"


def _answer(result: Result, subject: Subject) -> Iterator[str]:
    option = subject.kind == "option"
    first = f"first {subject.wanted} {subject.kind}"
    title = subject.title(result.found.answer[0])
    if result.decided:
        yield f"these options make it bad: {title}" if option else f"{first}: {title}"
        return
    if option:
        yield f"at most these options make it bad: {title}; fewer may do, which cannot be judged:"
    else:
        yield f"the {first} is one of these, the rest cannot be judged:"
    for each in result.found.unjudged if option else result.found.answer:
        yield f"  {subject.title(each)}"


def _skipped(result: Result, subject: Subject) -> Iterator[str]:
    skipped = [each for each, term in result.answers.items() if term is Term.SKIP]
    for each in skipped[:SKIPS_SHOWN]:
        yield f"  skip  {subject.title(each)}: {result.tallies[each].why}"
    if len(skipped) > SKIPS_SHOWN:
        yield f"  skip  {len(skipped) - SKIPS_SHOWN} more"


def _runs(tally: Tally) -> str:
    said = f"{tally.shown} of {counted(tally.told, 'run')} bad"
    return said + (f", {len(tally.untold)} said nothing" if tally.untold else "")


def _confidence(result: Result) -> str:
    """Rounded down, so that 99 % is not said of 98.9."""
    percent = int(result.confidence * 1000) / 10
    low = "" if result.confidence >= result.asked else f" ({result.asked * 100:g} % were asked)"
    bound = min(Surety(result.asked).bound(rate) for rate in result.rates)
    seen = ", ".join(_rate(rate) for rate in result.rates)
    return (
        f"confidence {percent:g} %{low}: bad kernels are bad in at least {int(bound * 100)} % "
        f"of their runs (seen: {seen}), and the last good one was in none"
    )


def _rate(rate: Rate) -> str:
    return f"{rate.shown} of {rate.runs}"


def document(result: Result, subject: Subject) -> dict[str, Any]:
    """The same as JSON."""
    return {
        "format": "twinboot-bisect-result",
        "version": 1,
        "kind": subject.kind,
        "first": subject.wanted,
        "decided": result.decided,
        "answer": [
            {"candidate": each, "title": subject.title(each)} for each in result.found.answer
        ],
        "symptom": subject.symptom,
        "confidence": result.confidence,
        "confidence_asked": result.asked,
        "candidates": [
            {
                "candidate": each,
                "title": subject.title(each),
                "term": str(result.answers[each]) if each in result.answers else None,
                "bad_runs": tally.shown,
                "good_runs": tally.clean,
                "untold": list(tally.untold),
                "problem": tally.problem,
                "signature": tally.kernel,
            }
            for each, tally in result.tallies.items()
        ],
    }
