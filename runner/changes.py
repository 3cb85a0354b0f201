# SPDX-License-Identifier: GPL-2.0-only
"""What changed in one row, by rule: how the runs ended, invariants, measures, splats.

Single runs are judged in outcome.py, the rows of a whole run made in comparison.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from runner.case import Better, Case, MeasureSpec
from runner.cost import allowed
from runner.outcome import BAD, UNJUDGED, Checked, Outcome, Verdict
from runner.row import ArmRuns, Change, Finding


@dataclass(frozen=True, slots=True)
class Signatures:
    """The splats of each whole arm: a splat is new if base never had it, in any case."""

    base: frozenset[str]
    patched: frozenset[str]


def findings(
    case: Case, base: ArmRuns, patched: ArmRuns, signatures: Signatures
) -> Iterator[Finding]:
    """All that changed in one row, by the rules of docs/verdicts.md, in no order; nothing: SAME."""
    if _lost(base, patched):
        yield Finding(Change.LOST, "run")
        return
    unjudged = [run for run in (*base.runs, *patched.runs) if run.verdict in UNJUDGED]
    if unjudged or not base.runs or not patched.runs or _nothing_ran(base, patched):
        yield Finding(Change.UNDECIDED, "run")
    else:
        found = _overruled(tuple(_judged_findings(case, base, patched)), base, patched)
        yield from found
        if _unfinished(case, base, patched, found):
            yield Finding(Change.UNDECIDED, "run")
    if base.runs and not any(run.verdict in UNJUDGED for run in base.runs):
        yield from _new_splats(base, patched, signatures)
    if not unjudged:
        yield from _gone_splats(base, patched, signatures)


def _overruled(found: tuple[Finding, ...], base: ArmRuns, patched: ArmRuns) -> tuple[Finding, ...]:
    """Where every run of one arm passes and every run of the other fails, each in its own way,
    that is no flakiness.
    """
    passed, failed = (
        [all(run.verdict in these for run in arm.runs) for arm in (base, patched)]
        for these in ((Verdict.PASS,), BAD)
    )
    flaky = Finding(Change.FLAKY, "run")
    if failed[0] and passed[1]:
        return tuple(Finding(Change.FIXED, "run") if each == flaky else each for each in found)
    told = any(finding.change is Change.REGRESSED for finding in found)
    if not (passed[0] and failed[1]) or told:
        return found
    return (*(each for each in found if each != flaky), Finding(Change.REGRESSED, "run"))


def _nothing_ran(base: ArmRuns, patched: ArmRuns) -> bool:
    return not any(run.ran for run in (*base.runs, *patched.runs))


def _unfinished(case: Case, base: ArmRuns, patched: ArmRuns, found: Sequence[Finding]) -> bool:
    """Whether something is open beside what was found, which may be all that is known already."""
    if any(finding.change is Change.LOST for finding in found):
        return False
    told = any(finding.change >= Change.UNDECIDED for finding in found)
    return _says_too_little(case, base, patched) or (not told and _worse(base, patched))


def _says_too_little(case: Case, base: ArmRuns, patched: ArmRuns) -> bool:
    """Whether behind a failure stands a path that is not proven, or a result that is not there.

    Foreign programs prove nothing; with them it tells something only if one arm alone does so.
    """
    if case.foreign:
        whole = [{run.proven for run in arm.runs} for arm in (base, patched)]
        return _orderly(base) and _orderly(patched) and whole[0] != whole[1]
    return any(run.unsaid for run in (*base.runs, *patched.runs))


def _worse(base: ArmRuns, patched: ArmRuns) -> bool:
    """Between a hang and a crash there is no worse."""
    if base.verdict is None or patched.verdict is None:
        return False
    return base.verdict < min(patched.verdict, Verdict.HANG)


def _lost(base: ArmRuns, patched: ArmRuns) -> bool:
    """The case runs on base, but with the patch the kernel never lives until its turn."""
    return (
        bool(base.runs and patched.runs)
        and all(run.ran for run in base.runs)
        and all(not run.ran and run.verdict is Verdict.INCONCLUSIVE for run in patched.runs)
    )


def _judged_findings(case: Case, base: ArmRuns, patched: ArmRuns) -> Iterator[Finding]:
    change = _end_change(_ends(base, patched), _ends(patched, base))
    if change is not Change.SAME:
        yield Finding(change, "run")
    for name, change in (
        _foreign(case, base, patched) if case.foreign else _own(case, base, patched)
    ):
        if change is not Change.SAME:
            yield Finding(change, "invariant", name)
    for spec in case.measures:
        change = _measure_change(spec, base.values(spec.name), patched.values(spec.name))
        if change is not Change.SAME:
            yield Finding(change, "measure", spec.name)


def _ends(arm: ArmRuns, other: ArmRuns) -> list[Verdict]:
    """How the runs ended; one that skipped did not try what the other arm fails at."""
    failed = any(run.process in BAD for run in other.runs)
    skipped = [failed and run.verdict is Verdict.SKIP for run in arm.runs]
    return [
        Verdict.SKIP if skip else run.process for run, skip in zip(arm.runs, skipped, strict=True)
    ]


def _end_change(before: list[Verdict], after: list[Verdict]) -> Change:
    """How the runs ended. What is INCONCLUSIVE by what it printed (cow of selftests/mm bails out
    behind its last result) has ended all the same, and a hang or crash has not.
    """
    change = _change(before, after)
    lived = [
        {verdict not in (Verdict.HANG, Verdict.CRASH) for verdict in each}
        for each in (before, after)
    ]
    if change is not Change.SAME or lived not in ([{True}, {False}], [{False}, {True}]):
        return change
    return Change.REGRESSED if lived[0] == {True} else Change.FIXED


def _own(case: Case, base: ArmRuns, patched: ArmRuns) -> Iterator[tuple[str, Change]]:
    for invariant in case.invariants:
        before, after = (
            [run.believed(check) for run in arm.runs for check in run.named(invariant.name)]
            for arm in (base, patched)
        )
        told = [check.verdict for check in patched.checks(invariant.name)]
        if _no_longer(before, told, patched):
            yield invariant.name, Change.LOST
        elif Verdict.INCONCLUSIVE not in (*before, *after):
            yield invariant.name, _change(before, after)
        elif set(before) == {Verdict.PASS} and Verdict.FAIL in after:
            # that another run crashed takes nothing back
            yield invariant.name, Change.FLAKY


def _no_longer(before: Sequence[Verdict], after: Sequence[Verdict], patched: ArmRuns) -> bool:
    """A crash leaves results unreported, and is a finding itself; an orderly end owes them."""
    told = set(before) != {Verdict.SKIP} and Verdict.INCONCLUSIVE not in before
    return told and set(after) == {Verdict.INCONCLUSIVE} and _orderly(patched)


def _orderly(arm: ArmRuns) -> bool:
    return all(run.process < Verdict.HANG for run in arm.runs)


def _foreign(case: Case, base: ArmRuns, patched: ArmRuns) -> Iterator[tuple[str, Change]]:
    """Results are known by number, so where one arm prints more of them they may be shifted.

    Where both fail somewhere, such a number with another text is then another result.
    """
    shifted = len({_printed(run) for run in (*base.runs, *patched.runs)}) > 1
    unsure = shifted and all(arm.verdict in BAD for arm in (base, patched))
    seen = base.by_invariant(), patched.by_invariant()
    for name in (invariant.name for invariant in case.invariants):
        told = seen[0].get(name, ()), seen[1].get(name, ())
        change = _foreign_change(case, told, (base, patched))
        if unsure and change is not Change.SAME and _texts(told[0]) != _texts(told[1]):
            change = Change.UNDECIDED
        yield name, change


def _foreign_change(
    case: Case,
    told: tuple[tuple[Checked, ...], tuple[Checked, ...]],
    arms: tuple[ArmRuns, ArmRuns],
) -> Change:
    """Some programs, LTP's among them, print a result only where something fails."""
    before, after = ([check.verdict for check in checks] for checks in told)
    base, patched = arms
    if _no_longer(before, after, patched) and set(before) == {Verdict.FAIL}:
        mended = case.protocol == "ltp" and patched.verdict is Verdict.PASS
        return Change.FIXED if mended else Change.UNDECIDED
    if _no_longer(before, after, patched):
        return Change.LOST
    if _no_longer(after, before, base) and set(after) == {Verdict.FAIL}:
        return Change.REGRESSED if base.verdict is Verdict.PASS else Change.UNDECIDED
    return Change.SAME if Verdict.INCONCLUSIVE in (*before, *after) else _change(before, after)


