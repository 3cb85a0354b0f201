# SPDX-License-Identifier: GPL-2.0-only
"""Judges one run of one case: a verdict, the reason for it, and what was counted.

It knows neither the whole guest (judging.py) nor another arm (comparison.py).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from runner.case import Case
from runner.flood import left_out
from runner.ktap import NO_VERSION, KtapResult, Measure, Point, Proof, parse_ktap
from runner.ltp import parse_ltp, unexplained
from runner.splat import Splat
from runner.transcript import CaseLog, End

KSELFTEST_FAIL = 1
KSELFTEST_SKIP = 4
REFUSED = 2
NOT_STARTED = (125, 126, 127)


class Verdict(enum.IntEnum):
    """In order of severity: the worst charge against a run is its verdict."""

    PASS = 0
    SKIP = 1
    INCONCLUSIVE = 2
    FAIL = 3
    HANG = 4
    CRASH = 5
    INFRA = 6


BAD = (Verdict.FAIL, Verdict.HANG, Verdict.CRASH)
UNJUDGED = (Verdict.INCONCLUSIVE, Verdict.INFRA)


@dataclass(frozen=True, slots=True)
class Checked:
    """What became of one invariant in one run; `tried` and `failed` are 0 if not printed."""

    name: str
    verdict: Verdict
    text: str
    tried: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run of one case, judged. `process` is the verdict apart from the invariants.

    `ran` is False when the case never began: INCONCLUSIVE if an earlier case took the kernel
    down, INFRA if the fault is ours, else the verdict on the boot. `unsaid` is what is open behind
    a verdict that may be worse: a path that is not proven, a result that was not printed. `hollow`
    is a run that lacks its proof, or part of its output, however it ended. `ending` is the reason
    of `process`.
    """

    case: str
    swap: str
    repeat: int
    verdict: Verdict
    reason: str
    process: Verdict
    invariants: tuple[Checked, ...] = ()
    measures: tuple[Measure, ...] = ()
    proofs: tuple[Proof, ...] = ()
    splats: tuple[Splat, ...] = ()
    seconds: float = 0.0
    ran: bool = True
    unsaid: str = ""
    hollow: bool = False
    ending: str = ""

    @property
    def proven(self) -> bool:
        """Whether nothing but its results is open: its path ran, its output is whole."""
        return self.process is not Verdict.INCONCLUSIVE and not self.hollow

    def named(self, invariant: str) -> tuple[Checked, ...]:
        return tuple(check for check in self.invariants if check.name == invariant)

    def believed(self, check: Checked) -> Verdict:
        """What one of its checks says: `ok` holds nothing where the path is not proven."""
        hollow = check.verdict is Verdict.PASS and not self.proven
        return Verdict.INCONCLUSIVE if hollow else check.verdict

    def shows(self, signature: str) -> bool:
        return any(splat.signature == signature for splat in self.splats)

    def measure(self, name: str) -> float | None:
        return next((measure.value for measure in self.measures if measure.name == name), None)

    def breaks(self, *names: str) -> bool | None:
        """Whether one of these invariants failed; None: none did, but not all are known to hold."""
        checks = [check for check in self.invariants if check.name in names]
        verdicts = {check.verdict for check in checks}
        if Verdict.FAIL in verdicts:
            return True
        told = {check.name for check in checks} == {*names}
        return False if told and verdicts == {Verdict.PASS} else None


@dataclass(frozen=True, slots=True)
class Scene:
    """What is known of a run besides its output: the console of its time, the guest's end.

    `gap` says what of that console is not there, empty if nothing is missing.
    """

    end: End
    splats: tuple[Splat, ...] = ()
    console_ok: bool = True
    repeat: int = 0
    gap: str = ""


@dataclass(frozen=True, slots=True)
class Charge:
    verdict: Verdict
    reason: str


@dataclass(slots=True)
class _Charges:
    """Everything held against a run; none at all is a pass."""

    process: list[Charge] = field(default_factory=list)
    invariants: list[Charge] = field(default_factory=list)

    def worst(self) -> Charge:
        return worst(self.invariants + self.process)

    def unsaid(self) -> str:
        """What an orderly end leaves open; one that failed owes no results, a dead one nothing."""
        ended = worst(self.process).verdict
        charges = self.process + (self.invariants if ended < Verdict.FAIL else [])
        still = [each.reason for each in charges if each.verdict is Verdict.INCONCLUSIVE]
        return still[0] if still and ended < Verdict.HANG else ""


def worst(charges: Iterable[Charge]) -> Charge:
    clean = Charge(Verdict.PASS, "every invariant held")
    return max((clean, *charges), key=lambda charge: charge.verdict)


