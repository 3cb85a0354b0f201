# SPDX-License-Identifier: GPL-2.0-only
"""What it costs to build Linux 5.10: ours, by hand, and with virtme-ng's own configuration.

    .venv/bin/python ci/bench/build.py cold WORK          # from a clean tree, each once: long
    .venv/bin/python ci/bench/build.py edit WORK [--rounds 5]   # after one line of mm/memory.c
    .venv/bin/python ci/bench/build.py link WORK          # where the time after an edit goes
    .venv/bin/python ci/bench/build.py image WORK         # how long each compression takes

WORK is a folder that keeps the trees from one to the next (5 GB); `cold` comes first. Nothing is
taken from a compiler's cache. `--save FILE` keeps the figures for plot.py.
"""

from __future__ import annotations

import argparse
import difflib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import measuring

from runner import host, kbuild, overlay, source
from runner.build import BuildRequest, build, final_config
from runner.experiment import DEFAULT_SOURCE, FRAGMENTS, ROOT
from runner.host import How
from runner.kconfig import load as load_kconfig
from runner.patchset import EMPTY, PatchSet, read_patch
from runner.source import Fetched

OTHERS = "of the CPUs others had"
LOG = ".bench.log"
EDITED = "mm/memory.c"
ABOVE = "fault_around_bytes __read_mostly =\n"
LINE = "\trounddown_pow_of_two(65536);\n"
BIN = Path("arch/x86/boot/compressed/vmlinux.bin")
# as scripts/Makefile.lib of 5.10 calls them
COMPRESSIONS = {
    "lz4 (ours)": ("lz4c", "-l", "-c1"),
    "gzip (virtme-ng's)": ("gzip", "-n", "-f", "-9", "-c"),
    "xz": ("xz", "--check=crc32", "--x86", "--lzma2=dict=32MiB", "-c"),
    "zstd": ("zstd", "-22", "--ultra", "-q", "-c"),
}


class Place:
    """The folders of one bench: `ours` is a cache of twinboot, `theirs` a tree."""

    def __init__(self, work: Path) -> None:
        self.work = work.absolute()
        self.ours, self.theirs = self.work / "ours", self.work / "theirs"
        cache = host.cache_dir()
        self.fetched: Fetched = source.fetch(
            source.parse_source(DEFAULT_SOURCE), cache, measuring.say
        )
        host.make_folder(self.ours)
        if not (self.ours / "sources").exists():
            (self.ours / "sources").symlink_to(cache / "sources")

    @property
    def warm(self) -> Path:
        """The warm tree in our cache. What is changed in it by hand, the next build sets right; a
        copy of it would compile all anew, for objtool knows its folder by its whole name.
        """
        (tree,) = (self.ours / "trees").iterdir()
        return tree

    def request(self, patchset: PatchSet = EMPTY) -> BuildRequest:
        kconfig = load_kconfig(FRAGMENTS, ROOT / "kconfigs")
        return BuildRequest(self.fetched, patchset, kconfig)


def prepared(work: Path) -> Place:
    """The folders, with virtme-ng to be found and no compiler's cache."""
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    os.environ["CCACHE_DISABLE"] = "1"
    return Place(work)


def words(place: Place) -> tuple[str, ...]:
    """What make is called with for a kernel of ours."""
    return kbuild.toolchain("gcc", None, place.ours).words


def make(tree: Path, *words: str) -> None:
    """What one types in the tree; the output goes into LOG there."""
    jobs = f"-j{os.cpu_count() or 1}"
    how = How(cwd=tree, unset=kbuild.LEAKS, log=tree / LOG)
    host.run(("make", jobs, *words, "bzImage"), how)


def configured_by_virtme_ng(tree: Path) -> None:
    """Without what the user's own ~/.config/virtme-ng would add."""
    with tempfile.TemporaryDirectory() as home:
        host.run(("vng", "--kconfig"), How(tree, {"HOME": home}, kbuild.LEAKS, tree / LOG))


