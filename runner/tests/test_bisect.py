# SPDX-License-Identifier: GPL-2.0-only
"""Whole bisections on a bench without kernels: what is found, how surely, and what is asked."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.binomial import lower_bound
from runner.bisect import story
from runner.bisect.line import Line
from runner.bisect.space import Found, Next, Term
from runner.bisect.story import Subject
from runner.bisect.subsets import Subsets, items_of, name_of
from runner.bisect.surety import Rate, Surety, step_runs
from runner.bisect.walk import Asked, Result, walk
from runner.errors import UserError
from runner.tests.benches import FakeBench

HISTORIES = st.integers(1, 60).flatmap(
    lambda last: st.tuples(
        st.just(last), st.integers(1, last), st.sets(st.integers(1, last)), st.booleans()
    )
)


def names(count: int) -> tuple[str, ...]:
    return tuple(f"v{number}" for number in range(count))


def line(last: int, fixes: bool = False) -> Line:
    return Line(names(last + 1), fixes)


def bench_of(change: int, rate: float = 1.0, fixes: bool = False, seed: int = 1) -> FakeBench:
    """The symptom from candidate number `change` on, or with `fixes` before it."""

    def shows(candidate: str) -> float:
        return rate if (int(candidate[1:]) >= change) != fixes else 0.0

    return FakeBench(shows, Random(seed))


def skipping(bench: FakeBench, skips: set[str]) -> FakeBench:
    inner = bench.rate
    bench.rate = lambda candidate: None if candidate in skips else inner(candidate)
    return bench


# What is found


@settings(deadline=None)
@given(HISTORIES)
def test_any_history_with_skips_gives_the_change_or_exactly_what_cannot_be_told_apart(
    history: tuple[int, int, set[int], bool],
) -> None:
    last, change, skipped, fixes = history
    skips = {number for number in skipped if 0 < number < last}
    bench = skipping(bench_of(change, fixes=fixes), {f"v{number}" for number in skips})
    result = walk(line(last, fixes), bench, Asked())
    before = max(number for number in range(change) if number not in skips)
    after = min(number for number in range(change, last + 1) if number not in skips)
    assert result.found.answer == tuple(f"v{number}" for number in range(before + 1, after + 1))
    assert result.decided == (after == before + 1)


@settings(deadline=None)
@given(st.integers(1, 1000), st.data())
def test_a_list_without_skips_takes_no_more_steps_than_its_logarithm(
    last: int, data: st.DataObject
) -> None:
    change = data.draw(st.integers(1, last))
    bench = bench_of(change)
    assert walk(line(last), bench, Asked()).found.answer == (f"v{change}",)
    assert len(bench.runs) - 2 <= math.ceil(math.log2(last))


@settings(deadline=None)
@given(st.integers(1, 120).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1)))))
def test_the_least_set_of_options_is_found_though_they_need_each_other(
    planted: tuple[int, set[int]],
) -> None:
    count, chosen = planted
    cause = frozenset(sorted(chosen)[:4]) or frozenset({0})
    bench = FakeBench(lambda candidate: float(cause <= set(items_of(candidate))))
    result = walk(Subsets(count), bench, Asked())
    assert items_of(result.found.answer[0]) == tuple(sorted(cause))


def test_options_that_cannot_be_built_without_one_another_are_still_narrowed() -> None:
    def rate(candidate: str) -> float | None:
        chosen = set(items_of(candidate))
        return None if (3 in chosen) != (4 in chosen) else float({3, 4, 9} <= chosen)

    result = walk(Subsets(16), FakeBench(rate), Asked())
    assert items_of(result.found.answer[0]) == (3, 4, 9)
    assert {items_of(each) for each in result.found.unjudged} == {(3, 9), (4, 9)}


def options(rate: Callable[[str], float | None], count: int) -> tuple[Result, str]:
    """The answer, and its first sentences."""
    result = walk(Subsets(count), FakeBench(rate), Asked())
    subject = Subject("option", fixes=False, title=lambda each: f"{items_of(each)}", symptom="")
    return result, story.told(result, subject).partition("bad means")[0]


def test_an_option_that_cannot_be_tried_alone_leaves_it_open_which_are_needed() -> None:
    """Number 1 alone is to blame, and does not build without number 0."""
    result, told = options(lambda each: {"2": None, "3": 1.0}.get(each, 0.0), 2)
    assert not result.decided
    assert told == (
        "at most these options make it bad: (0, 1); fewer may do, which cannot be judged:\n  (1,)\n"
    )
    result, told = options(lambda each: float(each == "3"), 2)
    assert result.decided
    assert told == "these options make it bad: (0, 1)\n"


@settings(deadline=None)
@given(st.sets(st.integers(0, 7), min_size=1), st.sets(st.integers(1, 254)))
def test_options_are_called_the_cause_only_where_all_of_them_are_needed(
    cause: set[int], skips: set[int]
) -> None:
    def rate(candidate: str) -> float | None:
        unjudged = int(candidate, 16) in skips
        return None if unjudged else float(cause <= set(items_of(candidate)))

    result, _ = options(rate, 8)
    found = set(items_of(result.found.answer[0]))
    assert cause <= found
    assert not result.decided or found == cause


@settings(deadline=None)
@given(st.sets(st.integers(0, 500)))
def test_the_name_of_a_set_says_what_is_in_it(chosen: set[int]) -> None:
    items = tuple(sorted(chosen))
    assert items_of(name_of(items)) == items


# The ends


def test_a_good_end_that_is_bad_ends_it_with_that_sentence() -> None:
    with pytest.raises(UserError, match=r"^the good end v0 is bad: 1 of 1 runs show it$"):
        walk(line(5), bench_of(0), Asked())


def test_a_bad_end_that_is_good_ends_it_with_that_sentence() -> None:
    bench = bench_of(99)
    with pytest.raises(UserError, match=r"^the bad end v5 is good: none of 20 runs shows it$"):
        walk(line(5), bench, Asked())
    assert set(bench.runs) == {"v5"}


@pytest.mark.parametrize(("end", "name"), [("good", "v0"), ("bad", "v5")])
def test_an_end_that_cannot_be_judged_ends_it_with_that_sentence(end: str, name: str) -> None:
    with pytest.raises(UserError, match=f"the {end} end {name} cannot be judged: it does not bui"):
        walk(line(5), skipping(bench_of(3), {name}), Asked())


def test_the_ends_of_a_fix_are_the_other_way_round() -> None:
    result = walk(line(9, fixes=True), bench_of(4, fixes=True), Asked())
    assert result.found == Found(("v4",), ("v4",), ("v3",))


# Doubt


def test_a_symptom_in_three_of_ten_runs_finds_its_commit_in_ten_tries_of_ten() -> None:
    for seed in range(10):
        change = Random(seed).randint(1, 40)
        result = walk(line(40), bench_of(change, 0.3, seed=seed), Asked())
        assert result.found.answer == (f"v{change}",), seed
        assert result.confidence >= 0.99


@pytest.mark.parametrize("rate", [0.15, 0.3, 0.7, 1.0])
def test_it_is_wrong_no_more_often_than_the_confidence_says(rate: float) -> None:
    """With 90 % asked, so that 200 bisections can tell; the bounds are known to be cautious."""
    wrong = 0
    for seed in range(200):
        change = Random(seed).randint(1, 40)
        asked = Asked(confidence=0.9, patience=60)
        result = walk(line(40), bench_of(change, rate, seed=seed), asked)
        wrong += result.found.answer != (f"v{change}",)
    assert wrong <= 20


def test_a_commit_that_shows_it_less_often_than_the_bad_end_is_not_taken_for_good() -> None:
    """v12 to v19 show it in a quarter of their runs, later ones always."""

    def rate(candidate: str) -> float:
        number = int(candidate[1:])
        return 0.0 if number < 12 else 0.25 if number < 20 else 1.0

    found = [walk(line(40), FakeBench(rate, Random(seed)), Asked()) for seed in range(100)]
    answers = [result.found.answer for result in found]
    assert answers.count(("v12",)) + answers.count(("v20",)) >= 97
    for result in found:
        if result.found.answer == ("v12",):
            assert result.rates[1].shown < result.rates[1].runs


def test_a_good_answer_that_a_later_look_takes_back_moves_the_search_to_before_it() -> None:
    told: list[str] = []
    for seed in range(50):
        told.clear()
        result = walk(line(40), bench_of(11, 0.5, seed=seed), Asked(), told.append)
        if any("bad after all" in text for text in told):
            break
    assert any("bad after all" in text for text in told)
    assert result.found.answer == ("v11",)


def test_what_always_shows_costs_one_run_a_step_and_more_only_at_the_end() -> None:
    bench = bench_of(23)
    result = walk(line(40), bench, Asked())
    ran = dict(bench.runs)
    assert {ran.pop(name) for name in ("v40", "v23", "v22")} == {10}
    assert set(ran.values()) == {1}
    assert result.confidence >= 0.99


def test_less_confidence_asks_for_fewer_runs() -> None:
    sure, quick = bench_of(23), bench_of(23)
    walk(line(40), sure, Asked(0.99))
    result = walk(line(40), quick, Asked(0.9))
    assert sum(quick.runs.values()) < sum(sure.runs.values())
    assert 0.9 <= result.confidence < 0.99


def test_an_answer_whose_runs_were_cut_short_says_how_little_is_known() -> None:
    result = walk(line(40), bench_of(23), Asked(most=3))
    assert result.confidence < 0.5


def test_with_one_run_for_each_kernel_it_is_a_plain_bisection() -> None:
    bench = bench_of(23)
    result = walk(line(40), bench, Asked(most=1))
    assert result.found.answer == ("v23",)
    assert set(bench.runs.values()) == {1}
    assert result.confidence == 0.0


@pytest.mark.parametrize(
    ("shown", "runs", "bound"), [(10, 10, 0.7411), (3, 10, 0.0873), (1, 1, 0.05), (0, 9, 0.0)]
)
def test_the_lower_bound_is_that_of_clopper_and_pearson(
    shown: int, runs: int, bound: float
) -> None:
    """Against tables for one-sided 95 %."""
    assert lower_bound(shown, runs, 0.05) == pytest.approx(bound, abs=2e-4)


def test_the_clean_runs_asked_for_reach_the_confidence() -> None:
    for shown, runs in ((1, 5), (5, 5), (9, 30), (100, 100)):
        rates, surety = (Rate(shown, runs),), Surety(0.99)
        needed = surety.good_runs(rates, 8)
        assert surety.reached(rates, 8, needed) >= 0.99
        assert surety.reached(rates, 8, needed - 1) < 0.99


def test_a_step_of_what_always_shows_is_one_run() -> None:
    assert step_runs(Rate(9, 9)) == 1
    assert step_runs(Rate(3, 10)) == 6


# Interruption


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(0, 60), st.sampled_from([0.4, 1.0]))
def test_killed_anywhere_it_goes_on_and_runs_nothing_twice(
    change: int, moment: int, rate: float
) -> None:
    bench = bench_of(change, rate, seed=change)
    bench.dies_after = moment
    try:
        result = walk(line(40), bench, Asked())
    except KeyboardInterrupt:
        before = dict(bench.known)
        bench.dies_after = 10**9
        result = walk(line(40), bench, Asked())
        for name, tally in before.items():
            assert bench.known[name].told >= tally.told
    assert result.found.answer == (f"v{change}",)
    assert all(bench.runs[name] == tally.told for name, tally in bench.known.items())


def test_a_walk_repeated_on_what_is_known_runs_nothing() -> None:
    bench = bench_of(17, 0.5)
    first = walk(line(40), bench, Asked())
    ran = sum(bench.runs.values())
    again: Result = walk(line(40), bench, Asked())
    assert again.found == first.found
    assert sum(bench.runs.values()) == ran


def test_while_one_is_looked_at_those_that_may_follow_are_named() -> None:
    bench = bench_of(3)
    walk(line(8), bench, Asked())
    assert bench.expected[:3] == [("v0",), ("v4",), ("v6", "v2")]
    assert bench.expected[-1] == ()


def test_a_list_asks_for_the_middle_of_what_is_open() -> None:
    space = line(8)
    ends = {"v0": Term.GOOD, "v8": Term.BAD}
    assert space.choose(ends) == Next("v4", 8)
    assert space.choose({**ends, "v4": Term.SKIP}) == Next("v3", 8)
