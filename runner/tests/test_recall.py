# SPDX-License-Identifier: GPL-2.0-only
"""An earlier run, made usable again: its rows, its kernels, and when that is refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from runner import build, evidence, experiment, host, matrix, recall, repro, symbols
from runner.build import Kernel
from runner.errors import UserError
from runner.experiment import Plan, begin_folder
from runner.kconfig import Fragment, Kconfig, load_kept
from runner.kconfig import load as load_kconfig
from runner.qemu import Machine
from runner.repro import Again
from runner.rootfs import Rootfs
from runner.tests import tinytree
from runner.tests.arms import REUSE, TWINS, arm
from runner.tests.corpus import LEAK
from runner.tests.test_bisect_commits import git
from runner.transcript import BootRecord, CaseLog, Transcript
from runner.trial import Trial

HEX = "0123456789abcdef" * 4


def say(_line: str) -> None:
    pass


def kernel_at(folder: Path, signature: str = "code", fingerprint: str = HEX) -> Kernel:
    """A kernel in a folder as the build keeps it, of which nothing boots."""
    folder.mkdir(parents=True, exist_ok=True)
    image, config = folder / "bzImage", folder / "config"
    image.write_bytes(b"an image")
    config.write_text("CONFIG_SWAP=y\n")
    (folder / "System.map").write_text("ffffffff81a09000 D init_top_pgt\n")
    papers = {
        "release": "5.10.7",
        "fingerprint": fingerprint,
        "signature": signature,
        "source": "tiny",
        "patches": [],
        "compiler": "gcc",
        "config_sha256": "c",
        "image_sha256": host.sha256_file(image),
        "cpu_seconds": 1.0,
        "seconds": 1.0,
    }
    (folder / "kernel.json").write_text(json.dumps(papers))
    kernel = build._read_kept(folder)
    assert kernel is not None
    return kernel


def transcript(label: str, repeat: int, leaks: bool) -> Transcript:
    text = (
        "KTAP version 1\n1..2\n# proof: child_read ok yes\n# measure: pages_reused 1 pages\n"
        f"ok 1 data_intact\n{'not ok' if leaks else 'ok'} 2 no_leak\n"
    )
    log = CaseLog(LEAK.id, "zram", 1, text, int(leaks), "exit", 1.0)
    console = f"twinboot: begin {LEAK.id} 1\ntwinboot: end {LEAK.id} 1 exit={int(leaks)}\n"
    boot = BootRecord(label, "zram", repeat, 0, 1, (LEAK.id,))  # type: ignore[arg-type]
    return Transcript(boot, (log,), console, "poweroff")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run of two repeats in which the child reads the parent's secret with the patch only."""
    path = tmp_path / "run"
    begin_folder(Plan(path, patch="none"))
    labels = {"base": HEX, "patched": HEX[::-1]}
    arms = {each: arm(each, fingerprint=labels[each], signature="code") for each in labels}
    twins = dataclasses.replace(TWINS, base=arms["base"], patched=arms["patched"])
    evidence.begin_run(path, twins, (LEAK, REUSE))
    for repeat in (1, 2):
        evidence.save_transcript(path, transcript("base", repeat, leaks=False))
        evidence.save_transcript(path, transcript("patched", repeat, leaks=True))
    return path


def test_of_nobodys_choice_the_rows_with_a_finding_are_run_again(folder: Path) -> None:
    (row,) = recall.rows(recall.load(folder), None, None)
    assert (row.case.id, row.swap, row.change.name) == (LEAK.id, "zram", "REGRESSED")


@pytest.mark.parametrize("wanted", ["gup/leak_base", "gup"])
def test_a_row_is_named_by_case_or_group(wanted: str, folder: Path) -> None:
    assert [row.case.id for row in recall.rows(recall.load(folder), wanted, "zram")] == [LEAK.id]


