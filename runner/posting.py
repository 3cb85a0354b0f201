# SPDX-License-Identifier: GPL-2.0-only
"""Which patches a mailbox means: of one series the newest version, whole, and in order.

What was chosen and what was left out is said. It reads no file and applies nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from runner.mbox import NO_THREAD, Mail, Thread

BASE = re.compile(r"^base-commit: ([0-9a-f]{12,64})\s*$", re.MULTILINE)
PREREQUISITE = re.compile(r"^prerequisite-patch-id: [0-9a-f]{40,64}\s*$", re.MULTILINE)
CHANGE = re.compile(r"^change-id: (\S+)\s*$", re.MULTILINE)
NAMED = 3
Bond = tuple[str | int, ...]


class Muddled(ValueError):
    """Why a mailbox is no patch series, as a clause that follows its name."""


@dataclass(frozen=True, slots=True)
class Posting:
    """The patches that are taken. `notes` are clauses that follow the mailbox's name.

    `base` is the commit that the sender names, or nothing; `thread` is what a reply answers.
    """

    mails: tuple[Mail, ...]
    notes: tuple[str, ...] = ()
    base: str = ""
    thread: Thread = NO_THREAD


def choose(mails: Sequence[Mail], wanted: Sequence[str] = ()) -> Posting:
    """The posting that is meant; `wanted` are `v2` for a version or words of a title.

    Raises Muddled where that is not clear, or a part is missing.
    """
    own, asides = _sorted_out(mails)
    if not own:
        return _lone_reply(asides)
    many = [each for each in _series(own) if _is_wanted(each, wanted)]
    if len(many) != 1:
        raise Muddled(_several(many, own))
    series, versions = many[0], _versions(many[0])
    asked = [int(word[1:]) for word in wanted if _is_version(word)]
    version = asked[-1] if asked else max(versions)
    if version not in versions:
        raise Muddled(f"holds no patch of v{version}; there is {_labels(versions)}")
    patches, dropped = _patches(versions[version])
    alone = sum(mail.place is not None for mail in mails) == 1
    _check_complete(patches, alone, versions, version)
    notes = [_left_out(patches, versions, version, (*dropped, *asides))] if len(mails) > 1 else []
    letters = [mail for mail in covers(series) if mail.version == version]
    return described(Posting(patches, tuple(notes)), (*letters, *patches))


def described(posting: Posting, mails: Iterable[Mail]) -> Posting:
    """With what the sender's trailers say of the base, and what a mail program may have done."""
    texts = tuple(mails)
    bases = [base for mail in texts for base in BASE.findall(mail.text)]
    needs = sum(len(PREREQUISITE.findall(mail.text)) for mail in texts)
    notes = list(posting.notes)
    if len(set(bases)) > 1:
        notes.append(f"states several base-commits, {bases[0][:12]} is taken")
    if needs:
        notes.append(f"names prerequisite-patch-ids ({needs}); those patches are not applied")
    if folded := [mail.title for mail in posting.mails if mail.flowed]:
        notes.append(f"was sent as format=flowed, which may fold lines ({_some(folded)})")
    first = next((mail for mail in (*covers(texts), *posting.mails) if mail.id), None)
    thread = Thread(first.subject, first.id) if first else NO_THREAD
    return replace(posting, notes=tuple(notes), base=bases[0] if bases else "", thread=thread)


def covers(mails: Iterable[Mail]) -> list[Mail]:
    return [mail for mail in mails if mail.cover]


def _sorted_out(mails: Sequence[Mail]) -> tuple[list[Mail], list[Mail]]:
    """Patches and cover letters; and the asides: other mails that hold a diff."""
    numbered = {mail.id for mail in mails if mail.id and not mail.reply and _is_part(mail)}
    tagged = any(mail.tag and mail.diff and not mail.reply for mail in mails)
    own: list[Mail] = []
    asides: list[Mail] = []
    for mail in mails:
        answers = mail.place is None and bool(numbered & set(mail.parents[-1:]))
        aside = mail.reply or answers or (tagged and not mail.tag)
        if mail.diff or (mail.cover and not aside):
            (asides if aside else own).append(mail)
    return (own if any(_is_patch(mail) for mail in own) else []), asides


def _lone_reply(asides: list[Mail]) -> Posting:
    if len(asides) > 1:
        raise Muddled(
            f"holds no patch but {len(asides)} answers with a diff ({_some_subjects(asides)}); "
            "save the one that is meant to a file of its own"
        )
    notes = ("holds no patch but an answer with a diff, which is taken",) if asides else ()
    return described(Posting(tuple(asides), notes), asides)


def _is_part(mail: Mail) -> bool:
    """A patch that is one of several."""
    return mail.place is not None and mail.place[0] > 0 and mail.place[1] > 1


def _number(mail: Mail) -> int:
    return mail.place[0] if mail.place else 0


def _series(own: Sequence[Mail]) -> list[list[Mail]]:
    """Mails that belong together, in the order of the mailbox: those that share a bond."""
    answered = {each for mail in own for each in mail.parents}
    groups: list[tuple[set[Bond], list[int]]] = []
    for place, mail in enumerate(own):
        bonds, places = set(_bonds(mail, answered)), [place]
        for group in [group for group in groups if group[0] & bonds]:
            groups.remove(group)
            bonds |= group[0]
            places = group[1] + places
        groups.append((bonds, places))
    found = [[own[place] for place in sorted(places)] for _, places in groups]
    return [group for group in found if any(_is_patch(mail) for mail in group)]