def judge(case: Case, log: CaseLog, scene: Scene) -> Outcome:
    """Judge one run of a case. A pass needs every proof, invariant and measure, and no charge."""
    result = parse_ltp(log.text) if case.protocol == "ltp" else parse_ktap(log.text)
    checked = tuple(_subjects(result) if case.foreign else _check(case, result))
    charges = _Charges()
    charges.invariants += _by_result(case, checked)
    charges.process += _by_end(log, scene)
    if log.ended == "exit":
        charges.process += _by_exit(case, log, result)
        charges.process += _foreign_output(result) if case.foreign else _by_output(case, result)
    gravest = charges.worst()
    return Outcome(
        case=case.id,
        swap=log.swap,
        repeat=scene.repeat,
        verdict=gravest.verdict,
        reason=gravest.reason,
        process=worst(charges.process).verdict,
        ending=worst(charges.process).reason if charges.process else "",
        hollow=any(each.verdict is Verdict.INCONCLUSIVE for each in charges.process),
        invariants=checked,
        measures=result.measures,
        proofs=result.proofs,
        splats=scene.splats,
        seconds=log.seconds,
        unsaid=charges.unsaid(),
    )


def _check(case: Case, result: KtapResult) -> Iterator[Checked]:
    """The declared invariants, each with its point; a missing one is INCONCLUSIVE."""
    points = {point.name: point for point in reversed(result.points)}
    tries = {note.name: note for note in result.tries}
    for invariant in case.invariants:
        point = points.get(invariant.name)
        note = tries.get(invariant.name)
        tried, failed = (note.tried, note.failed) if note else (0, 0)
        verdict, text = _point_verdict(point, failed, result.skip_all)
        if verdict is Verdict.PASS and note and not tried:
            verdict, text = Verdict.INCONCLUSIVE, "`ok` although nothing was tried"
        yield Checked(invariant.name, verdict, text, tried, failed)


def _point_verdict(point: Point | None, failed: int, skip_all: str | None) -> tuple[Verdict, str]:
    if point is None:
        if skip_all is not None:
            return Verdict.SKIP, skip_all
        return Verdict.INCONCLUSIVE, "no result was printed"
    if point.skipped:
        return Verdict.SKIP, point.reason or point.text or "no reason given"
    if point.failed:
        return Verdict.FAIL, point.text or point.reason
    if failed:
        return Verdict.FAIL, f"`ok` although {failed} tries failed"
    return Verdict.PASS, point.text


def _subjects(result: KtapResult) -> Iterator[Checked]:
    """The result lines of a foreign program, each named by its number, `2.1` in a subtest.

    Not by its description: that repeats, and may hold an address or a count.
    """
    for point in result.points:
        yield from _numbered(point, str(point.number))


def _numbered(point: Point, name: str) -> Iterator[Checked]:
    for child in point.children:
        yield from _numbered(child, f"{name}.{child.number}")
    verdict, text = _point_verdict(point, 0, None)
    yield Checked(name, verdict, " ".join((point.name, text)).strip())


def _by_result(case: Case, checked: tuple[Checked, ...]) -> list[Charge]:
    """A foreign program that skips some of its results has still passed the others."""
    charges = [Charge(each.verdict, _reason(each)) for each in checked]
    if case.foreign and any(each.verdict is Verdict.PASS for each in checked):
        return [charge for charge in charges if charge.verdict is not Verdict.SKIP]
    return charges


def _reason(checked: Checked) -> str:
    return f"{checked.name}: {checked.text}" if checked.text else checked.name


def _by_end(log: CaseLog, scene: Scene) -> Iterator[Charge]:
    """What the end of the case, the guest and the console say."""
    if not scene.console_ok:
        yield Charge(Verdict.INFRA, "the kernel's console could not be read while the case ran")
    if scene.gap:
        yield Charge(Verdict.INCONCLUSIVE, scene.gap)
    less = left_out(log.text)
    if less:
        yield Charge(Verdict.INCONCLUSIVE, less)
    if log.ended == "died":
        yield _death(scene)
    if log.ended == "timeout" and scene.end == "hang":
        yield Charge(Verdict.HANG, with_splat("the kernel no longer answered", scene.splats))
    elif log.ended == "timeout":
        endless = " printing without end," if less else ""
        text = f"not finished after {log.seconds:.0f} s,{endless} the kernel still answered"
        yield Charge(Verdict.HANG, with_splat(text, scene.splats))
    if log.ended == "oom":
        yield Charge(Verdict.FAIL, "the out-of-memory killer ended the program")
    for splat in scene.splats:
        if splat.fatal:
            yield Charge(Verdict.CRASH, splat.title)


