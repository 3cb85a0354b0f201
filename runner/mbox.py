# SPDX-License-Identifier: GPL-2.0-only
"""Reads mails: one from git format-patch, or an mbox with all of a thread.

It says what each mail is; which of them are meant is decided in posting.py.
"""

from __future__ import annotations

import email
import email.header
import re
from dataclasses import dataclass
from email.errors import MessageError
from email.message import Message
from email.parser import HeaderParser

SEPARATOR = re.compile(
    r"^From \S+ +\w{3} \w{3} +\d+ +\d+:\d+:\d+ +\d{4}[^\n]*\n(?=[A-Za-z][\w-]*:)", re.MULTILINE
)
HEADER = re.compile(r"\A(From |[A-Z][A-Za-z-]+: )")
TAG = re.compile(r"\[[^\]]*\b(?:PATCH|RFC)(?:v\d+)?\b[^\]]*\]", re.IGNORECASE)
VERSION = re.compile(r"(?:\b|patch|rfc)v(\d{1,4})(?![\w.])", re.IGNORECASE)
PLACE = re.compile(r"(?<![\w./])(\d{1,4})/(\d{1,4})(?![\w./])")
REPLY = re.compile(
    r"(?:\[(?![^\]]*\b(?:PATCH|RFC))[^\]]*\]\s*)?(?:(?:re|aw|sv|fwd?)(?:\[\d+\])?:\s*)+",
    re.IGNORECASE,
)
HAS_DIFF = re.compile(r"^(diff --git |--- \S.*\n\+\+\+ \S|Binary files .* differ$)", re.MULTILINE)
MESSAGE_ID = re.compile(r"<[^<>\s]+>")
LONGEST_SUBJECT = 200


@dataclass(frozen=True, slots=True)
class Thread:
    """What a reply answers: the cover letter of a series, or its first mail; empty if unknown."""

    subject: str = ""
    id: str = ""


NO_THREAD = Thread()


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail; `text` is its body with the bytes of the diff as they were.

    `parents` are the ids of the mails that it answers. A `flowed` one may have folded lines.
    """

    subject: str
    text: str
    sender: str = ""
    id: str = ""
    parents: tuple[str, ...] = ()
    flowed: bool = False
    origin: str = ""

    @property
    def tag(self) -> str:
        """`[PATCH v3 2/5]`, or nothing."""
        found = TAG.search(self.subject)
        return found.group(0) if found else ""

    @property
    def place(self) -> tuple[int, int] | None:
        """(n, m) of `[PATCH n/m]`."""
        found = PLACE.search(self.tag)
        return (int(found.group(1)), int(found.group(2))) if found else None

    @property
    def version(self) -> int:
        found = VERSION.search(self.tag)
        return int(found.group(1)) if found else 1

    @property
    def title(self) -> str:
        return TAG.sub("", REPLY.sub("", self.subject, count=1), count=1).strip()

    @property
    def resent(self) -> bool:
        return "RESEND" in self.tag.upper()

    @property
    def reply(self) -> bool:
        return bool(REPLY.match(self.subject))

    @property
    def cover(self) -> bool:
        return not self.reply and self.place is not None and self.place[0] == 0

    @property
    def diff(self) -> str:
        """All from the first diff header on; nothing in a mail that only talks."""
        found = HAS_DIFF.search(self.text)
        return self.text[found.start() :] if found else ""


def is_mail(text: str) -> bool:
    """Whether a file starts as a mail does and not as a bare diff."""
    return bool(HEADER.match(text)) and bool(re.search(r"^Subject:", text, re.MULTILINE))


def read(text: str, origin: str = "") -> tuple[Mail, ...]:
    """All mails of a file, in its order, each once."""
    mails = [_parse(part, origin) for part in _split(unix(text))]
    return tuple({mail.id or (mail.subject, mail.text): mail for mail in mails}.values())


def unix(text: str) -> str:
    """Windows line ends undone, where every line has one: single ones belong to a diff."""
    return text.replace("\r\n", "\n") if text.count("\r\n") == text.count("\n") else text


def plain(text: str) -> str:
    """One line that a terminal shows and does not obey."""
    shown = "".join(each if each.isprintable() else " " for each in text)
    return " ".join(shown.split())


def _split(text: str) -> tuple[str, ...]:
    starts = [match.start() for match in SEPARATOR.finditer(text)]
    starts = [at for at in starts if at == 0 or text[at - 2 : at] == "\n\n"]
    if not starts or starts[0] != 0:
        starts = [0, *starts]
    return tuple(text[at:end] for at, end in zip(starts, [*starts[1:], len(text)], strict=True))


def _parse(part: str, origin: str) -> Mail:
    if part.startswith("From "):
        part = part.partition("\n")[2]
    raw = unix(part).encode("utf-8", "surrogateescape")
    message = email.message_from_bytes(raw)
    # From text, which keeps UTF-8 that is not encoded
    head = HeaderParser().parsestr(raw.decode("utf-8", "replace"), headersonly=True)
    ids = MESSAGE_ID.findall(_header(head, "Message-ID"))
    parents = f"{_header(head, 'References')} {_header(head, 'In-Reply-To')}"
    return Mail(
        subject=plain(_header(head, "Subject"))[:LONGEST_SUBJECT],
        text=_body(message),
        sender=plain(_header(head, "From")).lower(),
        id=ids[0] if ids else "",
        parents=tuple(dict.fromkeys(MESSAGE_ID.findall(parents))),
        flowed=any("flowed" in str(each.get_param("format", "")) for each in _texts(message)),
        origin=origin,
    )


def _header(message: Message, name: str) -> str:
    """A header decoded, or as it stands where it cannot be."""
    value = message.get(name, "")
    try:
        return str(email.header.make_header(email.header.decode_header(value)))
    except (MessageError, LookupError, ValueError, TypeError):
        return str(value)


def _texts(message: Message) -> list[Message]:
    kinds = ((part, part.get_content_type()) for part in message.walk())
    return [part for part, kind in kinds if kind.startswith("text/") and kind != "text/html"]


def _body(message: Message) -> str:
    """All text parts, transfer encoding undone, bytes otherwise kept."""
    payloads = [part.get_payload(decode=True) for part in _texts(message)]
    raw = [each for each in payloads if isinstance(each, bytes)]
    return "\n".join(unix(each.decode("utf-8", "surrogateescape")) for each in raw)
