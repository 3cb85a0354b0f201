# SPDX-License-Identifier: GPL-2.0-only
"""Makes a warm tree equal its pristine source plus a patch set, writing only what differs.

It decides nothing from what was pushed before: it compares contents, so that a push that was
killed in the middle is healed by the next one.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from runner import host
from runner.errors import InfraError, PatchError
from runner.host import How
from runner.patchset import Patch, PatchSet

OWN = ".twinboot"


@dataclass(frozen=True, slots=True)
class Content:
    """A file as bytes and mode; absent files are None where this is optional."""

    raw: bytes
    executable: bool


def push(tree: Path, patchset: PatchSet, rejects: Path | None = None) -> tuple[str, ...]:
    """Apply `patchset` to the pristine tree; returns the files whose content changed.

    A patch that does not apply raises PatchError before anything in the tree is written, and
    its refused hunks are kept under `rejects`.
    """
    try:
        return _sync(tree, _wanted(tree, patchset, rejects))
    except OSError as error:
        raise _cannot_write(tree, error) from error


def check(tree: Path, patchset: PatchSet, rejects: Path | None = None) -> None:
    """PatchError where `patchset` does not apply, as `push` raises it; the tree stays as it is."""
    try:
        _wanted(tree, patchset, rejects)
    except OSError as error:
        raise _cannot_write(tree, error) from error


def _wanted(tree: Path, patchset: PatchSet, rejects: Path | None) -> dict[str, Content | None]:
    """What the files of the tree should be with `patchset`, worked out beside it."""
    own = tree / OWN
    host.make_folder(own)
    _refuse_links(tree, patchset)
    _save_pristine(tree, patchset.files)
    with tempfile.TemporaryDirectory(dir=own, prefix="stage-") as folder:
        return _stage(tree, Path(folder).resolve(), patchset, rejects or own / "rejects")


def _cannot_write(tree: Path, error: OSError) -> InfraError:
    return InfraError(f"cannot write in the warm tree {tree}: {error.strerror}")


def forget(tree: Path) -> None:
    """The tree is another source now: what was saved of the one before is void."""
    shutil.rmtree(tree / OWN / "pristine", ignore_errors=True)
    (tree / OWN / "absent").unlink(missing_ok=True)


def clean_stages(tree: Path) -> None:
    """Remove what a killed push left beside its pristine copies."""
    for leftover in (tree / OWN).glob("stage-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    for file in (tree / OWN).glob("put-*"):
        file.unlink()


def _refuse_links(tree: Path, patchset: PatchSet) -> None:
    for patch in patchset.patches:
        for name in patch.files:
            for place in (tree / name, *(tree / name).parents):
                if place == tree:
                    break
                if place.is_symlink():
                    link = place.relative_to(tree)
                    raise PatchError(
                        f"the patch {patch.name} writes to {name} through {link}, "
                        "a symbolic link in the source, which is not accepted"
                    )
            if _is_own_folder(tree, name):
                raise PatchError(f"the patch {patch.name} writes to {name}, which is a folder")


def _is_own_folder(tree: Path, name: str) -> bool:
    """A folder of the source, and not one that only an earlier patch set made."""
    added = _absent(tree)
    below = (path for path in (tree / name).rglob("*") if not path.is_dir())
    return any(str(path.relative_to(tree)) not in added for path in below)


def _save_pristine(tree: Path, names: tuple[str, ...]) -> None:
    """Keep each file as it was before any patch; runs before the file is first written."""
    known = _absent(tree)
    absent = set(known)
    for name in names:
        kept = tree / OWN / "pristine" / name
        if kept.is_file() or name in absent:
            continue
        content = _content(tree / name)
        if content is None:
            absent.add(name)
        else:
            _put(kept, content, tree / OWN)
    if absent != known:
        text = "".join(f"{name}\n" for name in sorted(absent))
        host.write_atomic(tree / OWN / "absent", text)


def _absent(tree: Path) -> set[str]:
    """Files that some patch set adds and the pristine source lacks."""
    try:
        return set((tree / OWN / "absent").read_text().splitlines())
    except FileNotFoundError:
        return set()


def _ever_patched(tree: Path) -> set[str]:
    top = tree / OWN / "pristine"
    saved = {str(path.relative_to(top)) for path in top.rglob("*") if path.is_file()}
    return saved | _absent(tree)


def _stage(tree: Path, stage: Path, patchset: PatchSet, rejects: Path) -> dict[str, Content | None]:
    """Every file that was ever patched here, with the content it should now have."""
    pristine = tree / OWN / "pristine"
    for name in patchset.files:
        content = _content(pristine / name)
        if content is not None:
            _put(stage / name, content, stage)
    for patch in patchset.patches:
        _apply(stage, patch, rejects)
    _refuse_surprises(stage, patchset)
    wanted = {name: _content(pristine / name) for name in _ever_patched(tree)}
    wanted.update({name: _content(stage / name) for name in patchset.files})
    return wanted


def _refuse_surprises(stage: Path, patchset: PatchSet) -> None:
    """A second look, should git ever read a path in a diff otherwise than we do."""
    listed = set(patchset.files)
    for path in stage.rglob("*"):
        name = str(path.relative_to(stage))
        if path.is_symlink() or (not path.is_dir() and name not in listed):
            raise PatchError(f"the patch set {patchset.name} made {name}, which no header names")


def _apply(stage: Path, patch: Patch, rejects: Path) -> None:
    """`git apply`, all context exact: a hunk that only fits by guessing proves nothing."""
    way = ("--reverse",) if patch.reverse else ()
    options = ("--whitespace=nowarn", f"-p{patch.strip}", *way)
    words = ("git", "-c", "core.symlinks=false", "apply", *options)
    how = How(
        cwd=stage,
        stdin=patch.raw,
        check=False,
        # No repository around the cache and no setting of the user may change what applies.
        variables={
            "GIT_CEILING_DIRECTORIES": str(stage.parent),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
        },
        unset=("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"),
    )
    done = host.run((*words, "-"), how)
    if done.returncode == 0:
        return
    again = host.run((*words, "--reject", "--verbose", "-"), how)
    raise PatchError(
        f"the patch {patch.name} does not apply: {_reason(again.stdout + again.stderr)}",
        reject=_keep_rejects(stage, patch, rejects),
    )


def _reason(said: str) -> str:
    """From git's verbose report: the first file and hunk that were refused."""
    place = re.search(r"^error: patch failed: (.+):(\d+)$", said, re.MULTILINE)
    hunk = re.search(r"^Rejected hunk #(\d+)\.$", said, re.MULTILINE)
    if place and hunk:
        return f"hunk {hunk.group(1)} of {place.group(1)} (line {place.group(2)}) does not fit"
    other = re.findall(r"^(?:error|fatal): (.+)$", said, re.MULTILINE)
    missing = re.fullmatch(r"(.+): No such file or directory", other[0]) if other else None
    if missing:
        return f"it changes {missing.group(1)}, which is not in this source"
    return other[0] if other else "git apply refused it"


