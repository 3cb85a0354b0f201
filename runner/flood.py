# SPDX-License-Identifier: GPL-2.0-only
"""How much a guest may say: what prints without end fills no disk and takes no judge's day.

Kept are the beginning and the end of what was said, with a line between them that says what is
left out. Whoever reads such a text may not take it for whole.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

# While one command runs, on the console and the results channel; then the command is ended
MOST_SAID = 64 << 20
# Of what one case printed, and of a guest's console; ours print some 10 KiB and 100 KiB
CASE_KEPT = 1 << 20
CONSOLE_KEPT = 8 << 20

_LINE = re.compile(r"^twinboot: (\d+) bytes are left out here$", re.MULTILINE)


def kept(said: bytes, most: int) -> str:
    """As text: the whole of it, or at most so many bytes of its beginning and its end.

    The beginning ends with a whole line, and dots stand before the end: half a line, as `ok 1` of
    `ok 12` or of `not ok 1`, would be another result.
    """
    if len(said) <= most:
        return said.decode(errors="replace")
    first, last = said[: said.rfind(b"\n", 0, most // 2) + 1], said[-(most // 2) :]
    line = f"twinboot: {len(said) - len(first) - len(last)} bytes are left out here\n..."
    return first.decode(errors="replace") + line + last.decode(errors="replace")


def cut_short(path: Path) -> None:
    """Give the disk back what nobody reads: until a flood is ended it may be long."""
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > MOST_SAID:
            os.truncate(path, MOST_SAID)


def left_out(text: str) -> str | None:
    """Why the text may not be believed as a whole; None if nothing is left out."""
    found = _LINE.search(text)
    return (
        f"{found.group(1)} bytes of its output are left out, it printed too much" if found else None
    )


def beginning(text: str) -> str:
    """What comes before that which is left out."""
    found = _LINE.search(text)
    return text[: found.start()] if found else text
