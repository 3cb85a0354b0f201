# SPDX-License-Identifier: GPL-2.0-only
"""What `git bisect run` wants to hear: 0 good, 1 bad, 125 skip, 128 and more: stop. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from runner.comparison import Comparison, Overall
from runner.errors import BuildFailed, CommandFailed, ConfigLost, PatchError, TwinbootError
from runner.judging import GUEST
from runner.outcome import Verdict

GOOD, BAD, SKIP, STOP = 0, 1, 125, 128
# Whatever fails when these run is the fault of the tree that they run in.
OF_THE_TREE = ("make", "scripts/kconfig/merge_config.sh")


def of_result(comparison: Comparison) -> int:
    """Two kernels: a regression is bad. One kernel in both arms: a failed case is bad.

    A crash or a hang of one kernel is neither: nobody said that it is the one that is looked for.
    """
    if not comparison.twins.identical:
        codes = {Overall.CLEAN: GOOD, Overall.REGRESSION: BAD}
        return codes.get(comparison.overall, SKIP)
    rows = [row for row in comparison.rows if row.case != GUEST]
    seen = {run.verdict for row in rows for run in (*row.base.runs, *row.patched.runs)}
    if Verdict.FAIL in seen:
        return BAD
    return GOOD if Verdict.PASS in seen and seen <= {Verdict.PASS, Verdict.SKIP} else SKIP


def of_series(prefixes: Iterable[Comparison | None]) -> int:
    """Bad where any prefix is; None is one that cannot be built, as good as no answer."""
    codes = {of_result(each) if each else SKIP for each in prefixes}
    return next((code for code in (BAD, SKIP) if code in codes), GOOD)


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
