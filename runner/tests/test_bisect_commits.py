# SPDX-License-Identifier: GPL-2.0-only
"""Bisecting commits: git's own bisect in a store of ours, real small repositories, no kernels."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from runner import host
from runner.bisect.commits import Commits, contains, open_commits, replayable, title
from runner.bisect.space import Term
from runner.bisect.walk import Asked, Result, walk
from runner.errors import UserError
from runner.host import How
from runner.tests.benches import FakeBench

NAMES = {
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@b.c",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@b.c",
    "GIT_CONFIG_GLOBAL": "/dev/null",
}


def git(repository: Path, *words: str, check: bool = True) -> str:
    how = How(variables=NAMES, check=check)
    return host.run(("git", "-C", repository, *words), how).stdout.strip()


class History:
    """A repository whose commits have names; all of them hold the same file."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.commits: dict[str, str] = {}
        top.mkdir()
        git(top, "init", "-q", "-b", "main")
        (top / "file").write_text("x\n")
        git(top, "add", "-A")
        self.tree = git(top, "write-tree")

    def add(self, name: str, *parents: str) -> str:
        words = [word for each in parents for word in ("-p", self.commits[each])]
        self.commits[name] = git(self.top, "commit-tree", self.tree, "-m", name, *words)
        git(self.top, "update-ref", "refs/heads/main", self.commits[name])
        return name

    def line(self, count: int, *after: str, prefix: str = "c") -> None:
        for number in range(count):
            self.add(f"{prefix}{number}", *(after if number == 0 else (f"{prefix}{number - 1}",)))

    def random(self, count: int, random: Random) -> None:
        """Each commit follows one or two of the few before it, so that there are merges."""
        self.add("c0")
        for number in range(1, count):
            near = range(max(0, number - 4), number)
            parents = random.sample(near, min(len(near), random.choice([1, 1, 1, 2])))
            self.add(f"c{number}", *(f"c{each}" for each in parents))
        followed = git(self.top, "log", "--format=%P", *self.commits.values()).split()
        heads = [name for name, each in self.commits.items() if each not in followed]
        self.add(f"c{count}", *heads)

    def name(self, commit: str) -> str:
        return next(name for name, each in self.commits.items() if each == commit)

    def open(self, good: str, bad: str) -> Commits:
        place = self.top.with_name(f"store-{len(os.listdir(self.top.parent))}")
        return open_commits(str(self.top), self.commits[good], self.commits[bad], place)


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "repository")


def shows_after(space: Commits, commit: str) -> Callable[[str], float]:
    """The symptom is in whatever has this commit in its history (with `fixes`: in what has not)."""
    return lambda each: float(contains(space.store, each, commit) != space.fixes)


def bisected(
    history: History, ends: tuple[str, str], change: str, skips: tuple[str, ...] = ()
) -> Result:
    space = history.open(*ends)
    shows = shows_after(space, history.commits[change])
    skipped = {history.commits[each] for each in skips}
    bench = FakeBench(lambda each: None if each in skipped else shows(each))
    return walk(space, bench, Asked())


def found(history: History, result: Result) -> tuple[str, ...]:
    return tuple(history.name(each) for each in result.found.answer)


def test_a_line_of_commits_gives_the_first_bad_one(history: History) -> None:
    history.line(40)
    result = bisected(history, ("c0", "c39"), "c17")
    assert found(history, result) == ("c17",)
    assert [history.name(each) for each in result.found.clean] == ["c16"]
    assert result.confidence >= 0.99


def test_an_older_bad_end_asks_for_the_first_good_commit(history: History) -> None:
    history.line(20)
    result = bisected(history, ("c19", "c0"), "c7")
    assert found(history, result) == ("c7",)
    assert [history.name(each) for each in result.found.shown] == ["c6"]


def test_the_side_branch_of_a_merge_is_searched(history: History) -> None:
    history.line(10)
    history.line(8, "c4", prefix="side")
    history.add("merge", "c9", "side7")
    history.line(5, "merge", prefix="after")
    assert found(history, bisected(history, ("c0", "after4"), "side3")) == ("side3",)


def test_a_merge_that_is_bad_by_itself_is_found_and_both_its_parents_are_run_often(
    history: History,
) -> None:
    history.line(10)
    history.line(8, "c4", prefix="side")
    history.add("merge", "c9", "side7")
    result = bisected(history, ("c0", "merge"), "merge")
    assert found(history, result) == ("merge",)
    assert {history.name(each) for each in result.found.clean} == {"c9", "side7"}
    assert {result.tallies[each].clean >= 9 for each in result.found.clean} == {True}


def test_commits_that_cannot_be_built_are_listed_with_the_one_after_them(history: History) -> None:
    history.line(20)
    result = bisected(history, ("c0", "c19"), "c12", ("c11", "c12", "c13"))
    assert found(history, result) == ("c11", "c12", "c13", "c14")
    assert not result.decided


@pytest.mark.parametrize("seed", range(12))
def test_random_histories_with_merges_and_skips_give_the_commit_or_list_it(
    history: History, seed: int
) -> None:
    random = Random(seed)
    history.random(24, random)
    change = f"c{random.randint(1, 24)}"
    skips = tuple(f"c{each}" for each in range(1, 24) if random.random() < 0.2)
    result = bisected(history, ("c0", "c24"), change, skips)
    assert change in found(history, result)
    if len(found(history, result)) > 1:
        assert set(found(history, result)) & set(skips)


