# SPDX-License-Identifier: GPL-2.0-only
"""Ordered patches as a value: loaded from a diff, a mail, an mbox, a directory or a quilt series.

It does not touch a kernel tree; runner/overlay.py does.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from runner import diff, mbox
from runner.errors import PatchError, UserError

SUFFIXES = (".patch", ".diff", ".mbox", ".mbx", ".eml")


@dataclass(frozen=True, slots=True)
class Patch:
    """One patch. `text` starts at the first diff header; undecodable bytes are kept.

    With `reverse` it is taken out of a source that has it.
    """

    name: str
    subject: str
    text: str
    files: tuple[str, ...]
    strip: int = 1
    reverse: bool = False

    @property
    def raw(self) -> bytes:
        return self.text.encode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class PatchSet:
    """Patches in the order in which they apply; the empty one is the base."""

    name: str
    patches: tuple[Patch, ...]

    def prefix(self, count: int) -> PatchSet:
        """The first `count` patches; prefix(0) is the base."""
        if count >= len(self.patches):
            return self
        name = f"{self.name} [1..{count}]" if count > 0 else "none"
        return PatchSet(name, self.patches[: max(count, 0)])

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(sorted({name for patch in self.patches for name in patch.files}))

    @property
    def digest(self) -> str:
        """A SHA-256 over the diffs alone: a reworded commit message is the same patch."""
        total = hashlib.sha256()
        for patch in self.patches:
            way = "-" if patch.reverse else ""
            total.update(f"{way}{patch.strip} {len(patch.raw)}\n".encode() + patch.raw)
        return total.hexdigest()

    def __len__(self) -> int:
        return len(self.patches)


EMPTY = PatchSet("none", ())


def load(path: Path | str | None) -> PatchSet:
    """Read a patch set; None and 'none' are the empty one. Raises PatchError or UserError."""
    if path is None or str(path) == "none":
        return EMPTY
    here = Path(path).expanduser()
    if here.is_dir():
        return PatchSet(here.resolve().name, _load_folder(here))
    if not here.is_file():
        raise UserError(f"the patch {path} does not exist")
    return PatchSet(here.stem, _load_file(here, here.name, 1))


def _load_folder(folder: Path) -> tuple[Patch, ...]:
    for series in (folder / "series", folder / "patches/series"):
        if series.is_file():
            return _load_series(series)
    names = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
    names = [path for path in names if not _is_cover(path)]
    if not names:
        raise UserError(f"the folder {folder} holds no series file and no *.patch")
    return tuple(patch for path in names for patch in _load_file(path, path.name, 1))


def _is_cover(path: Path) -> bool:
    """`0000-cover-letter.patch`, as git format-patch writes it."""
    return path.name.startswith("0000-") and not mbox.HAS_DIFF.search(_read(path))


def _load_series(series: Path) -> tuple[Patch, ...]:
    """A quilt series: one patch per line, ` #` starts a comment, -pN strips N folders."""
    patches: list[Patch] = []
    for number, line in enumerate(series.read_text(errors="replace").splitlines(), 1):
        words = re.sub(r"(^|\s)#.*$", "", line).split()
        if not words:
            continue
        name, options = words[0], words[1:]
        where = f"{series}, line {number}"
        if diff.unsafe(name):
            raise PatchError(f"{where}: {name!r} {diff.unsafe(name)}")
        path = series.parent / name
        if not path.is_file() or not path.resolve().is_relative_to(series.parent.resolve()):
            raise PatchError(f"{where}: the patch {name} is not a file in {series.parent}")
        patches += _load_file(path, name, _strip_of(options, where))
    if not patches:
        raise UserError(f"{series} names no patch")
    return tuple(patches)


def _strip_of(options: list[str], where: str) -> int:
    strip = 1
    for option in options:
        found = re.fullmatch(r"-p([0-9])", option)
        if not found:
            raise PatchError(f"{where}: the option {option} is not supported, only -p0 to -p9 are")
        strip = int(found.group(1))
    return strip


def _load_file(path: Path, name: str, strip: int) -> tuple[Patch, ...]:
    text = _read(path)
    if not mbox.is_mail(text):
        return (_patch(name, _subject_of(text, path), text, strip),)
    try:
        mails = mbox.series(text)
    except mbox.Muddled as reason:
        raise PatchError(f"{path} {reason}") from reason
    if not mails:
        raise PatchError(f"{path} holds no diff")
    if len(mails) == 1:
        return (_patch(name, mails[0].title, mails[0].text, strip),)
    titles = [f"{name}#{number} ({mail.title})" for number, mail in enumerate(mails, 1)]
    return tuple(
        _patch(title, mail.title, mail.text, strip)
        for title, mail in zip(titles, mails, strict=True)
    )


def _read(path: Path) -> str:
    raw = path.read_bytes()
    if raw.startswith((b"\x1f\x8b", b"\xfd7zXZ", b"BZh")):
        raise PatchError(f"{path} is compressed; unpack it first")
    return raw.decode("utf-8", "surrogateescape")


def _subject_of(text: str, path: Path) -> str:
    found = re.search(r"^Subject: *(?:\[[^\]]*\] *)?(.*)$", text, re.MULTILINE)
    return found.group(1).strip() if found else path.stem


def _patch(name: str, subject: str, text: str, strip: int) -> Patch:
    try:
        found = diff.read(text, strip)
    except diff.Refused as reason:
        raise PatchError(f"the patch {name} {reason}") from reason
    if not found.files:
        raise PatchError(f"the patch {name} holds no diff")
    return Patch(name, subject, text[found.start :], found.files, strip)
