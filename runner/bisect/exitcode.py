# SPDX-License-Identifier: GPL-2.0-only
"""What `git bisect run` wants to hear: 0 good, 1 bad, 125 skip, 128 and more: stop. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from runner.comparison import Comparison, Overall
from runner.errors import BuildFailed, CommandFailed, ConfigLost, PatchError, TwinbootError
from runner.judging import GUEST
from runner.outcome import Verdict
from runner.row import Row

GOOD, BAD, SKIP, STOP = 0, 1, 125, 128
# Whatever fails when these run is the fault of the tree that they run in.
OF_THE_TREE = ("make", "scripts/kconfig/merge_config.sh")


def of_result(comparison: Comparison, named: Iterable[str] = ()) -> int:
    """Two kernels: a regression is bad. One kernel in both arms: a failed case is bad.

    A crash or a hang of one kernel is neither: nobody said that it is the one that is looked for.
    Nor is what is `good` but for a case of `named`, which the user chose by its id, and which this
    kernel skips: that others passed says nothing of it.
    """
    code = _code(comparison)
    return SKIP if code == GOOD and _unheard((comparison,), named) else code


def of_series(prefixes: Iterable[Comparison | None], named: Iterable[str] = ()) -> int:
    """Bad where any prefix is; None is one that cannot be built, as good as no answer."""
    found = tuple(prefixes)
    codes = {_code(each) if each else SKIP for each in found}
    if BAD in codes:
        return BAD
    unheard = _unheard((each for each in found if each), named)
    return SKIP if SKIP in codes or unheard else GOOD


def _code(comparison: Comparison) -> int:
    if comparison.twins.patched.patches or not comparison.twins.identical:
        codes = {Overall.CLEAN: GOOD, Overall.REGRESSION: BAD}
        return codes.get(comparison.overall, SKIP)
    rows = [row for row in comparison.rows if row.case != GUEST]
    seen = {verdict for row in rows for verdict in _verdicts(row)}
    if Verdict.FAIL in seen:
        return BAD
    whole = Verdict.PASS in seen and not comparison.missing
    return GOOD if whole and seen <= {Verdict.PASS, Verdict.SKIP} else SKIP


def _unheard(comparisons: Iterable[Comparison], named: Iterable[str]) -> bool:
    """Whether a case of these was skipped in every run."""
    seen: dict[str, set[Verdict]] = {}
    for comparison in comparisons:
        for row in comparison.rows:
            seen.setdefault(row.case.id, set()).update(_verdicts(row))
    return any(seen.get(name) == {Verdict.SKIP} for name in named)


def _verdicts(row: Row) -> set[Verdict]:
    return {run.verdict for run in (*row.base.runs, *row.patched.runs)}


def of_ending(code: int) -> int:
    """An exit code that twinboot ends with for a reason of its own must not be taken for bad."""
    return STOP + code if BAD < code < SKIP else code


def of_error(error: TwinbootError) -> int:
    """A kernel that cannot be built is skipped; a full disk or a wrong option ends the search."""
    if isinstance(error, (BuildFailed, ConfigLost, PatchError)) or fault_of_the_tree(error):
        return SKIP
    return STOP + error.exit_code


def fault_of_the_tree(error: TwinbootError) -> bool:
    """Whether a command failed because of the source that it worked on."""
    return isinstance(error, CommandFailed) and any(word in OF_THE_TREE for word in error.argv)
