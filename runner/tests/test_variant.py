# SPDX-License-Identifier: GPL-2.0-only
"""Variants: short names, the patches that a kernel's version chooses, links that lead away."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner import build, catalogue, experiment, patchset, variant
from runner.errors import UserError
from runner.experiment import PATCHES, Plan, build_arms
from runner.kconfig import Kconfig
from runner.patchset import load
from runner.tests import tinytree
from runner.tests.tinytree import patch_of

CHANGE = patch_of("mm/memory.c", tinytree.MEMORY, tinytree.MEMORY.replace("count < 0", "count < 1"))


def shelf(top: Path, *names: str) -> Path:
    for name in names:
        folder = top / "rework" / name
        folder.mkdir(parents=True)
        (folder / "series").write_text("x.patch\n")
        (folder / "x.patch").write_text(CHANGE)
    return top


def chosen(top: Path, name: str, version: str) -> str:
    path = variant.choose(variant.find(name, top), version).path
    assert path is not None
    return str(path.relative_to(top / "rework"))


def test_the_version_chooses_among_the_ranges_of_a_variant(tmp_path: Path) -> None:
    shelf(tmp_path, "sketch/5.10", "sketch/5.15-5.17", "sketch/6.1", "sketch/6.12-7.1")
    for version, folder in (
        ("5.10.223", "5.10"),
        ("5.15", "5.15-5.17"),
        ("5.17.3", "5.15-5.17"),
        ("6.1.99", "6.1"),
        ("6.19-rc3", "6.12-7.1"),
    ):
        assert chosen(tmp_path, "sketch", version) == f"sketch/{folder}"


@pytest.mark.parametrize("name", [each.name for each in variant.variants(PATCHES)])
def test_each_proposal_has_one_set_for_each_kernel_that_has_reuse_swap_page(name: str) -> None:
    """v5.17 took its second parameter away: what names it needs another set there."""
    path = variant.find(name, PATCHES)
    sets = {}
    for version in ("5.10.223", "5.15.135", "5.16.10", "5.17.0"):
        chosen_path = variant.choose(path, version).path
        assert chosen_path is not None
        sets[version] = load(chosen_path)
    by_name = {patch.name for each in sets.values() for patch in each.patches}
    assert {patch.name for patch in sets["5.10.223"].patches} == by_name
    for version, there in sets.items():
        whole = "".join(patch.text for patch in there.patches)
        assert (", NULL)" in whole) <= (version != "5.17.0"), f"{name} for {version}"


def test_no_or_two_fitting_ranges_are_one_sentence_with_the_version(tmp_path: Path) -> None:
    shelf(tmp_path, "sketch/5.10", "sketch/5.15-5.17", "twice/5.10", "twice/5.4-5.10")
    with pytest.raises(UserError) as none:
        chosen(tmp_path, "sketch", "5.14.2")
    where = tmp_path / "rework/sketch"
    assert (
        none.value.message == f"{where} holds no patch set (5.10, 5.15-5.17 only) for Linux 5.14.2"
    )
    with pytest.raises(
        UserError, match=r"several patch sets \(5\.4-5\.10, 5\.10\) for Linux 5\.10"
    ):
        chosen(tmp_path, "twice", "5.10")


def test_a_path_that_exists_wins_over_a_short_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf(tmp_path / "ours", "sketch/5.10")
    monkeypatch.chdir(tmp_path)
    assert variant.find("sketch", tmp_path / "ours") == tmp_path / "ours/rework/sketch"
    (tmp_path / "sketch").write_text(CHANGE)
    assert variant.find("sketch", tmp_path / "ours") == Path("sketch")
    assert variant.find("none", tmp_path / "ours") is None


def test_a_name_of_two_variants_names_both(tmp_path: Path) -> None:
    shelf(tmp_path, "sketch/5.10")
    (tmp_path / "other/sketch/5.10").mkdir(parents=True)
    with pytest.raises(UserError, match=r"sketch names several patch sets: .*other.*, .*rework"):
        variant.find("sketch", tmp_path)


@pytest.mark.parametrize("name", ["nothing", "../ours", "rework/sketch", "sketch/", ".", "s*"])
def test_what_is_neither_path_nor_name_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf(tmp_path / "ours", "sketch/5.10")
    (tmp_path / "empty/below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "empty/below")
    if name == ".":  # the working directory, which is no patch set
        with pytest.raises(UserError, match="no series file"):
            patchset.load(variant.choose(variant.find(name, tmp_path / "ours"), "5.10").path)
        return
    with pytest.raises(UserError, match=r"does not exist; `twinboot list patches`"):
        variant.find(name, tmp_path / "ours")


def test_a_folder_with_patches_is_taken_as_it_is(tmp_path: Path) -> None:
    shelf(tmp_path, "plain", "plain/5.10", "loose/5.10")
    (tmp_path / "rework/loose/a.patch").write_text(CHANGE)
    for name in ("plain", "loose"):
        path = tmp_path / "rework" / name
        assert variant.choose(path, "6.1") == variant.Choice(path)


def test_a_version_folder_that_leads_out_of_the_variant_is_not_there(tmp_path: Path) -> None:
    shelf(tmp_path, "away/5.10", "sketch/6.1")
    (tmp_path / "rework/sketch/5.10").symlink_to("../away/5.10")
    with pytest.raises(UserError, match=r"no patch set \(6\.1 only\) for Linux 5\.10\.1"):
        chosen(tmp_path, "sketch", "5.10.1")


def test_an_empty_name_is_not_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a variable that is not set in CI."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "any.patch").write_text("x")
    for empty in ("", " "):
        with pytest.raises(UserError, match="empty name; write `none` for base against base"):
            variant.find(empty, PATCHES)


def test_what_list_patches_prints_is_found_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in catalogue.table("patches").columns[0].cells:
        assert variant.find(str(name), PATCHES) is not None
    name = "patches/known-bad/ksm-reuse.patch"
    assert variant.find(name, PATCHES) == PATCHES / "known-bad/ksm-reuse.patch"
    (tmp_path / "away/shelf").mkdir(parents=True)
    (tmp_path / "away/secret.patch").write_text("x")
    for outside in ("shelf", "shelf/../secret.patch", "secret.patch", "shelf/."):
        with pytest.raises(UserError, match="does not exist; `twinboot list patches` shows"):
            variant.find(outside, tmp_path / "away/shelf")


@given(st.tuples(*[st.integers(0, 40)] * 6))
def test_a_range_holds_what_lies_between_its_ends(numbers: tuple[int, ...]) -> None:
    low, high, asked = numbers[:2], numbers[2:4], numbers[4:]
    name = f"{low[0]}.{low[1]}-{high[0]}.{high[1]}"
    assert variant.holds(name, f"{asked[0]}.{asked[1]}.7") == (low <= asked <= high)


def test_the_choice_is_told_and_kept_with_the_arms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiment, "PATCHES", shelf(tmp_path, "sketch/5.10"))
    monkeypatch.setattr(experiment, "build", lambda request, _cache, _progress: request)
    monkeypatch.setattr(experiment, "try_patches", lambda *_: None)
    monkeypatch.setattr(experiment, "load_kconfig", lambda _names, _folder: Kconfig(()))
    tree = tinytree.write(tmp_path / "tiny")
    said: list[str] = []
    arms = build_arms(Plan(tmp_path, f"dir:{tree}", "sketch"), tmp_path / "cache", said.append)
    assert arms.notes == ("patch set sketch/5.10 for Linux 5.10.7",)
    assert arms.notes[0] in said
    assert arms.patchset.name == "sketch/5.10"
    patched = arms.patched
    assert isinstance(patched, build.BuildRequest)
    assert [patch.name for patch in patched.patchset.patches] == ["x.patch"]


def test_every_variant_that_comes_along_is_listed_and_loads() -> None:
    ours = variant.variants(PATCHES)
    assert {"sketch", "corrected"} <= {each.name for each in ours}
    names = list(catalogue.table("patches").columns[0].cells)
    for each in ours:
        assert each.name in names
        assert all(len(patchset.load(folder)) for folder in variant.ranges(each))
