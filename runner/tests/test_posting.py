# SPDX-License-Identifier: GPL-2.0-only
"""Mailboxes: of all that a thread holds the patches that are meant, and why the others are not."""

from __future__ import annotations

import base64
import gzip
import tempfile
from dataclasses import replace
from email.header import Header
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner import evidence, mbox, patchset, posting
from runner.errors import PatchError, TwinbootError
from runner.patchset import PatchSet
from runner.tests import tinytree
from runner.tests.tinytree import patch_of

AUTHOR, OTHER = "A Developer <dev@example.org>", "B Reviewer <rev@example.org>"


def diff(word: str) -> str:
    return patch_of("mm/memory.c", tinytree.MEMORY, f"/* {word} */\n{tinytree.MEMORY}")


def mail(subject: str, body: str = "", own: str = "", parents: str = "", **more: str) -> str:
    """One mail of an mbox; `own` is its Message-ID, `parents` are those that it answers."""
    head = {
        "From": AUTHOR,
        "Subject": subject,
        "Message-ID": f"<{own}>" if own else "",
        "References": " ".join(f"<{each}>" for each in parents.split()),
        "In-Reply-To": f"<{parents.rsplit(maxsplit=1)[-1]}>" if parents else "",
    } | {name.replace("_", "-"): value for name, value in more.items()}
    lines = "".join(f"{name}: {value}\n" for name, value in head.items() if value)
    return f"From mboxrd@z Thu Jan  1 00:00:00 1970\n{lines}\nWhy.\n---\n\n{body}-- \n2.39.5\n\n"


def post(version: int, count: int, title: str = "mm: reuse", cover: bool = True) -> list[str]:
    """A threaded series as git send-email makes it; its patches change memory.c to `vN pK`."""
    tag = "PATCH" if version == 1 else f"PATCH v{version}"
    root = f"{title[:2]}{version}.0"
    made = [mail(f"[{tag} 0/{count}] {title}", "", root)] if cover else []
    for number in range(1, count + 1):
        subject = f"[{tag} {number}/{count}] {title} {number}"
        body = diff(f"v{version} p{number}")
        made.append(mail(subject, body, f"{title[:2]}{version}.{number}", root if cover else ""))
    return made


def load(
    tmp_path: Path, *mails: str, name: str = "t.mbox", wanted: tuple[str, ...] = ()
) -> PatchSet:
    (tmp_path / name).write_text("".join(mails))
    return patchset.load(tmp_path / name, wanted)


def words(found: PatchSet) -> list[str]:
    """What the patches write, `v2 p1` for the first of version 2."""
    return [patch.text.partition("/* ")[2].partition(" */")[0] for patch in found.patches]


# Versions


def test_the_newest_version_of_a_thread_is_taken_and_said(tmp_path: Path) -> None:
    answer = mail("Re: [PATCH 1/2] mm: reuse 1", "", "r1", "mm1.0 mm1.1")
    found = load(tmp_path, *post(1, 2), answer, *post(2, 3))
    assert words(found) == ["v2 p1", "v2 p2", "v2 p3"]
    assert found.notes == ("t v2 is taken, 3 patches; not taken: v1",)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 3), min_size=1, max_size=3), st.randoms(use_true_random=False))