def _death(scene: Scene) -> Charge:
    """The guest went away while the case ran."""
    if scene.end == "panic":
        return Charge(Verdict.CRASH, with_splat("the kernel panicked", scene.splats))
    if scene.end == "oom-panic":
        return Charge(Verdict.CRASH, "the kernel panicked for lack of memory")
    if scene.end in ("hang", "boot-timeout"):
        return Charge(Verdict.HANG, with_splat("the kernel no longer answered", scene.splats))
    if scene.end == "qemu-died":
        return Charge(Verdict.INFRA, "QEMU died while the case ran")
    return Charge(Verdict.INFRA, "the connection to the guest broke while the case ran")


def with_splat(text: str, found: tuple[Splat, ...]) -> str:
    grave = [splat for splat in found if splat.fatal or splat.stall]
    telling = (*grave, *reversed(found))[:1]
    return f"{text} ({telling[0].title})" if telling else text


def _by_exit(case: Case, log: CaseLog, result: KtapResult) -> Iterator[Charge]:
    """The exit code, and whether it agrees with what was printed."""
    code = log.exit
    failed = any(point.failed for point in result.points)
    passed = any(point.passed for point in result.points)
    if code is None or code > 128 or code < 0:
        how = "a signal" if code is None or code < 0 else f"signal {code - 128}"
        yield Charge(Verdict.FAIL, f"{how} ended the program")
    elif code in NOT_STARTED:
        yield Charge(Verdict.INFRA, f"the program could not be started (exit code {code})")
    elif code == REFUSED and not case.foreign:
        yield Charge(Verdict.INFRA, "the program refused to run (exit code 2)")
    elif case.protocol == "ltp":
        yield from _by_ltp_exit(code, log.text)
    elif code == KSELFTEST_SKIP and not result.points:
        yield Charge(Verdict.SKIP, result.skip_all or "exit code 4 without any result")
    elif code == KSELFTEST_SKIP and passed:
        yield Charge(Verdict.INCONCLUSIVE, "exit code 4 (skip) although a result is `ok`")
    elif code not in (0, KSELFTEST_SKIP) and not failed:
        but = " although no result is `not ok`" if result.points or not case.foreign else ""
        yield Charge(Verdict.FAIL, f"exit code {code}{but}")
    if code == 0 and failed:
        yield Charge(Verdict.FAIL, "exit code 0 although a result is `not ok`")


def _by_ltp_exit(code: int, text: str) -> Iterator[Charge]:
    """What was printed is charged as results; here only what was not."""
    unsaid = unexplained(code, text)
    if unsaid:
        yield Charge(Verdict.FAIL, f"exit code {code}, and no line that says why")


def _foreign_output(result: KtapResult) -> Iterator[Charge]:
    """A foreign program need not say which version of TAP it speaks; its plan it must keep."""
    for problem in result.problems:
        if problem != NO_VERSION:
            yield Charge(Verdict.INCONCLUSIVE, problem)
    if result.skip_all is not None and not result.points:
        yield Charge(Verdict.SKIP, result.skip_all)


def _by_output(case: Case, result: KtapResult) -> Iterator[Charge]:
    """Proof of path, contradictions, and what the case table declares but nobody printed."""
    yield from (Charge(Verdict.INCONCLUSIVE, problem) for problem in result.problems)
    for proof in result.proofs:
        if not proof.ok:
            text = f"the path under test did not run: {proof.name} {proof.text}"
            yield Charge(Verdict.INCONCLUSIVE, text.rstrip())
    declared = {invariant.name for invariant in case.invariants}
    for point in result.points:
        if point.name not in declared:
            verdict = Verdict.FAIL if point.failed else Verdict.INCONCLUSIVE
            yield Charge(verdict, f"the result `{point.name}` is not in the case table")
    if any(point.passed for point in result.points):
        yield from _by_declaration(case, result)


def _by_declaration(case: Case, result: KtapResult) -> Iterator[Charge]:
    """A run that claims success owes every proof and every measure of its row in the table."""
    proved = {proof.name for proof in result.proofs}
    for name in case.proof:
        if name not in proved:
            yield Charge(Verdict.INCONCLUSIVE, f"the proof `{name}` was not printed")
    printed = {measure.name: measure.unit for measure in result.measures}
    for spec in case.measures:
        if spec.name not in printed:
            yield Charge(Verdict.INCONCLUSIVE, f"the measure `{spec.name}` was not printed")
        elif printed[spec.name] != spec.unit:
            text = f"`{spec.name}` is in {printed[spec.name] or 'no unit'}, declared {spec.unit}"
            yield Charge(Verdict.INCONCLUSIVE, text)
