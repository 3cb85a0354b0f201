# SPDX-License-Identifier: GPL-2.0-only
"""The HTML page: what stands on it, and that nothing a guest or a patch says acts on a reader."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from runner.case import Better, MeasureSpec
from runner.comparison import Comparison
from runner.page import COLUMNS_AT_MOST, LINES_AT_MOST, page
from runner.plot import LEFT, RIGHT, WIDTH, Plot, plot
from runner.tests.arms import (
    CRASH,
    FAIL,
    INFRA,
    REUSE,
    SKIP,
    TWINS,
    arm,
    compared,
    reused,
    run,
    splat,
)
from runner.transcript import ArmLabel, BootRecord, CaseLog, Transcript

COMMAND = "twinboot run --patch 'my <patch>.patch'"
HOSTILE = (
    "</pre></details><script>alert(1)</script><img src=x onerror=alert(2)>"
    "\" onmouseover='alert(3)' {{ 7 * 7 }} &lt; \x1b[2J\x00\x07 \u202egnp.exe \ud800 \ufeff"
)


class Read(HTMLParser):
    """A page as a browser takes it apart: tags with their attributes, and text."""

    void = frozenset({"meta", "br", "rect", "line"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def count(self, tag: str, kind: str) -> int:
        return sum(name == tag and attrs.get("class") == kind for name, attrs in self.tags)


def said(label: ArmLabel, output: str, console: str) -> Transcript:
    log = CaseLog(REUSE.id, "nullblk", 1, output, 1, "exit", 1.0)
    marked = f"twinboot: begin {REUSE.id} 1\n{console}\ntwinboot: end {REUSE.id} 1 exit=1\n"
    return Transcript(
        BootRecord(label, "nullblk", 0, 0, 1, (REUSE.id,)), (log,), marked, "poweroff"
    )


def read(comparison: Comparison, *transcripts: Transcript) -> Read:
    return Read(page(comparison, transcripts, COMMAND))


def test_the_verdict_is_on_top_and_the_command_at_the_end() -> None:
    made = page(compared([run()] * 2, [run(FAIL)] * 2), (), COMMAND)
    assert re.search(r'<h1 class="bad">regression<span>: 1 REGRESSED; 0 of 1 row', made)
    assert made.rstrip().endswith("my &lt;patch&gt;.patch&#39;</pre>\n</body>\n</html>")
    assert "same in both arms: source, compiler, guest programs" in made


def test_the_worst_change_comes_first_in_the_table() -> None:
    swaps = ("zram", "disk", "nullblk")
    base = [run(swap=swap) for swap in swaps]
    patched = [run(swap="zram"), run(swap="disk", process=CRASH), run(swap="nullblk")]
    table = page(compared(base, patched), (), COMMAND).partition("<tbody>")[2]
    assert re.findall(r'<td class="word \w+">(\w+)</td>', table) == ["REGRESSED", "SAME", "SAME"]


def test_every_run_is_a_dot_also_where_values_are_equal() -> None:
    found = read(compared([reused(960)] * 3, [reused(0), reused(2), reused(0)]))
    # once with the change, once in the table
    assert found.count("circle", "base") == 2 * 3
    assert found.count("circle", "patched") == 2 * 3


def test_a_failing_run_shows_what_its_program_and_its_kernel_said() -> None:
    comparison = compared([run()], [run(FAIL)])
    text = read(comparison, said("patched", "not ok 1 torn", "swap: strange")).text
    assert "patched, run 0: FAIL: made up" in text
    assert "not ok 1 torn" in text
    assert "swap: strange" in text
    assert "base, run 0: the program's output" not in text


def test_a_splat_is_shown_once_with_its_trace() -> None:
    warned = replace(splat("swap"), text="WARNING: at mm/swap.c:1\nCall Trace:\n do_swap_page")
    text = read(compared([run()] * 2, [run(splats=(warned,))] * 2)).text
    assert text.count("Call Trace:\n do_swap_page") == 1


@pytest.mark.parametrize("where", ["console", "output", "splat", "reason", "patch", "note"])
def test_nothing_that_a_guest_or_a_patch_says_acts_on_the_reader(where: str) -> None:
    failed = replace(run(FAIL), reason=HOSTILE if where == "reason" else "made up")
    if where == "splat":
        nasty = replace(splat("x"), title=HOSTILE, text=HOSTILE, frames=(HOSTILE,))
        failed = replace(failed, splats=(nasty,))
    twins = TWINS
    if where == "patch":
        twins = replace(TWINS, patched=replace(arm("patched"), patches=(HOSTILE,)))
    if where == "note":
        twins = replace(TWINS, notes=(HOSTILE,))
    output = HOSTILE if where == "output" else ""
    console = HOSTILE if where == "console" else ""
    made = page(compared([run()], [failed], twins), (said("patched", output, console),), COMMAND)
    found = Read(made)
    assert found.open == []
    assert "<script>alert(1)</script>" in found.text
    assert "{{ 7 * 7 }}" in found.text
    tags = {tag for tag, _ in found.tags}
    assert not tags & {"script", "img", "iframe", "link", "object", "embed", "form", "base"}
    names = {name for _, attrs in found.tags for name in attrs}
    assert not {name for name in names if name.startswith("on")} | (names & {"src", "style"})
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\ud800\ufeff]", made)


def test_the_page_needs_nothing_but_itself() -> None:
    found = read(compared([run()], [run(FAIL)]))
    links = [attrs["href"] for tag, attrs in found.tags if tag == "a"]
    places = {attrs["id"] for _, attrs in found.tags if "id" in attrs}
    assert links
    assert all(link and link.startswith("#") and link[1:] in places for link in links)
    policy = [attrs.get("content") for tag, attrs in found.tags if tag == "meta"]
    assert "default-src 'none'; style-src 'unsafe-inline'" in policy


def test_a_console_that_never_ends_is_cut() -> None:
    flood = "\n".join(f"line {number} " + "x" * 500 for number in range(5000))
    comparison = compared([run()], [run(FAIL)])
    made = page(comparison, (said("patched", flood, ""),), COMMAND)
    assert f"[{5000 - LINES_AT_MOST} lines before this]" in made
    assert "line 4999" in made
    assert "line 4000 " not in made
    assert max(len(line) for line in made.splitlines() if line.startswith("line ")) < (
        COLUMNS_AT_MOST + 20
    )


def test_a_comparison_without_any_run_is_a_page_too() -> None:
    assert "undecided" in page(compared([], []), (), COMMAND)
    for other in (run(SKIP, SKIP), run(process=INFRA)):
        assert read(compared([other], [other])).open == []


def drawn(base: list[float], patched: list[float], tolerance: float = 2.0) -> Plot:
    """What the plot of one measure becomes."""
    spec = MeasureSpec("pages_reused", "pages", Better.HIGHER, "pages reused", tolerance)
    (row,) = compared([reused(each) for each in base], [reused(each) for each in patched]).rows
    made = plot(row, spec)
    assert made is not None
    return made


def test_an_axis_begins_at_zero_unless_that_would_hide_the_difference() -> None:
    assert drawn([1022, 1024], [1920, 1920]).ticks[0] == (LEFT, "0")
    assert drawn([1000, 1000], [1010, 1010]).ticks[0] == (LEFT, "998")
    assert drawn([5, 5], [5, 5], tolerance=0).ticks == ((LEFT, "4"), (WIDTH - RIGHT, "6"))


def test_dots_stay_within_their_plot_and_never_lie_on_each_other() -> None:
    made = drawn([0.0] * 20, [-3.5, 7.25, 7.25])
    for lane in made.lanes:
        places = [(dot.x, dot.y) for dot in lane.dots]
        assert len(set(places)) == len(places)
        assert all(LEFT <= x <= WIDTH - RIGHT and abs(y - lane.y) <= 8 for x, y in places)


def test_an_arm_without_a_value_is_an_empty_lane() -> None:
    (row,) = compared([reused(5)], [run(process=CRASH)]).rows
    made = plot(row, row.case.measure("pages_reused"))
    assert made is not None
    assert [len(lane.dots) for lane in made.lanes] == [1, 0]
    assert plot(row, row.case.measure("copies")) is None