def _printed(run: Outcome) -> int:
    return sum(check.verdict is not Verdict.INCONCLUSIVE for check in run.invariants)


def _texts(checks: Iterable[Checked]) -> set[str]:
    """Without figures and addresses, which are other ones each time."""
    printed = (check.text for check in checks if check.verdict is not Verdict.INCONCLUSIVE)
    return {re.sub(r"(0x)?[0-9a-f]*\d[0-9a-f]*", "", text) for text in printed}


def _change(before: Sequence[Verdict], after: Sequence[Verdict]) -> Change:
    """How one thing's verdicts changed between the arms, over all runs of each."""
    if not before or not after or set(UNJUDGED) & {*before, *after}:
        return Change.SAME
    if len(set(before)) > 1 or len(set(after)) > 1:
        return Change.FLAKY
    old, new = before[0], after[0]
    if old == new or (old in BAD[1:] and new in BAD[1:]):
        return Change.SAME
    if new is Verdict.SKIP:
        return Change.NEW_SKIP
    if old is Verdict.SKIP:
        # What base could not try says nothing about what the patch does to it.
        return Change.IMPROVED if new is Verdict.PASS else Change.UNDECIDED
    return Change.REGRESSED if new > old else Change.FIXED


def differs(spec: MeasureSpec, before: tuple[float, ...], after: tuple[float, ...]) -> bool:
    """Whether the ranges lie apart and the medians by more than is allowed."""
    if not before or not after:
        return False
    apart = max(before) < min(after) or max(after) < min(before)
    return apart and abs(median(after) - median(before)) > allowed(spec, before)


