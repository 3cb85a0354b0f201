# SPDX-License-Identifier: GPL-2.0-only
"""Writes a result where the user said, as a shell would: through links, into pipes and devices.

Evidence is not written here: what lies in its folders is not trusted (host.write_atomic).
"""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
import tempfile
from pathlib import Path

from runner import host
from runner.errors import InfraError, TwinbootError, UserError

# No file can be put in its place, but what is there may still be written
FIXED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY)
NEW_MODE = 0o644
STDOUT = Path("-")
_OWN = re.compile(r"/dev/std(out|err)|/(?:dev|proc/self)/fd/(\d{1,9})")


def write(path: Path, content: str | bytes) -> None:
    """Write into the pipe or device that is there, or a whole file, which keeps its mode.

    `-` is standard output, for texts. Missing folders are made. Raises UserError where the path
    is wrong.
    """
    raw = content.encode() if isinstance(content, str) else content
    if path == STDOUT:
        sys.stdout.write(raw.decode())
        return
    try:
        if (number := _own_descriptor(path)) is not None:
            _write_into(os.dup(number), raw)
        elif _is_special(path):
            _write_into(os.open(path, os.O_WRONLY), raw)
        else:
            _write_file(Path(os.path.realpath(path)), raw)
    except BrokenPipeError as error:
        raise InfraError(f"cannot write {path}: nobody read it to its end") from error
    except OSError as error:
        raise _fault(path, error) from error


def attempt(path: Path) -> None:
    """Raise what `write` would raise, before there is something to write; nothing is changed."""
    if path == STDOUT:
        return
    try:
        if (number := _own_descriptor(path)) is not None:
            os.fstat(number)
        elif _is_special(path):
            _refuse_locked(path)
        else:
            _attempt_file(Path(os.path.realpath(path)))
    except OSError as error:
        raise _fault(path, error) from error


def is_special(path: Path) -> bool:
    """Whether a pipe, device or socket is there, which may take more than one result."""
    try:
        return _own_descriptor(path) is not None or _is_special(path)
    except OSError:
        return False


def _write_file(path: Path, raw: bytes) -> None:
    """A file that is there and cannot be replaced (a mount, in a folder of others) is written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    there = path.exists()
    try:
        host.replace_file(path, raw, stat.S_IMODE(path.stat().st_mode) if there else NEW_MODE)
    except OSError as error:
        if not there or error.errno not in FIXED:
            raise
        _write_into(os.open(path, os.O_WRONLY | os.O_TRUNC), raw)


def _write_into(descriptor: int, raw: bytes) -> None:
    """It may be where our own output goes, which must not come late."""
    with os.fdopen(descriptor, "wb") as stream:
        sys.stdout.flush()
        stream.write(raw)


def _own_descriptor(path: Path) -> int | None:
    """The number of a descriptor of ours that is named by its path, as /dev/stdout is."""
    found = _OWN.fullmatch(str(path))
    if found is None:
        return None
    return int(found.group(2)) if found.group(2) else {"out": 1, "err": 2}[found.group(1)]


def _is_special(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    return not stat.S_ISREG(mode)


def _refuse_locked(path: Path) -> None:
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def _attempt_file(path: Path) -> None:
    try:
        _make_nothing(path.parent)
    except OSError as error:
        if not path.exists() or error.errno not in FIXED:
            raise
        _refuse_locked(path)


def _make_nothing(folder: Path) -> None:
    """A file without a name, which is gone at once."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    tempfile.TemporaryFile(dir=folder).close()


def _fault(path: Path, error: OSError) -> TwinbootError:
    """Wrong input where the path cannot be right, else the machine's fault."""
    kind = UserError if error.errno in host.WRONG_PATH else InfraError
    return kind(host.unwritten(path, error))
