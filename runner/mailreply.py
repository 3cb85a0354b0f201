# SPDX-License-Identifier: GPL-2.0-only
"""A comparison as plain text that a reviewer could send to a mailing list: 72 columns, ASCII.

It sends nothing and judges nothing.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator

from runner.comparison import OPEN, REGRESSIONS, Change, Comparison
from runner.report import ChangeLine, change_lines
from runner.wording import doubt, overall_sentence, twins_lines

COLUMNS = 72
_NOT_ASCII = re.compile(r"[^\x20-\x7e]+")


def mail_reply(comparison: Comparison, command: str) -> str:
    """The worst first, as a reader of mail expects; `command` is how to see it again."""
    lines = [*_wrapped(overall_sentence(comparison), ""), ""]
    changes = tuple(reversed(change_lines(comparison)))
    worse = [line for line in changes if line.change in REGRESSIONS]
    unclear = [line for line in changes if line.change in OPEN]
    known = [line for line in changes if line.change is Change.KNOWN]
    better = [line for line in changes if line not in (*worse, *unclear, *known)]
    groups = (
        ("Worse with the patch:", worse),
        ("Not clear:", unclear),
        ("Worse, and known:", known),
        ("Better with the patch:", better),
    )
    for title, group in groups:
        if group:
            lines += [title, ""]
            for change in group:
                lines += [*_item(change), ""]
    lines += ["What was run:", ""]
    for said in (*twins_lines(comparison.twins), doubt(comparison)):
        lines += _wrapped(said, "  ") if said else []
    # A command is not wrapped: it has to be copied
    lines += ["", "To see it again:", "", f"  {_ascii(command)}"]
    return "\n".join(lines) + "\n"


def _item(change: ChangeLine) -> Iterator[str]:
    yield from _wrapped(f"{change.change.name} {change.where}", "  ")
    yield from _wrapped(change.sentence, "    ")
    for word, said in change.also:
        yield from _wrapped(f"also {word.name}: {said}", "    ")


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        _ascii(text),
        COLUMNS,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _ascii(text: str) -> str:
    return _NOT_ASCII.sub("?", text)
