# SPDX-License-Identifier: GPL-2.0-only
"""How a channel divides into the time of its cases."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runner.transcript import (
    BootRecord,
    CaseLog,
    Span,
    Transcript,
    divide,
    untried,
    whole_trials,
)


def test_a_channel_divides_at_its_markers() -> None:
    found = divide(
        "boot\ntwinboot: begin cow/wr_hit 1\nok\ntwinboot: end cow/wr_hit 1 exit=4 taint=0\nrest\n"
    )
    assert found.spans == (Span("cow/wr_hit", 1, "ok\n", True, 4),)
    assert found.outside == "boot\nrest\n"


def test_timestamps_of_the_markers_do_not_leak_into_the_text() -> None:
    found = divide(
        "[    1.000000] twinboot: begin a/b 1\r\n[    1.1][  T77] hello\r\n"
        "[    1.200000][  T78] twinboot: end a/b 1 exit=0\r\n"
    )
    assert found.spans == (Span("a/b", 1, "[    1.1][  T77] hello\r\n", True, 0),)
    assert found.outside == ""


def test_a_span_without_its_end_runs_to_the_end() -> None:
    assert divide("twinboot: begin a/b 1\nlast words").spans == (
        Span("a/b", 1, "last words", False, None),
    )


def test_a_begin_ends_the_span_before_it() -> None:
    found = divide(
        "twinboot: begin a/b 1\nx\ntwinboot: begin a/c 2\ny\ntwinboot: end a/c 2 exit=0\n"
    )
    assert [(span.case, span.closed, span.text) for span in found.spans] == [
        ("a/b", False, "x\n"),
        ("a/c", True, "y\n"),
    ]


def test_the_end_of_another_run_ends_nothing() -> None:
    text = "twinboot: begin a/b 2\nx\ntwinboot: end a/b 1 exit=0\ny\ntwinboot: end a/b 2 exit=1\n"
    (span,) = divide(text).spans
    assert (span.closed, span.exit) == (True, 1)
    assert "y\n" in span.text


def test_a_marker_glued_to_the_programs_last_words_is_seen() -> None:
    (span,) = divide("twinboot: begin a/b 1\nok 1twinboot: end a/b 1 exit=0\n").spans
    assert (span.text, span.closed) == ("ok 1", True)


PIECES = st.sampled_from(
    [
        "twinboot: begin a/b 1\n",
        "twinboot: end a/b 1 exit=0\n",
        "twinboot: begin a/b 12",
        "twinboot: end ",
        "[  1.0] ",
        "words\n",
    ]
)


@given(st.one_of(st.text(), st.lists(PIECES).map("".join)))
def test_dividing_never_raises_and_loses_no_words(text: str) -> None:
    found = divide(text)
    kept = found.outside + "".join(span.text for span in found.spans)
    assert kept.count("words") == text.count("words")


def boot(part: int, ran: int) -> Transcript:
    planned = ("a/a", "b/b", "c/c")[part:]
    logs = tuple(CaseLog(name, "zram", 1, "", 0, "exit", 1.0) for name in planned[:ran])
    return Transcript(BootRecord("base", "zram", 1, part, 1, planned), logs, "", "panic")


def test_a_boot_before_which_nothing_started_is_tried_once_more_and_then_given_up() -> None:
    cases = ("a/a", "b/b", "c/c")
    assert untried(cases, []) == cases
    assert untried(cases, [boot(0, 0)]) == cases
    assert untried(cases, [boot(0, 0), boot(0, 0)]) == ()
    assert untried(cases, [boot(0, 0), boot(0, 1), boot(1, 0)]) == ("b/b", "c/c")
    assert untried(cases, [boot(0, 1), boot(1, 2)]) == ()


def test_only_trials_that_came_to_their_end_are_evidence() -> None:
    whole = (boot(0, 1), boot(1, 2))
    assert whole_trials(reversed(whole)) == {("base", "zram", 1, 0): whole}
    assert whole_trials(whole[:1]) == {}
    assert whole_trials(whole[1:]) == {}
