# SPDX-License-Identifier: GPL-2.0-only
"""Ordered patches as a value: loaded from a diff, a mail, an mbox, a directory or a quilt series.

It does not touch a kernel tree; runner/overlay.py does.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from runner import diff, mbox, posting
from runner.errors import PatchError, UserError
from runner.mbox import NO_THREAD, Mail, Thread
from runner.posting import Posting

SUFFIXES = (".patch", ".diff", ".mbox", ".mbx", ".eml")
LARGEST = 64 << 20


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

    @property
    def mail(self) -> bytes:
        """A file of its own, from which it is read as it is."""
        return f"Subject: {self.subject}\n\n---\n".encode(errors="replace") + self.raw


@dataclass(frozen=True, slots=True)
class PatchSet:
    """Patches in the order in which they apply; the empty one is the base.

    `notes` say which patches were taken of several; `base` is the commit that their author names,
    `thread` what a reply to them answers.
    """

    name: str
    patches: tuple[Patch, ...]
    notes: tuple[str, ...] = ()
    base: str = ""
    thread: Thread = NO_THREAD

    def prefix(self, count: int) -> PatchSet:
        """The first `count` patches; prefix(0) is the base."""
        if count >= len(self.patches):
            return self
        name = f"{self.name} [1..{count}]" if count > 0 else "none"
        return replace(self, name=name, patches=self.patches[: max(count, 0)])

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


def file_name(number: int, patch: Patch) -> str:
    """Its own name where that says its place already, and never a path."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", Path(patch.name).name)[:80].lstrip(".-")
    return plain if plain.startswith(f"{number:04d}") else f"{number:04d}-{plain}"


def load(path: Path | str | None, wanted: Sequence[str] = ()) -> PatchSet:
    """Read a patch set; None and 'none' are the empty one. Raises PatchError or UserError.

    Where mails hold more than one version or series, `wanted` says which (posting.choose).
    """
    if path is None or str(path) == "none":
        return EMPTY
    here = Path(path).expanduser()
    if here.is_dir():
        return _named(here.resolve().name, _load_folder(here, wanted))
    if not here.is_file():
        raise UserError(f"the patch {path} does not exist")
    return _named(here.stem, _load_file(here, here.name, 1, wanted))


def _named(name: str, patchset: PatchSet) -> PatchSet:
    notes = tuple(dict.fromkeys(f"{mbox.plain(name)} {note}" for note in patchset.notes))
    return replace(patchset, name=mbox.plain(name), notes=notes)


def _load_folder(folder: Path, wanted: Sequence[str]) -> PatchSet:
    for series in (folder / "series", folder / "patches/series"):
        if series.is_file():
            _refuse_choice(series, wanted)
            return _joined(_load_series(series))
    paths = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
    texts = {path: _read(path) for path in paths}
    mails = [mail for path in paths for mail in _mails(texts[path], path.name)]
    patches = [mail for mail in mails if mail.diff and not mail.cover]
    if wanted or len({mail.version for mail in patches if not mail.reply}) > 1:
        return _chosen(mails, folder, wanted)
    loaded = [_load_file(path, path.name, 1) for path in paths if not _is_cover(texts[path])]
    if not loaded:
        raise UserError(f"the folder {folder} holds no series file and no *.patch")
    told = posting.described(Posting(tuple(patches)), mails)
    hole = (f"is used although {hole}",) if (hole := posting.holes(patches)) else ()
    notes = (*told.notes, *hole)
    return replace(_joined(loaded), notes=notes, base=told.base, thread=told.thread)


def _joined(sets: Sequence[PatchSet]) -> PatchSet:
    notes = tuple(note for each in sets for note in each.notes)
    base = next((each.base for each in sets if each.base), "")
    thread = next((each.thread for each in sets if each.thread.id), NO_THREAD)
    patches = tuple(patch for each in sets for patch in each.patches)
    return PatchSet("", patches, notes, base, thread)


def _is_cover(text: str) -> bool:
    """The cover letter of a series, as git format-patch writes it."""
    mails = _mails(text, "")
    return bool(mails) and not any(mail.diff for mail in mails) and mails[0].cover


