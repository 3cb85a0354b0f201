# SPDX-License-Identifier: GPL-2.0-only
"""Configurations: fragments are read strictly, and what was asked is what the kernel gets."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from runner import kbuild, kconfig
from runner.errors import ConfigLost, UserError
from runner.tests import tinytree

OURS = Path(__file__).resolve().parents[2] / "kconfigs"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tinytree.write_fragments(tmp_path / "kconfigs")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return tinytree.write(tmp_path / "tiny")


@pytest.fixture
def chain(tmp_path: Path) -> kbuild.Toolchain:
    return kbuild.toolchain("gcc", 1, tmp_path / "cache")


def one(text: str, name: str = "mine") -> kconfig.Kconfig:
    return kconfig.Kconfig((kconfig.Fragment(name, text),))


def got(tree: Path, wishes: kconfig.Kconfig, chain: kbuild.Toolchain) -> dict[str, str]:
    return kconfig.values(kconfig.configure(tree, wishes, tree.parent / "log", chain))


# Fragments


def test_base_comes_first_and_once(folder: Path) -> None:
    assert kconfig.load(["swap"], folder).names == ("base", "swap")
    assert kconfig.load(["swap", "base", "swap"], folder).names == ("base", "swap")


def test_a_fragment_may_be_given_by_path(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.config").write_text("CONFIG_ZSWAP=y\n")
    found = kconfig.load([tmp_path / "mine.config"], folder)
    assert found.asked("5.10")["ZSWAP"] == "y"


def test_an_unknown_fragment_gets_the_names_of_those_there_are(folder: Path) -> None:
    with pytest.raises(UserError, match="no kconfig fragment hugepages; there are base, swap"):
        kconfig.load(["hugepages"], folder)


def test_a_later_fragment_wins() -> None:
    fragments = (kconfig.Fragment("a", "CONFIG_SWAP=y\n"), kconfig.Fragment("b", "CONFIG_SWAP=n\n"))
    assert kconfig.Kconfig(fragments).asked("5.10") == {"SWAP": "n"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("SWAP=y\n", "line 1: 'SWAP=y' is neither"),
        ("\nCONFIG_SWAP = y\n", "line 2"),
        ("# twinboot: until 6.0\nCONFIG_SWAP=y\n", "write `# twinboot: since 5.16`"),
        ("# twinboot:\nCONFIG_SWAP=y\n", "write `# twinboot: since 5.16`"),
        ("# twinboot: since 6.0\n# a comment\nCONFIG_SWAP=y\n", "right before a symbol"),
        ("# twinboot: since 6.0\n", "ends with a `# twinboot:` line"),
    ],
)
def test_a_malformed_fragment_is_refused_when_it_is_loaded(
    folder: Path, text: str, said: str
) -> None:
    (folder / "bad.config").write_text(text)
    with pytest.raises(UserError) as caught:
        kconfig.load(["bad"], folder)
    assert said in caught.value.message
    assert "bad" in caught.value.message


def test_a_symbol_is_asked_for_only_in_the_versions_that_have_it() -> None:
    wishes = one(
        "# twinboot: before 6.1\nCONFIG_OLD=y\n# twinboot: since 6.1\nCONFIG_NEW=y\n"
        "# twinboot: since 5.15 before 6.6\nCONFIG_SOME=y\nCONFIG_ALWAYS=y\n"
    )
    assert set(wishes.asked("5.10.223")) == {"OLD", "ALWAYS"}
    assert set(wishes.asked("6.1.0-rc3")) == {"NEW", "SOME", "ALWAYS"}
    assert set(wishes.asked("7.2")) == {"NEW", "ALWAYS"}


def test_a_comment_does_not_change_the_digest_and_a_wish_and_its_range_do() -> None:
    first = one("CONFIG_SWAP=y\n").digest
    assert one("# why\nCONFIG_SWAP=y\n", "renamed").digest == first
    assert one("CONFIG_SWAP=m\n").digest != first
    assert one("# twinboot: since 5.0\nCONFIG_SWAP=y\n").digest != first


def test_the_line_above_each_symbol_of_base_says_why_it_is_there() -> None:
    lines = (OURS / "base.config").read_text().splitlines()
    pairs = itertools.pairwise(lines)
    wordless = [wish for above, wish in pairs if wish.startswith("CONFIG_") and above[:2] != "# "]
    assert wordless == []


def test_our_own_fragments_are_well_formed() -> None:
    names = [path.stem for path in OURS.glob("*.config")]
    asked = kconfig.load(names, OURS).asked("5.10.223")
    assert {"base", "swap", "thp", "ksm", "memcg", "debug-vm"} <= set(names)
    assert {"SWAP", "ZRAM", "TRANSPARENT_HUGEPAGE", "KSM", "MEMCG", "DEBUG_VM"} <= set(asked)


# Merging


def test_what_is_asked_is_got_and_nothing_else_is_on(
    tree: Path, folder: Path, chain: kbuild.Toolchain
) -> None:
    found = got(tree, kconfig.load(["swap"], folder), chain)
    assert found["SWAP"] == found["BLOCK"] == found["KERNEL_LZ4"] == "y"
    assert found["TRANSPARENT_HUGEPAGE"] == found["COMPACTION"] == "n"


def test_a_fragment_may_turn_off_what_an_earlier_one_turned_on(
    tree: Path, chain: kbuild.Toolchain
) -> None:
    assert (
        got(tree, one("CONFIG_COMPACTION=y\n# CONFIG_COMPACTION is not set\n"), chain)["COMPACTION"]
        == "n"
    )


def test_an_unchanged_config_keeps_its_time_stamp(
    tree: Path, folder: Path, chain: kbuild.Toolchain
) -> None:
    got(tree, kconfig.load(["swap"], folder), chain)
    before = (tree / ".config").stat().st_mtime_ns
    got(tree, kconfig.load(["swap"], folder), chain)
    assert (tree / ".config").stat().st_mtime_ns == before


def test_an_old_config_the_home_and_the_shell_do_not_leak_in(
    tree: Path,
    folder: Path,
    chain: kbuild.Toolchain,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clean = got(tree, kconfig.load(["swap"], folder), chain)
    leak = "CONFIG_COMPACTION=y\n"
    home = tmp_path / "home/.config/virtme-ng"
    home.mkdir(parents=True)
    for path in (home / "kernel.config", tree / ".config", tmp_path / "all.config"):
        path.write_text(leak)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KCONFIG_ALLCONFIG", str(tmp_path / "all.config"))
    monkeypatch.setenv("KCONFIG_CONFIG", "elsewhere")
    monkeypatch.setenv("ARCH", "arm64")
    monkeypatch.setenv("MAKEFLAGS", "CC=false")
    monkeypatch.setenv("CONFIG_", "SETTING_")
    assert got(tree, kconfig.load(["swap"], folder), chain) == clean
    assert not (tree / "elsewhere").exists()


# What is lost


def lost(tree: Path, text: str, chain: kbuild.Toolchain) -> str:
    with pytest.raises(ConfigLost) as caught:
        got(tree, one(text), chain)
    assert "\n" not in caught.value.message
    return caught.value.message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("CONFIG_SWAPP=y\n", "CONFIG_SWAPP: no such symbol in this tree; did you mean SWAP"),
        ("CONFIG_XYZZY=y\n", "CONFIG_XYZZY: no such symbol in this tree"),
        ("CONFIG_SWAP=y\n", "CONFIG_SWAP=y became n: it needs BLOCK (off)"),
        ("CONFIG_ZSWAP=y\n", "it needs SWAP (off; it needs BLOCK (off))"),
        ("CONFIG_ZPOOL=y\n", "cannot be set by hand; it is selected by ZSWAP"),
        ("CONFIG_KERNEL_GZIP=y\nCONFIG_KERNEL_LZ4=y\n", "is one of a choice that went to CONFIG_"),
        (
            "CONFIG_TRANSPARENT_HUGEPAGE=y\nCONFIG_COMPACTION=n\n",
            "CONFIG_COMPACTION=n became y: it is selected by TRANSPARENT_HUGEPAGE",
        ),
        (
            "CONFIG_BLOCK=y\nCONFIG_SWAP=y\nCONFIG_ZSWAP=m\n",
            "CONFIG_ZSWAP=m became y: it cannot be a module: CONFIG_MODULES is off",
        ),
    ],
)
def test_a_lost_symbol_is_named_with_what_it_lacks(
    tree: Path, chain: kbuild.Toolchain, text: str, said: str
) -> None:
    assert said in lost(tree, text, chain)


def test_all_lost_symbols_are_named_at_once(tree: Path, chain: kbuild.Toolchain) -> None:
    said = lost(tree, "CONFIG_SWAP=y\nCONFIG_ZPOOL=y\nCONFIG_SWAPP=y\n", chain)
    assert all(f"CONFIG_{name}" in said for name in ("SWAP=y", "ZPOOL=y", "SWAPP:"))


def test_the_words_of_newer_kconfig_files_are_understood(
    tree: Path, chain: kbuild.Toolchain
) -> None:
    text = (tree / "Kconfig").read_text().replace("\toption modules", "\tmodules")
    text = text.replace("depends on MMU && BLOCK", "depends on BLOCK if MMU")
    (tree / "Kconfig.new").write_text(text.replace('"Compaction"', '"Compaction"\n\ttransitional'))
    make = (tree / "Makefile").read_text()
    # The tree's own tools are older here; only the explanation reads the new file.
    (tree / "Makefile").write_text(make.replace("$(PYTHON) -m $@", "$(PYTHON) -m $@ Kconfig.old"))
    (tree / "Kconfig").rename(tree / "Kconfig.old")
    (tree / "Kconfig.new").rename(tree / "Kconfig")
    assert "CONFIG_SWAP=y became n: it needs (BLOCK || !MMU)" in lost(
        tree, "CONFIG_SWAP=y\n", chain
    )


def test_a_kconfig_file_nobody_can_parse_still_gives_its_depends_lines(
    tree: Path, chain: kbuild.Toolchain
) -> None:
    make = (tree / "Makefile").read_text()
    (tree / "Makefile").write_text(make.replace("$(PYTHON) -m $@", "$(PYTHON) -m $@ Kconfig.old"))
    (tree / "Kconfig.old").write_text(tinytree.KCONFIG)
    (tree / "Kconfig").write_text(tinytree.KCONFIG + "\nfrobnicate\n")
    said = lost(tree, "CONFIG_SWAP=y\n", chain)
    assert "it depends on MMU && BLOCK; off: BLOCK" in said
    assert "kconfiglib could not parse" in said