def _keep_rejects(stage: Path, patch: Patch, rejects: Path) -> Path | None:
    folder = rejects / re.sub(r"[^A-Za-z0-9._-]+", "_", patch.name)[:80]
    shutil.rmtree(folder, ignore_errors=True)
    found = sorted(stage.rglob("*.rej"))
    for path in found:
        host.write_atomic(folder / path.relative_to(stage), path.read_bytes())
    return folder / found[0].relative_to(stage) if found else None


def _sync(tree: Path, wanted: dict[str, Content | None]) -> tuple[str, ...]:
    """Removals first (a file may make way for a folder); what is right keeps its time stamp."""
    changed = [name for name, content in wanted.items() if _content(tree / name) != content]
    for name in changed:
        if wanted[name] is None:
            (tree / name).unlink()
            _drop_empty_folders(tree, (tree / name).parent)
    for name in changed:
        content = wanted[name]
        if content is not None:
            _put(tree / name, content, tree / OWN)
    return tuple(sorted(changed))


def _drop_empty_folders(tree: Path, folder: Path) -> None:
    while folder != tree and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def _content(path: Path) -> Content | None:
    try:
        return Content(path.read_bytes(), os.access(path, os.X_OK))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def _put(path: Path, content: Content, scratch: Path) -> None:
    """Write beside and rename: a kill leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=scratch, prefix="put-")
    with os.fdopen(handle, "wb") as stream:
        stream.write(content.raw)
    os.chmod(name, 0o755 if content.executable else 0o644)
    os.replace(name, path)
