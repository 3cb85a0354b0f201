# SPDX-License-Identifier: GPL-2.0-only
"""The commits of a git branch as a patch set: `git:PATH@BASE..TOPIC`, `BASE...TOPIC` or `TOPIC`.

It reads the repository through one of ours (gitstore.py), so that no hook, filter or setting of
it runs, and neither its checkout nor its index is touched.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from runner import gitstore
from runner.counted import counted
from runner.errors import UserError
from runner.gitstore import Store
from runner.mbox import plain
from runner.patchset import Patch, PatchSet, read_patch

KIND = "git:"
FORM = "git:PATH@BASE..TOPIC"
COMMIT = gitstore.COMMIT.pattern
PINNED = re.compile(rf"({COMMIT})\.\.({COMMIT})#(.+)", re.DOTALL)
MOST = 500


@dataclass(frozen=True, slots=True)
class Range:
    """Commits of `repository` after `base` up to `tip`, both full names; `words` as asked for."""

    repository: str
    base: str
    tip: str
    words: str

    def __str__(self) -> str:
        """The same commits again, wherever the branches are by then."""
        return f"{KIND}{self.repository}@{self.base}..{self.tip}#{self.words}"

    @property
    def source(self) -> str:
        """The source that the patches apply to."""
        return f"{KIND}{self.repository}@{self.base}"


def is_range(asked: str) -> bool:
    return asked.startswith(KIND)


def resolve(asked: str, onto: str = "") -> Range:
    """Find the commits that the user named; `onto` is the base of a branch that states none."""
    repository, words = _divide(asked)
    if pinned := PINNED.fullmatch(words):
        return Range(repository, *pinned.groups())
    for dots in ("...", ".."):
        left, found, right = words.partition(dots)
        if found:
            first, tip = (_commit(repository, ref or "HEAD") for ref in (left, right))
            base = _fork_point(repository, first, tip, words) if dots == "..." else first
            return Range(repository, base, tip, words)
    tip = _commit(repository, words)
    if onto:
        return Range(repository, _commit(repository, onto), tip, f"{onto}..{words}")
    try:
        upstream = gitstore.commit_of(repository, f"{words}@{{upstream}}")
    except UserError as error:
        raise UserError(
            f"{words} in {repository} has no upstream to say where it begins; "
            f"write git:{repository}@BASE..{words}"
        ) from error
    base = _fork_point(repository, upstream, tip, words)
    return Range(repository, base, tip, f"{words}@{{upstream}}...{words}")


def load(asked: Range) -> PatchSet:
    """One patch for each commit. UserError where there is none, or where a merge is among them."""
    with tempfile.TemporaryDirectory(prefix="twinboot-git-") as folder:
        store = gitstore.borrow(asked.repository, Path(folder, "git"))
        patches = tuple(_patches(store, asked, Path(folder, "diff")))
        notes = tuple(_notes(store, asked, len(patches)))
    return PatchSet(plain(asked.words), patches, notes, asked.base)


def _divide(asked: str) -> tuple[str, str]:
    """PATH and what follows: the first `@` after a folder, for a ref may hold one as well."""
    spec = asked.removeprefix(KIND)
    for at in (found.start() for found in re.finditer("@", spec)):
        path = Path(spec[:at]).expanduser()
        if path.is_dir():
            if not spec[at + 1 :] or spec[at + 1] == "-":
                break
            return str(path.resolve()), spec[at + 1 :]
    raise UserError(f"{asked} names no commits of a git repository; write {FORM}")


def _commit(repository: str, ref: str) -> str:
    if ref.startswith("-"):
        raise UserError(f"{ref!r} is not a git ref")
    return gitstore.commit_of(repository, ref)


def _fork_point(repository: str, first: str, tip: str, words: str) -> str:
    try:
        return gitstore.ask(repository, "merge-base", first, tip)
    except UserError as error:
        raise UserError(f"the two ends of {words} in {repository} share no commit") from error


def _patches(store: Store, asked: Range, scratch: Path) -> Iterator[Patch]:
    commits = store.git("rev-list", "--reverse", "--topo-order", _span(asked)).split()
    if not commits or len(commits) > MOST:
        raise UserError(f"{asked.words} in {asked.repository} holds {_how_many(commits)}")
    if merges := store.git("rev-list", "--merges", _span(asked)).split():
        raise UserError(
            f"{asked.words} in {asked.repository} holds a merge, {_title(store, merges[-1])}, "
            f"which is no patch; rebase the branch, or give it as one patch: "
            f"git diff {asked.base[:12]}...{asked.tip[:12]} >all.diff"
        )
    for commit in commits:
        # To a file: a diff may hold bytes that are no UTF-8
        diff_tree = ("diff-tree", "--root", "-p", "--full-index", f"--output={scratch}")
        store.git(*diff_tree, "--no-commit-id", commit)
        text = scratch.read_bytes().decode("utf-8", "surrogateescape")
        subject = store.git("log", "-1", "--no-show-signature", "--format=%s", commit)
        if text:
            yield read_patch(f"{commit[:12]} ({plain(subject)})", subject, text)


def _span(asked: Range) -> str:
    return f"{asked.base}..{asked.tip}"


def _how_many(commits: list[str]) -> str:
    if commits:
        return f"{len(commits)} commits; a series has {MOST} at most"
    return "no commit; the newer end comes last, as in BASE..TOPIC"


def _title(store: Store, commit: str) -> str:
    """`1234567890ab ("subject")`, as commits are quoted in the kernel."""
    subject = store.git("log", "-1", "--no-show-signature", "--format=%s", commit)
    return f'{commit[:12]} ("{plain(subject)}")'


def _notes(store: Store, asked: Range, count: int) -> Iterator[str]:
    what = "1 patch" if count == 1 else f"{count} patches"
    yield (
        f"{plain(asked.words)} in {asked.repository}: {what}, {asked.base[:12]}..{asked.tip[:12]}; "
        f"they begin at {_title(store, asked.base)}"
    )
    behind = store.git("rev-list", "--count", f"{asked.tip}..{asked.base}")
    if behind != "0":
        yield (
            f"the base has {counted(int(behind), 'commit')} that the branch lacks; the patches are "
            "applied on top of them (BASE...TOPIC tests them where the branch began)"
        )