def _measure_change(
    spec: MeasureSpec, before: tuple[float, ...], after: tuple[float, ...]
) -> Change:
    if spec.better is Better.NONE or not differs(spec, before, after):
        return Change.SAME
    good = (median(after) > median(before)) == (spec.better is Better.HIGHER)
    return Change.IMPROVED if good else Change.WORSENED


def _new_splats(base: ArmRuns, patched: ArmRuns, signatures: Signatures) -> Iterator[Finding]:
    """Not where a run on base died before it could show it: that is open.

    A kernel that hangs on base too may or may not live to complain of the stall, and when a CPU
    stalls is chance: what not every run shows is open, too.
    """
    short = any(not run.ran or run.verdict is Verdict.CRASH for run in base.runs)
    hung = any(run.verdict is Verdict.HANG for run in base.runs)
    for signature, splat in patched.splats().items():
        if signature in signatures.base:
            continue
        showing = [run for run in patched.runs if run.shows(signature)]
        if splat.stall and hung and all(run.verdict is Verdict.HANG for run in showing):
            continue
        if short:
            yield Finding(Change.UNDECIDED, "splat", signature)
        elif splat.stall and len(showing) < len(patched.runs):
            yield Finding(Change.FLAKY, "splat", signature)
        else:
            yield Finding(Change.NEW_SPLAT, "splat", signature)


def _gone_splats(base: ArmRuns, patched: ArmRuns, signatures: Signatures) -> Iterator[Finding]:
    """In every run on base and nowhere with the patch, whose runs all went their whole way."""
    if not patched.runs or any(run.process is not Verdict.PASS for run in patched.runs):
        return
    if any(check.verdict is Verdict.SKIP for run in patched.runs for check in run.invariants):
        return
    if any(run.process >= Verdict.HANG for run in base.runs):
        return
    for signature in base.splats():
        everywhere = all(run.shows(signature) for run in base.runs)
        if everywhere and signature not in signatures.patched:
            yield Finding(Change.FIXED, "splat", signature)
