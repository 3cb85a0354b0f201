# SPDX-License-Identifier: GPL-2.0-only
"""What a row showed, as things that one run shows or does not: so that runs can be counted.

It runs nothing and compares no kernels. A bisection has symptoms of its own (bisect/symptom.py);
which runs can say that something stayed away is the same for both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from statistics import median

from runner.binomial import lower_bound, upper_bound
from runner.comparison import CONFIDENCE
from runner.outcome import BAD, Outcome, Verdict
from runner.row import Finding, Row, Subject


@dataclass(frozen=True, slots=True)
class Symptom:
    """One thing to look for in a run. A measure shows it on the far side of `limit`.

    `name` is the invariant, measure or splat signature; `says` the clause that is true then.
    `foreign`: of a program that is not ours, which has no proof of path.
    """

    subject: Subject
    name: str
    says: str
    limit: float = 0.0
    above: bool = True
    foreign: bool = False


FAILS = Symptom("run", "", "a run fails, hangs or crashes")


@dataclass(frozen=True, slots=True)
class Tally:
    """In how many runs a symptom was shown; runs that said nothing about it are not counted."""

    shown: int
    runs: int
    mute: int = 0

    @property
    def interval(self) -> tuple[float, float]:
        """The rate's exact interval (Clopper and Pearson), one-sided where it is all or none."""
        if self.runs == 0:
            return 0.0, 1.0
        doubt = 1 - CONFIDENCE
        share = doubt if self.shown in (0, self.runs) else doubt / 2
        told = self.shown, self.runs, share
        return lower_bound(*told), upper_bound(*told)

    def __str__(self) -> str:
        """For example `3 of 10 (6.7 % to 65 %)`, `none of 10 (at most 26 %)`."""
        if self.runs == 0:
            return "no run that says anything"
        low, high = (_percent(rate) for rate in self.interval)
        if self.shown == 0:
            return f"none of {self.runs} (at most {high})"
        if self.shown == self.runs:
            return f"{self.shown} of {self.runs} (at least {low})"
        return f"{self.shown} of {self.runs} ({low} to {high})"


def symptoms(row: Row) -> tuple[Symptom, ...]:
    """What the findings of a row are about, and what failed in both arms."""
    found = [symptom for each in row.findings for symptom in _of_finding(row, each)]
    says = {invariant.name: invariant.says for invariant in row.case.invariants}
    found += [Symptom("invariant", name, says[name]) for name in row.failing_on_both]
    foreign = row.case.foreign
    return tuple(dict.fromkeys(replace(each, foreign=foreign) for each in found)) or (FAILS,)


def _of_finding(row: Row, finding: Finding) -> Iterator[Symptom]:
    if finding.subject == "invariant":
        says = next(each.says for each in row.case.invariants if each.name == finding.name)
        yield Symptom("invariant", finding.name, says)
    elif finding.subject == "measure":
        yield from _of_measure(row, finding.name)
    elif finding.subject == "splat":
        splat = (row.base.splats() | row.patched.splats())[finding.name]
        yield Symptom("splat", finding.name, f"the kernel says `{splat.title}`")
    else:
        yield FAILS


def _of_measure(row: Row, name: str) -> Iterator[Symptom]:
    """Nearer to what it was with the patch than to what it was on base."""
    spec = row.case.measure(name)
    base, patched = (median(arm.values(name)) for arm in (row.base, row.patched))
    limit, above = (base + patched) / 2, patched > base
    words = "more" if above else "fewer"
    yield Symptom("measure", name, f"{spec.says}: {words} than {limit:g}", limit, above)


def complete(run: Outcome, foreign: bool = False) -> bool:
    """Whether what the run does not show, the kernel did not do.

    It came to its end in good order, and so proved its path; a foreign program may end with a
    failure that no result tells of.
    """
    orderly = (Verdict.PASS, Verdict.FAIL) if foreign else (Verdict.PASS,)
    return run.ran and run.verdict in (Verdict.PASS, Verdict.FAIL) and run.process in orderly


def shown(symptom: Symptom, run: Outcome) -> bool | None:
    """Whether a run shows it; None where the run says nothing about it."""
    seen = _seen(symptom, run)
    # A foreign program's results are told one by one, and each stands for itself.
    alone = symptom.foreign and symptom.subject == "invariant"
    # What was measured on another path is another thing; a failure is one wherever it is.
    enough = seen and symptom.subject != "measure"
    return seen if enough or alone or complete(run, symptom.foreign) else None


def _seen(symptom: Symptom, run: Outcome) -> bool | None:
    if symptom.subject == "run":
        return run.ran and run.verdict in BAD
    if symptom.subject == "splat":
        return run.shows(symptom.name)
    if symptom.subject == "measure":
        value = run.measure(symptom.name)
        return None if value is None else (value > symptom.limit) == symptom.above
    return run.breaks(symptom.name)


def tally(symptom: Symptom, runs: Iterable[Outcome]) -> Tally:
    """Count the runs that show a symptom, those that do not, and those that say nothing."""
    seen = [shown(symptom, run) for run in runs]
    return Tally(seen.count(True), len(seen) - seen.count(None), seen.count(None))


def _percent(rate: float) -> str:
    return f"{rate * 100:.0f} %" if rate >= 0.1 else f"{rate * 100:.1f} %"
