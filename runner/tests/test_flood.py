# SPDX-License-Identifier: GPL-2.0-only
"""Guests that print without end: what is kept of it, and that nobody takes it for whole."""

from __future__ import annotations

import time
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from runner import flood, host
from runner.case import Case
from runner.comparison import compare_transcripts
from runner.ktap import parse_ktap
from runner.ltp import parse_ltp
from runner.outcome import Scene, Verdict, judge
from runner.row import Change
from runner.tests.arms import TWINS
from runner.transcript import ArmLabel, BootRecord, CaseLog, Transcript

LTP = Case(
    "ltp/x", "x", ("/x",), ("zram",), ("zram",), 9.0, (), (), (), foreign=True, protocol="ltp"
)
SCENE = Scene(repeat=1, end="poweroff", console_ok=True, splats=())


def ltp_text(kinds: list[str]) -> str:
    return "".join(f"t.c:1: {kind}: page {number}\n" for number, kind in enumerate(kinds))


def log(text: str, code: int = 0) -> CaseLog:
    return CaseLog("ltp/x", "zram", 1, text, code, "exit", 1.0)


@given(st.lists(st.sampled_from([b"ok 1", b"not ok 2", b"", b"x" * 40])), st.integers(20, 200))
def test_what_is_kept_is_whole_or_says_that_it_is_not(lines: list[bytes], most: int) -> None:
    said = b"\n".join(lines)
    text = flood.kept(said, most)
    if len(said) <= most:
        assert text.encode() == said
        return
    assert flood.left_out(text)
    first, last = text.split("\n...")
    assert said.decode().startswith(flood.beginning(text))
    assert said.decode().endswith(last)
    assert len(first) + len(last) <= most + 60


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.integers(2, 150))
def test_no_result_is_read_out_of_half_a_line(passed: list[bool], most: int) -> None:
    lines = [f"{'' if ok else 'not '}ok {number}" for number, ok in enumerate(passed, 1)]
    said = "\n".join(["TAP version 13", f"1..{len(lines)}", *lines, ""])
    for point in parse_ktap(flood.kept(said.encode(), most)).points:
        assert point.passed is passed[point.number - 1]


def test_a_program_whose_output_is_not_whole_does_not_pass() -> None:
    whole = ltp_text(["TPASS"] * 50)
    assert judge(LTP, log(whole), SCENE).verdict is Verdict.PASS
    outcome = judge(LTP, log(flood.kept(whole.encode(), 400)), SCENE)
    assert outcome.verdict is Verdict.INCONCLUSIVE
    assert "bytes of its output are left out" in outcome.reason


def test_a_program_that_was_ended_for_its_output_is_said_to_have_printed_too_much() -> None:
    text = flood.kept(ltp_text(["TPASS"] * 50).encode(), 400)
    ended = CaseLog("ltp/x", "zram", 1, text, None, "timeout", 1.0)
    outcome = judge(LTP, ended, SCENE)
    assert outcome.verdict is Verdict.HANG
    assert outcome.reason == (
        "not finished after 1 s, printing without end, the kernel still answered"
    )


def test_a_log_that_grew_too_long_is_cut_short(tmp_path: Path) -> None:
    for size, left in ((100, 100), (flood.MOST_SAID + 1, flood.MOST_SAID)):
        host.write_sparse(tmp_path / "log", size)
        flood.cut_short(tmp_path / "log")
        assert (tmp_path / "log").stat().st_size == left
    flood.cut_short(tmp_path / "none")


def test_results_behind_what_is_left_out_get_no_number_that_another_one_has() -> None:
    """LTP's lines have none of their own: here the 3rd of those that are left is the 98th."""
    text = ltp_text(["TPASS"] * 97 + ["TFAIL"] * 3)
    cut = flood.kept(text.encode(), 200)
    assert "TFAIL" in cut
    assert all(point.ok for point in parse_ltp(cut).points)


def test_very_many_results_are_compared_in_no_time() -> None:
    """LTP's ksm01 prints one a page where merged pages are mixed up, as on ksm-reuse."""
    results = ltp_text(["TPASS"] * 20_000)

    def guest(arm: ArmLabel, text: str) -> Transcript:
        boot = BootRecord(arm, "zram", 1, 0, 1, ("ltp/x",))
        console = "twinboot: begin ltp/x 1\ntwinboot: end ltp/x 1 exit=0\n"
        return Transcript(boot, (log(text, int("TFAIL" in text)),), console, "poweroff", True)

    began = time.monotonic()
    transcripts = (guest("base", results), guest("patched", results.replace("TPASS", "TFAIL")))
    compared = compare_transcripts((LTP,), transcripts, TWINS)
    row = next(row for row in compared.rows if row.case.id == "ltp/x")
    assert row.change is Change.REGRESSED
    assert len(row.findings) >= 20_000
    assert time.monotonic() - began < 20
