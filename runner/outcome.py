# SPDX-License-Identifier: GPL-2.0-only
"""Judges what one guest said: for each run of a case a verdict, and the reason for it.

It sees one arm only: whether anything changed is comparison.py.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from runner.case import Case
from runner.ktap import KtapResult, Measure, Point, Proof, parse_ktap
from runner.splat import Splat, splats
from runner.transcript import CaseLog, Divided, End, Transcript, divide

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

# The guest itself, outside the time of any case: its boot, its swap, its end.
GUEST = Case(
    id="guest/boot",
    catches="a kernel that does not boot, or complains while no case runs",
    program=(),
    swaps=(),
    kconfig=(),
    deadline=0.0,
    proof=(),
    invariants=(),
    measures=(),
    known_bad=(),
)


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
    down, INFRA if the fault is ours, else the verdict on the boot.
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

    def measure(self, name: str) -> float | None:
        return next((measure.value for measure in self.measures if measure.name == name), None)


@dataclass(frozen=True, slots=True)
class Scene:
    """What is known of a run besides its output: the console of its time, the guest's end."""

    end: End
    splats: tuple[Splat, ...] = ()
    console_ok: bool = True
    repeat: int = 0


@dataclass(frozen=True, slots=True)
class _Charge:
    verdict: Verdict
    reason: str


@dataclass(slots=True)
class _Charges:
    """Everything held against a run; none at all is a pass."""

    process: list[_Charge] = field(default_factory=list)
    invariants: list[_Charge] = field(default_factory=list)

    def worst(self) -> _Charge:
        return _worst(self.process + self.invariants)


def _worst(charges: Iterable[_Charge]) -> _Charge:
    clean = _Charge(Verdict.PASS, "every invariant held")
    return max((clean, *charges), key=lambda charge: charge.verdict)


def judge_guests(transcripts: Sequence[Transcript], cases: Iterable[Case]) -> tuple[Outcome, ...]:
    """Judge the guests of one arm, swap and repeat: the first and those after crashes.

    Every planned case gets an outcome, and so does the guest itself (guest/boot).
    """
    table = {case.id: case for case in cases}
    judged = [_guest_outcome(transcript) for transcript in transcripts]
    ran: set[str] = set()
    for transcript in transcripts:
        console = divide(transcript.console)
        for log in transcript.logs:
            if log.case in table:
                judged.append(_judge_log(table[log.case], log, transcript, console))
                ran.add(log.case)
    judged += _absent(transcripts, table, ran)
    return tuple(judged)


def judge(case: Case, log: CaseLog, scene: Scene) -> Outcome:
    """Judge one run of a case. A pass needs every proof, invariant and measure, and no charge."""
    result = parse_ktap(log.text)
    checked = tuple(_check(case, result))
    charges = _Charges()
    charges.invariants += [_Charge(each.verdict, _reason(each)) for each in checked]
    charges.process += _by_end(log, scene)
    if log.ended == "exit":
        charges.process += _by_exit(log, result)
        charges.process += _by_output(case, result)
    worst = charges.worst()
    return Outcome(
        case=case.id,
        swap=log.swap,
        repeat=scene.repeat,
        verdict=worst.verdict,
        reason=worst.reason,
        process=_worst(charges.process).verdict,
        invariants=checked,
        measures=result.measures,
        proofs=result.proofs,
        splats=scene.splats,
        seconds=log.seconds,
    )


def _judge_log(case: Case, log: CaseLog, transcript: Transcript, console: Divided) -> Outcome:
    span = console.span(log.case, log.number)
    # Its markers are the sign that the console was recorded while the case ran.
    seen = span is not None and (span.closed or log.ended != "exit")
    scene = Scene(
        end=transcript.end,
        splats=splats(span.text) if span else (),
        console_ok=transcript.console_ok and seen,
        repeat=transcript.boot.repeat,
    )
    return judge(case, log, scene)


