# SPDX-License-Identifier: GPL-2.0-only
"""`run --bisect-exit` as git calls it: a real `git bisect run`, the real command, real builds.

Only the guests are made up, in the process that git starts.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from runner.experiment import ROOT
from runner.host import How, run
from runner.tests import tinytree
from runner.tests.test_bisect_bench import CASE, CRASH, LEAK, commit, harmless, history, tiny
from runner.tests.test_bisect_commits import NAMES, git

__all__ = ["tiny"]

PROGRAM = """\
import sys
from pathlib import Path
from runner import cli, experiment, kconfig, matrix
from runner.qemu import Machine
from runner.rootfs import Rootfs
from runner.tests.test_bisect_bench import guest
fragments = Path(sys.argv.pop(1))
experiment.load_kconfig = lambda *_: kconfig.load(("base", "swap"), fragments)
experiment.choose_programs = lambda _plan, ours, *_: (ours, Rootfs(fragments, "programs"))
experiment.choose_machine = lambda *_: Machine()
matrix.run_trial = lambda trial, *_: (guest(trial),)
cli.main()
"""
BISECT = ("--case", CASE, "--swap", "none", "--repeats", "1", "--confirm", "0", "--bisect-exit")


@pytest.fixture
def twinboot(tmp_path: Path) -> tuple[str | Path, ...]:
    """A command line of ours, to which options are added."""
    program = tmp_path / "twinboot.py"
    program.write_text(PROGRAM)
    return sys.executable, program, tinytree.write_fragments(tmp_path / "kconfigs")


def variables(tmp_path: Path) -> dict[str, str]:
    return {**NAMES, "PYTHONPATH": str(ROOT), "TWINBOOT_CACHE": str(tmp_path / "cache")}


def bisect_run(repository: Path, last: int, *words: str | Path) -> str:
    """What git says in the end."""
    git(repository, "bisect", "start", f"v{last}", "v0")
    how = How(cwd=repository, variables=variables(repository.parent), check=False)
    done = run(("git", "bisect", "run", *words), how)
    return done.stdout + done.stderr


def test_git_finds_the_commit_past_those_that_do_not_build_or_crash(
    tiny: Path, twinboot: tuple[str | Path, ...]
) -> None:
    broken, mended = ("count <= 1", "count <= one"), ("count <= one", "count <= 1")
    crashes, lives = ("", CRASH), (CRASH, "")
    history(tiny, *harmless(2), ("", LEAK), broken, crashes, mended, lives, *harmless(2, 10))
    words = ("run", "--source", "git:.@HEAD", "--patch", "none", *BISECT)
    said = bisect_run(tiny, 9, *twinboot, *words)
    assert f"{git(tiny, 'rev-parse', 'v3')} is the first bad commit" in said
    assert "git bisect skip" in git(tiny, "bisect", "log")


def test_git_finds_where_the_middle_of_a_series_went_bad(
    tiny: Path, twinboot: tuple[str | Path, ...]
) -> None:
    """Its first patch leaks from commit 3 on, its second one mends that."""
    middle = f"{tinytree.MEMORY}#ifdef LEAKY{LEAK}#endif\n"
    series = tiny.parent / "series"
    series.mkdir()
    for number, (old, new) in enumerate(((tinytree.MEMORY, middle), (middle, tinytree.MEMORY)), 1):
        (series / f"{number}.patch").write_text(tinytree.patch_of("mm/memory.c", old, new))
    history(tiny, *harmless(2))
    (tiny / "include/linux/bug.h").write_text(f"#define LEAKY\n{tinytree.BUG}")
    commit(tiny, 3)
    commit(tiny, 4)
    words = ("run", "--source", "git:.@HEAD", "--patch", series, *BISECT, "--confirm", "1")
    found = f"{git(tiny, 'rev-parse', 'v3')} is the first bad commit"
    assert found not in bisect_run(tiny, 4, *twinboot, *words)
    git(tiny, "bisect", "reset")
    assert found in bisect_run(tiny, 4, *twinboot, *words, "--each")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--no-such-option",), 130),
        (("--source", "git:.@nowhere"), 130),
        (("--experiment", "nowhere.yaml"), 130),
    ],
)
def test_what_is_wrong_with_the_command_stops_git_and_blames_no_commit(
    words: tuple[str, ...], code: int, tiny: Path, twinboot: tuple[str | Path, ...]
) -> None:
    how = How(cwd=tiny, variables=variables(tiny.parent), check=False)
    done = run((*twinboot, "run", "--patch", "none", *BISECT, *words), how)
    assert done.returncode == code, done.stderr


def test_a_fault_of_ours_is_no_regression_and_no_bad_commit(
    tiny: Path, twinboot: tuple[str | Path, ...]
) -> None:
    program = Path(twinboot[1])
    program.write_text(PROGRAM.replace("(guest(trial),)", "1 / 0"))
    words = (*twinboot, "run", "--source", "git:.@HEAD", "--patch", "none", *BISECT)
    how = How(cwd=tiny, variables=variables(tiny.parent), check=False)
    assert run(words, how).returncode == 131
    done = run(words[:-1], how)
    assert done.returncode == 3
    assert "ZeroDivisionError" in done.stderr
