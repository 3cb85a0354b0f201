# SPDX-License-Identifier: GPL-2.0-only
"""From what a guest said to a verdict: the corpus, and the rules one by one."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner import case
from runner.judging import GUEST, judge_guests
from runner.ktap import parse_ktap
from runner.outcome import Outcome, Scene, Verdict, judge
from runner.splat import splats
from runner.tests import corpus
from runner.tests.corpus import LEAK, Recorded
from runner.transcript import BootRecord, CaseLog, End, Ended, Transcript

CORPUS = corpus.everything()
OTHER = replace(LEAK, id="gup/leak_other")
GOOD = corpus.read(corpus.FOLDER / "pass.transcript").results


@pytest.mark.parametrize("recorded", CORPUS, ids=lambda recorded: recorded.path.stem)
def test_a_recorded_transcript_is_judged_as_it_was_agreed(recorded: Recorded) -> None:
    agreed = {key: recorded.head[key] for key in recorded.expectation()}
    assert recorded.expectation() == agreed


def test_the_corpus_has_every_verdict() -> None:
    assert {recorded.head["verdict"] for recorded in CORPUS} == set(Verdict.__members__)


def test_only_transcripts_that_are_in_order_pass() -> None:
    passed = {each.path.stem for each in CORPUS if each.head["verdict"] == "PASS"}
    complains_but_passes = {"warning", "kasan", "list-corruption", "soft-lockup"}
    assert passed - complains_but_passes == {"pass", "shouts-panic", "forged-marker"}


def log(text: str = GOOD, code: int | None = 0, ended: Ended = "exit", number: int = 1) -> CaseLog:
    return CaseLog(LEAK.id, "zram", number, text, code, ended, 1.0)


def judged(text: str = GOOD, code: int | None = 0, ended: Ended = "exit") -> Verdict:
    return judge(LEAK, log(text, code, ended), Scene("poweroff")).verdict


@pytest.mark.parametrize("line", GOOD.splitlines())
def test_a_pass_needs_every_line_but_the_tries(line: str) -> None:
    verdict = judged(GOOD.replace(line + "\n", ""))
    assert (verdict is Verdict.PASS) == line.startswith("# tries")


@given(st.integers(0, len(GOOD) - 1), st.sampled_from([0, 1, 4]))
def test_output_that_stops_early_never_passes(length: int, code: int) -> None:
    assert judged(GOOD[:length], code) is not Verdict.PASS


@given(st.lists(st.sampled_from(GOOD.splitlines())), st.sampled_from([0, 1, 4]))
def test_only_the_whole_story_passes(lines: list[str], code: int) -> None:
    """Lines lost, doubled or in another order: what passes still has each line that counts."""
    if judged("".join(line + "\n" for line in lines), code) is Verdict.PASS:
        assert {line for line in GOOD.splitlines() if "tries" not in line} <= set(lines)


@given(st.text(), st.one_of(st.none(), st.integers(-1, 255)))
def test_judging_never_raises(text: str, code: int | None) -> None:
    judge(LEAK, log(text, code), Scene("poweroff"))


@given(st.integers(1, 255))
def test_no_exit_code_but_zero_passes(code: int) -> None:
    assert judged(code=code) is not Verdict.PASS


def test_a_program_killed_by_a_signal_failed() -> None:
    assert judged(code=None) is Verdict.FAIL
    assert judged(code=139) is Verdict.FAIL


def test_a_failure_without_proof_is_still_a_failure() -> None:
    leaked = GOOD.replace("ok 2", "not ok 2").replace("child_read ok", "child_read missing")
    assert judged(leaked, 1) is Verdict.FAIL


@pytest.mark.parametrize(
    ("end", "verdict"),
    [
        ("panic", Verdict.CRASH),
        ("oom-panic", Verdict.CRASH),
        ("hang", Verdict.HANG),
        ("qemu-died", Verdict.INFRA),
        ("poweroff", Verdict.INFRA),
    ],
)
def test_a_case_whose_guest_went_away_is_judged_by_the_guests_end(
    end: End, verdict: Verdict
) -> None:
    assert judge(LEAK, log(GOOD, None, "died"), Scene(end)).verdict is verdict


def test_what_was_said_before_a_crash_is_kept() -> None:
    outcome = judge(LEAK, log(GOOD, None, "died"), Scene("panic"))
    assert outcome.measure("pages_reused") == 958
    assert [check.verdict for check in outcome.invariants] == [Verdict.PASS, Verdict.PASS]


def test_a_console_that_was_not_read_outweighs_a_pass() -> None:
    assert judge(LEAK, log(), Scene("poweroff", console_ok=False)).verdict is Verdict.INFRA


def console(*numbers: int, inside: str = "", outside: str = "") -> str:
    marked = "".join(
        f"twinboot: begin {LEAK.id} {number}\n{inside}twinboot: end {LEAK.id} {number} exit=0\n"
        for number in numbers
    )
    return f"Linux version 5.10.223\n{marked}{outside}"


def guest(
    *logs: CaseLog,
    end: End = "poweroff",
    said: str = "",
    part: int = 0,
    planned: tuple[str, ...] = (LEAK.id, OTHER.id),
    note: str = "",
) -> Transcript:
    boot = BootRecord("base", "zram", 0, part, 1, planned)
    return Transcript(boot, logs, said or console(1), end, note=note)


def verdicts(*transcripts: Transcript) -> dict[str, list[Verdict]]:
    found: dict[str, list[Verdict]] = {}
    for outcome in judge_guests(transcripts, [LEAK, OTHER]):
        found.setdefault(outcome.case, []).append(outcome.verdict)
    return found


WARNED = "WARNING: CPU: 0 PID: 7 at mm/swap.c:9 lru_add+0x1/0x2\nCall Trace:\n lru_add+0x1/0x2\n\n"


def by_case(transcript: Transcript) -> dict[str, Outcome]:
    return {outcome.case: outcome for outcome in judge_guests([transcript], [LEAK])}


def test_a_splat_belongs_to_the_case_in_whose_time_it_was_printed() -> None:
    outcomes = by_case(guest(log(), said=console(1, inside=WARNED), planned=(LEAK.id,)))
    assert [splat.kind for splat in outcomes[LEAK.id].splats] == ["warning"]
    assert outcomes[GUEST.id].splats == ()


@pytest.mark.parametrize(
    "gap",
    ["twinboot: 9000 bytes are left out here\n", "** 12 printk messages dropped **\n"],
)
def test_a_console_that_is_not_whole_is_no_pass(gap: str) -> None:
    inside = by_case(guest(log(), said=console(1, inside=gap), planned=(LEAK.id,)))
    assert inside[LEAK.id].verdict is Verdict.INCONCLUSIVE
    assert inside[GUEST.id].verdict is Verdict.PASS
    outside = by_case(guest(log(), said=console(1, outside=gap), planned=(LEAK.id,)))
    assert outside[LEAK.id].verdict is Verdict.PASS
    assert outside[GUEST.id].verdict is Verdict.INCONCLUSIVE


def test_an_ok_that_nothing_was_tried_for_is_no_pass() -> None:
    tried = re.sub(r"(# tries: \S+) \d+", r"\1 0", GOOD)
    assert tried != GOOD
    assert judged(tried) is Verdict.INCONCLUSIVE


def test_what_a_failure_hides_is_kept() -> None:
    text = re.sub(r"(# proof: \S+) ok", r"\1 missing", GOOD.replace("\nok 1", "\nnot ok 1"))
    outcome = judge(LEAK, log(text, 1), Scene("poweroff"))
    assert (outcome.verdict, outcome.proven) == (Verdict.FAIL, False)
    assert "did not run" in outcome.unsaid
    whole = judge(LEAK, log(GOOD.replace("\nok 1", "\nnot ok 1"), 1), Scene("poweroff"))
    assert (whole.verdict, whole.unsaid) == (Verdict.FAIL, "")


def test_a_run_without_proof_is_not_proven_by_its_exit_code() -> None:
    text = re.sub(r"(# proof: \S+) ok", r"\1 missing", GOOD)
    outcome = judge(LEAK, log(text, 3), Scene("poweroff"))
    assert (outcome.verdict, outcome.proven) == (Verdict.FAIL, False)
    assert "did not run" in outcome.unsaid
    assert outcome.ending.startswith("exit code 3")


def test_a_splat_in_nobodys_time_is_the_guests() -> None:
    outcomes = by_case(guest(log(), said=console(1, outside=WARNED), planned=(LEAK.id,)))
    assert outcomes[LEAK.id].splats == ()
    assert [splat.kind for splat in outcomes[GUEST.id].splats] == ["warning"]


def test_two_runs_of_a_case_in_one_guest_are_told_apart() -> None:
    transcript = guest(log(), log(number=2), said=console(1, 2), planned=(LEAK.id,))
    found = [each for each in judge_guests([transcript], [LEAK]) if each.case == LEAK.id]
    assert [outcome.verdict for outcome in found] == [Verdict.PASS, Verdict.PASS]


def test_a_panic_at_boot_is_held_against_every_planned_case() -> None:
    panicked = guest(end="panic", said="Kernel panic - not syncing: no init\n")
    assert verdicts(panicked) == {
        GUEST.id: [Verdict.CRASH],
        LEAK.id: [Verdict.CRASH],
        OTHER.id: [Verdict.CRASH],
    }


def test_swap_that_could_not_be_had_is_our_fault_and_says_why() -> None:
    outcomes = by_case(guest(end="swap-failed", note="swapon: Invalid argument"))
    assert outcomes[LEAK.id].verdict is Verdict.INFRA
    assert outcomes[LEAK.id].reason == "swapon: Invalid argument"


def test_cases_after_a_crash_go_on_in_a_fresh_guest() -> None:
    crashed = guest(log(GOOD, None, "died"), end="panic")
    after = guest(
        replace(log(), case=OTHER.id),
        said=console(1).replace(LEAK.id, OTHER.id),
        part=1,
        planned=(OTHER.id,),
    )
    found = verdicts(crashed, after)
    assert found[LEAK.id] == [Verdict.CRASH]
    assert found[OTHER.id] == [Verdict.PASS]


def test_a_case_behind_a_crash_that_nobody_ran_again_did_not_run() -> None:
    crashed = guest(log(GOOD, None, "died"), end="panic")
    (lost,) = (each for each in judge_guests([crashed], [LEAK, OTHER]) if each.case == OTHER.id)
    assert (lost.verdict, lost.ran) == (Verdict.INCONCLUSIVE, False)


def test_a_case_that_an_orderly_guest_skipped_over_is_our_fault() -> None:
    (missed,) = (each for each in judge_guests([guest(log())], [OTHER]) if each.case == OTHER.id)
    assert (missed.verdict, missed.ran) == (Verdict.INFRA, False)


def test_a_panic_between_two_cases_is_the_guests() -> None:
    said = console(1, outside="Kernel panic - not syncing: late\n")
    assert verdicts(guest(log(), end="panic", said=said, planned=(LEAK.id,))) == {
        GUEST.id: [Verdict.CRASH],
        LEAK.id: [Verdict.PASS],
    }


def test_every_kind_of_fatal_splat_is_a_crash_even_if_the_program_passed() -> None:
    for text in ("kernel BUG at mm/swap.c:9!\n", "BUG: unable to handle page fault for address\n"):
        outcome = judge(LEAK, log(), Scene("poweroff", splats(text)))
        assert outcome.verdict is Verdict.CRASH


def test_a_case_without_measures_or_proof_can_pass() -> None:
    (bare,) = case.parse(
        "- {id: a/b, catches: c, program: a b, swaps: [none], deadline: 1, invariants: {x: y}}"
    )
    text = "KTAP version 1\n1..1\nok 1 x\n"
    assert judge(bare, log(text), Scene("poweroff")).verdict is Verdict.PASS


def test_a_program_that_gives_up_early_skips_every_invariant_with_its_reason() -> None:
    said = "KTAP version 1\n1..2\nok 1 not_reached # SKIP no zram here\nok 2 not_reached # SKIP x\n"
    result = parse_ktap(said)
    assert (result.points, result.skip_all, result.problems) == ((), "no zram here", ())


def broken_shell(*, on_console: bool) -> Transcript:
    said = console(1)
    if not on_console:
        said = said.partition("twinboot: end")[0]
    return guest(replace(log("", 1), framed=False), said=said, planned=(LEAK.id,))


def test_a_shell_that_ends_without_a_word_is_held_against_the_guest() -> None:
    outcomes = by_case(broken_shell(on_console=False))
    assert outcomes[LEAK.id].verdict is Verdict.INFRA
    assert outcomes[GUEST.id].verdict is Verdict.FAIL
    assert outcomes[GUEST.id].reason == f"the guest's own shell broke while {LEAK.id} ran"


def test_a_word_lost_on_one_channel_is_held_against_nobody() -> None:
    assert by_case(broken_shell(on_console=True))[GUEST.id].verdict is Verdict.PASS
    kept = replace(log(), framed=True)
    said = console(1).partition("twinboot: end")[0]
    assert by_case(guest(kept, said=said, planned=(LEAK.id,)))[GUEST.id].verdict is Verdict.PASS


def test_a_fresh_guest_does_not_make_up_for_a_dead_one() -> None:
    fine = guest(log(), planned=(LEAK.id,), part=1)
    found = verdicts(broken_shell(on_console=False), fine)
    assert found[GUEST.id] == [Verdict.FAIL]
