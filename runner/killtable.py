# SPDX-License-Identifier: GPL-2.0-only
"""The kill table: known bugs against cases, from comparisons of each bug's kernel with the base.

It boots nothing and has no rules of its own for what counts as a change: those are comparison.py's.
"""

from __future__ import annotations

import difflib
import enum
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from runner import variant
from runner.case import Case
from runner.changes import differs
from runner.errors import EXIT_CLEAN, EXIT_REGRESSION, EXIT_UNDECIDED, UserError
from runner.judging import GUEST
from runner.outcome import Verdict
from runner.row import Change, Finding, Row

_CLAIM = re.compile(r"^Caught-by: (\S+) (\S+)$", re.MULTILINE)
PATCH = "*.patch"
_KILLS = (Change.REGRESSED, Change.NEW_SPLAT)
_TELLS = (Change.FIXED, Change.IMPROVED, Change.WORSENED, Change.NEW_SKIP, Change.LOST)


class Fate(enum.IntEnum):
    """What a case did to a bug; over several swaps the greatest counts."""

    NOT_RUN = 0
    SURVIVED = 1
    UNDECIDED = 2
    TOLD_APART = 3
    KILLED = 4

    @property
    def word(self) -> str:
        return self.name.lower().replace("_", " ")


@dataclass(frozen=True, slots=True, order=True)
class Claim:
    """`Caught-by: CASE SUBJECT`: the invariant or measure of a case that must notice the bug."""

    case: str
    subject: str

    def __str__(self) -> str:
        return f"{self.case} {self.subject}"


@dataclass(frozen=True, slots=True)
class Bug:
    """A known-bad kernel: one patch, and what its message says must catch it."""

    name: str
    path: Path
    claims: tuple[Claim, ...]


@dataclass(frozen=True, slots=True)
class Trialled:
    """One bug against the base. `why_not` says why its kernel was not run at all."""

    bug: Bug
    rows: tuple[Row, ...]
    why_not: str = ""

    @property
    def fates(self) -> dict[str, Fate]:
        """By case, over all swaps; the guest apart from its cases only where it came to grief."""
        found: dict[str, Fate] = {}
        for row in self.rows:
            if row.case == GUEST and fate(row) is not Fate.KILLED:
                continue
            found[row.case.id] = max(found.get(row.case.id, Fate.NOT_RUN), fate(row))
        return found

    def by(self, *fates: Fate) -> tuple[str, ...]:
        return tuple(name for name, one in self.fates.items() if one in fates)

    @property
    def survived(self) -> bool:
        """Cases ran, and none noticed."""
        found = set(self.fates.values())
        return Fate.SURVIVED in found and not found & {Fate.KILLED, Fate.TOLD_APART}

    @property
    def unmet(self) -> tuple[Claim, ...]:
        """Claims on cases that ran and did not notice."""
        return tuple(claim for claim in self._tried() if not self._met(claim))

    @property
    def moot(self) -> tuple[Claim, ...]:
        """Claims that are met, but that the base would meet as well: its invariant fails, too."""
        return tuple(claim for claim in self._tried() if self._met(claim) and self._moot(claim))

    def _tried(self) -> tuple[Claim, ...]:
        ran = set(self.by(Fate.SURVIVED, Fate.TOLD_APART, Fate.KILLED))
        return tuple(claim for claim in self.bug.claims if claim.case in ran)

    def _met(self, claim: Claim) -> bool:
        return any(notices(row, claim.subject) for row in self.rows if row.case.id == claim.case)

    def _moot(self, claim: Claim) -> bool:
        rows = [row for row in self.rows if row.case.id == claim.case]
        return all(
            claim.subject in row.failing_on_both for row in rows if notices(row, claim.subject)
        )


@dataclass(frozen=True, slots=True)
class KillTable:
    """The answer: every bug, every case, and what is wrong with either."""

    base: str
    cases: tuple[Case, ...]
    bugs: tuple[Trialled, ...]

    @property
    def survivors(self) -> tuple[str, ...]:
        return tuple(each.bug.name for each in self.bugs if each.survived)

    @property
    def unmet(self) -> tuple[tuple[str, Claim], ...]:
        return tuple((each.bug.name, claim) for each in self.bugs for claim in each.unmet)

    @property
    def dead_weight(self) -> tuple[str, ...]:
        """Cases that were tried on some bug and noticed none."""
        tried = {name for each in self.bugs for name, one in each.fates.items() if one}
        useful = {name for each in self.bugs for name in each.by(Fate.KILLED, Fate.TOLD_APART)}
        return tuple(case.id for case in self.cases if case.id in tried - useful)

    @property
    def undecided(self) -> tuple[str, ...]:
        """Bugs that could not be run, or of which no case could say anything."""
        return tuple(
            each.bug.name
            for each in self.bugs
            if not each.survived and not each.by(Fate.KILLED, Fate.TOLD_APART)
        )

    @property
    def exit_code(self) -> int:
        if self.survivors or self.unmet:
            return EXIT_REGRESSION
        return EXIT_UNDECIDED if self.undecided or not self.bugs else EXIT_CLEAN