def test_branches_that_were_bad_before_they_parted_end_with_a_sentence(history: History) -> None:
    history.line(4)
    history.line(3, "c3", prefix="good")
    history.line(3, "c3", prefix="bad")
    space = history.open("good2", "bad2")
    good = {history.commits["good2"], history.commits["good1"]}
    with pytest.raises(UserError, match=r"merge base .* of both ends is bad as well"):
        walk(space, FakeBench(lambda each: float(each not in good)), Asked())


def rooted_twice(history: History) -> None:
    """A line that merges another with a first commit of its own."""
    history.line(4)
    history.line(5, prefix="other")
    history.add("merge", "c3", "other4")
    history.line(3, "merge", prefix="after")


@pytest.mark.parametrize("change", ["c2", "other2", "other4", "merge", "after1"])
def test_a_merged_history_with_a_first_commit_of_its_own_is_searched(
    history: History, tmp_path: Path, change: str
) -> None:
    rooted_twice(history)
    space = history.open("c0", "after2")
    bench = FakeBench(shows_after(space, history.commits[change]))
    result = walk(space, bench, Asked())
    assert found(history, result) == (change,)
    log = tmp_path / "log"
    log.write_text(replayable(space, result.answers, result.found.answer))
    said = git(history.top, "bisect", "replay", str(log))
    assert f"{history.commits[change]} is the first bad commit" in said


def test_the_first_commit_of_a_merged_history_is_found(history: History) -> None:
    rooted_twice(history)
    result = bisected(history, ("c3", "after2"), "other0")
    assert found(history, result) == ("other0",)


def test_ends_without_a_common_ancestor_are_refused_in_one_sentence(history: History) -> None:
    history.line(4)
    history.line(5, prefix="other")
    with pytest.raises(UserError, match=r"^\w+ and \w+ have no common ancestor, so nothing lies"):
        history.open("c3", "other4")


def test_the_users_repository_stays_as_it_is_and_its_hooks_do_not_run(history: History) -> None:
    history.line(12)
    top = history.top
    mark = top / "hook-ran"
    for hook in ("post-checkout", "reference-transaction", "post-index-change", "pre-commit"):
        path = top / ".git/hooks" / hook
        path.write_text(f"#!/bin/sh\ntouch {mark}\n")
        path.chmod(0o755)
    monitor = top / "monitor"
    monitor.write_text(f"#!/bin/sh\ntouch {mark}\n")
    monitor.chmod(0o755)
    (top / ".git/config").open("a").write(f"[core]\n\tfsmonitor = {monitor}\n")

    def state() -> dict[str, tuple[bytes, int]]:
        files = (path for path in top.rglob("*") if path.is_file())
        return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}

    before = state()
    assert found(history, bisected(history, ("c0", "c11"), "c5")) == ("c5",)
    assert state() == before
    assert not mark.exists()


# The log


@pytest.mark.parametrize("fixes", [False, True])
def test_git_replays_the_log_to_the_same_end(history: History, tmp_path: Path, fixes: bool) -> None:
    history.line(20)
    good, bad = ("c19", "c0") if fixes else ("c0", "c19")
    space = history.open(good, bad)
    shows = shows_after(space, history.commits["c8"])
    skip = history.commits["c9"]
    result = walk(space, FakeBench(lambda each: None if each == skip else shows(each)), Asked())
    text = replayable(space, result.answers, result.found.answer)
    log = tmp_path / "log"
    log.write_text(text)
    said = git(history.top, "bisect", "replay", str(log))
    new = "fixed" if fixes else "bad"
    assert f"{history.commits['c8']} is the first {new} commit" in said
    assert f"# first {new} commit: [{history.commits['c8']}] c8" in text


def test_a_log_that_stops_in_the_middle_replays_to_the_commit_that_is_next(
    history: History, tmp_path: Path
) -> None:
    history.line(40)
    space = history.open("c0", "c39")
    answers = {space.good: Term.GOOD, space.bad: Term.BAD}
    step = space.choose(answers)
    following = space.choose({**answers, step.candidate: Term.GOOD})  # type: ignore[union-attr]
    log = tmp_path / "log"
    log.write_text(replayable(space, {**answers, step.candidate: Term.GOOD}, ()))  # type: ignore[union-attr]
    git(history.top, "bisect", "replay", str(log))
    assert git(history.top, "rev-parse", "HEAD") == following.candidate  # type: ignore[union-attr]


def test_a_title_obeys_no_terminal(history: History) -> None:
    history.line(2)
    history.commits["evil"] = git(
        history.top, "commit-tree", history.tree, "-p", history.commits["c1"], "-m", "a\x1b[2Jb"
    )
    space = history.open("c0", "evil")
    assert title(space.store, space.bad).endswith(" a?[2Jb")


def test_one_commit_as_both_ends_is_refused(history: History) -> None:
    history.line(2)
    with pytest.raises(UserError, match="are the same commit"):
        history.open("c1", "c1")