@pytest.mark.parametrize(
    ("wanted", "swap", "sentence"),
    [
        ("gup/nothing", None, r"has no row gup/nothing; its cases are .*gup/leak_base"),
        ("gup/nothing", "zram", r"has no row gup/nothing; its cases are .*gup/leak_base"),
        ("gup", "disk", "has no row gup on disk, only on zram$"),
        (None, "foo", "has no row on foo, only on zram"),
    ],
)
def test_a_row_that_is_not_there_is_refused_by_what_it_lacks(
    wanted: str | None, swap: str | None, sentence: str, folder: Path
) -> None:
    with pytest.raises(UserError, match=sentence):
        recall.rows(recall.load(folder), wanted, swap)


def test_a_folder_that_holds_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not the folder of a run"):
        recall.load(tmp_path)


def test_a_kept_kernel_is_found_by_its_fingerprint(folder: Path, tmp_path: Path) -> None:
    for fingerprint in (HEX, HEX[::-1]):
        kernel_at(tmp_path / "kernels" / fingerprint[:32], fingerprint=fingerprint)
    found = recall.kernels(recall.load(folder), tmp_path, say)
    assert found["base"].image == tmp_path / "kernels" / HEX[:32] / "bzImage"


def test_a_kernel_whose_code_is_another_is_refused(folder: Path, tmp_path: Path) -> None:
    for fingerprint in (HEX, HEX[::-1]):
        kernel_at(tmp_path / "kernels" / fingerprint[:32], "other", fingerprint)
    with pytest.raises(UserError, match="built again it is another"):
        recall.kernels(recall.load(folder), tmp_path, say)


