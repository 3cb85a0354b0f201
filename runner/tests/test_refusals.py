# SPDX-License-Identifier: GPL-2.0-only
"""What a hurried or hostile user hands to the commands: one sentence, its exit code, no trace."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from runner import accel, evidence, recall
from runner.bisect.plan import BisectPlan, Notebook
from runner.bisect.space import Term
from runner.cli import app
from runner.errors import UserError
from runner.experiment import Plan, begin_folder
from runner.tests import tinytree
from runner.tests.arms import REUSE, TWINS

READERS = (["compare"], ["repro"], ["splats"], ["bundle", "cow/wr_hit"], ["shell", "cow/wr_hit"])
Damage = Callable[[Path], object]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TWINBOOT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def said(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def run_in(folder: Path) -> Path:
    begin_folder(Plan(folder, patch="none"))
    evidence.begin_run(folder, TWINS, (REUSE,))
    return folder


def bisection_in(folder: Path) -> Notebook:
    notebook = Notebook(folder)
    notebook.begin(BisectPlan("git:/nowhere@a", "git:/nowhere@b", "gup/leak_base", "none"))
    return notebook


def remove(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def become_file(folder: Path) -> None:
    remove(folder)
    folder.write_text("no folder\n")


def become_link(folder: Path) -> None:
    (folder / "run.json").unlink()
    (folder / "run.json").symlink_to("run.json")


DAMAGES: dict[str, tuple[Damage, str]] = {
    "gone": (remove, "it cannot be read (No such file or directory)"),
    "a file": (become_file, "it cannot be read (Not a directory)"),
    "a loop": (become_link, "its run.json cannot be read (Too many levels of symbolic links)"),
    "cut": (lambda run: os.truncate(run / "run.json", 300), "its run.json is damaged"),
    "a list": (lambda run: (run / "run.json").write_text("[]"), "its run.json is damaged"),
    "deep": (lambda run: (run / "run.json").write_text("[" * 100_000), "its run.json is damaged"),
    "bytes": (lambda run: (run / "run.json").write_bytes(b"\xf7\x00"), "its run.json is damaged"),
    "not begun": (
        lambda run: (run / "run.json").unlink(),
        "no guest has run yet; `twinboot run --resume` goes on",
    ),
}


@pytest.mark.parametrize("words", READERS, ids=lambda words: words[0])
@pytest.mark.parametrize("how", DAMAGES)
def test_a_folder_that_is_not_a_whole_run_is_refused_with_the_reason(
    words: list[str], how: str, tmp_path: Path
) -> None:
    run = run_in(tmp_path / "run")
    damage, sentence = DAMAGES[how]
    damage(run)
    ended = said(words[0], run, *words[1:])
    assert ended.exit_code == 2
    assert f"is not the folder of a run: {sentence}" in ended.output, ended.output


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000, '{"source": 1}'])
def test_a_run_without_a_whole_plan_is_refused(text: str, tmp_path: Path) -> None:
    run = run_in(tmp_path / "run")
    (run / "plan.json").write_text(text)
    for words in (["compare"], ["repro"], ["run", "--resume"]):
        ended = said(*words, run)
        assert ended.exit_code == 2
        assert "no whole plan.json" in ended.output


def test_a_bisection_is_no_run_and_a_run_no_bisection(tmp_path: Path) -> None:
    folder, run = bisection_in(tmp_path / "state").folder, run_in(tmp_path / "run")
    with pytest.raises(UserError, match=r"bisection, which `twinboot bisect --resume` takes"):
        recall.load(folder)
    for words in (["bisect", "--resume"], ["bisect", "log"]):
        ended = said(*words, run)
        assert ended.exit_code == 2
        assert "is not the folder of a bisection" in ended.output


def test_a_baseline_that_is_no_run_is_refused_before_anything_is_built(
    tmp_path: Path, cache: Path
) -> None:
    ended = said("run", "--baseline", tmp_path / "nowhere", "--out", tmp_path / "out")
    assert ended.exit_code == 2
    assert "nowhere is not the folder of a run" in ended.output
    assert not (tmp_path / "out").exists()
    assert not cache.exists()


@pytest.mark.parametrize(
    "words",
    [
        ["run", "--jobs", "-1"],
        ["run", "--cpus", "0"],
        ["run", "--memory", "-5"],
        ["repro", "x", "--jobs", "-1"],
        ["bisect", "--jobs", "-1"],
        ["prove", "--jobs", "-1"],
    ],
)
def test_a_number_that_makes_no_guest_is_refused(words: list[str]) -> None:
    ended = said(*words)
    assert ended.exit_code == 2
    assert f"Invalid value for '{words[-2]}'" in ended.output


@pytest.mark.parametrize("text", ["{", '{"a": "perhaps"}'])
def test_the_answers_of_a_bisection_that_are_damaged_are_named(text: str, tmp_path: Path) -> None:
    notebook = bisection_in(tmp_path / "state")
    notebook.write("answers", {"a": str(Term.GOOD)})
    assert notebook.answers() == {"a": Term.GOOD}
    (notebook.folder / "answers.json").write_text(text)
    with pytest.raises(UserError, match=r"answers\.json (is damaged|cannot be read)"):
        notebook.answers()


def test_what_the_host_refuses_is_a_sentence_and_no_trace(tmp_path: Path) -> None:
    """Whatever is not foreseen: here a name that no file system takes."""
    ended = said("compare", tmp_path / ("x" * 300))
    assert ended.exit_code in (2, 3)
    assert len(ended.output.splitlines()) == 1
    assert "File name too long" in ended.output


def test_a_reader_that_goes_away_changes_no_exit_code(tmp_path: Path) -> None:
    """As in `twinboot compare RUN | head -1`: 1 would be a regression."""
    run = run_in(tmp_path / "run")
    code = "import sys; from runner.cli import main; sys.argv[0] = 'twinboot'; main()"
    read, write = os.pipe()
    os.close(read)
    usual = said("compare", run).exit_code
    done = subprocess.run(
        [sys.executable, "-c", code, "compare", str(run)],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (usual, "")


@pytest.mark.parametrize(
    "words",
    [
        ["run", "--source", "dir:/nowhere"],
        ["run", "--each", "--source", "dir:/nowhere"],
        ["run", "--patch", "-", "--source", "dir:/nowhere"],
        ["bisect", "--case", "gup/leak_base", "--swap", "none", "--good", "a", "--bad", "b"],
    ],
)
def test_wrong_input_leaves_no_folder_behind(words: list[str], tmp_path: Path) -> None:
    """So the command can be put right and given again."""
    command = [*words, "--out", str(tmp_path / "out")]
    ended = CliRunner().invoke(app, command, input="--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n")
    assert ended.exit_code == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("words", [["run"], ["prove", "--bug", "never-reuse"]])
def test_a_folder_that_no_line_of_a_log_can_name_is_refused_before_a_build(
    words: list[str], tmp_path: Path, cache: Path
) -> None:
    ended = said(*words, "--out", tmp_path / "two\nlines")
    assert ended.exit_code == 2
    assert "two\\nlines' has a character that cannot be printed; choose another" in ended.output
    assert not (tmp_path / "two\nlines").exists()
    assert not cache.exists() or not list(cache.glob("trees/*"))


HUGE = str(1 << 40)
ACCEL = ["--accel", "hvf"], "there is no accelerator 'hvf'; choose auto, kvm or tcg"
MEMORY = ["--memory", HUGE], f"--memory is {HUGE}; a guest takes at least 128 MiB, and this host"
CPUS = ["--cpus", "100"], "--cpus is 100, and the kernels take 8 (CONFIG_NR_CPUS); --kconfig can"
BISECT = ["bisect", "--case", "gup/leak_base", "--swap", "none", "--good", "0", "--bad", "1"]


@pytest.mark.parametrize(
    ("command", "refused"),
    [
        (["run"], (ACCEL, MEMORY, CPUS)),
        (["run", "--each"], (ACCEL, MEMORY, CPUS)),
        (["prove"], (ACCEL,)),
        (["shell"], (ACCEL,)),
        (BISECT, (ACCEL, MEMORY)),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value[0], str) else "",
)
def test_what_cannot_boot_here_is_refused_before_anything_is_built(
    command: list[str], refused: tuple[tuple[list[str], str], ...], tmp_path: Path, cache: Path
) -> None:
    source = f"dir:{tinytree.write(tmp_path / 'tiny')}"
    for words, sentence in refused:
        ended = said(*command, "--source", source, *words)
        assert ended.exit_code == 2
        assert sentence in ended.output
        assert not list(cache.glob("trees/*"))


@pytest.mark.parametrize("tool", ["qemu-system-x86_64", "git", "dropbear"])
def test_a_tool_that_is_missing_is_said_before_a_kernel_is_built(
    tool: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = shutil.which
    monkeypatch.setattr(
        shutil, "which", lambda name, **how: None if name == tool else found(name, **how)
    )
    ended = said("run", "--source", f"dir:{tinytree.write(tmp_path / 'tiny')}")
    assert ended.exit_code == 3
    assert f"`{tool}` is not installed; on Debian: apt-get install " in ended.output
    assert not list(cache.glob("trees/*"))


def test_kvm_that_does_not_open_is_said_before_a_kernel_is_built(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accel, "KVM", tmp_path / "kvm")
    ended = said("run", "--accel", "kvm", "--patch", "none")
    assert ended.exit_code == 3
    assert "kvm does not exist; leave --accel out to use TCG" in ended.output
    assert not list(cache.glob("trees/*"))


def test_a_folder_that_is_not_new_is_refused_before_anything_is_built(
    tmp_path: Path, cache: Path
) -> None:
    (tmp_path / "out").mkdir()
    run = run_in(tmp_path / "run")
    empty = said("run", "--source", "dir:/nowhere", "--out", tmp_path / "out").output
    assert "/nowhere" in empty, "an empty folder is as good as new"
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").write_text("mine\n")
    (tmp_path / "file").write_text("mine\n")
    for words in (["run"], ["run", "--each"], ["repro", run, "cow/wr_hit"]):
        for name, sentence in (
            ("out", "out is not empty (mine); choose a new folder for --out"),
            ("run", "run holds a run already; choose another --out"),
            ("file", "file is no folder; choose another --out"),
        ):
            ended = said(*words, "--out", tmp_path / name)
            assert ended.exit_code == 2
            assert sentence in ended.output
    assert (
        "out is a folder; --out is the file to write"
        in said("bundle", run, "cow/wr_hit", "--out", tmp_path / "out").output
    )
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]
    assert not list(cache.glob("trees/*"))


@pytest.mark.parametrize("words", READERS, ids=lambda words: words[0])
def test_an_empty_name_is_not_the_working_folder(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run_in(tmp_path / "run"))
    ended = said(words[0], "", *words[1:])
    assert (ended.exit_code, ended.output) == (2, "twinboot: the name of the folder is empty\n")


def test_an_empty_bug_is_not_all_of_this_folder_and_a_listed_one_is_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "--bug is empty; leave it out" in said("prove", "--bug", "").output
    words = ("prove", "--source", "dir:/nowhere", "--bug")
    assert "nowhere" in said(*words, "patches/known-bad/ksm-reuse.patch").output
    assert "there is no known-bad patch" in said(*words, "patches/nosuch.patch").output


def test_a_folder_with_files_of_somebody_else_is_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").write_text("mine\n")
    said("run", "--source", "dir:/nowhere", "--out", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]
    run = run_in(tmp_path / "run")
    said("run", "--source", "dir:/nowhere", "--out", run)
    assert {path.name for path in run.iterdir()} >= {"plan.json", "run.json"}


def started(error: str, *words: str) -> subprocess.CompletedProcess[str]:
    """The program, one of whose modules raises this when it is loaded."""
    code = f"""