def test_the_order_of_a_mailbox_and_double_mails_change_nothing(counts, random) -> None:  # type: ignore[no-untyped-def]
    mails = [each for version, count in enumerate(counts, 1) for each in post(version, count)]
    mails += random.sample(mails, len(mails) // 2)
    random.shuffle(mails)
    taken = posting.choose(mbox.read("".join(mails)))
    newest = len(counts)
    expected = [f"v{newest} p{number}" for number in range(1, counts[-1] + 1)]
    assert [mail.diff.partition("/* ")[2].partition(" */")[0] for mail in taken.mails] == expected


def test_an_older_version_is_taken_when_it_is_asked_for(tmp_path: Path) -> None:
    found = load(tmp_path, *post(1, 2), *post(2, 2), wanted=("v1",))
    assert words(found) == ["v1 p1", "v1 p2"]
    with pytest.raises(PatchError, match="is no mailbox; #v1 chooses nothing in it"):
        load(tmp_path, diff("bare"), wanted=("v1",))
    with pytest.raises(PatchError, match=r"no patch of v7; there is v1 and v2"):
        load(tmp_path, *post(1, 2), *post(2, 2), wanted=("v7",))


def test_a_newest_version_with_a_hole_is_refused_and_the_whole_one_named(tmp_path: Path) -> None:
    mails = post(1, 3) + post(2, 3)
    del mails[-2]
    with pytest.raises(PatchError) as caught:
        load(tmp_path, *mails)
    said = "v2 patch 2 of 3 is missing; v1 is complete, t.mbox#v1 takes it"
    assert said in caught.value.message


def test_one_patch_sent_again_in_a_newer_version_is_a_hole(tmp_path: Path) -> None:
    again = mail("[PATCH v2 2/2] mm: reuse 2", diff("v2 p2"), "x", "mm1.0 mm1.2")
    with pytest.raises(PatchError, match="v2 patch 1 of 2 is missing; v1 is complete"):
        load(tmp_path, *post(1, 2), again)


def test_a_new_version_of_a_single_patch_may_leave_the_number_out(tmp_path: Path) -> None:
    first = mail("[PATCH 1/1] mm: reuse", diff("v1"), "a")
    assert words(load(tmp_path, first, mail("[PATCH v2] mm: reuse", diff("v2"), "b", "a"))) == [
        "v2"
    ]


@pytest.mark.parametrize(
    ("tag", "version", "place"),
    [
        ("[PATCH v3 2/5]", 3, (2, 5)),
        ("[RFC PATCH net-next V2 01/12]", 2, (1, 12)),
        ("[PATCHv4 1/2]", 4, (1, 2)),
        ("[RFC v2 1/2]", 2, (1, 2)),
        ("[PATCH v5.10 1/2]", 1, (1, 2)),
        ("[PATCH 5.10/5.15 1/2]", 1, (1, 2)),
        ("[PATCH RESEND v2]", 2, None),
        ("[linux-mm] [PATCH v2 1/2]", 2, (1, 2)),
        ("[linux-mm] Re: [PATCH v2 1/2]", 2, (1, 2)),
        ("[PATCH v99999999999 1/2]", 1, (1, 2)),
        ("mm: 1/2 of v3", 1, None),
    ],
)
def test_a_tag_says_version_and_place(
    tag: str, version: int, place: tuple[int, int] | None
) -> None:
    found = mbox.Mail(f"{tag} mm: title", "")
    assert (found.version, found.place) == (version, place)
    assert found.reply is ("Re:" in tag)


def test_a_resent_patch_stands_in_for_the_first_one(tmp_path: Path) -> None:
    resent = mail("[PATCH RESEND 2/2] mm: reuse 2", diff("again"), "x")
    assert words(load(tmp_path, *post(1, 2), resent)) == ["v1 p1", "again"]


def test_a_patch_with_two_contents_is_refused(tmp_path: Path) -> None:
    twice = mail("[PATCH 2/2] mm: reuse 2", diff("another"), "x", "mm1.0")
    with pytest.raises(PatchError, match="holds patch 2 of v1 more than once"):
        load(tmp_path, *post(1, 2), twice)


# What is no patch of the series


def test_answers_with_a_diff_are_not_taken_and_said(tmp_path: Path) -> None:
    fixup = mail("Re: [PATCH 2/2] mm: reuse 2", diff("reply"), "r1", "mm1.0 mm1.2", From=OTHER)
    also = mail("[PATCH] fixup", diff("fixup"), "r2", "mm1.0 mm1.1")
    quoted = diff("v1 p1").replace("\n", "\n> ")
    quote = mail("Re: [PATCH 1/2] mm: reuse 1", f"> {quoted}\n", "r3", "mm1.0 mm1.1", From=OTHER)
    found = load(tmp_path, *post(1, 2), fixup, also, quote)
    assert words(found) == ["v1 p1", "v1 p2"]
    (said,) = found.notes
    assert '2 other mails with a diff ("Re: [PATCH 2/2] mm: reuse 2", "[PATCH] fixup")' in said


def test_an_answer_with_a_diff_is_a_patch_where_there_is_no_other(tmp_path: Path) -> None:
    reply = mail("Re: [PATCH] mm: reuse", diff("reply"), "r1", "gone")
    found = load(tmp_path, reply)
    assert words(found) == ["reply"]
    assert "an answer with a diff, which is taken" in found.notes[0]
    with pytest.raises(PatchError, match="no patch but 2 answers with a diff"):
        load(tmp_path, reply, mail("Re: [PATCH] mm: reuse", diff("b"), "r2", "gone"))


def test_a_cover_letter_alone_is_no_series(tmp_path: Path) -> None:
    with pytest.raises(PatchError, match="a cover letter and none of its patches"):
        load(tmp_path, post(1, 2)[0])


def test_two_series_are_refused_by_name_and_chosen_by_words(tmp_path: Path) -> None:
    mails = post(3, 2) + post(1, 2, "net: tidy")
    with pytest.raises(PatchError) as caught:
        load(tmp_path, *mails)
    assert '"mm: reuse" (v3, 2 patches), "net: tidy" (v1, 2 patches)' in caught.value.message
    assert "t.mbox#WORDS" in caught.value.message
    assert words(load(tmp_path, *mails, wanted=("tidy",))) == ["v1 p1", "v1 p2"]
    with pytest.raises(PatchError, match="no series of that name"):
        load(tmp_path, *mails, wanted=("xfs",))


def test_series_without_threads_are_told_apart_by_version_and_count(tmp_path: Path) -> None:
    one = post(3, 2, cover=False)
    assert len(load(tmp_path, *one)) == 2
    for version, count in ((1, 2), (3, 3)):
        with pytest.raises(PatchError, match="holds 2 series"):
            load(tmp_path, *one, *post(version, count, "net: tidy", cover=False))
    others = [each.replace("v3 p", "other p") for each in post(3, 2, "net: tidy", cover=False)]
    with pytest.raises(PatchError, match="holds patch 1 of v3 more than once"):
        load(tmp_path, *one, *others)


def test_somebody_elses_series_in_the_thread_is_another_series(tmp_path: Path) -> None:
    theirs = mail("[PATCH v4] mm: my way", diff("theirs"), "t", "mm1.0", From=OTHER)
    with pytest.raises(PatchError, match="holds 2 series"):
        load(tmp_path, *post(1, 2), theirs)


def test_an_untagged_from_line_in_a_message_ends_no_mail(tmp_path: Path) -> None:
    body = "\nFrom a Thu Jan 13 12:00:00 2022 on, it was so.\n\nFrom: C <c@example.org>\n\n"
    text = mail("[PATCH] mm: x", diff("one")).replace("Why.\n", f"Why.\n{body}")
    assert words(load(tmp_path, text)) == ["one"]


# What mail programs do


def test_base64_quoted_printable_and_encoded_subjects_are_decoded(tmp_path: Path) -> None:
    coded = base64.encodebytes(f"Why.\n---\n{diff('one')}".encode()).decode()
    subject = Header("[PATCH 1/2] mm: Seiten ändern", "utf-8").encode()
    first = (
        f"From x@y Thu Jan 13 12:00:00 2022\nFrom: {AUTHOR}\nSubject: {subject}\n"
        f"MIME-Version: 1.0\nContent-Transfer-Encoding: base64\n\n{coded}\n"
    )
    second = mail(
        "[PATCH 2/2] b",
        diff("two").replace("=", "=3D"),
        Content_Transfer_Encoding="quoted-printable",
    )
    found = load(tmp_path, first, second)
    assert words(found) == ["one", "two"]
    assert found.patches[0].subject == "mm: Seiten ändern"


def test_a_gzipped_mbox_is_read_and_a_damaged_one_refused(tmp_path: Path) -> None:
    packed = gzip.compress("".join(post(1, 2)).encode())
    (tmp_path / "t.mbox.gz").write_bytes(packed)
    assert len(patchset.load(tmp_path / "t.mbox.gz")) == 2
    (tmp_path / "t.mbox.gz").write_bytes(packed[:-9])
    with pytest.raises(PatchError, match=r"damaged gzip"):
        patchset.load(tmp_path / "t.mbox.gz")


def test_what_unpacks_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patchset, "LARGEST", 1 << 16)
    (tmp_path / "t.mbox.gz").write_bytes(gzip.compress(b"\n" * (1 << 20)))
    with pytest.raises(PatchError, match="is larger than"):
        patchset.load(tmp_path / "t.mbox.gz")


