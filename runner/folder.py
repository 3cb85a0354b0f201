# SPDX-License-Identifier: GPL-2.0-only
"""Reads a folder with a kernel source: what in it is source, a digest of that, a copy of that.

It never writes to the folder that it reads.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

# What a build leaves behind in a tree; `make mrproper` in the copy removes the rest.
PRODUCT = re.compile(
    r"(^|/)(\.git|\.twinboot|\.tmp_.*|\.config(\.old)?|\..*\.(cmd|d)|System\.map|bzImage"
    r"|vmlinux(\.(bin.*|map|unstripped))?"
    r"|[^/]*\.(o|a|ko|mod|order|symvers|builtin|modinfo|dwo|gcno|su|rej|orig))$"
    r"|^include/(config|generated)$|^arch/[^/]*/include/generated$"
)


def leaves(top: Path, link: Path) -> bool:
    """Whether a symbolic link leads out of the folder `top`, on its own or by way of others."""
    end = os.path.realpath(link)
    return os.path.isabs(os.readlink(link)) or not f"{end}/".startswith(f"{top.resolve()}/")


def everything(folder: Path) -> Iterator[Path]:
    """Everything below a folder, no link followed, in a stable order."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        yield Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            yield from everything(Path(entry.path))


def read(top: Path, copy: Path | None = None) -> tuple[str, tuple[str, ...]]:
    """Hash what is source in a folder, and copy just that where `copy` is given.

    Returns a SHA-256 over names, modes and contents, and notes on what was left out.
    """
    digest, left_out = hashlib.sha256(), []
    for name, path in _sources(top, PurePosixPath()):
        if path.is_symlink():
            if leaves(top, path):
                left_out.append(str(name))
                continue
            kind, content = "link", os.readlink(path).encode()
        else:
            content = path.read_bytes()
            kind = "run" if os.access(path, os.X_OK) else "file"
        if kind != "link" and content.startswith(b"\x7fELF"):
            continue
        digest.update(f"{kind} {name} {hashlib.sha256(content).hexdigest()}\n".encode())
        if copy is not None:
            _copy(copy / name, kind, content)
    notes = (f"symbolic links that leave {top} were left out: {', '.join(left_out[:3])}",)
    return digest.hexdigest(), notes if left_out else ()


def _copy(path: Path, kind: str, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "link":
        path.symlink_to(content.decode())
    else:
        path.write_bytes(content)
        path.chmod(0o755 if kind == "run" else 0o644)


def _sources(folder: Path, name: PurePosixPath) -> Iterator[tuple[PurePosixPath, Path]]:
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        here = name / entry.name
        if PRODUCT.search(str(here)):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _sources(Path(entry.path), here)
        elif entry.is_symlink() or entry.is_file(follow_symlinks=False):
            yield here, Path(entry.path)