import sys
from runner import start
class Fault:
    def find_spec(self, name, *_):
        if name == "runner.experiment":
            raise {error}
sys.meta_path.insert(0, Fault())
start.main()
"""
    argv = [sys.executable, "-c", code, *words]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def test_ctrl_c_while_the_modules_are_loaded_is_a_sentence() -> None:
    done = started("KeyboardInterrupt", "compare", "x")
    assert done.returncode == 130
    assert done.stderr == "twinboot: interrupted before anything was begun\n"


def test_a_module_that_cannot_be_loaded_is_no_regression_and_no_bad_commit() -> None:
    assert started("ImportError", "compare", "x").returncode == 3
    assert started("ImportError", "run", "--bisect-exit").returncode == 131


def test_transcripts_that_cannot_be_read_are_not_taken_for_none(tmp_path: Path) -> None:
    run = run_in(tmp_path / "run")
    (run / "transcripts").symlink_to("transcripts")
    for command in ("compare", "splats"):
        ended = said(command, run)
        assert ended.exit_code == 2
        assert "transcripts cannot be read" in ended.output


def test_a_run_of_which_no_guest_has_run_has_no_complaints_to_tell(tmp_path: Path) -> None:
    ended = said("splats", run_in(tmp_path / "run"))
    assert ended.exit_code == 2
    assert "no guest of" in ended.output