def _bonds(mail: Mail, answered: set[str]) -> Iterator[Bond]:
    """A title, a change-id, one sender or one post in one thread, or one post without threads."""
    post = (mail.version, mail.place[1] if mail.place else 0)
    if mail.title:
        yield "title", mail.title.lower()
    for change in CHANGE.findall(mail.text):
        yield "change", change
    for each in {mail.id, *mail.parents} - {""}:
        yield "sender", mail.sender, each
        yield "post", *post, each
    if not mail.parents and mail.id not in answered:
        yield "unthreaded", *post


def _is_patch(mail: Mail) -> bool:
    return bool(mail.diff) and not mail.cover


def _is_version(word: str) -> bool:
    return bool(re.fullmatch(r"v\d{1,4}", word))


def _is_wanted(series: Sequence[Mail], wanted: Sequence[str]) -> bool:
    words = [word.lower() for word in wanted if not _is_version(word)]
    return all(any(word in mail.title.lower() for mail in series) for word in words)


def _several(many: Sequence[Sequence[Mail]], own: Sequence[Mail]) -> str:
    if not many:
        return (
            f"holds no series of that name; there is {_some(_name(each) for each in _series(own))}"
        )
    names = ", ".join(_name(series) for series in many[: NAMED + 2])
    return f"holds {len(many)} series: {names}; choose one by words of its title: FILE#WORDS"


def _name(series: Sequence[Mail]) -> str:
    title = next((mail.title for mail in series if mail.cover), series[0].title)
    patches = sum(_is_patch(mail) for mail in series)
    versions = _labels(mail.version for mail in series if _is_patch(mail))
    return f'"{title}" ({versions}, {patches} {"patch" if patches == 1 else "patches"})'


def _labels(versions: Iterable[int]) -> str:
    return " and ".join(f"v{version}" for version in sorted(set(versions)))


def _versions(series: Iterable[Mail]) -> dict[int, list[Mail]]:
    versions: dict[int, list[Mail]] = {}
    for mail in series:
        if _is_patch(mail):
            versions.setdefault(mail.version, []).append(mail)
    return versions


def _patches(mails: Sequence[Mail]) -> tuple[tuple[Mail, ...], tuple[Mail, ...]]:
    """One version's patches in order, and what was dropped: numbers count where there are any."""
    numbered = [mail for mail in mails if mail.place]
    if not numbered:
        return tuple(mails), ()
    totals = sorted({mail.place[1] for mail in numbered if mail.place})
    if len(totals) > 1:
        raise Muddled(f"counts the patches of v{mails[0].version} to {totals[0]} and {totals[-1]}")
    chosen = {number: _one_of(number, numbered) for number in {_number(each) for each in numbered}}
    taken = tuple(chosen[number] for number in sorted(chosen))
    return taken, tuple(mail for mail in mails if mail not in taken)


def _one_of(number: int, mails: Sequence[Mail]) -> Mail:
    """Of a patch that was sent twice the one that says RESEND; two that differ are a muddle."""
    same = [mail for mail in mails if _number(mail) == number]
    best = [mail for mail in same if mail.resent] or same
    if len({mail.diff.rstrip() for mail in best}) > 1:
        raise Muddled(
            f"holds patch {number} of v{best[0].version} more than once, with different contents; "
            "save the mails that are meant to a file of their own"
        )
    return best[-1]


def _check_complete(
    patches: Sequence[Mail], alone: bool, versions: dict[int, list[Mail]], version: int
) -> None:
    """A single patch out of a series is fine; a series with a hole is not."""
    missing = holes(patches)
    if not missing or (alone and len(patches) == 1):
        return
    older = [each for each in versions if each != version and not _incomplete(versions[each])]
    hint = f"; v{max(older)} is complete, FILE#v{max(older)} takes it" if older else ""
    which = f"v{version} " if len(versions) > 1 or version > 1 else ""
    raise Muddled(f"is incomplete: {which}{missing}{hint}")


def _incomplete(mails: Sequence[Mail]) -> bool:
    try:
        return bool(holes(_patches(mails)[0]))
    except Muddled:
        return True


def holes(patches: Sequence[Mail]) -> str:
    """`patches 2 and 4 of 5 are missing`, or nothing."""
    places = [mail.place for mail in patches if mail.place]
    if not places:
        return ""
    total, there = max(total for _, total in places), {number for number, _ in places}
    missing = [str(number) for number in range(1, total + 1) if number not in there]
    if not missing:
        return ""
    if len(missing) == 1:
        return f"patch {missing[0]} of {total} is missing"
    return f"patches {_some(missing, ' and ')} of {total} are missing"


def _left_out(
    patches: Sequence[Mail], versions: dict[int, list[Mail]], version: int, asides: Iterable[Mail]
) -> str:
    """What is taken of a mailbox with more than one mail, and what is not."""
    tags = " ".join(word for word in ("RFC", "RESEND") if word in patches[0].tag.upper())
    what = f"v{version}{' ' + tags if tags else ''}"
    count = f"{len(patches)} {'patch' if len(patches) == 1 else 'patches'}"
    left = [f"v{each}" for each in sorted(versions) if each != version]
    if others := list(asides):
        kind = "mail" if len(others) == 1 else "mails"
        left.append(f"{len(others)} other {kind} with a diff ({_some_subjects(others)})")
    return f"{what} is taken, {count}" + (f"; not taken: {', '.join(left)}" if left else "")


def _some_subjects(mails: Iterable[Mail]) -> str:
    return _some(f'"{mail.subject}"' for mail in mails)


def _some(words: Iterable[str], joint: str = ", ") -> str:
    """The first few."""
    listed = list(words)
    return joint.join(listed[:NAMED]) + (", ..." if len(listed) > NAMED else "")
