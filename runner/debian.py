# SPDX-License-Identifier: GPL-2.0-only
"""Keeps kernel source tarballs out of Debian packages, each fetched once and checked at each use.

It does not talk to mirrors (runner/apt.py does) and does not unpack trees.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from runner import apt, host
from runner.errors import InfraError, UserError
from runner.host import Progress

# Figures are comparable only on the same source, so the default is one version, not "newest".
PINNED = {"linux-source-5.10": "5.10.223-1"}
Notes = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """A source tarball in the cache, and where it came from."""

    version: str
    suite: str
    sha256: str


def tarball(cache: Path, digest: str) -> Path:
    """Where the tarball with this SHA-256 is kept; tar finds out how it is compressed."""
    return cache / f"sources/{digest}.tar"


def fetch(wanted: apt.Wanted, cache: Path, progress: Progress) -> tuple[Kept, Notes]:
    """The tarball of a package, from the cache where it is kept and whole, else from the mirror.

    Without a version it is the pinned one; where that is gone, the newest one with a note.
    """
    version = wanted.version or PINNED.get(wanted.package)
    kept, notes = _read(cache, wanted.package, version)
    if kept:
        return kept, notes
    try:
        own = apt.Apt(cache / "apt", progress)
        offers = own.find(apt.Wanted(wanted.package, version))
    except InfraError as error:
        old = None if wanted.version else _newest(cache, wanted.package)
        if old is None:
            raise
        return old, (*notes, f"{error.message}; the kept {old.version} was used")
    chosen, more = choose(offers, wanted)
    kept, _ = _read(cache, wanted.package, chosen.version)
    if kept is None:
        progress(f"fetching {wanted.package} {chosen.version} from {chosen.suite}")
        with tempfile.TemporaryDirectory(dir=own.top) as scratch:
            package = own.download(wanted.package, chosen.version, Path(scratch))
            kept = _keep(package, wanted.package, chosen, cache)
    return kept, (*notes, *more)


def choose(offers: tuple[apt.Offer, ...], wanted: apt.Wanted) -> tuple[apt.Offer, Notes]:
    """From what is on offer, newest first: what was asked, or the pinned one, or the newest."""
    if not offers:
        raise UserError(f"no Debian suite on this machine's mirror has {wanted.package}")
    pinned = PINNED.get(wanted.package)
    version = wanted.version or pinned or offers[0].version
    for offer in offers:
        if offer.version == version:
            return offer, ()
    if wanted.version:
        there = ", ".join(dict.fromkeys(offer.version for offer in offers))
        raise UserError(f"{wanted.package} {version} is not on offer; there is {there}")
    return offers[0], (
        f"{wanted.package} {version}, the version that figures are compared on, is gone "
        f"from the mirror; {offers[0].version} was used",
    )


def _record(cache: Path, package: str, version: str) -> Path:
    return cache / f"sources/{package}_{version}.json"


def _read(cache: Path, package: str, version: str | None) -> tuple[Kept | None, Notes]:
    """What is kept of this version, unless its bytes have changed since."""
    if version is None:
        return None, ()
    record = _record(cache, package, version)
    try:
        kept = Kept(**json.loads(record.read_text()))
        if host.sha256_file(tarball(cache, kept.sha256)) == kept.sha256:
            return kept, ()
    except FileNotFoundError:
        return None, ()
    except (ValueError, TypeError):
        return None, (f"the record {record} was unreadable, so the source was fetched again",)
    return None, (f"the kept source {package} {version} was damaged, so it was fetched again",)


def _newest(cache: Path, package: str) -> Kept | None:
    """The tarball of this package that was fetched last."""
    records = (cache / "sources").glob(f"{package}_*.json")
    for record in sorted(records, key=lambda path: path.stat().st_mtime, reverse=True):
        kept, _ = _read(cache, package, record.stem.removeprefix(f"{package}_"))
        if kept:
            return kept
    return None


def _keep(package: Path, name: str, chosen: apt.Offer, cache: Path) -> Kept:
    """Take the source tarball out of the .deb and record what it is."""
    inside = package.parent / "inside"
    host.run(("dpkg-deb", "--extract", package, inside))
    found = sorted((inside / "usr/src").glob(f"{name}.tar.*"))
    if not found:
        raise InfraError(f"{package.name} holds no usr/src/{name}.tar.*")
    kept = Kept(chosen.version, chosen.suite, host.sha256_file(found[0]))
    host.make_folder(cache / "sources")
    os.replace(found[0], tarball(cache, kept.sha256))
    host.write_atomic(_record(cache, name, kept.version), json.dumps(asdict(kept)))
    return kept
