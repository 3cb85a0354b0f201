# SPDX-License-Identifier: GPL-2.0-only
"""A comparison as plain text that a reviewer could send to a mailing list: 72 columns, ASCII.

It sends nothing and judges nothing.
"""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterable, Iterator

from runner.comparison import Comparison
from runner.mbox import MESSAGE_ID, NO_THREAD, REPLY, Thread
from runner.outcome import BAD, Verdict
from runner.report import ChangeLine, change_lines, quiet_lines
from runner.row import OPEN, REGRESSIONS, Change, Row
from runner.wording import doubt, headlines, overall_sentence, twins_lines

COLUMNS = 72
TRACE_LINES = 12
# The folders of an absolute path, or of one below a home, also behind `git:` and the like
_PATH = re.compile(r"(?:(?<=^)|(?<=^git:)|(?<=^dir:)|(?<=^tar:))~?/(?:[^/@]+/)*(?=[^/])")
_NOT_ASCII = re.compile(r"[^\x20-\x7e]+")


def mail_reply(comparison: Comparison, command: str, thread: Thread = NO_THREAD) -> str:
    """The verdict, then the worst first, as a reader of mail expects, and what nobody looked at.

    `command` is how to see it again. Where the `thread` is known, headers stand before it, so that
    `git send-email` takes the file as it is.
    """
    lines = [*_headers(thread), *_opening(comparison), ""]
    for title, items in _groups(comparison):
        if items:
            lines += [title, "", *items]
    lines += ["What was run:", ""]
    for said in twins_lines(comparison.twins):
        lines += _listed(said)
    lines += ["", "What this cannot say:", ""]
    for said in _limits(comparison):
        lines += _listed(said)
    again = _public(command, comparison.twins.base.source)
    lines += ["", "To see it again:", "", *_command(again)]
    return "\n".join(lines) + "\n"


def _headers(thread: Thread) -> Iterator[str]:
    """Both come from a mail that anybody may have written: one line each, or none at all."""
    if MESSAGE_ID.fullmatch(thread.id) and thread.id.isascii() and thread.id.isprintable():
        subject = " ".join(_ascii(thread.subject).split())
        yield f"Subject: {subject if REPLY.match(subject) else f'Re: {subject}'}"
        yield f"In-Reply-To: {thread.id}"
        yield f"References: {thread.id}"
        yield ""


def _public(command: str, source: str) -> list[str]:
    """For who has another host: names in place of paths, and which version a package had."""
    found = re.search(r"\((\S+) (\S+) from \S+\)$", source)
    words = []
    for word in shlex.split(command):
        if found and word == f"debian:{found.group(1)}":
            words.append(f"{word}={found.group(2)}")
        else:
            words.append(_PATH.sub("", word))
    return words


def _opening(comparison: Comparison) -> Iterator[str]:
    twins = comparison.twins
    count = len(twins.patched.patches)
    how = {
        0: "was booted twice in QEMU, both times without a patch",
        1: "was booted in QEMU with and without this patch",
    }.get(count, f"was booted in QEMU with and without these {count} patches")
    yield from _wrapped(
        f"Linux {twins.base.release} {how}, and the same tests were run in both. A row is one test "
        "on one kind of swap.",
        "",
    )
    yield ""
    yield from _wrapped(overall_sentence(comparison), "")
    if count:
        yield ""
    for name in twins.patched.patches:
        yield f"  {_ascii(name)}"


def _groups(comparison: Comparison) -> Iterator[tuple[str, list[str]]]:
    """The titles of the mail's parts and their lines; an empty part is left out."""
    changes = tuple(reversed(change_lines(comparison)))
    for title, meant in (
        ("Worse with the patch:", REGRESSIONS),
        ("Not clear:", OPEN),
        ("Worse, and known:", (Change.KNOWN,)),
        ("Better with the patch:", (Change.FIXED, Change.IMPROVED)),
    ):
        yield title, [line for each in changes if each.change in meant for line in _item(each)]
    yield "The same with and without the patch, but no pass:", list(_quiet(comparison))


def _quiet(comparison: Comparison) -> Iterator[str]:
    told = [line for line in quiet_lines(comparison) if line.verdict != Verdict.PASS.name]
    for line in told:
        both = line.verdict.removesuffix(" on both")
        said = line.remark.removesuffix(" on both")
        swaps = ", ".join("no swap" if swap == "none" else swap for swap in line.swaps)
        yield from _listed(f"{both} {line.case} on {swaps}: {said}")
    if told:
        yield ""


def _item(change: ChangeLine) -> Iterator[str]:
    yield from _wrapped(f"{change.change.name} {change.where}", "  ")
    yield from _wrapped(change.sentence, "    ")
    for word, said in change.also:
        yield from _wrapped(f"also {word.name}: {said}", "    ")
    if change.change in REGRESSIONS or change.change in OPEN:
        yield from _evidence(change.rows)
    yield ""


def _evidence(rows: Iterable[Row]) -> Iterator[str]:
    """What the worst run with the patch said, and its first splat: one row speaks for all."""
    for row in rows:
        worst = row.patched.worst
        if worst is None or worst.verdict not in BAD:
            continue
        yield from _wrapped(
            f"{headlines([row])}, run {worst.repeat} with the patch: {worst.reason}", "    "
        )
        for splat in worst.splats[:1]:
            yield ""
            yield from (f"    {line[: COLUMNS - 4]}" for line in _trace(splat.text))
        return


def _trace(text: str) -> list[str]:
    lines = [_ascii(line).rstrip() for line in text.expandtabs().splitlines()]
    more = len(lines) - TRACE_LINES
    return lines[:TRACE_LINES] + ([f"[{more} more lines]"] if more > 0 else [])


def _limits(comparison: Comparison) -> Iterator[str]:
    if said := doubt(comparison):
        yield said
    cases = {row.case.id for row in comparison.rows if row.case.program}
    groups = sorted({case.partition("/")[0] for case in cases})
    count = "1 test" if len(cases) == 1 else f"{len(cases)} tests"
    what = f"{count} ({', '.join(groups)})" if cases else "no test"
    yield f"only {what} ran; of the rest of the kernel nothing is known"
    if comparison.twins.platform.accelerator == "tcg":
        yield "the guests were emulated, so no time was compared: costs are counts"


def _listed(text: str) -> list[str]:
    return textwrap.wrap(
        _ascii(text),
        COLUMNS,
        initial_indent="  - ",
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        _ascii(text),
        COLUMNS,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _command(command: list[str]) -> Iterator[str]:
    """The command, continued as a shell reads it, so that it can still be copied."""
    line = ""
    for part in _options(command):
        if line and len(line) + len(part) + 5 > COLUMNS:
            yield f"  {line} \\"
            line = f"  {part}"
        else:
            line = f"{line} {part}" if line else part
    yield f"  {line}"


def _options(words: list[str]) -> Iterator[str]:
    """Each option with its value, the words before the first one together."""
    parts: list[list[str]] = [[]]
    for word in words:
        if word.startswith("--"):
            parts.append([])
        parts[-1].append(word)
    return (shlex.join(part) for part in parts if part)


def _ascii(text: str) -> str:
    return _NOT_ASCII.sub("?", text)
