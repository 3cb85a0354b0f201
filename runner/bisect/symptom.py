# SPDX-License-Identifier: GPL-2.0-only
"""What decides: one symptom, found at the bad end or named by the user, and whether a run shows it.

Never "any failure": a run that shows something else says nothing of the symptom. Pure. It is not
runner/symptom.py, which counts what a finding on two kernels was: there any crash is a failure.
Which runs can say that something stayed away is the same for both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from runner.case import Case
from runner.judging import GUEST
from runner.outcome import BAD, Outcome, Verdict
from runner.splat import Splat
from runner.symptom import complete

Kind = Literal["invariant", "end", "splat", "boot", "measure"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user said of the symptom; nothing more than the case means: what the bad end does.

    `above` and `below` belong to the measure: it is bad beyond them.
    """

    invariant: str = ""
    measure: str = ""
    above: float | None = None
    below: float | None = None
    splat: str = ""
    boot: bool = False


@dataclass(frozen=True, slots=True)
class Symptom:
    """What is looked for. `names`: invariants, verdicts, splat signatures, or the measure.

    `manner` is how the run ended, of kind "end"; any end of that verdict without it, as in what was
    saved before there was one.
    """

    kind: Kind
    names: tuple[str, ...]
    above: float | None = None
    below: float | None = None
    manner: str = ""

    def clause(self, case: Case, swap: str) -> str:
        """What a bad kernel does, as a clause."""
        which = " or ".join(self.names)
        where = f"{case.id} on {swap}"
        match self.kind:
            case "invariant":
                says = {each.name: each.says for each in case.invariants}
                told = [says.get(name) or f"`{name}` fails" for name in self.names]
                return f"{'; '.join(told)} ({where})"
            case "end":
                how = {"HANG": "does not end", "FAIL": "fails", "CRASH": "crashes"}[which]
                return f"{where} {how}" + (f": {self.manner}" if self.manner else "")
            case "splat":
                return f"the kernel complains in {where}: {which}"
            case "boot":
                return f"the kernel does not boot: {which}"
            case "measure":
                limit = f"above {self.above:g}" if self.above is not None else ""
                limit = limit or f"below {self.below:g}"
                return f"{which} of {where} is {limit}"


@dataclass(frozen=True, slots=True)
class Sight:
    """Whether a run showed it; None: the run says nothing, and `text` why."""

    shown: bool | None
    text: str


def look(symptom: Symptom, outcomes: Sequence[Outcome], case: str) -> Sight:
    """What the guests of one run say of the symptom."""
    run = next((each for each in outcomes if each.case == case), None)
    if symptom.kind == "boot":
        return _look_at_boot(symptom, outcomes, run)
    if symptom.kind == "splat":
        seen = [splat for each in outcomes for splat in each.splats]
        if any(splat.signature in symptom.names for splat in seen):
            return Sight(True, next(s.title for s in seen if s.signature in symptom.names))
    if run is None:
        return Sight(None, "the case was not run")
    if not run.ran:
        return Sight(None, run.reason)
    shown = _shows(symptom, run)
    if shown is None or (not shown and not complete(run)):
        return Sight(None, _why_untold(run))
    return Sight(shown, run.reason)


def _why_untold(run: Outcome) -> str:
    """The reason of a failure may be another than that the run says nothing."""
    masked = run.unsaid and run.unsaid != run.reason
    return f"{run.verdict.name}: {run.reason}" + (f"; and {run.unsaid}" if masked else "")


def _shows(symptom: Symptom, run: Outcome) -> bool | None:
    if symptom.kind == "invariant":
        return run.breaks(*symptom.names)
    if symptom.kind == "end":
        return run.process.name in symptom.names and symptom.manner in ("", _manner(run))
    if symptom.kind == "measure":
        value = run.measure(symptom.names[0])
        if value is None or not complete(run):
            return None
        over = symptom.above is not None and value > symptom.above
        return over or (symptom.below is not None and value < symptom.below)
    return False


def _look_at_boot(symptom: Symptom, outcomes: Sequence[Outcome], run: Outcome | None) -> Sight:
    if run is not None and run.ran:
        return Sight(False, "it booted")
    dead = _dead_boot(outcomes)
    if dead is None:
        return Sight(None, run.reason if run is not None else "the guest did not start")
    name = _boot_name(dead)
    return Sight(True, dead.reason) if name in symptom.names else Sight(None, dead.reason)


def does_not_boot(outcomes: Sequence[Outcome]) -> bool:
    """Whether the kernel died before any case began."""
    return _dead_boot(outcomes) is not None and not any(
        each.ran for each in outcomes if each.case != GUEST.id
    )


def _dead_boot(outcomes: Sequence[Outcome]) -> Outcome | None:
    dead = (Verdict.HANG, Verdict.CRASH)
    return next((each for each in outcomes if each.case == GUEST.id and each.verdict in dead), None)


def _boot_name(boot: Outcome) -> str:
    """The splat that ended the boot, or that it hung without one."""
    fatal = [splat.signature for splat in boot.splats if splat.fatal]
    return fatal[0] if fatal else "it hangs" if boot.verdict is Verdict.HANG else "it panics"


def settle(wanted: Wanted, runs: Sequence[Sequence[Outcome]], case: Case) -> Symptom | None:
    """The symptom by the runs of the bad end; None when none of them shows what is wanted."""
    if wanted.measure:
        return Symptom("measure", (wanted.measure,), wanted.above, wanted.below)
    if wanted.invariant:
        return Symptom("invariant", (wanted.invariant,))
    if wanted.splat:
        names = tuple(dict.fromkeys(_matching(wanted.splat, runs)))
        return Symptom("splat", names) if names else None
    if wanted.boot:
        dead = next(
            (boot for run in runs if (boot := _dead_boot(run)) and does_not_boot(run)), None
        )
        return Symptom("boot", (_boot_name(dead),)) if dead else None
    for run in runs:
        for outcome in run:
            if outcome.case == case.id and outcome.ran and outcome.verdict in BAD:
                return _symptom_of(outcome)
    return None


def _matching(text: str, runs: Sequence[Sequence[Outcome]]) -> Iterator[str]:
    for run in runs:
        for outcome in run:
            for splat in outcome.splats:
                if text in splat.signature or text in splat.title:
                    yield splat.signature


def _symptom_of(run: Outcome) -> Symptom:
    """The gravest thing that can be known again elsewhere."""
    failing = tuple(each.name for each in run.invariants if each.verdict is Verdict.FAIL)
    if failing:
        return Symptom("invariant", failing)
    fatal: list[Splat] = [splat for splat in run.splats if splat.fatal]
    if run.verdict is Verdict.CRASH and fatal:
        return Symptom("splat", (fatal[0].signature,))
    return Symptom("end", (run.process.name,), manner=_manner(run))


def _manner(run: Outcome) -> str:
    """How a run failed or crashed, where that is what is told of it; a hang is a hang.

    Not the splat in parentheses behind it, which may be an older one.
    """
    if run.process is Verdict.HANG:
        return ""
    fatal = next((splat.signature for splat in run.splats if splat.fatal), "")
    return fatal or (run.ending or run.reason).partition(" (")[0]
