# SPDX-License-Identifier: GPL-2.0-only
"""Git histories on a real kernel source: one of 40 commits, and one of 8 with a rare bug.

The long one has everything that a bisection meets:

main:  1 ... 8 ... 11, 12 (a merge), 13 ... 40        side: 4 commits after 8, merged by 12
20 does not compile, and so 21; 24 is the known-bad change; 26 does not boot; 29 and 30 show the
bug in about half of their boots only. In the short one 5 brings the bug, in 3 boots of 10.
"""

from __future__ import annotations

from pathlib import Path

from runner import host, source
from runner.experiment import DEFAULT_SOURCE, ROOT
from runner.tests.test_bisect_commits import git

LAST, CULPRIT, MERGE, PARTED = 40, 24, 12, 8
BUG = ROOT / "patches/known-bad/reuse-clears-word.patch"
ALWAYS = "\t\tmemset(page_address(page) + PAGE_SIZE - sizeof(long), 0,\n"
SHORT, RARE = 8, 5


def _in_some_boots(condition: str) -> str:
    """The bug, if `condition` holds at its first chance; that decides for the whole boot."""
    return (
        "\t\tstatic int twinboot_roll = -1;\n"
        "\t\tif (twinboot_roll < 0)\n"
        f"\t\t\ttwinboot_roll = {condition};\n"
        f"\t\tif (twinboot_roll)\n\t{ALWAYS}"
    )


SOMETIMES = _in_some_boots("(ktime_get_real_ns() >> 23) & 1")
RARELY = _in_some_boots("(u32)(ktime_get_real_ns() >> 10) % 10 < 3")
BOOTED = "static int __ref kernel_init(void *unused)\n{\n"
# The line to replace and what takes its place, in which file, by the number of the commit
EDITS = {
    20: ("mm/mincore.c", "#include <linux/gfp.h>", "#include <linux/gfp.h>\n#error planted"),
    22: ("mm/mincore.c", "\n#error planted", ""),
    26: ("init/main.c", BOOTED, f'{BOOTED}\tpanic("planted");\n'),
    27: ("init/main.c", '\tpanic("planted");\n', ""),
    29: ("mm/memory.c", ALWAYS, SOMETIMES),
    31: ("mm/memory.c", SOMETIMES, ALWAYS),
}
HARMLESS = ("mm/msync.c", "mm/vmacache.c", "mm/interval_tree.c")


def write(top: Path) -> Path:
    """Make the repository in `top`; tags v0 (the source itself) to v40 and side1 to side4."""
    _begin(top)
    for number in range(1, LAST + 1):
        if number == MERGE:
            _side_branch(top)
        else:
            _commit(top, f"v{number}", _change(top, number))
    return top


def write_short(top: Path) -> Path:
    """Make the repository with the rare bug in `top`; tags v0 (the source itself) to v8."""
    _begin(top)
    for number in range(1, SHORT + 1):
        if number != RARE:
            subject = _harmless(top, HARMLESS[number % len(HARMLESS)], f"short{number}")
        else:
            git(top, "apply", "--index", str(BUG))
            _replace(top / "mm/memory.c", ALWAYS, RARELY)
            subject = "the bug in 3 boots of 10"
        _commit(top, f"v{number}", subject)
    return top


def _begin(top: Path) -> None:
    cache = host.cache_dir()
    fetched = source.fetch(source.parse_source(DEFAULT_SOURCE), cache, print)
    source.unpack(fetched, cache, top)
    git(top, "init", "-q", "-b", "main")
    git(top, "config", "gc.auto", "0")
    git(top, "add", "-A", "-f")
    _commit(top, "v0", "the source")


def _change(top: Path, number: int) -> str:
    """Make one change; returns the commit's subject."""
    if number == CULPRIT:
        git(top, "apply", "--index", str(BUG))
        return "the known-bad change"
    if number in EDITS:
        name, old, new = EDITS[number]
        _replace(top / name, old, new)
        return f"change {number} in {name}"
    return _harmless(top, HARMLESS[number % len(HARMLESS)], f"main{number}")


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, (path, old)
    path.write_text(text.replace(old, new, 1))


def _harmless(top: Path, name: str, word: str) -> str:
    """Code that nobody calls; every fifth one is a comment, which changes no code."""
    path = top / name
    function = f"\nint twinboot_{word}(void);\nint twinboot_{word}(void)\n{{\n\treturn 1;\n}}\n"
    comment = f"\n/* twinboot {word} */\n"
    path.write_text(path.read_text() + (comment if word.endswith(("5", "0")) else function))
    return f"{word} in {name}"


def _side_branch(top: Path) -> None:
    git(top, "checkout", "-q", "-b", "side", f"v{PARTED}")
    for number in range(1, 5):
        _commit(top, f"side{number}", _harmless(top, "mm/mincore.c", f"side{number}"))
    git(top, "checkout", "-q", "main")
    git(top, "merge", "-q", "--no-ff", "-m", "merge the side branch", "side")
    git(top, "tag", f"v{MERGE}")


def _commit(top: Path, tag: str, subject: str) -> None:
    git(top, "add", "-A")
    git(top, "commit", "-q", "-m", f"{tag}: {subject}")
    git(top, "tag", tag)