def _check(case: Case, result: KtapResult) -> Iterator[Checked]:
    """The declared invariants, each with its point; a missing one is INCONCLUSIVE."""
    points = {point.name: point for point in reversed(result.points)}
    tries = {note.name: note for note in result.tries}
    for invariant in case.invariants:
        point = points.get(invariant.name)
        note = tries.get(invariant.name)
        tried, failed = (note.tried, note.failed) if note else (0, 0)
        verdict, text = _point_verdict(point, failed, result.skip_all)
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


def _reason(checked: Checked) -> str:
    return f"{checked.name}: {checked.text}" if checked.text else checked.name


def _by_end(log: CaseLog, scene: Scene) -> Iterator[_Charge]:
    """What the end of the case, the guest and the console say."""
    if not scene.console_ok:
        yield _Charge(Verdict.INFRA, "the kernel's console could not be read while the case ran")
    if log.ended == "died":
        yield _death(scene)
    if log.ended == "timeout" and scene.end == "hang":
        yield _Charge(Verdict.HANG, _with_splat("the kernel no longer answered", scene.splats))
    elif log.ended == "timeout":
        text = f"not finished after {log.seconds:.0f} s, the kernel still answered"
        yield _Charge(Verdict.HANG, _with_splat(text, scene.splats))
    if log.ended == "oom":
        yield _Charge(Verdict.FAIL, "the out-of-memory killer ended the program")
    for splat in scene.splats:
        if splat.fatal:
            yield _Charge(Verdict.CRASH, splat.title)


def _death(scene: Scene) -> _Charge:
    """The guest went away while the case ran."""
    if scene.end == "panic":
        return _Charge(Verdict.CRASH, _with_splat("the kernel panicked", scene.splats))
    if scene.end == "oom-panic":
        return _Charge(Verdict.CRASH, "the kernel panicked for lack of memory")
    if scene.end in ("hang", "boot-timeout"):
        return _Charge(Verdict.HANG, _with_splat("the kernel no longer answered", scene.splats))
    if scene.end == "qemu-died":
        return _Charge(Verdict.INFRA, "QEMU died while the case ran")
    return _Charge(Verdict.INFRA, "the connection to the guest broke while the case ran")


def _with_splat(text: str, found: tuple[Splat, ...]) -> str:
    telling = next((splat for splat in found if splat.fatal or splat.stall), None)
    return f"{text} ({telling.title})" if telling else text


def _by_exit(log: CaseLog, result: KtapResult) -> Iterator[_Charge]:
    """The exit code, and whether it agrees with what was printed."""
    code = log.exit
    failed = any(point.failed for point in result.points)
    passed = any(point.passed for point in result.points)
    if code is None or code > 128 or code < 0:
        how = "a signal" if code is None or code < 0 else f"signal {code - 128}"
        yield _Charge(Verdict.FAIL, f"{how} ended the program")
    elif code in NOT_STARTED:
        yield _Charge(Verdict.INFRA, f"the program could not be started (exit code {code})")
    elif code == REFUSED:
        yield _Charge(Verdict.INFRA, "the program refused to run (exit code 2)")
    elif code == KSELFTEST_SKIP and not result.points:
        yield _Charge(Verdict.SKIP, result.skip_all or "exit code 4 without any result")
    elif code == KSELFTEST_SKIP and passed:
        yield _Charge(Verdict.INCONCLUSIVE, "exit code 4 (skip) although a result is `ok`")
    elif code not in (0, KSELFTEST_SKIP) and not failed:
        yield _Charge(Verdict.FAIL, f"exit code {code} although no result is `not ok`")
    if code == 0 and failed:
        yield _Charge(Verdict.FAIL, "exit code 0 although a result is `not ok`")


def _by_output(case: Case, result: KtapResult) -> Iterator[_Charge]:
    """Proof of path, contradictions, and what the case table declares but nobody printed."""
    yield from (_Charge(Verdict.INCONCLUSIVE, problem) for problem in result.problems)
    for proof in result.proofs:
        if not proof.ok:
            text = f"the path under test did not run: {proof.name} {proof.text}"
            yield _Charge(Verdict.INCONCLUSIVE, text.rstrip())
    declared = {invariant.name for invariant in case.invariants}
    for point in result.points:
        if point.name not in declared:
            verdict = Verdict.FAIL if point.failed else Verdict.INCONCLUSIVE
            yield _Charge(verdict, f"the result `{point.name}` is not in the case table")
    if any(point.passed for point in result.points):
        yield from _by_declaration(case, result)