def cold(place: Place, save: Path | None) -> None:
    """Both from configured trees in which nothing was ever compiled, one after the other."""
    for folder in (place.ours / "kernels", place.ours / "trees", place.theirs):
        shutil.rmtree(folder, ignore_errors=True)
    final_config(place.request(), place.ours, measuring.say)
    source.unpack(place.fetched, host.cache_dir(), place.theirs)
    configured_by_virtme_ng(place.theirs)
    costs = {
        "virtme-ng's": measuring.cost_of(lambda: make(place.theirs, "LOCALVERSION=-virtme")),
        "ours": measuring.cost_of(lambda: build(place.request(), place.ours, measuring.say)),
    }
    whole = costs["virtme-ng's"].cpu
    rows = [
        (
            name,
            f"{each.cpu:.0f}",
            f"{each.cpu / whole:.2f}",
            f"{each.wall:.0f}",
            f"{each.others_share:.0%}",
        )
        for name, each in costs.items()
    ]
    heads = ("configuration", "CPU seconds", "of virtme-ng's", "seconds", OTHERS)
    print(measuring.table(heads, rows))
    figures = {name: {"cpu": each.cpu, "wall": each.wall} for name, each in costs.items()}
    measuring.keep(save, "build, cold", figures)


def edit(place: Place, rounds: int, save: Path | None) -> None:
    """One line changes, a new one each time; who makes the kernel takes turns, ours first."""
    build(
        place.request(patch(place.warm, new_line())), place.ours, measuring.say
    )  # saves the pristine file
    ways: dict[str, Callable[[str], object]] = {
        "ours, `runner/build`": lambda line: build(
            place.request(patch(place.warm, line)), place.ours, measuring.say
        ),
        "`make` by hand, our configuration": lambda line: by_hand(place.warm, line, *words(place)),
        "`make` by hand, virtme-ng's": lambda line: by_hand(
            place.theirs, line, "LOCALVERSION=-virtme"
        ),
    }
    if not (place.theirs / "vmlinux").exists():
        del ways["`make` by hand, virtme-ng's"]
    found: dict[str, list[measuring.Cost]] = {name: [] for name in ways}
    for number in range(rounds):
        line = new_line()
        for name, way in ways.items():
            found[name].append(measuring.cost_of(partial(way, line)))
        measuring.say(f"round {number + 1} of {rounds}")
    rows, figures = [], {}
    for name, costs in found.items():
        spread = measuring.least_to_greatest(cost.cpu for cost in costs)
        cpu = measuring.middle(cost.cpu for cost in costs)
        wall = measuring.middle(cost.wall for cost in costs)
        theirs = measuring.middle(cost.others_share for cost in costs)
        rows.append((name, f"{cpu:.1f}", spread, f"{wall:.1f}", f"{theirs:.0%}"))
        figures[name] = {"cpu": cpu, "wall": wall}
    heads = ("", "CPU seconds, median", "least to greatest", "seconds", OTHERS)
    print(measuring.table(heads, rows))
    measuring.keep(save, "build, edit", figures)


def new_line() -> str:
    """Of an initialised variable, with a value that no build ever had."""
    return f"\t{65536 + 4096 * (int(time.time()) % 10**6)};\n"


def patch(tree: Path, line: str) -> PatchSet:
    """The edit as a patch to the source as it was before any."""
    old = before_any_patch(tree, EDITED)
    told = difference(EDITED, old, old.replace(f"\n{LINE}", f"\n{line}"))
    return PatchSet("edit", (read_patch("0001-edit.patch", "an edit", told),))


def before_any_patch(tree: Path, name: str) -> str:
    """A file of a warm tree as its source has it."""
    pristine = tree / overlay.OWN / "pristine" / name
    return (pristine if pristine.exists() else tree / name).read_text()


def difference(name: str, old: str, new: str) -> str:
    """From one text of a file to the other, as patch(1) takes it."""
    texts = old.splitlines(True), new.splitlines(True)
    return "".join(difflib.unified_diff(*texts, f"a/{name}", f"b/{name}"))


def change(tree: Path, line: str) -> None:
    """The same edit in place; the line that is edited follows one that stays."""
    path = tree / EDITED
    before, after = path.read_text().split(ABOVE)
    path.write_text(before + ABOVE + line + after.split("\n", 1)[1])


def by_hand(tree: Path, line: str, *words: str) -> None:
    change(tree, line)
    make(tree, *words)


