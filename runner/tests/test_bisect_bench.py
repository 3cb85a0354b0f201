# SPDX-License-Identifier: GPL-2.0-only
"""Bisections through the real build of a tiny tree; only the guests are made up."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, cast

import pytest
from typer.testing import CliRunner

from runner import accel, experiment, matrix, rootfs
from runner.bisect import ahead, fields, session
from runner.bisect.ahead import Ahead
from runner.bisect.bench import chosen_case
from runner.bisect.plan import BisectPlan, Notebook
from runner.bisect.session import Ended
from runner.bisect.symptom import Wanted
from runner.bisect.walk import Asked
from runner.cli import app
from runner.errors import InfraError, UserError
from runner.host import Kept
from runner.matrix import Desk
from runner.qemu import Machine
from runner.rootfs import Rootfs
from runner.tests import tinytree
from runner.tests.test_bisect_commits import git
from runner.tests.test_prove import said
from runner.tests.tinytree import patch_of
from runner.transcript import BootRecord, CaseLog, Transcript
from runner.trial import Trial

CASE = "ksm/ksm_wr"
SWAPFILE = "mm/swapfile.c"
# What a kernel is made to do: the made-up guests look for these words in its image.
LEAK = '\nconst char leak[] = "it leaks";\n'
NO_BOOT = '\nconst char dead[] = "no boot";\n'
CRASH = '\nconst char crash[] = "it crashes";\n'
MEMORY_LINES = ("\nint first;\n", "\nint second;\n")
PLAN = BisectPlan("", "", CASE, "none", ahead=False)
Boots = list[bytes]


def guest(trial: Trial) -> Transcript:
    """What a guest with this kernel says."""
    image, case = trial.image.read_bytes(), trial.cases[0]
    boot = BootRecord(trial.arm, trial.swap.kind, trial.repeat, 0, trial.seed, (case.id,))
    if b"no boot" in image:
        return Transcript(boot, (), "Kernel panic - not syncing: no\n", "panic")
    broken = b"it leaks" in image
    begin, end = f"twinboot: begin {case.id} 1\n", f"twinboot: end {case.id} 1 exit=0\n"
    if b"it crashes" in image:
        dead = CaseLog(case.id, trial.swap.kind, 1, "", None, "died", 0.1)
        console = f"booted\n{begin}Kernel panic - not syncing: other\n"
        return Transcript(boot, (dead,), console, "panic")
    log = CaseLog(case.id, trial.swap.kind, 1, said(case, broken), int(broken), "exit", 0.1)
    return Transcript(boot, (log,), f"booted\n{begin}{end}", "poweroff")


@pytest.fixture
def boots(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Boots:
    """Every boot that is made, by the kernel's image."""
    seen: Boots = []
    monkeypatch.setenv("TWINBOOT_CACHE", str(tmp_path / "cache"))

    def run_all(todo: tuple[Trial, ...], desk: Desk, _progress: Callable[[str], None]) -> None:
        for trial in todo:
            seen.append(trial.image.read_bytes())
            desk.keep(trial, (guest(trial),))

    folder = tinytree.write_fragments(tmp_path / "kconfigs")
    monkeypatch.setattr(fields, "FRAGMENTS", ("base", "swap"))
    monkeypatch.setattr(fields, "KCONFIGS", folder)
    monkeypatch.setattr(rootfs, "build_rootfs", lambda *_: Rootfs(tmp_path, "programs"))
    monkeypatch.setattr(experiment, "choose_machine", lambda *_: Machine())
    monkeypatch.setattr(accel, "qemu_version", lambda: "QEMU 1")
    monkeypatch.setattr(matrix, "run_all", run_all)
    return seen


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A git repository with the tiny tree as its first commit, tagged v0."""
    tree = tinytree.write(tmp_path / "tiny")
    git(tree, "init", "-q", "-b", "main")
    commit(tree, 0)
    return tree


def commit(tree: Path, number: int) -> None:
    git(tree, "add", "-A")
    git(tree, "commit", "-qm", f"commit {number}", "--allow-empty")
    git(tree, "tag", f"v{number}")


def history(tree: Path, *changes: tuple[str, str]) -> None:
    """One commit for each (old, new) in mm/swapfile.c; `old` may be empty, to append."""
    path = tree / SWAPFILE
    for number, (old, new) in enumerate(changes, 1):
        text = path.read_text()
        path.write_text(text.replace(old, new) if old else text + new)
        commit(tree, number)


def harmless(count: int, first: int = 0) -> list[tuple[str, str]]:
    """Commits that change the code and nothing that a guest shows."""
    return [("", f"\nint unused{first + n} = {first + n};\n") for n in range(count)]


def plan_of(tree: Path, last: int, plan: BisectPlan = PLAN) -> BisectPlan:
    return replace(plan, good=f"git:{tree}@v0", bad=f"git:{tree}@v{last}")


def bisected(plan: BisectPlan, folder: Path) -> Ended:
    return session.begin(plan, folder, lambda _: None)


# Commits


def test_the_commit_is_found_past_kernels_that_do_not_build_or_boot(
    boots: Boots, tiny: Path, tmp_path: Path
) -> None:
    broken, mended = ("count <= 1", "count <= one"), ("count <= one", "count <= 1")
    dead, alive = ("", NO_BOOT), (NO_BOOT, "")
    history(
        tiny,
        *harmless(3),
        broken,
        mended,
        *harmless(2, 10),
        ("", LEAK),
        dead,
        alive,
        *harmless(4, 20),
    )
    found = bisected(plan_of(tiny, 14), tmp_path / "state")
    assert found.text.startswith("first bad commit: ")
    assert found.text.splitlines()[0].endswith(" commit 8")
    assert "confidence 99" in found.text


def test_what_cannot_be_built_or_booted_is_told_with_its_reason(
    boots: Boots, tiny: Path, tmp_path: Path
) -> None:
    history(tiny, ("count <= 1", "count <= one"), ("count <= one", "count <= 1"), ("", NO_BOOT))
    history_end = (tiny / SWAPFILE).read_text().replace(NO_BOOT, LEAK)
    (tiny / SWAPFILE).write_text(history_end)
    commit(tiny, 4)
    found = bisected(plan_of(tiny, 4), tmp_path / "state")
    lines = found.text.splitlines()
    # v2 is the code of v0 again, so the change is after it
    assert lines[0].startswith("the first bad commit is one of these")
    assert [line.split()[-1] for line in lines[1:3]] == ["3", "4"]
    assert "it does not boot (panic: no)" in found.text


def test_another_crash_than_the_wanted_failure_is_skipped_and_told(
    boots: Boots, tiny: Path, tmp_path: Path
) -> None:
    history(tiny, *harmless(2), ("", CRASH), (CRASH, LEAK), *harmless(2, 10))
    found = bisected(plan_of(tiny, 6), tmp_path / "state")
    assert found.text.startswith("the first bad commit is one of these")
    assert "skip" in found.text
    assert "CRASH: the kernel panicked (panic: other)" in found.text


def test_a_commit_that_changes_no_code_is_not_booted(
    boots: Boots, tiny: Path, tmp_path: Path
) -> None:
    history(tiny, ("", "\n/* a comment */\n"), ("", LEAK))
    found = bisected(plan_of(tiny, 2), tmp_path / "state")
    assert found.text.splitlines()[0].endswith(" commit 2")
    assert "(1 more had the same code)" in found.text
    assert len(set(boots)) == 2


def test_the_next_commit_is_built_in_the_same_tree_and_only_what_changed(
    boots: Boots, tiny: Path, tmp_path: Path
) -> None:
    history(tiny, *harmless(6), ("", LEAK))
    bisected(plan_of(tiny, 7), tmp_path / "state")
    assert len(list((tmp_path / "cache/trees").glob("[!.]*"))) == 1
    logs = [path.read_text() for path in (tmp_path / "cache/kernels").glob("*/build.log")]
    compiled = [{line.split()[1] for line in log.splitlines() if "  CC " in line} for log in logs]
    assert sorted(compiled, key=len)[:-1] == [{"mm/swapfile.o"}] * (len(logs) - 1)


def test_a_fix_is_found_with_the_good_end_as_the_newer_one(
    boots: Boots, tiny: Path, tmp_path: Path
) -> None:
    history(tiny, ("", LEAK), *harmless(4), (LEAK, ""), *harmless(3, 10))
    ends = replace(PLAN, good=f"git:{tiny}@v9", bad=f"git:{tiny}@v1")
    found = bisected(ends, tmp_path / "state")
    assert found.text.splitlines()[0].startswith("first good commit: ")
    assert found.text.splitlines()[0].endswith(" commit 6")


def test_a_branch_that_moves_meanwhile_does_not_move_the_ends(
    boots: Boots, tiny: Path, tmp_path: Path
) -> None:
    history(tiny, *harmless(2), ("", LEAK), *harmless(2, 10))
    ends = replace(PLAN, good=f"git:{tiny}@v0", bad=f"git:{tiny}@main")
    first = bisected(ends, tmp_path / "state")
    (tiny / SWAPFILE).write_text("")
    commit(tiny, 99)
    assert session.resume(tmp_path / "state", lambda _: None).text == first.text


# Carried patches


def carried(tmp_path: Path, text: str) -> tuple[str, ...]:
    path = tmp_path / "carry.patch"
    path.write_text(text)
    return (str(path),)


def test_a_carried_patch_is_on_every_kernel_and_one_that_does_not_apply_is_a_skip(
    boots: Boots, tiny: Path, tmp_path: Path
) -> None:
    history(tiny, *harmless(2), ("count <= 1", "count <= 2"), ("count <= 2", "count <= 1"))
    before = (tiny / SWAPFILE).read_text()
    (tiny / SWAPFILE).write_text(before + LEAK)
    commit(tiny, 5)
    patch = patch_of(SWAPFILE, tinytree.SWAPFILE, tinytree.SWAPFILE.replace("<= 1", "<= 1 + 0"))
    plan = replace(plan_of(tiny, 5), carry=carried(tmp_path, patch))
    found = bisected(plan, tmp_path / "state")
    assert found.text.splitlines()[0].endswith(" commit 5")
    records = [json.loads(path.read_text()) for path in (tmp_path / "state/candidates").iterdir()]
    problems = {record["title"][-1]: record["problem"] for record in records}
    assert problems.get("3", "does not apply").endswith("does not fit") or "3" not in problems
    papers = [json.loads(p.read_text()) for p in (tmp_path / "cache/kernels").glob("*/kernel.json")]
    assert {tuple(paper["patches"]) for paper in papers} == {("carry.patch",)}


def test_a_reverted_patch_is_taken_out_of_every_kernel(
    boots: Boots, tiny: Path, tmp_path: Path
) -> None:
    history(tiny, ("", LEAK), ("#include", "int a;\n#include"), ("int a", "int b"))
    patch = patch_of(SWAPFILE, tinytree.SWAPFILE, tinytree.SWAPFILE + LEAK)
    ends = replace(PLAN, good=f"git:{tiny}@v1", bad=f"git:{tiny}@v3", asked=Asked(patience=3))
    plan = replace(ends, carry_revert=carried(tmp_path, patch))
    with pytest.raises(UserError, match="is good: none of 3 runs shows it"):
        bisected(plan, tmp_path / "state")


def command(plan_words: list[str], out: Path, typed: str = "") -> str:
    """What `twinboot bisect` prints, each kernel run once."""
    usual = ["bisect", "--case", CASE, "--swap", "none", "--most", "1", "--quiet", "--no-ahead"]
    return CliRunner().invoke(app, [*usual, *plan_words, "--out", str(out)], input=typed).output


def carried_in(cache: Path) -> set[tuple[str, ...]]:
    """What the carried patches define, in each kernel that was built."""
    maps = [path.read_text() for path in cache.glob("kernels/*/System.map")]
    return {tuple(sorted(re.findall(r" (aside|first|second)$", each, re.M))) for each in maps}


def test_what_is_carried_is_whatever_run_takes_for_a_patch(
    boots: Boots, tiny: Path, tmp_path: Path
) -> None:
    """A range of commits, an older version of a thread, standard input; from any folder."""
    git(tiny, "checkout", "-qb", "side")
    text = (tiny / SWAPFILE).read_text()
    (tiny / SWAPFILE).write_text(f"int aside;\n{text}")
    git(tiny, "commit", "-qam", "aside")
    git(tiny, "checkout", "-q", "main")
    history(tiny, *harmless(2), ("", LEAK), *harmless(2, 10))
    ends = ["--good", f"git:{tiny}@v0", "--bad", f"git:{tiny}@v5"]
    thread = tmp_path / "thread.mbox"
    old = mails("v1", MEMORY_LINES[0], file="mm/memory.c")
    thread.write_text(old + mails("v2", *MEMORY_LINES, file="mm/memory.c"))
    for name, asked, typed, carried in (
        ("range", f"git:{tiny}@main~5..side", "", ("aside",)),
        ("newest", str(thread), "", ("first", "second")),
        ("older", f"{thread}#v1", "", ("first",)),
        ("typed", "-", old, ("first",)),
    ):
        said = command([*ends, "--carry", asked], tmp_path / name, typed)
        assert said.splitlines()[0].endswith("commit 3"), said
        assert carried_in(tmp_path / "cache") == {carried}, name
        shutil.rmtree(tmp_path / "cache/kernels")
    git(tiny, "branch", "-D", "side")
    plan = Notebook(tmp_path / "range").plan()
    assert plan.carry[0].endswith("#main~5..side")
    assert session.resume(tmp_path / "range", lambda _: None).result.decided


def test_of_a_carried_patch_set_each_kernel_takes_the_version_for_it(
    boots: Boots, tiny: Path, tmp_path: Path
) -> None:
    """5.11 moved what the patch changes; 5.12 has no version of it and is skipped."""
    shelf = tmp_path / "moved"
    for release, old in (("5.10", "count <= 1"), ("5.11", "count < 2")):
        (shelf / release).mkdir(parents=True)
        text = tinytree.SWAPFILE.replace("count <= 1", old)
        patch = patch_of(SWAPFILE, text, text.replace(old, f"{old} + 0"))
        (shelf / release / "x.patch").write_text(patch)
    makefile = tiny / "Makefile"
    for number, (minor, more) in enumerate(((11, ""), (11, LEAK), (12, "")), 1):
        makefile.write_text(re.sub("PATCHLEVEL = .*", f"PATCHLEVEL = {minor}", tinytree.MAKEFILE))
        text = (tiny / SWAPFILE).read_text().replace("count <= 1", "count < 2")
        (tiny / SWAPFILE).write_text(text + more)
        makefile.write_text(makefile.read_text().replace("@PYTHON@", sys.executable))
        commit(tiny, number)
    listed = tuple(f"git:{tiny}@v{number}" for number in range(3))
    plan = replace(PLAN, good=listed[0], bad=listed[-1], releases=listed, carry=(str(shelf),))
    assert bisected(plan, tmp_path / "state").text.startswith(f"first bad release: {listed[2]}")
    late = (*listed, f"git:{tiny}@v3")
    with pytest.raises(UserError, match=r"no patch set \(5.10, 5.11 only\) for Linux 5.12"):
        bisected(replace(plan, bad=late[-1], releases=late), tmp_path / "late")
    (shelf / "5.11/x.patch").write_text((shelf / "5.10/x.patch").read_text())
    with pytest.raises(UserError, match="what is searched is not what it was"):
        session.resume(tmp_path / "state", lambda _: None)


def test_a_range_of_commits_is_taken_out_with_the_last_first(
    boots: Boots, tiny: Path, tmp_path: Path
) -> None:
    leaks = ("", LEAK), ("it leaks", "it leaks as before")
    apart = [("#include", f"int apart{n};\n#include") for n in range(2)]
    history(tiny, *leaks, *apart, ("int apart1", 'char again[] = "it leaks";\nint apart1'))
    ends = ["--good", f"git:{tiny}@v2", "--bad", f"git:{tiny}@v5"]
    assert "is bad" in command(ends, tmp_path / "with")
    ends += ["--carry-revert", f"git:{tiny}@v0..v2"]
    said = command(ends, tmp_path / "without")
    assert said.splitlines()[0].endswith("commit 5"), said


def test_standard_input_is_one_series_only(tmp_path: Path) -> None:
    words = ["--good", "git:/a@x", "--bad", "git:/a@y", "--carry", "-", "--carry-revert", "-"]
    assert "only one of --patch, --carry and --carry-revert" in command(words, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# Other fields


def test_the_patch_of_a_series_is_named(boots: Boots, tiny: Path, tmp_path: Path) -> None:
    series, text = tmp_path / "series", tinytree.SWAPFILE
    series.mkdir()
    for number, more in enumerate(("\nint a;\n", "\nint b;\n", LEAK, "\nint c;\n"), 1):
        (series / f"{number:04}-x.patch").write_text(patch_of(SWAPFILE, text, text + more))
        text += more
    plan = replace(PLAN, source=f"git:{tiny}@v0", patch=str(series), good="base", bad="all")
    found = bisected(plan, tmp_path / "state")
    assert found.text.splitlines()[0] == "first bad patch: 3 0003-x.patch"


def mails(version: str, *more: str, file: str = SWAPFILE) -> str:
    """A series of mails on a file, each of which appends something."""
    told, text = "", tinytree.FILES[file]
    for number, each in enumerate(more, 1):
        told += f"From {'a' * 40} Mon Sep 17 00:00:00 2001\nFrom: A <a@b.c>\n"
        told += (
            f"Date: Thu, 13 Jan 2022 17:3{number}:00 +0000\nMessage-ID: <{version}.{number}@b.c>\n"
        )
        told += f"Subject: [PATCH {version} {number}/{len(more)}] mm: part {number}\n\nText\n---\n"
        told += patch_of(file, text, text + each) + "-- \n2.30.2\n\n"
        text += each
    return told


def test_a_series_is_whatever_run_takes_for_one(boots: Boots, tiny: Path, tmp_path: Path) -> None:
    """A git range, which brings its source; an older version of a thread; standard input."""
    history(tiny, ("", "\nint a;\n"), ("", LEAK), ("", "\nint b;\n"))
    thread = tmp_path / "thread.mbox"
    old = mails("v1", "\nint a;\n", "\nint b;\n", LEAK)
    thread.write_text(old + mails("v2", "\nint a;\n", LEAK, "\nint b;\n"))
    source = ["--source", f"git:{tiny}@v0"]

    def first_bad(name: str, *words: str, typed: str = "") -> str:
        return command(list(words), tmp_path / name, typed).splitlines()[0]

    assert first_bad("range", "--patch", f"git:{tiny}@v0..v3").endswith("(commit 2)")
    assert "mm: part 2" in first_bad("newest", "--patch", str(thread), *source)
    assert "mm: part 3" in first_bad("older", "--patch", f"{thread}#v1", *source)
    assert "mm: part 3" in first_bad("typed", "--patch", "-", *source, typed=old)
    kept = json.loads((tmp_path / "range/bisect.json").read_text())["plan"]
    assert kept["source"].endswith(git(tiny, "rev-parse", "v0"))


def test_an_ordered_list_of_sources_is_a_release_bisection(
    boots: Boots, tiny: Path, tmp_path: Path
) -> None:
    history(tiny, ("", LEAK), *harmless(2), (LEAK, ""), *harmless(1, 10))
    listed = tuple(f"git:{tiny}@v{number}" for number in range(1, 6))
    plan = replace(PLAN, good=listed[-1], bad=listed[0], releases=listed)
    found = bisected(plan, tmp_path / "state")
    assert found.text.splitlines()[0] == f"first good release: {listed[3]}"


def test_the_option_is_found_among_those_that_differ_with_what_it_depends_on(
    boots: Boots, tiny: Path, tmp_path: Path
) -> None:
    """What leaks needs SWAP, which needs BLOCK; five more options differ."""
    path = tiny / SWAPFILE
    path.write_text(f"{path.read_text()}#ifdef CONFIG_ZSWAP{LEAK}#endif\n")
    commit(tiny, 1)
    folder = fields.KCONFIGS
    good, bad = folder / "good.config", folder / "bad.config"
    good.write_text("CONFIG_KERNEL_GZIP=y\n# CONFIG_KERNEL_LZ4 is not set\n")
    bad.write_text("CONFIG_ZSWAP=y\nCONFIG_TRANSPARENT_HUGEPAGE=y\nCONFIG_COMPACTION=y\n")
    ends = replace(PLAN, good=f"kconfig:{good}", bad=f"kconfig:{bad}")
    found = bisected(replace(ends, source=f"git:{tiny}@v1"), tmp_path / "state")
    assert found.text.splitlines()[0] == "these options make it bad: ZSWAP n -> y"


# Interruption


def test_killed_between_any_two_boots_it_goes_on_and_boots_nothing_twice(
    boots: Boots, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history(tiny, *harmless(5), ("", LEAK), *harmless(5, 10))
    plan, state = plan_of(tiny, 11), tmp_path / "state"
    count = tmp_path / "boots"
    whole = matrix.run_all

    def dying(todo: tuple[Trial, ...], desk: Desk, progress: Callable[[str], None]) -> None:
        whole(todo, desk, progress)
        count.open("a").write(f"{len(todo)}\n")
        if os.environ.get("DIES"):
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(matrix, "run_all", dying)
    monkeypatch.setenv("DIES", "1")
    begin = multiprocessing.get_context("fork").Process(target=bisected, args=(plan, state))
    begin.start()
    begin.join()
    assert begin.exitcode == -signal.SIGKILL
    for _ in range(3):
        again = multiprocessing.get_context("fork").Process(
            target=session.resume, args=(state, lambda _: None)
        )
        again.start()
        again.join()
        assert again.exitcode == -signal.SIGKILL
    monkeypatch.delenv("DIES")
    found = session.resume(state, lambda _: None)
    assert found.text.splitlines()[0].endswith(" commit 6")
    kept = len(list(state.glob("kernels/*/transcripts/*.json")))
    assert kept == sum(int(line) for line in count.read_text().split())


def test_a_run_that_was_half_saved_when_it_was_killed_is_run_again(
    boots: Boots, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each first guest dies in its boot, and the second one, in which the case ran, is not kept."""

    def twice(todo: tuple[Trial, ...], desk: Desk, _progress: Callable[[str], None]) -> None:
        for trial in todo:
            boots.append(trial.image.read_bytes())
            second = guest(trial)
            dead = replace(second, logs=(), console="Kernel panic - not syncing: no\n", end="panic")
            second = replace(second, boot=replace(second.boot, part=1))
            desk.keep(trial, (dead, second))

    monkeypatch.setattr(matrix, "run_all", twice)
    history(tiny, *harmless(1), ("", LEAK))
    state = tmp_path / "state"
    text, booted = bisected(plan_of(tiny, 2), state).text, len(boots)
    assert text.splitlines()[0].endswith(" commit 2")
    for path in state.glob("kernels/*/transcripts/*-1.json"):
        path.unlink()
    assert session.resume(state, lambda _: None).text == text
    assert len(boots) == 2 * booted


