# SPDX-License-Identifier: GPL-2.0-only
"""Reads patch mails: one mail from git format-patch, or an mbox with a whole series.

It finds the patches and their order; what is inside a diff is not its business.
"""

from __future__ import annotations

import email
import email.policy
import re
from dataclasses import dataclass
from email.message import EmailMessage

SEPARATOR = re.compile(r"^From \S+ +\w{3} \w{3} +\d+ +\d+:\d+:\d+ +\d{4}", re.MULTILINE)
HEADER = re.compile(r"\A(From |[A-Z][A-Za-z-]+: )")
TAG = re.compile(r"\[[^\]]*PATCH[^\]]*\]", re.IGNORECASE)
HAS_DIFF = re.compile(r"^(diff --git |--- \S.*\n\+\+\+ \S|Binary files .* differ$)", re.MULTILINE)


class Muddled(ValueError):
    """Why a mailbox is no patch series, as a clause that follows its name."""


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail; `text` is its body with the bytes of the diff as they were."""

    subject: str
    text: str
    reply: bool

    @property
    def place(self) -> tuple[int, int] | None:
        """(n, m) of `[PATCH n/m]`."""
        tag = TAG.search(self.subject)
        found = re.search(r"(\d+)/(\d+)", tag.group(0)) if tag else None
        return (int(found.group(1)), int(found.group(2))) if found else None

    @property
    def version(self) -> int:
        tag = TAG.search(self.subject)
        found = re.search(r"\bv(\d+)\b", tag.group(0), re.IGNORECASE) if tag else None
        return int(found.group(1)) if found else 1

    @property
    def title(self) -> str:
        return TAG.sub("", self.subject, count=1).strip()


def is_mail(text: str) -> bool:
    """Whether a file starts as a mail does and not as a bare diff."""
    return bool(HEADER.match(text)) and bool(re.search(r"^Subject:", text, re.MULTILINE))


def series(text: str) -> tuple[Mail, ...]:
    """The patches in order: no cover letter, no replies, the last version only."""
    mails = [_parse(part) for part in _split(text)]
    patches = [mail for mail in mails if HAS_DIFF.search(mail.text) and mail.place != (0, 0)]
    own = [mail for mail in patches if not mail.reply] or patches
    newest = max((mail.version for mail in own), default=1)
    own = [mail for mail in own if mail.version == newest]
    placed = [mail.place for mail in own if mail.place]
    if len(placed) != len(own) or not own:
        return tuple(own)
    _check_complete(placed, [mail.place for mail in mails if mail.place])
    return tuple(sorted(own, key=lambda mail: mail.place or (0, 0)))


def _check_complete(placed: list[tuple[int, int]], named: list[tuple[int, int]]) -> None:
    """A single patch out of a series is fine; a series with a hole is not."""
    numbers = sorted(number for number, _ in placed)
    twice = {number for number in numbers if numbers.count(number) > 1}
    if twice:
        raise Muddled(f"holds patch {min(twice)} more than once")
    total = max(total for _, total in placed)
    missing = [number for number in range(1, total + 1) if number not in numbers]
    if missing and (len(placed) > 1 or len(named) > 1):
        words = ", ".join(str(number) for number in missing)
        raise Muddled(f"is incomplete: patch {words} of {total} is missing")


def _split(text: str) -> tuple[str, ...]:
    starts = [match.start() for match in SEPARATOR.finditer(text)]
    starts = [at for at in starts if at == 0 or text[at - 2 : at] == "\n\n"]
    if not starts or starts[0] != 0:
        starts = [0, *starts]
    return tuple(text[at:end] for at, end in zip(starts, [*starts[1:], len(text)], strict=True))


def _parse(part: str) -> Mail:
    raw = part.encode("utf-8", "surrogateescape")
    if raw.startswith(b"From "):
        raw = raw.split(b"\n", 1)[-1]
    message = email.message_from_bytes(raw, policy=email.policy.default)
    subject = " ".join(str(message.get("Subject", "")).split())
    reply = bool(re.match(r"(re|aw|fwd?):", subject, re.IGNORECASE))
    return Mail(subject, _body(message), reply)


def _body(message: EmailMessage) -> str:
    """All text parts, transfer encoding undone, bytes otherwise kept."""
    parts = []
    for part in message.walk():
        if part.get_content_maintype() != "text" or part.get_content_subtype() == "html":
            continue
        payload = part.get_payload(decode=True)
        if isinstance(payload, bytes):
            parts.append(payload.decode("utf-8", "surrogateescape"))
    return "\n".join(parts).replace("\r\n", "\n")
