# SPDX-License-Identifier: GPL-2.0-only
"""Foreign test programs: how they are named, built from a real tree, and judged."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from runner import foreign, host, rootfs
from runner.case import Case
from runner.cli import app
from runner.comparison import Comparison, compare
from runner.errors import UserError
from runner.foreign import Foreign
from runner.outcome import Outcome, Scene, Verdict, judge
from runner.report import quiet_lines
from runner.row import Change
from runner.tests.arms import TWINS
from runner.transcript import CaseLog, Ended
from runner.wording import headlines

TREE = {
    "Makefile": "VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 9\nheaders_install mrproper:\n\t@:\n",
    "tools/testing/selftests/mm/Makefile": (
        "TESTS = cow broken\nall: $(TESTS)\n"
        "%: %.c\n\t$(CC) -o $@ $<\n"
        "emit_tests:\n\t@for test in $(TESTS) run.sh; do echo mm:$$test; done\n"
    ),
    "tools/testing/selftests/mm/cow.c": "int main(void) { return 0; }\n",
    "tools/testing/selftests/mm/broken.c": "#error it does not build\n",
    "tools/testing/selftests/mm/run.sh": "#!/bin/bash\ntrue\n",
    "tools/testing/selftests/mm/settings": "timeout=30\n",
}


def silent(_line: str) -> None:
    pass


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("tree")
    for name, text in TREE.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (top / "tools/testing/selftests/mm/run.sh").chmod(0o755)
    return top


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def prepared(text: str, tree: Path, cache: Path) -> Foreign:
    asked = foreign.parse_kselftest(text, f"dir:{tree}")
    return foreign.prepare([asked], [], cache, silent)


def program(line: str = "/x") -> Case:
    return foreign.prepare([], [foreign.parse_command(f"any=sh -c {line}")], Path(), silent).cases[
        0
    ]


def judged(text: str, exit_code: int | None = 0, ended: Ended = "exit") -> Outcome:
    case = program()
    return judge(case, CaseLog(case.id, "zram", 1, text, exit_code, ended, 1.0), Scene("poweroff"))


def compared(base: str, patched: str, codes: tuple[int, int] = (0, 0)) -> Comparison:
    before, after = judged(base, codes[0]), judged(patched, codes[1])
    return compare([program()], [before, before], [after, after], TWINS)


def test_a_test_of_another_tree_becomes_a_case(tree: Path, cache: Path) -> None:
    found = prepared("mm:cow --fast", tree, cache)
    (case,) = found.cases
    assert case.id == "kselftest-mm-6.1.9/cow_--fast"
    assert case.foreign
    assert case.program[-2:] == ("./cow", "--fast")
    assert case.deadline == 30 * foreign.SLACK
    assert "no proof of path" in case.catches


def test_a_folder_runs_what_its_makefile_names_and_what_builds(tree: Path, cache: Path) -> None:
    found = prepared("mm", tree, cache)
    assert [case.id.partition("/")[2] for case in found.cases] == ["cow", "run.sh"]
    assert found.cases[1].program[-2:] == ("/bin/bash", "./run.sh")


def test_a_test_that_does_not_build_is_one_sentence_with_a_log(tree: Path, cache: Path) -> None:
    with pytest.raises(UserError, match=r"mm:broken of Linux 6\.1\.9 .* does not build"):
        prepared("mm:broken", tree, cache)


def test_the_tree_that_was_named_is_not_written_to(tree: Path, cache: Path) -> None:
    prepared("mm:cow", tree, cache)
    assert not (tree / "tools/testing/selftests/mm/cow").exists()


@pytest.mark.parametrize("text", ["/etc:cow", "mm:../cow", "mm@nowhere", ":cow"])
def test_a_test_that_cannot_be_named_so_is_refused(text: str, tree: Path) -> None:
    with pytest.raises(UserError):
        foreign.parse_kselftest(text, f"dir:{tree}")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--command", "a='x"), '"\'x" is no command: a quotation is not closed'),
        (("--command", "a=x\\"), "is no command: it ends in a backslash"),
        (("--ltp", "x 'y"), "is no test of LTP: a quotation is not closed"),
        (("--kselftest", "mm:cow 'y"), "is no kselftest: a quotation is not closed"),
    ],
)
def test_words_that_no_shell_would_take_are_one_sentence(
    words: tuple[str, str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWINBOOT_CACHE", str(tmp_path / "cache"))
    ended = CliRunner().invoke(
        app, ["run", "--patch", "none", "--out", str(tmp_path / "o"), *words]
    )
    assert ended.exit_code == 2
    assert sentence in ended.output
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("text", ["cow", "x=", "Bad Name=true", "x=nowhere-to-be-found -v"])
def test_a_command_that_cannot_run_is_refused(text: str) -> None:
    with pytest.raises(UserError):
        foreign.prepare([], [foreign.parse_command(text)], Path(), silent)


def test_the_programs_are_in_a_root_of_their_own(tree: Path, cache: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    (plain / "bin").mkdir(parents=True)
    (plain / "bin/busybox").write_text("x")
    found = prepared("mm", tree, cache)
    command = foreign.prepare([], [foreign.parse_command("ls=ls /")], cache, silent)
    needs = rootfs.Guests(found.needs.folders, command.needs.programs)
    root = rootfs.with_guests(rootfs.Rootfs(plain, "first"), needs, cache, silent)
    assert root.digest != "first"
    assert (root.path / "bin/busybox").read_text() == "x"
    assert os.access(root.path / "twinboot/foreign/6.1.9/mm/cow", os.X_OK)
    assert os.access(root.path / "twinboot/foreign/bin/ls", os.X_OK)
    assert (root.path / "bin/bash").exists()
    assert host.run((root.path / "twinboot/foreign/6.1.9/mm/cow",)).returncode == 0


@pytest.mark.parametrize(
    ("text", "code", "verdict"),
    [
        ("it only talks\n", 0, Verdict.PASS),
        ("", 1, Verdict.FAIL),
        ("", 2, Verdict.FAIL),
        ("", 4, Verdict.SKIP),
        ("", 127, Verdict.INFRA),
        ("TAP version 13\n1..0 # SKIP not here\n", 0, Verdict.SKIP),
        ("1..1\nok 1 no version line\n", 0, Verdict.PASS),
        ("TAP version 13\n1..2\nok 1 a\nok 2 b # SKIP no THP\n", 0, Verdict.PASS),
        ("TAP version 13\n1..1\nok 1 b # SKIP no THP\n", 4, Verdict.SKIP),
        ("TAP version 13\n1..2\nok 1 a\nnot ok 2 b\n", 1, Verdict.FAIL),
        ("TAP version 13\n1..2\nok 1 a\n", 0, Verdict.INCONCLUSIVE),
        (
            "TAP version 13\n1..1\n# TAP version 13\n# 1..1\n# not ok 1 x\nnot ok 1 a\n",
            1,
            Verdict.FAIL,
        ),
    ],
)
def test_a_foreign_run_is_judged_by_its_lines_and_its_exit_code(
    text: str, code: int, verdict: Verdict
) -> None:
    assert judged(text, code).verdict is verdict


def test_each_result_line_is_a_subject_of_its_own() -> None:
    base = "TAP version 13\n1..2\nok 1 no leak at 0x7f01\nok 2 no leak at 0x7f02\n"
    patched = "TAP version 13\n1..2\nok 1 no leak at 0x7e01\nnot ok 2 no leak at 0x7e02\n"
    (row,) = compared(base, patched, (0, 1)).rows
    named = [(each.change, each.subject, each.name) for each in row.findings]
    assert named == [(Change.REGRESSED, "invariant", "2")]


def test_a_result_that_is_no_longer_printed_is_lost() -> None:
    (row,) = compared("1..2\nok 1 a\nok 2 b\n", "1..1\nok 1 a\n").rows
    assert [(each.change, each.name) for each in row.findings] == [(Change.LOST, "2")]


@pytest.mark.parametrize(
    ("base", "patched", "codes", "change"),
    [
        # a program that prints a result only where something fails
        ("", "1..1\nnot ok 1 a\n", (0, 1), Change.REGRESSED),
        ("1..1\nok 1 a\n", "1..2\nok 1 a\nnot ok 2 b\n", (0, 1), Change.REGRESSED),
        ("1..2\nok 1 a\nnot ok 2 b\n", "1..1\nok 1 a\n", (1, 0), Change.UNDECIDED),
        # one more result in front: the numbers are not those of base
        (
            "1..2\nok 1 a\nnot ok 2 b\n",
            "1..3\nok 1 new\nok 2 a\nnot ok 3 b\n",
            (1, 1),
            Change.UNDECIDED,
        ),
        # one arm alone gives up
        (
            "1..2\nnot ok 1 a\nok 2 b\n",
            "1..2\nnot ok 1 a\nok 2 b\nBail out!\n",
            (1, 1),
            Change.UNDECIDED,
        ),
    ],
)
def test_results_that_only_one_arm_prints_are_never_no_change(
    base: str, patched: str, codes: tuple[int, int], change: Change
) -> None:
    (row,) = compared(base, patched, codes).rows
    assert {each.change for each in row.findings} == {change}


def test_good_news_do_not_hide_a_result_that_failed_once() -> None:
    before = judged("1..2\nok 1 a\nok 2 b # SKIP no\n")
    fine = judged("1..2\nok 1 a\nok 2 b\n")
    bad = judged("1..3\nok 1 a\nok 2 b\nnot ok 3 c\n", 1)
    (row,) = compare([program()], [before] * 2, [fine, bad], TWINS).rows
    assert Change.UNDECIDED in {each.change for each in row.findings}


def test_a_foreign_program_that_gives_up_on_both_is_compared_as_far_as_it_came() -> None:
    bailed = "1..2\nnot ok 1 a\nok 2 b\nBail out!\n"
    assert compared(bailed, bailed, (1, 1)).rows[0].findings == ()
    worse = compared(bailed, bailed.replace("\nok 2", "\nnot ok 2"), (1, 1)).rows[0]
    assert [(each.change, each.name) for each in worse.findings] == [(Change.REGRESSED, "2")]


def test_equal_foreign_runs_are_silent_and_said_to_prove_no_path() -> None:
    found = compared("1..2\nok 1 a\nok 2 a\n", "1..2\nok 1 a\nok 2 a\n")
    assert found.rows[0].findings == ()
    assert "foreign, no proof of path" in quiet_lines(found)[0].remark
    assert "foreign, no proof of path" in headlines(found.rows)


def test_an_exit_code_alone_can_regress() -> None:
    (row,) = compared("", "", (0, 3)).rows
    assert [(each.change, each.subject) for each in row.findings] == [(Change.REGRESSED, "run")]