def fate(row: Row) -> Fate:
    """What one case on one swap did, in the words of the comparison's findings."""
    if row.case != GUEST and not any(run.ran for run in row.patched.runs):
        return Fate.NOT_RUN
    if doubtful(row):
        return Fate.UNDECIDED
    changes = {finding.change for finding in row.findings}
    if changes & set(_KILLS):
        return Fate.KILLED
    if changes & set(_TELLS):
        return Fate.TOLD_APART
    return Fate.UNDECIDED if changes else Fate.SURVIVED


def doubtful(row: Row) -> bool:
    """Whether nothing but a stall or a missed deadline, seen once, speaks for a kill."""
    chances = [_by_chance(row, finding) for finding in row.findings if finding.change in _KILLS]
    return bool(chances) and all(chances)


def _by_chance(row: Row, finding: Finding) -> bool:
    """A busy host makes a guest stall and miss its deadline: one run of that proves no bug."""
    if finding.subject == "splat":
        runs = [run for run in row.patched.runs if run.shows(finding.name)]
        return len(runs) == 1 and row.patched.splats()[finding.name].stall
    if finding.subject == "run":
        return [run.process for run in row.patched.runs] == [Verdict.HANG]
    return False


def notices(row: Row, subject: str) -> bool:
    """Whether an invariant failed or now holds, a measure moved, or the run itself ended worse than
    on base, so that an invariant has no result; a measure that was not printed has not moved.
    """
    for spec in row.case.measures:
        if spec.name == subject:
            return differs(spec, row.base.values(subject), row.patched.values(subject))
    tried = {check.verdict for check in row.base.checks(subject)} != {Verdict.SKIP}
    if tried and any(check.verdict is Verdict.FAIL for check in row.patched.checks(subject)):
        return True
    if any(each.name == subject and each.change is Change.FIXED for each in row.findings):
        return True
    return Finding(Change.REGRESSED, "run") in row.findings and not doubtful(row)


def load_bug(path: Path) -> Bug:
    """Read what a known-bad patch claims."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UserError(f"cannot read the known-bad patch {path}: {error.strerror}") from error
    claims = tuple(dict.fromkeys(Claim(*found) for found in _CLAIM.findall(text)))
    return Bug(path.stem, path, claims)


def shelves(folder: Path, version: str = "") -> tuple[Path, ...]:
    """Where the known-bad patches for a kernel of this version lie; without one, all of them.

    Folders in `folder` that are named after kernels, 6.12 or 6.12-7.2, hold those for these; what
    lies in `folder` itself is for all others.
    """
    ranges = variant.ranges(folder)
    if not version:
        return (folder, *ranges)
    return tuple(each for each in ranges if variant.holds(each.name, version)) or (folder,)


def load_bugs(folder: Path, names: Sequence[str] = (), version: str = "") -> tuple[Bug, ...]:
    """The known-bad patches for a version, or those named: each a stem among them or a path."""
    known = tuple(path for shelf in shelves(folder, version) for path in sorted(shelf.glob(PATCH)))
    if not known:
        raise UserError(f"there is no {PATCH} in {folder}")
    if not names:
        return tuple(load_bug(path) for path in known)
    return tuple(load_bug(path) for name in names for path in _named(known, name))


def _named(known: tuple[Path, ...], name: str) -> tuple[Path, ...]:
    given, stem = Path(name).expanduser(), name.removesuffix(".patch")
    found = tuple(path for path in known if path.stem == stem)
    if found:
        return found[:1]
    if given.is_dir():
        return tuple(sorted(given.glob(PATCH)))
    if given.is_file():
        return (given,)
    near = difflib.get_close_matches(stem, {path.stem for path in known}, n=3, cutoff=0.3)
    hint = f"near it: {', '.join(near)}; " if near else ""
    raise UserError(
        f"there is no known-bad patch {name!r}; {hint}`twinboot list patches` shows all"
    )


def check_claims(bugs: Iterable[Bug], cases: Iterable[Case]) -> None:
    """UserError if a patch claims nothing, or what no case table declares and nothing can meet."""
    declared: set[Claim] = set()
    for case in cases:
        declared |= {Claim(case.id, invariant.name) for invariant in case.invariants}
        declared |= {Claim(case.id, measure.name) for measure in case.measures}
    for bug in bugs:
        if not bug.claims:
            raise UserError(f"{bug.path} has no line `Caught-by: CASE INVARIANT-OR-MEASURE`")
        for claim in bug.claims:
            if claim not in declared:
                raise UserError(f"{bug.path.name}: Caught-by names {claim}, which no case declares")