def test_a_folder_that_holds_a_bisection_is_not_begun_again(
    boots: Boots, tiny: Path, tmp_path: Path
) -> None:
    history(tiny, ("", LEAK))
    bisected(plan_of(tiny, 1), tmp_path / "state")
    with pytest.raises(UserError, match="holds a bisection already; --resume goes on"):
        bisected(plan_of(tiny, 1), tmp_path / "state")


def test_a_bisection_goes_on_with_the_same_kernels_only(
    boots: Boots, tiny: Path, tmp_path: Path
) -> None:
    """Neither with another fragment nor where a kernel comes out with other code."""
    history(tiny, *harmless(1), ("", LEAK))
    state = tmp_path / "state"
    bisected(replace(plan_of(tiny, 2), asked=Asked(most=1)), state)
    swap = fields.KCONFIGS / "swap.config"
    text = swap.read_text()
    swap.write_text("CONFIG_BLOCK=y\n")
    with pytest.raises(UserError, match="what is searched is not what it was"):
        session.resume(state, lambda _: None)
    swap.write_text(text)
    Notebook(state).ask_again(Asked(most=3))
    for path in (state / "candidates").iterdir():
        record = json.loads(path.read_text())
        path.write_text(json.dumps({**record, "signature": "0" * 64}))
    with pytest.raises(UserError, match="has other code than it had; begin anew"):
        session.resume(state, lambda _: None)