def _load_series(series: Path) -> list[PatchSet]:
    """A quilt series: one patch per line, ` #` starts a comment, -pN strips N folders."""
    patches: list[PatchSet] = []
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
        patches.append(_load_file(path, name, _strip_of(options, where)))
    if not patches:
        raise UserError(f"{series} names no patch")
    return patches


def _strip_of(options: list[str], where: str) -> int:
    strip = 1
    for option in options:
        found = re.fullmatch(r"-p([0-9])", option)
        if not found:
            raise PatchError(f"{where}: the option {option} is not supported, only -p0 to -p9 are")
        strip = int(found.group(1))
    return strip


def _load_file(path: Path, name: str, strip: int, wanted: Sequence[str] = ()) -> PatchSet:
    text = _read(path)
    if mails := _mails(text, name):
        return _chosen(mails, path, wanted, strip)
    _refuse_choice(path, wanted)
    return PatchSet(name, (read_patch(name, _subject_of(text, path), text, strip),))


def _refuse_choice(path: Path, wanted: Sequence[str]) -> None:
    if wanted:
        raise PatchError(f"{path} is no mailbox; #{'#'.join(wanted)} chooses nothing in it")


def _mails(text: str, name: str) -> tuple[Mail, ...]:
    return mbox.read(text, name) if mbox.is_mail(text) else ()


def _chosen(
    mails: Sequence[Mail], path: Path, wanted: Sequence[str] = (), strip: int = 1
) -> PatchSet:
    """The patches that mails mean; one that is alone in its file is named after that."""
    try:
        taken = posting.choose(mails, wanted)
    except posting.Muddled as reason:
        raise PatchError(f"{path} {str(reason).replace('FILE#', f'{path.name}#')}") from reason
    if not taken.mails:
        raise PatchError(f"{path} holds {_lacks(mails)}")
    origins = [mail.origin for mail in taken.mails]
    patches = []
    for number, mail in enumerate(taken.mails, 1):
        alone = origins.count(mail.origin) == 1
        name = mail.origin if alone else f"{mail.origin}#{number} ({mail.title})"
        patches.append(read_patch(name, mail.title, mail.text, strip, mail.flowed))
    return PatchSet("", tuple(patches), taken.notes, taken.base, taken.thread)


def _lacks(mails: Sequence[Mail]) -> str:
    cover = any(mail.cover for mail in mails)
    return "a cover letter and none of its patches" if cover else "no diff"


def _read(path: Path) -> str:
    """Text with the bytes of a diff kept; what `gzip` packed is unpacked, up to a size."""
    with path.open("rb") as stream:
        raw = stream.read(LARGEST + 1)
    if raw.startswith((b"\xfd7zXZ", b"BZh", b"\x28\xb5\x2f\xfd")):
        raise PatchError(f"{path} is compressed; unpack it first")
    if raw.startswith(b"\x1f\x8b"):
        try:
            with gzip.open(path) as packed:
                raw = packed.read(LARGEST + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise PatchError(f"{path} is a damaged gzip file") from error
    if len(raw) > LARGEST:
        raise PatchError(f"{path} is larger than {LARGEST >> 20} MiB; that is no patch series")
    return mbox.unix(raw.decode("utf-8", "surrogateescape"))


def _subject_of(text: str, path: Path) -> str:
    found = re.search(r"^Subject: *(?:\[[^\]]*\] *)?(.*)$", text, re.MULTILINE)
    return found.group(1).strip() if found else path.stem


def read_patch(name: str, subject: str, text: str, strip: int = 1, flowed: bool = False) -> Patch:
    """A patch from its text; PatchError says what is wrong with it."""
    name = mbox.plain(name)
    try:
        found = diff.read(text, strip)
    except diff.Refused as reason:
        raise PatchError(f"the patch {name} {reason}") from reason
    if not found.files:
        raise PatchError(f"the patch {name} holds no diff")
    if found.torn:
        why = "it was sent as format=flowed" if flowed else "a mail program may have folded lines"
        raise PatchError(
            f"the patch {name} is damaged: the hunk in line {found.torn} of its text is not as "
            f"long as it says ({why}); ask for it unchanged"
        )
    return Patch(name, mbox.plain(subject), text[found.start :], found.files, strip)
