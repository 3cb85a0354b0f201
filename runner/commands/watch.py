# SPDX-License-Identifier: GPL-2.0-only
"""What `run --watch` waits for: a change of the patch, or of the source tree."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import watchfiles

from runner.errors import UserError

TREE = "dir:"


def watched(source: str, patch: str) -> tuple[Path, ...]:
    """The files and folders whose changes count; UserError if there are none."""
    wanted = [Path(patch).expanduser()]
    if source.startswith(TREE):
        wanted.append(Path(source.removeprefix(TREE)).expanduser())
    found = tuple(path.absolute() for path in wanted if path.exists())
    if not found:
        raise UserError(
            f"--watch needs a --patch that is a file or folder, or a --source {TREE}PATH; "
            f"{patch} is neither"
        )
    return found


def changes(paths: tuple[Path, ...]) -> Iterator[None]:
    """At once, and again after each change; it ends with Ctrl-C.

    An editor that replaces a file is seen, too: for that its folder is watched.
    """
    yield
    whole = {path for path in paths if path.is_dir()}
    single = {path for path in paths if not path.is_dir()}
    folders = {path.parent for path in single} | whole

    def counts(_change: watchfiles.Change, name: str) -> bool:
        path = Path(name)
        return path in single or any(folder in path.parents for folder in whole)

    for _ in watchfiles.watch(*folders, watch_filter=counts, raise_interrupt=True):
        yield