def _by_declaration(case: Case, result: KtapResult) -> Iterator[_Charge]:
    """A run that claims success owes every proof and every measure of its row in the table."""
    proved = {proof.name for proof in result.proofs}
    for name in case.proof:
        if name not in proved:
            yield _Charge(Verdict.INCONCLUSIVE, f"the proof `{name}` was not printed")
    printed = {measure.name: measure.unit for measure in result.measures}
    for spec in case.measures:
        if spec.name not in printed:
            yield _Charge(Verdict.INCONCLUSIVE, f"the measure `{spec.name}` was not printed")
        elif printed[spec.name] != spec.unit:
            text = f"`{spec.name}` is in {printed[spec.name] or 'no unit'}, declared {spec.unit}"
            yield _Charge(Verdict.INCONCLUSIVE, text)


def _guest_outcome(transcript: Transcript) -> Outcome:
    """The guest apart from its cases."""
    found = splats(divide(transcript.console).outside)
    charge = _worst(_guest_charges(transcript, found))
    reason = charge.reason if charge.verdict else "it booted, ran its cases and powered off"
    return Outcome(
        case=GUEST.id,
        swap=transcript.boot.swap,
        repeat=transcript.boot.repeat,
        verdict=charge.verdict,
        reason=reason,
        process=charge.verdict,
        splats=found,
        seconds=transcript.boot.seconds,
    )


def _guest_charges(transcript: Transcript, found: tuple[Splat, ...]) -> Iterator[_Charge]:
    if not transcript.console_ok:
        yield _Charge(Verdict.INFRA, "the kernel's console could not be read")
    for splat in found:
        if splat.fatal:
            yield _Charge(Verdict.CRASH, splat.title)
    in_a_case = bool(transcript.logs) and transcript.logs[-1].ended in ("died", "timeout")
    if transcript.end != "poweroff" and not in_a_case:
        yield _idle_death(transcript, found)


def _idle_death(transcript: Transcript, found: tuple[Splat, ...]) -> _Charge:
    """The guest ended while no case ran."""
    last = transcript.logs[-1].case if transcript.logs else None
    when = f"after {last}" if last else "before the first case"
    if transcript.end in ("panic", "oom-panic"):
        return _Charge(Verdict.CRASH, _with_splat(f"the kernel panicked {when}", found))
    if transcript.end == "hang":
        return _Charge(Verdict.HANG, _with_splat(f"the kernel no longer answered {when}", found))
    if transcript.end == "boot-timeout" and transcript.console.strip():
        return _Charge(Verdict.HANG, _with_splat("the kernel did not finish booting", found))
    if transcript.end == "boot-timeout":
        return _Charge(Verdict.INFRA, "the guest never said anything")
    if transcript.end == "swap-failed":
        return _Charge(Verdict.INFRA, transcript.note or "the swap could not be set up")
    return _Charge(Verdict.INFRA, f"QEMU died {when}")


def _absent(
    transcripts: Sequence[Transcript], table: Mapping[str, Case], ran: set[str]
) -> Iterator[Outcome]:
    """An outcome for every case that was planned but that no guest began."""
    last = {name: script for script in transcripts for name in script.boot.planned}
    for name, transcript in last.items():
        if name in ran or name not in table:
            continue
        guest = _guest_outcome(transcript)
        if transcript.end == "poweroff" or (transcript.end == "qemu-died" and transcript.logs):
            verdict, reason = Verdict.INFRA, "it was not run"
        elif transcript.logs:
            verdict, reason = Verdict.INCONCLUSIVE, "it was not run: the kernel died before it"
        else:
            verdict, reason = guest.verdict, guest.reason
        yield Outcome(
            case=name,
            swap=transcript.boot.swap,
            repeat=transcript.boot.repeat,
            verdict=verdict,
            reason=reason,
            process=verdict,
            ran=False,
        )