@pytest.fixture
def cleaned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run on the tiny tree whose kernels were cleaned away since.

    Its source is a branch; patch and second fragment are files of the user's.
    """
    tree, path, cache = tmp_path / "tiny", tmp_path / "built", tmp_path / "cache"
    tinytree.write(tree)
    git(tree, "init", "-q", "-b", "main")
    git(tree, "add", "-A")
    git(tree, "commit", "-qm", "one")
    fragments = tinytree.write_fragments(tmp_path / "kconfigs")
    monkeypatch.setattr(experiment, "FRAGMENTS", ("base", "swap"))
    monkeypatch.setattr(
        experiment, "load_kconfig", lambda names, _folder: load_kconfig(names, fragments)
    )
    monkeypatch.setattr(
        experiment, "load_kept", lambda paths, more, _folder: load_kept(paths, more, fragments)
    )
    mine = tmp_path / "mine.config"
    mine.write_text("CONFIG_TRANSPARENT_HUGEPAGE=y\nCONFIG_COMPACTION=y\n")
    patch = tmp_path / "mine.patch"
    text = tinytree.SWAPFILE.replace("count <= 1", "count <= 2")
    patch.write_text(tinytree.patch_of("mm/swapfile.c", tinytree.SWAPFILE, text) + "-- \n2.30\n")
    plan = Plan(path, f"git:{tree}@main", str(patch), (str(mine),))
    begin_folder(plan)
    arms = experiment.build_arms(plan, cache, say)
    evidence.save_patches(path, arms.patchset)
    evidence.save_fragments(path, arms.kconfig)
    twins = experiment.twins_of(plan, arms, Rootfs(tmp_path, "d"), Machine())
    evidence.begin_run(path, twins, (LEAK,))
    for kernel in (arms.base, arms.patched):
        shutil.rmtree(kernel.image.parent)
    return path


def test_a_kernel_that_was_cleaned_away_is_built_again_from_what_the_run_kept(
    cleaned: Path, tmp_path: Path
) -> None:
    """Though the branch went on, the patch is another one now, and so are both fragments."""
    tree, former = tmp_path / "tiny", recall.load(cleaned)
    (tree / "mm/memory.c").write_text(tinytree.MEMORY.replace("do_wp_page(1)", "do_wp_page(2)"))
    git(tree, "commit", "-qam", "two")
    (tmp_path / "mine.patch").write_text("nothing\n")
    (tmp_path / "mine.config").unlink()
    (tmp_path / "kconfigs/swap.config").write_text("CONFIG_BLOCK=y\n")
    found = recall.kernels(former, tmp_path / "cache", say)
    for label in matrix.ARMS:
        assert found[label].fingerprint == former.arm(label).fingerprint
        assert found[label].signature == former.arm(label).signature
    (patch,) = recall.patches(former, tmp_path / "cache", say)
    assert "count <= 2" in patch.text
    assert "CONFIG_TRANSPARENT_HUGEPAGE=y\n" in found["base"].config.read_text()


def test_a_run_of_the_same_inputs_keeps_them_too(cleaned: Path, tmp_path: Path) -> None:
    """The folder of `repro` and of `merge` can be reproduced when the first one is gone."""
    evidence.copy_inputs(cleaned, tmp_path / "other")
    for saved in (evidence.saved_fragments, evidence.saved_patches):
        assert saved(tmp_path / "other")
    before, after = (
        {
            path.relative_to(top): path.read_bytes()
            for name in ("patches", "kconfigs")
            for path in (top / name).iterdir()
        }
        for top in (cleaned, tmp_path / "other")
    )
    assert before == after


def test_a_run_that_kept_no_fragments_is_built_from_those_of_today(cleaned: Path) -> None:
    shutil.rmtree(cleaned / "kconfigs")
    former = recall.load(cleaned)
    plan = recall.plan_as_built(former)
    assert (plan.fragments, plan.kept_fragments) == (former.plan.fragments, ())


def test_the_symbols_of_a_cleaned_kernel_are_built_with_its_fragments(
    cleaned: Path, tmp_path: Path
) -> None:
    """And debug-info, which is ours of today, after them."""
    (tmp_path / "kconfigs/debug-info.config").write_text("CONFIG_DEBUG_BUGVERBOSE=y\n")
    plan = recall.plan_as_built(recall.load(cleaned))
    plan = dataclasses.replace(plan, fragments=(*plan.fragments, "debug-info"))
    names = experiment.read_inputs(plan, tmp_path / "cache", say).kconfig.names
    assert names == ("000-base", "001-swap", "002-mine", "debug-info")


def test_a_kernel_that_comes_out_another_is_refused(cleaned: Path, tmp_path: Path) -> None:
    (cleaned / "kconfigs/001-swap.config").write_text("CONFIG_BLOCK=y\n")
    with pytest.raises(UserError, match=r"built again it is another .* the configuration or"):
        recall.kernels(recall.load(cleaned), tmp_path / "cache", say)


@pytest.mark.parametrize(
    ("source", "built", "pinned"),
    [
        (
            "debian:l-s-5.10",
            "debian:l-s-5.10 (l-s-5.10 5.10.223-1 from x)",
            "debian:l-s-5.10=5.10.223-1",
        ),
        ("debian:l-s-5.10=1", "debian:l-s-5.10=1 (l-s-5.10 1 from x)", "debian:l-s-5.10=1"),
        ("dir:/a@b", "dir:/a@b (commit of mine)", "dir:/a@b"),
        ("git:/a@main", f"git:/a@main (commit {'a' * 40})", f"git:/a@{'a' * 40}"),
    ],
)
def test_a_source_is_named_as_what_it_was(source: str, built: str, pinned: str) -> None:
    assert recall._pinned(source, built) == pinned


@pytest.mark.parametrize("fingerprint", ["../../etc", "", HEX + "0", "g" * 64])
def test_a_fingerprint_is_never_a_path(fingerprint: str, tmp_path: Path) -> None:
    kernel_at(tmp_path / "etc")
    assert build.kept(tmp_path, fingerprint) is None


def again(folder: Path, out: Path, arms: str = "both") -> Again:
    former = recall.load(folder)
    rows = recall.rows(former, None, None)
    return Again(former, rows, repro.arms_of(arms), 3, out)


def begin(what: Again, runs: dict[str, list[bool]]) -> None:
    """As if these runs had been made."""
    evidence.begin_run(what.folder, what.former.saved.twins, what.former.saved.cases)
    for label, each in runs.items():
        for repeat, leaks in enumerate(each, 1):
            evidence.save_transcript(what.folder, transcript(label, repeat, leaks))


def test_it_is_said_how_often_it_happened_in_each_arm(folder: Path, tmp_path: Path) -> None:
    what = again(folder, tmp_path / "again")
    begin(what, {"base": [False] * 10, "patched": [True] * 3 + [False] * 7})
    found = repro.counts(what)
    assert [str(each) for each in found] == [
        "gup/leak_base on zram: the parent's secret reaches the child: "
        "none of 10 (at most 26 %) on base, 3 of 10 (6.7 % to 65 %) on patched"
    ]
    assert repro.exit_code(found) == 1


def test_what_never_happens_ends_with_0_and_what_nobody_saw_with_3(
    folder: Path, tmp_path: Path
) -> None:
    what = again(folder, tmp_path / "again", "patched")
    begin(what, {"patched": [False, False]})
    assert repro.exit_code(repro.counts(what)) == 0
    other = again(folder, tmp_path / "mute", "patched")
    begin(other, {})
    assert "no run that says anything on patched" in str(repro.counts(other)[0])
    assert repro.exit_code(repro.counts(other)) == 3


def test_a_failure_of_another_kind_is_not_taken_for_it(folder: Path, tmp_path: Path) -> None:
    what = again(folder, tmp_path / "again", "patched")
    begin(what, {"patched": [False]})
    crash = transcript("patched", 2, leaks=False)
    dead = dataclasses.replace(
        crash,
        logs=(dataclasses.replace(crash.logs[0], ended="died", exit=None, text=""),),
        console=f"twinboot: begin {LEAK.id} 1\nKernel panic - not syncing: other\n",
        end="panic",
    )
    evidence.save_transcript(what.folder, dead)
    leak, other = repro.counts(what)
    assert not leak.happened
    assert "in another way: 1 of 2" in str(other)
    assert repro.exit_code((leak, other)) == 1


def test_it_stops_as_soon_as_it_happened(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    what = dataclasses.replace(
        again(folder, tmp_path / "again", "patched"), until_failure=True, times=9, jobs=2
    )
    evidence.save_fragments(folder, Kconfig((Fragment("mine", "CONFIG_SWAP=y\n"),)))
    booted: list[str] = []

    def run_all(todo: tuple[Trial, ...], desk: object, _progress: object) -> None:
        for trial in todo:
            booted.append(trial.name)
            evidence.save_transcript(
                what.folder, transcript("patched", trial.repeat, len(booted) > 3)
            )

    kernels = {label: kernel_at(tmp_path / label) for label in ("base", "patched")}
    root = Rootfs(tmp_path, "digest")
    monkeypatch.setattr(recall, "programs", lambda *_: (kernels, root))
    monkeypatch.setattr(matrix, "run_all", run_all)
    (found,) = repro.again(what, say)
    assert booted == [f"patched-zram-{repeat}" for repeat in (1, 2, 3, 4)]
    assert "1 of 4" in str(found)
    assert recall.load(what.folder).plan.cases == (LEAK.id,)
    assert (what.folder / "kconfigs/000-mine.config").read_text() == "CONFIG_SWAP=y\n"


def test_a_trace_keeps_its_text_where_there_are_no_symbols(tmp_path: Path) -> None:
    text = "do_swap_page+0x611/0x7d0\n"
    assert symbols.symbolised(text, kernel_at(tmp_path / "k"), tmp_path) == text
    assert symbols.symbolised(text, None, tmp_path) == text
