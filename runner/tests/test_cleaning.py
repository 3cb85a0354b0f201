# SPDX-License-Identifier: GPL-2.0-only
"""`clean` removes what twinboot made and was asked for, and nothing that is somebody else's."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from runner import host
from runner.cleaning import SHELVES
from runner.cli import app
from runner.experiment import Plan, begin_folder

HEX = "0123456789abcdef"
OURS = (
    f"trees/{HEX}/Makefile",
    f"trees/.{HEX}.partial-x_1/tree/Makefile",
    "ccache/0/1/object",
    "ccache/ccache.conf",
    f"kernels/{HEX * 2}/kernel.json",
    "kernels/.partial-abc/kernel/bzImage",
    f"sources/{HEX * 4}.tar",
    "sources/linux-source-5.10_5.10.223-1.json",
    "apt/apt.conf",
    "apt/state/status",
    f"rootfs/{HEX}/init",
    f"rootfs/{HEX}.img",
    f"guest-programs/{HEX}/bin/cow",
    f"kselftests/{HEX}/mm/cow",
    f"logs/build-{HEX * 2}.log",
    f"logs/guest-programs-{HEX}.log",
    "rejects/no.patch/mm/memory.c.rej",
    "kvm-probe.json",
    "durations.json",
)
EVIDENCE = (
    "runs/20220113-173000-sketch/plan.json",
    "runs/bench-1795710247767884342/plan.json",
    "runs/mine/run.json",
    "proofs/base/zram-1/run.json",
    "bisections/20220113-173000/bisect.json",
)
THEIRS = (
    "notes.txt",
    "sources/mine.c",
    "logs/mine.log",
    "runs/mine.txt",
    "runs/tomorrow/plan.txt",
    "trees/oak/leaf",
    "kernels/linux/Makefile",
    "rootfs/etc/passwd",
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TWINBOOT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def fill(cache: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (cache / name).parent.mkdir(parents=True, exist_ok=True)
        (cache / name).write_text("x" * 5000)


def there(cache: Path) -> set[str]:
    files = (path for path in cache.rglob("*") if path.is_file())
    return {str(path.relative_to(cache)) for path in files} - {f"locks/{name}" for name in LOCKS}


LOCKS = ("apt.lock", "kselftests.lock", "durations", f"tree-{HEX}.lock")


def cleaned(*words: str) -> Result:
    return CliRunner().invoke(app, ["clean", *words])


def test_what_twinboot_did_not_make_stays_and_is_named(cache: Path) -> None:
    fill(cache, (*OURS, *EVIDENCE, *THEIRS))
    ended = cleaned("--all")
    assert ended.exit_code == 0, ended.output
    left = {name for name in there(cache) if not name.endswith("/lock") and "/." not in name}
    assert left == {*THEIRS}
    assert f"{cache}/sources: mine.c, which twinboot did not make" in ended.output


def test_a_folder_in_which_twinboot_made_nothing_is_left_as_it_is(cache: Path) -> None:
    fill(cache, THEIRS)
    assert cleaned("--all").exit_code == 0
    assert there(cache) == {*THEIRS}


def test_what_can_be_made_again_goes_without_the_evidence(cache: Path) -> None:
    fill(cache, (*OURS, *EVIDENCE))
    ended = cleaned("--all-but-runs")
    assert {name for name in there(cache) if "lock" not in name} == {*EVIDENCE}
    assert f"{cache}/runs (--runs)" in ended.output
    assert not (cache / "kernels").exists()


def test_without_options_everything_is_listed_with_its_option_and_kept(cache: Path) -> None:
    fill(cache, (*OURS, *EVIDENCE))
    ended = cleaned()
    assert there(cache) == {*OURS, *EVIDENCE}
    for shelf in SHELVES:
        assert f"{cache}/{shelf.name} (--{shelf.kind})\n" in ended.output
        assert f"--{shelf.kind} " in cleaned("--help").output


def test_a_kept_compiler_cache_outlives_the_trees(cache: Path) -> None:
    fill(cache, OURS)
    cleaned("--trees")
    assert {name.split("/")[0] for name in OURS} - {path.name for path in cache.iterdir()} == {
        "trees"
    }


def test_a_subfolder_that_is_a_link_is_emptied_and_stays(cache: Path, tmp_path: Path) -> None:
    fill(tmp_path / "disk", (EVIDENCE[0].removeprefix("runs/"), "mine.txt"))
    fill(cache, OURS)
    (cache / "runs").symlink_to(tmp_path / "disk")
    (tmp_path / "disk/20220114-000000-x").symlink_to(tmp_path / "elsewhere")
    fill(tmp_path / "elsewhere", ("kept",))
    ended = cleaned("--runs")
    assert ended.exit_code == 0, ended.output
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["mine.txt"]
    assert (cache / "runs").is_symlink()
    assert there(tmp_path / "elsewhere") == {"kept"}
    assert not list(cache.glob("*.lock"))


def test_a_cache_that_is_not_there_is_said_and_not_made(cache: Path) -> None:
    for words in ((), ("--all",)):
        ended = cleaned(*words)
        assert ended.exit_code == 2
        assert f"there is no folder {cache}" in ended.output
        assert not cache.exists()


def test_a_tree_in_which_somebody_builds_is_waited_for(cache: Path) -> None:
    fill(cache, OURS)
    began, done = threading.Event(), threading.Event()

    def build() -> None:
        with host.locked(cache / f"locks/tree-{HEX}.lock"):
            began.set()
            time.sleep(0.5)
            assert (cache / f"trees/{HEX}/Makefile").exists()
            done.set()

    builder = threading.Thread(target=build)
    builder.start()
    began.wait(10)
    cleaned("--trees")
    assert done.is_set()
    assert not (cache / f"trees/{HEX}").exists()
    builder.join()


def test_the_help_does_not_say_that_evidence_can_be_made_again() -> None:
    said = " ".join(cleaned("--help").output.split())
    assert "which nothing brings back" in said
    assert "TWINBOOT_CACHE" in said


def test_a_run_that_is_kept_by_us_is_known_whatever_it_is_called(cache: Path) -> None:
    begin_folder(Plan(cache / "runs/of-mine", patch="none"))
    cleaned("--runs")
    assert not (cache / "runs").exists()
