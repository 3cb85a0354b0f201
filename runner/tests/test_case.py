# SPDX-License-Identifier: GPL-2.0-only
"""Reading the case table, and refusing one that is wrong with one clear sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner import case
from runner.case import Better, Invariant, MeasureSpec
from runner.errors import EXIT_USAGE, UserError

ROW = """\
- id: gup/leak_swap_fork
  catches: the child reads what the parent
    writes after the fork
  program: gup leak_swap_fork
  swaps: [zram, nullblk]
  kconfig: [swap]
  deadline: 20
  proof: [swapped_out, child_read]
  invariants:
    no_leak: the parent's secret reaches the child
  measures:
    pages_reused: {unit: pages, better: higher, says: pages reused without a copy, tolerance: 3}
"""
TABLE = Path(__file__).resolve().parents[2] / "guest-tests" / "cases"


def refusal(text: str) -> str:
    with pytest.raises(UserError) as caught:
        case.parse(text)
    assert caught.value.exit_code == EXIT_USAGE
    assert "\n" not in caught.value.message
    return caught.value.message


def test_a_row_becomes_a_frozen_record() -> None:
    (read,) = case.parse(ROW)
    assert (read.id, read.group) == ("gup/leak_swap_fork", "gup")
    assert read.program == ("/twinboot/bin/gup", "leak_swap_fork")
    assert read.catches == "the child reads what the parent writes after the fork"
    assert read.invariants == (Invariant("no_leak", "the parent's secret reaches the child"),)
    assert read.measures == (
        MeasureSpec("pages_reused", "pages", Better.HIGHER, "pages reused without a copy", 3.0),
    )
    assert hash(read)


def test_a_python_case_names_its_file() -> None:
    text = ROW.replace("program: gup leak_swap_fork", "python: fork_snapshot_server.py")
    (read,) = case.parse(text)
    assert read.program == ("python3", "/twinboot/python/fork_snapshot_server.py")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("catches:", "catchs:", "there is no key `catchs`"),
        ("  deadline: 20\n", "", "the key `deadline` is missing"),
        ("deadline: 20", "deadline: 0", "`deadline` is 0: input should be greater than 0"),
        ("deadline: 20", "deadline: soon", "`deadline` is 'soon': input should be a valid number"),
        ("deadline: 20", "deadline: .inf", "`deadline` is inf: input should be a finite number"),
        ("[zram, nullblk]", "[zram, floppy]", "`swaps.1` is 'floppy': input should be 'none'"),
        ("[zram, nullblk]", "[zram, zram]", "swaps names `zram` twice"),
        ("[zram, nullblk]", "[]", "`swaps` is []"),
        ("better: higher", "better: bigger", "`measures.pages_reused.better` is 'bigger'"),
        ("tolerance: 3", "tolerance: -1", "`measures.pages_reused.tolerance` is -1"),
        ("id: gup/leak_swap_fork", "id: leak", "`id` is 'leak'"),
        ("id: gup/leak_swap_fork", "id: ../x", "`id` is '../x'"),
        ("no_leak:", "No leak:", "`invariants.No leak` is 'No leak'"),
        ("  program: gup leak_swap_fork\n", "", "give either `program: GROUP CASE` or `python:"),
        ("program: gup leak", "program: gup $(leak", "`program` is the binary and its arguments"),
        ("program: gup leak_swap_fork", "python: ../x.py", "`python` is '../x.py'"),
        ("proof: [swapped_out, child_read]", "proof: {", "is not valid YAML"),
        ("proof: [swapped_out, child_read]", "deadline: 21", "`deadline` is given twice"),
    ],
)
def test_a_wrong_row_is_refused_with_one_sentence(old: str, new: str, said: str) -> None:
    assert old in ROW
    message = refusal(ROW.replace(old, new))
    assert said in message
    assert message.startswith("case table")


def test_a_refusal_names_the_case() -> None:
    assert "case gup/leak_swap_fork" in refusal(ROW.replace("deadline: 20", "deadline: no"))
    assert "case number 2" in refusal(ROW + "- catches: nothing\n")


def test_a_case_twice_is_refused() -> None:
    assert refusal(ROW + ROW) == "case table: case gup/leak_swap_fork is there twice"


def test_what_is_not_a_list_of_cases_is_refused() -> None:
    for text in ("", "[]", "cases: 3", "just words"):
        assert "must be a list of cases" in refusal(text)
    assert "is not a mapping" in refusal("- 3")


def test_a_table_that_cannot_be_read_says_which(tmp_path: Path) -> None:
    (tmp_path / "gup.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"cannot read the case table .*gup\.yaml"):
        case.load(tmp_path)
    with pytest.raises(UserError, match="there is no case table"):
        case.load(tmp_path / "nothing")


def test_a_folder_holds_one_table_for_each_group(tmp_path: Path) -> None:
    (tmp_path / "gup.yaml").write_text(ROW)
    (tmp_path / "cow.yaml").write_text(ROW.replace("gup/leak_swap_fork", "cow/wr_hit"))
    assert [each.id for each in case.load(tmp_path)] == ["cow/wr_hit", "gup/leak_swap_fork"]
    (tmp_path / "fork.yaml").write_text(ROW)
    with pytest.raises(UserError, match=r"fork\.yaml: case .* belongs into gup\.yaml"):
        case.load(tmp_path)


def test_cases_are_chosen_by_id_or_group_in_the_tables_order() -> None:
    table = case.parse(ROW + ROW.replace("gup/leak_swap_fork", "cow/wr_hit"))
    assert [each.id for each in case.select(table, [])] == ["gup/leak_swap_fork", "cow/wr_hit"]
    assert [each.id for each in case.select(table, ["cow", "gup/leak_swap_fork"])] == [
        "gup/leak_swap_fork",
        "cow/wr_hit",
    ]
    with pytest.raises(UserError, match="there is no case or group `cwo`; the groups are gup, cow"):
        case.select(table, ["cwo"])


@pytest.mark.skipif(not TABLE.exists(), reason="no case table yet")
def test_the_projects_own_table_is_right() -> None:
    assert case.load(TABLE)


def test_the_default_selection_takes_each_case_on_its_default_swaps_only() -> None:
    narrow = ROW.replace("gup/leak_swap_fork", "cow/wr_hit") + "  default: [zram]\n"
    never = ROW.replace("gup/leak_swap_fork", "cow/slow") + "  default: []\n"
    table = case.parse(ROW + narrow + never)
    chosen = {each.id: each.swaps for each in case.by_default(table)}
    assert chosen == {"gup/leak_swap_fork": ("zram", "nullblk"), "cow/wr_hit": ("zram",)}
    assert "default names `disk`" in refusal(ROW + "  default: [disk]\n")
