# SPDX-License-Identifier: GPL-2.0-only
"""An uncompressed initramfs as bytes: the "newc" format of the kernel's
Documentation/driver-api/early-userspace/buffer-format.rst. Pure; the same input, the same bytes.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of an initramfs; `device` is major and minor of a character device."""

    name: str
    mode: int
    content: bytes = b""
    device: tuple[int, int] = (0, 0)


def folder(name: str) -> Entry:
    return Entry(name, stat.S_IFDIR | 0o755)


def file(name: str, content: bytes, executable: bool = False) -> Entry:
    return Entry(name, stat.S_IFREG | (0o755 if executable else 0o644), content)


def link(name: str, target: str) -> Entry:
    return Entry(name, stat.S_IFLNK | 0o777, target.encode())


def console() -> Entry:
    """What the kernel opens as standard input and output of init."""
    return Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))


def archive(entries: Iterable[Entry]) -> bytes:
    """The entries in order, each after its folders, which are added where they are missing."""
    whole: dict[str, Entry] = {}
    for entry in entries:
        for parent in reversed(PurePosixPath(entry.name).parents[:-1]):
            whole.setdefault(str(parent), folder(str(parent)))
        whole[entry.name] = entry
    parts = [_packed(number, entry) for number, entry in enumerate(whole.values(), 1)]
    return b"".join((*parts, _packed(0, Entry("TRAILER!!!", 0))))


def _packed(number: int, entry: Entry) -> bytes:
    name = entry.name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    # inode, mode, owner, group, links, time, size, device, its own device, name size, checksum
    fields = (number, entry.mode, 0, 0, links, 0, len(entry.content), 0, 0, *entry.device)
    head = b"070701" + "".join(f"{each:08X}" for each in (*fields, len(name), 0)).encode()
    return _aligned(head + name) + _aligned(entry.content)


def _aligned(raw: bytes) -> bytes:
    return raw + b"\0" * (-len(raw) % 4)
