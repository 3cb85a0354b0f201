# SPDX-License-Identifier: GPL-2.0-only
"""What --source and --patch say together: which source, which patches, and what is told of both.

Refs of a git range become commits here, so that a run can be made again when branches moved on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from runner import gitrange, gitstore, variant
from runner.errors import UserError
from runner.patchset import PatchSet
from runner.patchset import load as load_patches
from runner.source import Fetched


def settle(source: str, patch: str, usual: str, shelf: Path) -> tuple[str, str]:
    """The source and the patch to take. Without `source` it is what the patch names, or `usual`.

    A git source may come without a ref where the patch states its base-commit.
    """
    if not gitrange.is_range(patch):
        lacking = _lacks_ref(source)
        return _on_base_commit(source, patch, shelf) if lacking else source or usual, patch
    onto = _git_ref(source) if source and not _lacks_ref(source) else ""
    asked = gitrange.resolve(patch, onto)
    if not source:
        source = asked.source
    elif _lacks_ref(source):
        source = f"{source}@{asked.base}"
    elif onto and (at := gitstore.commit_of(_git_path(source), onto)) != asked.base:
        raise UserError(
            f"--source is commit {at[:12]} and the patches {asked.words} begin at "
            f"{asked.base[:12]}; leave --source out, or give them as a folder of git format-patch"
        )
    return source, str(asked)


def check(asked: str, shelf: Path) -> None:
    """UserError at once, before anything is fetched, where --patch names nothing."""
    if gitrange.is_range(asked):
        gitrange.resolve(asked)
    else:
        variant.find(_divide(asked)[0], shelf)


def pinned(asked: str, shelf: Path) -> str:
    """The same patches wherever branches and the working folder are by then.

    UserError at once where it names nothing.
    """
    if gitrange.is_range(asked):
        return str(gitrange.resolve(asked))
    named, wanted = _divide(asked)
    variant.find(named, shelf)
    path = Path(named).expanduser()
    return "#".join((str(path.absolute()), *wanted)) if path.exists() else asked


def digest(asked: str, shelf: Path) -> str:
    """What changes when the patches do; of several sets, one for each range of kernels, all."""
    path = None if gitrange.is_range(asked) else variant.find(_divide(asked)[0], shelf)
    if path is not None and variant.is_variant(path):
        return " ".join(f"{each.name} {load_patches(each).digest}" for each in variant.ranges(path))
    return patches(asked, "", shelf).digest


def patches(asked: str, version: str, shelf: Path) -> PatchSet:
    """The patches that --patch means for a kernel of this version, with notes on the choice."""
    if gitrange.is_range(asked):
        return gitrange.load(gitrange.resolve(asked))
    named, wanted = _divide(asked)
    chosen = variant.choose(variant.find(named, shelf), version)
    patchset = load_patches(chosen.path, wanted)
    if not chosen.name:
        return patchset
    note = f"patch set {chosen.name} for Linux {version}"
    return dataclasses.replace(patchset, name=chosen.name, notes=(note, *patchset.notes))


def stated_base(patchset: PatchSet, fetched: Fetched) -> Iterator[str]:
    """Whether the patches are where their author says that they belong."""
    if not patchset.base:
        return
    base, where = patchset.base, fetched.source
    if where.kind != "git":
        what = "a package" if where.kind == "debian" else str(where)
        yield f"base-commit {base[:12]} is not in {what}; applied to {fetched.detail} instead"
        return
    path, _, ref = where.spec.rpartition("@")
    commit = fetched.detail.removeprefix("commit ")
    if commit.startswith(base):
        yield f"applied to base-commit {base[:12]}, which the patches name"
        return
    there = "" if _has(path, base) else f", which is not in {path}"
    where_to = f"applied to {ref} ({commit[:12]}) instead"
    yield f"the patches name base-commit {base[:12]}{there}; {where_to}"


def _divide(asked: str) -> tuple[str, tuple[str, ...]]:
    """`FILE#v2#WORDS`: a file, and which of the series in it is meant."""
    name, *wanted = asked.split("#")
    if not wanted or Path(asked).expanduser().exists():
        return asked, ()
    return name, tuple(word.strip() for word in wanted)


def _lacks_ref(source: str) -> bool:
    return source.startswith("git:") and Path(source[4:]).expanduser().is_dir()


def _git_path(source: str) -> str:
    return str(Path(source[4:].rpartition("@")[0]).expanduser())


def _git_ref(source: str) -> str:
    return source.rpartition("@")[2] if source.startswith("git:") else ""


def _on_base_commit(source: str, patch: str, shelf: Path) -> str:
    """A git repository at the base-commit that the patches name."""
    named, wanted = _divide(patch)
    path = variant.find(named, shelf)
    base = "" if variant.is_variant(path) else load_patches(path, wanted).base
    if not base:
        raise UserError(f"{source} names no ref and the patches no base-commit; write {source}@REF")
    if not _has(source[4:], base):
        raise UserError(
            f"the patches name base-commit {base}, which is not in {source[4:]}; "
            f"fetch it, or write {source}@REF for another base"
        )
    return f"{source}@{base}"


def _has(repository: str, commit: str) -> bool:
    try:
        gitstore.commit_of(Path(repository).expanduser(), commit)
    except UserError:
        return False
    return True
