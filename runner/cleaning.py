# SPDX-License-Identifier: GPL-2.0-only
"""What `twinboot clean` removes: only what twinboot made, known by its name, below its cache.

It waits for another twinboot that works with a thing before it removes that thing.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from runner import host
from runner.errors import UserError

STAMP = r"\d{8}-\d{6}.*|bench-\d+"
SCRATCH = r"\.(new|partial|discarded|unpack|boots)-.*"
RUN_FILES = ("plan.json", "run.json", "walk.json", "bisect.json")
KIND_HELP = {
    "trees": "The warm build trees: the next build compiles anew.",
    "ccache": "What the compiler made, which a new tree takes.",
    "kernels": "The kept kernels, which repro, bundle and splats need too.",
    "sources": "The downloaded sources, if the mirror still has them.",
    "guests": "The guests' roots and programs, kselftests too.",
    "logs": "Logs of builds that failed, rejected hunks, what was measured of this host.",
    "runs": "The evidence of runs, proofs and bisections, which nothing brings back.",
}


@dataclass(frozen=True, slots=True)
class Shelf:
    """A folder of the cache and the option that frees it; without `ours` it is a single file.

    What is in it is ours by its name, or by a file that it holds. `lock` is what a twinboot holds
    that works there, with the thing's name for {}; that of evidence is in its own folder.
    """

    name: str
    kind: str
    ours: str = ""
    lock: str = ""
    holds: tuple[str, ...] = ()


SHELVES = (
    Shelf("trees", "trees", rf"[0-9a-f]{{16}}|\.[0-9a-f]{{16}}{SCRATCH}", "locks/tree-{}.lock"),
    Shelf("ccache", "ccache", r"[0-9a-f]|tmp|lock|stats|ccache\.conf|CACHEDIR\.TAG"),
    Shelf("kernels", "kernels", rf"[0-9a-f]{{32}}|{SCRATCH}"),
    Shelf(
        "sources",
        "sources",
        r"[0-9a-f]{64}\.tar|linux-[a-z0-9.+-]+_[A-Za-z0-9.+~:-]+\.json",
        "locks/apt.lock",
    ),
    Shelf("apt", "sources", r"apt\.conf|sources\.list|cache|log|state|tmp\w{8}", "locks/apt.lock"),
    Shelf("rootfs", "guests", rf"[0-9a-f]{{16}}(\.img)?|{SCRATCH}", "rootfs/lock"),
    Shelf("guest-programs", "guests", rf"[0-9a-f]{{16}}|{SCRATCH}", "guest-programs/lock"),
    Shelf("kselftests", "guests", r"[0-9a-f]{16}", "locks/kselftests.lock"),
    Shelf("logs", "logs", r"(build|config|guest-programs)-[0-9a-f]+\.log"),
    Shelf("rejects", "logs", SCRATCH, holds=("**/*.rej",)),
    Shelf("kvm-probe.json", "logs"),
    Shelf("durations.json", "logs", lock="locks/durations"),
    Shelf("runs", "runs", STAMP, holds=RUN_FILES),
    Shelf("proofs", "runs", SCRATCH, holds=("*/run.json",)),
    Shelf("bisections", "runs", STAMP, holds=RUN_FILES),
)
# Locks that lie among the things; they are empty, and somebody may wait for one
LOCKS = ("lock", ".lock")


def clean(cache: Path, kinds: Sequence[str]) -> Iterator[str]:
    """Remove the chosen kinds; a line for everything there is, removed or kept, and its size.

    UserError where the cache folder does not exist.
    """
    if not cache.is_dir():
        raise UserError(f"there is no folder {cache}, so there is nothing to clean")
    for shelf in SHELVES:
        ours, others = _sorted(cache, shelf)
        if ours:
            yield _line(cache, shelf, ours, shelf.kind in kinds)
        if others and shelf.kind in kinds:
            names = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
            yield f"left     {'':>12}  {cache / shelf.name}: {names}, which twinboot did not make"


def _sorted(cache: Path, shelf: Shelf) -> tuple[list[Path], list[str]]:
    """What twinboot made there, and the names of all else."""
    path = cache / shelf.name
    if not path.is_dir():
        return ([path] if path.is_file() and not shelf.ours else []), []
    things = sorted(path.iterdir()) if shelf.ours else []
    ours = [each for each in things if _is_ours(each, shelf)]
    return ours, [each.name for each in things if each not in ours and each.name not in LOCKS]


def _is_ours(path: Path, shelf: Shelf) -> bool:
    held = (found for name in shelf.holds for found in path.glob(name))
    return bool(re.fullmatch(shelf.ours, path.name)) or any(held)


def _line(cache: Path, shelf: Shelf, ours: Sequence[Path], remove: bool) -> str:
    size = f"{sum(map(_size, ours)) / 2**20:,.0f} MiB"
    path = cache / shelf.name
    if not remove:
        return f"kept     {size:>12}  {path} (--{shelf.kind})"
    for each in ours:
        with _held(cache, shelf, each):
            _remove(each)
    if path.is_dir() and not path.is_symlink():
        with contextlib.suppress(OSError):  # something is left in it
            path.rmdir()
    return f"removed  {size:>12}  {path}"


def _held(cache: Path, shelf: Shelf, path: Path) -> AbstractContextManager[None]:
    """With the lock of who works with it."""
    if shelf.lock:
        name = path.name.removeprefix(".").partition(".")[0]
        return host.locked(cache / shelf.lock.format(name))
    inside = (path / name for name in LOCKS)
    own = [each for each in inside if each.is_file() and not each.is_symlink()]
    return host.locked(own[0]) if own and not path.is_symlink() else contextlib.nullcontext()


def _remove(path: Path) -> None:
    """A link goes, and not what it leads to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _size(path: Path) -> int:
    """Bytes on disk, sparse files by what they take."""
    below = path.rglob("*") if path.is_dir() and not path.is_symlink() else ()
    return sum(each.lstat().st_blocks * 512 for each in (path, *below))