def link(place: Place, save: Path | None) -> None:
    """The CPU seconds between two lines that make prints, with one job, after an edit by hand."""
    make(place.warm, *words(place))
    change(place.warm, new_line())
    spent: dict[str, float] = {}
    for step, seconds in steps(place.warm, *words(place)):
        spent[step] = spent.get(step, 0.0) + seconds
    rows = [(step, f"{seconds:.1f}") for step, seconds in spent.items() if seconds >= 0.1]
    total = sum(spent.values())
    rows += [("the rest", f"{total - sum(float(row[1]) for row in rows):.1f}")]
    print(measuring.table(("step", "CPU seconds"), [*rows, ("all", f"{total:.1f}")]))
    measuring.keep(save, "build, link", spent)


def steps(tree: Path, *words: str) -> Iterator[tuple[str, float]]:
    """What make says that it does, and the CPU seconds until it says the next."""
    out = tree / LOG
    out.unlink(missing_ok=True)
    running = host.Kept(("make", "-j1", *words, "bzImage"), out, out, tree)
    step, before, seen, now = "reading all makefiles", 0.0, 0, 0.0
    while True:
        code = running.wait(0.02)
        now = max(now, below(os.getpid()))
        lines = out.read_text().splitlines()
        for line in lines[seen:]:
            if line.startswith("  ") and len(line.split()) >= 2:
                yield step, now - before
                step, before = kind(*line.split()[:2]), now
        seen = len(lines)
        if code is not None:
            yield step, now - before
            running.end()
            if code:
                raise SystemExit(f"make failed; see {out}")
            return


def kind(word: str, target: str) -> str:
    """The step that a line of make's begins."""
    if word == "CC" and target.endswith("memory.o"):
        return "compiling mm/memory.c"
    names = {
        "AR": "archives",
        "KSYMS": "kallsyms",
        "LZ4": "compressing",
        "MODPOST": "modpost",
        "SORTTAB": "sorting the exception table",
        "SYSMAP": "System.map",
    }
    if word == "LD" and target.startswith(".tmp_vmlinux"):
        return "links before kallsyms"
    if word == "AS" and target.startswith(".tmp_vmlinux"):
        return "kallsyms, assembled"
    if word == "LD" and target in ("vmlinux", "vmlinux.o"):
        return f"link of {target}"
    return names.get(word, "image" if "boot" in target else "small steps")


def below(pid: int) -> float:
    """CPU seconds of all processes below this one that live, and of those that they waited for."""
    stats = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        used = sum(int(each) for each in fields[11:15]) / measuring.TICK
        stats[int(path.parent.name)] = (int(fields[1]), used)
    family, grown = {pid}, True
    while grown:
        more = {child for child, (parent, _) in stats.items() if parent in family} - family
        family, grown = family | more, bool(more)
    return sum(stats[each][1] for each in family - {pid} if each in stats)


def image(place: Place, save: Path | None) -> None:
    """What is compressed is the same each time: the kernel of the last build by hand."""
    rows, figures = [], {}
    for name, words in COMPRESSIONS.items():
        if shutil.which(words[0]) is None:
            continue
        with tempfile.TemporaryDirectory(dir=place.work) as folder:
            out = Path(folder, "out")
            script = 'exec "$@" <"$IN" >"$OUT"'
            variables = {"IN": str(place.warm / BIN), "OUT": str(out)}
            command = ("sh", "-c", script, "sh", *words)
            done = host.run(command, How(variables=variables))
            megabytes = out.stat().st_size / 1e6
        rows.append((name, f"{done.cpu_seconds:.1f}", f"{megabytes:.1f}"))
        figures[name] = {"cpu": done.cpu_seconds, "megabytes": megabytes}
    print(measuring.table(("compression", "CPU seconds", "MB"), rows))
    measuring.keep(save, "build, image", figures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("cold", "edit", "link", "image"))
    parser.add_argument("work", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--save", type=Path)
    asked = parser.parse_args()
    place = prepared(asked.work)
    if asked.what == "edit":
        edit(place, asked.rounds, asked.save)
    else:
        {"cold": cold, "link": link, "image": image}[asked.what](place, asked.save)


if __name__ == "__main__":
    main()