@pytest.mark.parametrize("whole", [True, False])
def test_windows_line_ends_are_undone_and_those_of_a_diff_kept(tmp_path: Path, whole: bool) -> None:
    text = diff("one")
    if whole:
        (tmp_path / "t.mbox").write_bytes(mail("[PATCH] x", text).replace("\n", "\r\n").encode())
        assert patchset.load(tmp_path / "t.mbox").patches[0].text.startswith(text)
    else:
        mixed = text.replace("one */\n", "one */\r\n")
        (tmp_path / "t.mbox").write_bytes(mail("[PATCH] x", mixed).encode())
        assert patchset.load(tmp_path / "t.mbox").patches[0].text.startswith(mixed)


def test_lines_that_a_mail_program_folded_are_refused_with_the_reason(tmp_path: Path) -> None:
    folded = diff("one").replace("#include", "\n#include", 1)
    flowed = "text/plain; charset=UTF-8; format=flowed"
    with pytest.raises(PatchError, match=r"damaged: the hunk in line .*a mail program may have"):
        load(tmp_path, mail("[PATCH] mm: x", folded))
    with pytest.raises(PatchError, match=r"damaged: .*it was sent as format=flowed"):
        load(tmp_path, mail("[PATCH] mm: x", folded, Content_Type=flowed))
    found = load(tmp_path, mail("[PATCH] mm: x", diff("one"), Content_Type=flowed))
    assert "format=flowed" in found.notes[0]


