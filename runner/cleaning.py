# SPDX-License-Identifier: GPL-2.0-only
"""What `twinboot clean` removes: only what twinboot made, only below its cache folder.

It waits for another twinboot that builds in a tree before it removes that tree.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from runner import host

KINDS = {
    "trees": ("trees", "ccache"),
    "kernels": ("kernels",),
    "sources": ("sources", "apt"),
    "runs": ("runs", "proofs", "bisections"),
}
SMALL = (
    "guest-programs",
    "kselftests",
    "rootfs",
    "logs",
    "rejects",
    "kvm-probe.json",
    "durations.json",
)


def clean(cache: Path, kinds: Sequence[str], everything: bool) -> Iterator[str]:
    """Remove the chosen kinds; one line for each thing there is, removed or kept."""
    for kind, names in KINDS.items():
        for path in (cache / name for name in names):
            if path.exists():
                yield _one(path, kind in kinds)
    for path in (cache / name for name in SMALL):
        if everything and path.exists():
            yield _one(path, True)


def _one(path: Path, remove: bool) -> str:
    size = f"{_size(path) / 2**20:,.0f} MiB"
    if not remove:
        return f"kept     {size:>12}  {path}"
    with host.locked(path.with_name(f"{path.name}.clean.lock")):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    path.with_name(f"{path.name}.clean.lock").unlink(missing_ok=True)
    return f"removed  {size:>12}  {path}"


def _size(path: Path) -> int:
    """Bytes on disk, sparse files by what they take."""
    if path.is_file():
        return path.stat().st_blocks * 512
    return sum(each.lstat().st_blocks * 512 for each in path.rglob("*"))
