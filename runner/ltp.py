# SPDX-License-Identifier: GPL-2.0-only
"""Reads what a test of the Linux Test Project printed, and what its exit code says.

Its lib/tst_test.c writes `file.c:LINE: TPASS: text`, testcases/lib/tst_test.sh `id N TPASS: text`,
and lib/tst_res.c, for tests not rewritten yet, `id  N  TPASS  :  text`. The exit code is
the sum of one bit for each kind of result (include/tst_res_flags.h).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from runner import flood
from runner.ktap import KtapResult, Point

_BITS = {"TFAIL": 1, "TBROK": 2, "TWARN": 4, "TCONF": 32}
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_RESULT = re.compile(
    r"^(?:\S+:\d+:|\S+ +\d+) +(TPASS|TFAIL|TBROK|TWARN|TCONF) *: *(.*)$", re.MULTILINE
)


def parse_ltp(text: str) -> KtapResult:
    """The results in their order: TPASS, TFAIL, and TCONF, which is a skip. Never raises.

    TBROK and TWARN are problems: the test could not do all that it is for. Results are named by
    their number, so that none is read behind what was left out.
    """
    points: list[Point] = []
    problems: list[str] = []
    for kind, said in _results(flood.beginning(text)):
        if kind in ("TBROK", "TWARN"):
            word = "broke" if kind == "TBROK" else "warns"
            problems.append(f"the test {word}: {said}")
        else:
            directive = "SKIP" if kind == "TCONF" else ""
            ok = kind != "TFAIL"
            points.append(Point(len(points) + 1, ok, "", said, directive, said))
    if not points and not problems:
        problems.append("the test printed no result")
    return KtapResult(tuple(points), None, (), (), (), tuple(problems))


def unexplained(code: int, text: str) -> int:
    """The bits of an exit code for which no line was printed; 0 is an honest exit code."""
    explained = 0
    for kind, _ in _results(text):
        explained |= _BITS.get(kind, 0)
    return code & ~explained


def _results(text: str) -> Iterator[tuple[str, str]]:
    for found in _RESULT.finditer(_COLOUR.sub("", text).replace("\r", "")):
        yield found.group(1), found.group(2)