def test_nothing_that_a_mail_says_reaches_the_terminal_as_a_command(tmp_path: Path) -> None:
    evil = Header("[PATCH 1/2] \x1b[2J\x07 mm: evil", "utf-8").encode()
    found = load(tmp_path, mail(evil, diff("a")), mail("[PATCH 2/2] b", diff("b")))
    told = [found.name, *found.notes, *(patch.name for patch in found.patches)]
    assert all(text.isprintable() for text in told)
    assert found.patches[0].subject == "[2J mm: evil"


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60), st.data())
def test_any_bytes_in_a_thread_give_patches_or_one_sentence(
    noise: bytes, data: st.DataObject
) -> None:
    raw = "".join(post(1, 2) + post(2, 1)).encode()
    at = data.draw(st.integers(0, len(raw)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.mbox")
        path.write_bytes(raw[:at] + noise + raw[at + len(noise) :])
        try:
            told = patchset.load(path).notes
        except TwinbootError as error:
            told = (error.message,)
    assert all("\n" not in each for each in told)


# What a reply answers


def test_a_reply_answers_the_cover_letter_or_the_first_mail(tmp_path: Path) -> None:
    said = mail("Re: [PATCH 1/2] mm: reuse 1", "", "r1", "mm1.0 mm1.1")
    found = load(tmp_path, *post(1, 2), said, *post(2, 2)).thread
    assert found == mbox.Thread("[PATCH v2 0/2] mm: reuse", "<mm2.0>")
    found = load(tmp_path, *post(1, 2, cover=False)).thread
    assert found == mbox.Thread("[PATCH 1/2] mm: reuse 1", "<mm1.1>")
    assert load(tmp_path, diff("a"), name="a.diff").thread == mbox.NO_THREAD


@pytest.mark.parametrize("thread", [mbox.Thread("[PATCH] x", "<1@x>"), mbox.NO_THREAD])
def test_a_run_keeps_what_a_reply_answers(tmp_path: Path, thread: mbox.Thread) -> None:
    evidence.save_patches(tmp_path, replace(load(tmp_path, *post(1, 1)), thread=thread))
    assert evidence.saved_thread(tmp_path) == thread
    evidence.copy_inputs(tmp_path, tmp_path / "other")
    assert evidence.saved_thread(tmp_path / "other") == thread


# Bases


def test_the_base_commit_is_read_and_that_of_a_quote_is_not(tmp_path: Path) -> None:
    base = "0123456789abcdef0123456789abcdef01234567"
    cover = mail("[PATCH v2 0/1] x", f"base-commit: {base}\n", "c")
    quote = mail("Re: [PATCH v2 1/1] x", f"base-commit: {'f' * 40}\n", "r", "c")
    patch = mail("[PATCH v2 1/1] x", diff("a") + f"prerequisite-patch-id: {'a' * 40}\n", "p", "c")
    found = load(tmp_path, cover, quote, patch)
    assert found.base == base
    assert "prerequisite-patch-ids (1); those patches are not applied" in found.notes[1]
    assert load(tmp_path, mail("[PATCH] x", f"{diff('a')}> base-commit: {base}\n")).base == ""


# Folders of format-patch


def test_two_versions_in_a_folder_are_told_apart_and_a_hole_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    for version in (1, 2):
        for number, text in enumerate(post(version, 2)):
            (folder / f"v{version}-{number:04}-x.patch").write_text(text)
    found = patchset.load(folder)
    assert words(found) == ["v2 p1", "v2 p2"]
    assert [patch.name for patch in found.patches] == ["v2-0001-x.patch", "v2-0002-x.patch"]
    assert "not taken: v1" in found.notes[0]
    for name in ("v1-0000-x.patch", "v1-0001-x.patch", "v1-0002-x.patch", "v2-0001-x.patch"):
        (folder / name).unlink()
    found = patchset.load(folder)
    assert words(found) == ["v2 p2"]
    assert found.notes == ("out is used although patch 1 of 2 is missing",)