def test_a_full_disk_ends_it_and_says_nothing_of_the_candidate(
    boots: Boots, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history(tiny, *harmless(3), ("", LEAK))

    def full(*_: object) -> None:
        raise InfraError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("runner.bisect.bench.build", full)
        with pytest.raises(InfraError, match="the disk is full"):
            bisected(plan_of(tiny, 4), tmp_path / "state")
    found = session.resume(tmp_path / "state", lambda _: None)
    assert found.text.splitlines()[0].endswith(" commit 4")


def test_the_log_of_a_bisection_is_replayed_by_git(
    boots: Boots, tiny: Path, tmp_path: Path
) -> None:
    history(tiny, *harmless(5), ("", LEAK), *harmless(2, 10))
    bisected(plan_of(tiny, 8), tmp_path / "state")
    log = tmp_path / "log"
    log.write_text(session.log(tmp_path / "state"))
    said = git(tiny, "bisect", "replay", str(log))
    assert f"{git(tiny, 'rev-parse', 'v6')} is the first bad commit" in said


# What decides


def test_words_that_cannot_decide_are_refused_with_what_there_is() -> None:
    for plan, text in (
        (replace(PLAN, case="ksm/nothing"), "there is no case"),
        (replace(PLAN, swap="disk2"), "runs on"),
        (replace(PLAN, wanted=Wanted(invariant="x")), "has no invariant x"),
        (replace(PLAN, wanted=Wanted(measure="x")), "has no measure x"),
    ):
        with pytest.raises(UserError, match=text):
            chosen_case(plan)


# Building ahead


class Forked:
    """What Ahead uses of a command, forked: it knows the tiny tree and its fragments."""

    ended: ClassVar[dict[str, int | None]] = {}

    def __init__(self, folder: Path, candidate: str) -> None:
        self._candidate = candidate
        context = multiprocessing.get_context("fork")
        self._process = context.Process(target=ahead.main, args=([str(folder), candidate],))
        self._process.start()

    def wait(self, seconds: float) -> int | None:
        self._process.join(seconds)
        return self._process.exitcode

    def end(self) -> None:
        self.ended[self._candidate] = self._process.exitcode
        self._process.kill()
        self._process.join()


def test_while_guests_run_the_kernels_that_may_be_next_are_built(
    boots: Boots, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guests run here until they are; only the first kernel is built while no guest runs."""
    history(tiny, *harmless(5), ("", LEAK), *harmless(8, 10))
    said: list[str] = []
    begun: list[Ahead] = []
    whole = matrix.run_all

    class Watched(Ahead):
        def __init__(self, folder: Path, candidates: tuple[str, ...]) -> None:
            super().__init__(folder, candidates)
            begun.append(self)

        def _start(self, candidate: str) -> Kept:
            return cast(Kept, Forked(self._folder, candidate))

    def slow(todo: tuple[Trial, ...], desk: Desk, progress: Callable[[str], None]) -> None:
        begun[-1]._thread.join(30)
        whole(todo, desk, progress)

    monkeypatch.setattr(matrix, "run_all", slow)
    monkeypatch.setattr("runner.bisect.bench.Ahead", Watched)
    plan = replace(plan_of(tiny, 14), ahead=True, asked=Asked(most=1))
    found = session.begin(plan, tmp_path / "state", said.append)
    assert found.text.splitlines()[0].endswith(" commit 6")
    assert len([line for line in said if line.startswith("building ")]) == 1
    assert len(list((tmp_path / "state/candidates").iterdir())) >= 5


def test_a_build_that_outlasts_the_guests_goes_on_where_it_is_the_one_that_is_wanted(
    boots: Boots, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The good end, which is always wanted; its build has hardly begun when the bad end has run."""
    history(tiny, *harmless(3), ("", LEAK))
    monkeypatch.setattr(Ahead, "_start", lambda self, each: Forked(self._folder, each))
    plan = replace(plan_of(tiny, 4), ahead=True, asked=Asked(most=1))
    session.begin(plan, tmp_path / "state", lambda _: None)
    assert Forked.ended[git(tiny, "rev-parse", "v0")] == 0


def test_a_build_ahead_is_a_command_that_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "LOWEST", ())
    building, log = Ahead(tmp_path, ("one",)), tmp_path / "ahead.log"
    deadline = time.monotonic() + 60
    while not (log.exists() and log.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    building.settle(None)
    assert "is not the folder of a bisection" in log.read_text()


def test_what_is_built_ahead_and_not_wanted_ends_at_once_and_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []

    def start(self: Ahead, candidate: str) -> Kept:
        started.append(candidate)
        return Kept(("sleep", "60"), tmp_path / "log", tmp_path / "log")

    monkeypatch.setattr(Ahead, "_start", start)
    began = time.monotonic()
    building = Ahead(tmp_path, ("one", "two"))
    while not started:
        time.sleep(0.01)
    building.settle("two")
    assert time.monotonic() - began < 20
    assert started == ["one"]


def test_what_is_built_ahead_and_wanted_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = tmp_path / "done"

    def start(self: Ahead, candidate: str) -> Kept:
        words = ("sh", "-c", f"sleep 0.5; touch {done}")
        return Kept(words, tmp_path / "log", tmp_path / "log")

    monkeypatch.setattr(Ahead, "_start", start)
    Ahead(tmp_path, ("one",)).settle("one")
    assert done.exists()


def test_a_wanted_build_that_gets_no_processor_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = threading.Event()

    def start(self: Ahead, candidate: str) -> Kept:
        started.set()
        return Kept(("sleep", "60"), tmp_path / "log", tmp_path / "log")

    monkeypatch.setattr(Ahead, "_start", start)
    monkeypatch.setattr(ahead, "PATIENCE_S", 0.1)
    began = time.monotonic()
    building = Ahead(tmp_path, ("one", "two"))
    started.wait()
    building.settle("one")
    assert time.monotonic() - began < 20


def test_building_ahead_leaves_the_kernel_in_the_cache(
    boots: Boots, tiny: Path, tmp_path: Path
) -> None:
    history(tiny, *harmless(1), ("", LEAK))
    bisected(plan_of(tiny, 2), tmp_path / "state")
    shutil.rmtree(tmp_path / "cache/kernels")
    assert ahead.main([str(tmp_path / "state"), git(tiny, "rev-parse", "v1")]) == 0
    assert len(list((tmp_path / "cache/kernels").iterdir())) == 1
