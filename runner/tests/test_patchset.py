# SPDX-License-Identifier: GPL-2.0-only
"""Patch sets: every form they come in, what is refused, and how they go into a tree and out."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner import diff, host, overlay, patchset
from runner.errors import PatchError, TwinbootError, UserError
from runner.patchset import Patch, PatchSet
from runner.tests import tinytree
from runner.tests.tinytree import patch_of

ONE = tinytree.MEMORY.replace("count < 0", "count < 1")
TWO = ONE.replace("do_wp_page(1)", "do_wp_page(2)")
FIRST = patch_of("mm/memory.c", tinytree.MEMORY, ONE)
SECOND = patch_of("mm/memory.c", ONE, TWO)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return tinytree.write(tmp_path / "tiny")


def mail(subject: str, body: str, extra: str = "") -> str:
    return (
        "From 0123456789abcdef0123456789abcdef01234567 Mon Sep 17 00:00:00 2001\n"
        f"From: A Developer <dev@example.org>\nDate: Thu, 13 Jan 2022 12:00:00 +0000\n{extra}"
        f"Subject: {subject}\n\nWhy.\n\nSigned-off-by: A Developer <dev@example.org>\n---\n"
        f" mm/memory.c | 2 +-\n\n{body}-- \n2.34.1\n\n"
    )


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def loaded(tmp_path: Path, text: str, name: str = "x.patch") -> PatchSet:
    (tmp_path / name).write_text(text)
    return patchset.load(tmp_path / name)


def content(tree: Path) -> dict[str, bytes]:
    """All of a tree but what the overlay keeps for itself."""
    files = (path for path in tree.rglob("*") if path.is_file() and not path.is_symlink())
    names = ((str(path.relative_to(tree)), path) for path in files)
    return {name: path.read_bytes() for name, path in names if not name.startswith(".twinboot")}


# The forms


def test_none_is_the_empty_set_and_so_is_a_prefix_of_nothing(tmp_path: Path) -> None:
    assert patchset.load(None) == patchset.load("none") == patchset.EMPTY
    assert loaded(tmp_path, FIRST).prefix(0).patches == ()


def test_a_bare_diff_is_one_patch(tmp_path: Path) -> None:
    (only,) = loaded(tmp_path, f"Some words.\n\n{FIRST}", "fix.diff").patches
    assert only.files == ("mm/memory.c",)
    assert only.name == "fix.diff"
    assert only.text == FIRST


def test_a_formatted_patch_has_its_subject(tmp_path: Path) -> None:
    (only,) = loaded(tmp_path, mail("[PATCH v3 2/7] mm: reuse the page", FIRST)).patches
    assert only.subject == "mm: reuse the page"


def test_an_mbox_is_put_in_order_without_cover_letter_and_replies(tmp_path: Path) -> None:
    box = (
        mail("[PATCH 2/2] mm: second", SECOND)
        + mail("[PATCH 0/2] mm: both", "")
        + mail("Re: [PATCH 1/2] mm: first", f"Try this instead:\n{SECOND}")
        + mail("[PATCH 1/2] mm: first", FIRST)
    )
    found = loaded(tmp_path, box, "s.mbox")
    assert [patch.subject for patch in found.patches] == ["mm: first", "mm: second"]


def test_of_two_versions_in_an_mbox_the_newer_counts(tmp_path: Path) -> None:
    box = mail("[PATCH] mm: reuse", SECOND) + mail("[PATCH v2] mm: reuse", FIRST)
    (only,) = loaded(tmp_path, box).patches
    assert only.text.startswith(FIRST)


def test_a_hole_in_a_series_is_named(tmp_path: Path) -> None:
    box = mail("[PATCH 1/3] a", FIRST) + mail("[PATCH 3/3] c", SECOND)
    with pytest.raises(PatchError, match="patch 2 of 3 is missing"):
        loaded(tmp_path, box)


def test_a_mail_in_quoted_printable_is_decoded(tmp_path: Path) -> None:
    extra = "MIME-Version: 1.0\nContent-Transfer-Encoding: quoted-printable\n"
    body = FIRST.replace("=", "=3D").replace("\t", "=09")
    (only,) = loaded(tmp_path, mail("[PATCH] mm: x", body, extra)).patches
    assert only.text.startswith(FIRST)


def test_a_folder_is_read_in_the_order_of_names_without_its_cover_letter(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "set",
        **{
            "0002-b__patch": mail("[PATCH 2/2] b", SECOND),
            "0001-a__patch": mail("[PATCH 1/2] a", FIRST),
            "0000-cover-letter__patch": mail("[PATCH 0/2] both", ""),
            "README": "no patch",
        },
    )
    assert [patch.subject for patch in patchset.load(folder).patches] == ["a", "b"]


def test_a_quilt_series_gives_order_strip_and_comments(tmp_path: Path) -> None:
    flat = FIRST.replace("a/mm/", "mm/").replace("b/mm/", "mm/").split("\n", 1)[1]
    folder = write(
        tmp_path / "set",
        z__patch=flat,
        a__patch=SECOND,
        series="# why\nz.patch -p0 # x\n\na.patch\n",
    )
    found = patchset.load(folder)
    assert [patch.name for patch in found.patches] == ["z.patch", "a.patch"]
    assert found.files == ("mm/memory.c",)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("../x.patch", "climbs out"),
        ("/etc/passwd", "is absolute"),
        ("gone.patch", "is not a file"),
        ("a.patch -R", "option -R is not supported"),
    ],
)
def test_a_wrong_line_of_a_series_is_named(tmp_path: Path, line: str, said: str) -> None:
    folder = write(tmp_path / "set", a__patch=FIRST, series=f"a.patch\n{line}\n")
    with pytest.raises(PatchError, match=said) as caught:
        patchset.load(folder)
    assert "line 2" in caught.value.message


def test_a_series_does_not_follow_a_link_out_of_its_folder(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", series="a.patch\n")
    (tmp_path / "outside").write_text(FIRST)
    (folder / "a.patch").symlink_to("../outside")
    with pytest.raises(PatchError, match="is not a file"):
        patchset.load(folder)


def test_what_is_no_patch_gets_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        patchset.load(tmp_path / "gone.patch")
    with pytest.raises(UserError, match=r"no series file and no \*\.patch"):
        patchset.load(write(tmp_path / "empty"))
    with pytest.raises(PatchError, match="holds no diff"):
        loaded(tmp_path, "Dear all,\n\nplease apply.\n")


def test_a_reworded_message_leaves_the_digest_and_a_changed_line_does_not(tmp_path: Path) -> None:
    first = loaded(tmp_path, f"Words.\n{FIRST}").digest
    assert loaded(tmp_path, f"Other words.\n{FIRST}").digest == first
    assert loaded(tmp_path, FIRST.replace("< 1", "< 2")).digest != first


# What is refused


def file_diff(name: str) -> str:
    return f"--- a/{name}\n+++ b/{name}\n@@ -1 +1 @@\n-a\n+b\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (file_diff("../../etc/passwd"), "climbs out of the tree"),
        ("--- /etc/passwd\n+++ /etc/passwd\n@@ -1 +1 @@\n-a\n+b\n", "is absolute"),
        (file_diff(".git/hooks/post-checkout"), "is not part of a kernel source"),
        (file_diff("mm/.GIT/config"), "is not part of a kernel source"),
        (file_diff(".twinboot/pristine/mm/memory.c"), "is not part of a kernel source"),
        (file_diff("mm//memory.c"), "is not a plain path"),
        ('--- "a/\\056\\056/x"\n+++ "b/x"\n@@ -1 +1 @@\n-a\n+b\n', "quoted path"),
        (
            "diff --git a/l b/l\nnew file mode 120000\nindex 0000000..1111111\n"
            "--- /dev/null\n+++ b/l\n@@ -0,0 +1 @@\n+/etc\n",
            "a symbolic link",
        ),
        ("diff --git a/s b/s\nindex 1111111..2222222 160000\n" + file_diff("s"), "a submodule"),
        ("diff --git a/f b/f\nold mode 100644\nnew mode 104755\n", "the mode 104755"),
        ("diff --git a/f b/f\nindex 111..222 100644\nGIT binary patch\nliteral 3\nabc\n", "binary"),
        ("diff --git a/f b/f\nBinary files a/f and b/f differ\n", "binary"),
        ("diff --git a/x b/../../y\nold mode 100644\nnew mode 100755\n", "no single file"),
        ("diff --git a/x b/y\nrename from x\nrename to ../y\n", "climbs out of the tree"),
        ("diff --git a/x b/y\ncopy from /etc/passwd\ncopy to y\n", "absolute"),
    ],
)
def test_a_hostile_or_binary_patch_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(PatchError) as caught:
        loaded(tmp_path, f"{FIRST}{text}")
    assert said in caught.value.message
    assert "x.patch" in caught.value.message


def test_a_patch_through_a_link_of_the_source_is_refused(tree: Path, tmp_path: Path) -> None:
    (tree / "out").symlink_to(tmp_path)
    for name in ("fs/alias/memory.c", "out/escaped", "out"):
        with pytest.raises(PatchError, match="symbolic link in the source"):
            overlay.push(tree, loaded(tmp_path, file_diff(name)))
    assert not (tmp_path / "escaped").exists()


def test_a_header_inside_a_hunk_is_content() -> None:
    text = "--- a/f\n+++ b/f\n@@ -1,3 +1,3 @@\n x\n--- ../../evil\n+++ ../../evil\n@@ -1 +1 @@\n"
    assert diff.read(text).files == ("f",)


EVIL = st.sampled_from(["..", ".git", ".GIT", ".twinboot", "", ".", "a\\b", "\x07", "\n"])
PLAIN = st.text(st.characters(categories=("L", "N"), include_characters="_-."), min_size=1).filter(
    lambda name: name.lower() not in (".", "..", ".git", ".twinboot")
)


@given(st.lists(PLAIN), EVIL, st.lists(PLAIN))
def test_a_path_with_one_evil_part_is_unsafe(
    before: list[str], evil: str, after: list[str]
) -> None:
    assert diff.unsafe("/".join([*before, evil, *after]))


@given(st.lists(PLAIN, min_size=1))
def test_a_path_of_plain_parts_is_safe_and_stays_inside(parts: list[str]) -> None:
    path = "/".join(parts)
    assert diff.unsafe(path) is None
    assert Path("/top", path).resolve().is_relative_to("/top")


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400), st.sampled_from([FIRST, mail("[PATCH] x", FIRST)]), st.data())
def test_any_bytes_in_a_patch_give_a_patch_or_one_sentence(
    noise: bytes, text: str, data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(text)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.patch")
        path.write_bytes(text[:at].encode() + noise + text[at:].encode())
        sentence = ""
        names: tuple[str, ...] = ()
        try:
            names = patchset.load(path).files
        except TwinbootError as error:
            sentence = error.message
    assert "\n" not in sentence
    assert all(diff.unsafe(name) is None for name in names)


# Into the tree and out


def test_a_push_writes_only_what_changes_and_a_pop_restores_it(tree: Path, tmp_path: Path) -> None:
    before = content(tree)
    stamps = {path: path.stat().st_mtime_ns for path in tree.rglob("*.c")}
    both = loaded(tmp_path, mail("[PATCH 1/2] a", FIRST) + mail("[PATCH 2/2] b", SECOND))
    assert overlay.push(tree, both) == ("mm/memory.c",)
    assert (tree / "mm/memory.c").read_text() == TWO
    assert overlay.push(tree, both) == ()
    assert overlay.push(tree, both.prefix(1)) == ("mm/memory.c",)
    assert (tree / "mm/memory.c").read_text() == ONE
    assert overlay.push(tree, patchset.EMPTY) == ("mm/memory.c",)
    assert content(tree) == before
    touched = {path for path, stamp in stamps.items() if path.stat().st_mtime_ns != stamp}
    assert touched == {tree / "mm/memory.c"}


def test_new_deleted_renamed_and_executable_files_come_and_go(tree: Path, tmp_path: Path) -> None:
    before = content(tree)
    text = (
        "diff --git a/mm/new/x.c b/mm/new/x.c\nnew file mode 100755\nindex 0000000..1111111\n"
        "--- /dev/null\n+++ b/mm/new/x.c\n@@ -0,0 +1 @@\n+int x;\n"
        "diff --git a/init/version.c b/init/banner.c\nsimilarity index 100%\n"
        "rename from init/version.c\nrename to init/banner.c\n"
        "diff --git a/fs/link.c b/fs/link.c\ndeleted file mode 100644\nindex 1111111..0000000\n"
        "--- a/fs/link.c\n+++ /dev/null\n@@ -1 +0,0 @@\n-/* the file behind a link */\n"
        "diff --git a/Makefile b/Makefile\nold mode 100644\nnew mode 100755\n"
    )
    overlay.push(tree, loaded(tmp_path, text))
    assert (tree / "mm/new/x.c").stat().st_mode & 0o111
    assert (tree / "Makefile").stat().st_mode & 0o111
    assert (tree / "init/banner.c").read_text() == tinytree.VERSION
    assert not (tree / "init/version.c").exists()
    assert not (tree / "fs/link.c").exists()
    overlay.push(tree, patchset.EMPTY)
    assert content(tree) == before
    assert not (tree / "mm/new").exists()
    assert not (tree / "Makefile").stat().st_mode & 0o111


def test_a_patch_that_does_not_fit_names_file_and_hunk_and_keeps_the_reject(
    tree: Path, tmp_path: Path
) -> None:
    before = content(tree)
    with pytest.raises(
        PatchError, match=r"x\.patch does not apply: hunk 1 of mm/memory\.c"
    ) as caught:
        overlay.push(tree, loaded(tmp_path, FIRST.replace("< 0", "< 7")), tmp_path / "rejects")
    assert caught.value.reject is not None
    assert caught.value.reject.is_relative_to(tmp_path / "rejects")
    assert "count < 7" in caught.value.reject.read_text()
    assert content(tree) == before


def test_a_patch_for_a_file_that_is_not_there_says_so(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(PatchError, match=r"changes mm/gone\.c, which is not in this source"):
        overlay.push(tree, loaded(tmp_path, file_diff("mm/gone.c")))


def test_a_patch_that_is_already_in_does_not_apply_twice(tree: Path, tmp_path: Path) -> None:
    text = mail("[PATCH 1/2] a", FIRST) + mail("[PATCH 2/2] b", FIRST)
    with pytest.raises(PatchError, match=r"#2 \(b\) does not apply"):
        overlay.push(tree, loaded(tmp_path, text))


def test_a_git_repository_around_the_cache_changes_nothing(tmp_path: Path) -> None:
    host.run(("git", "init", "-q", tmp_path))
    tree = tinytree.write(tmp_path / "deep/tiny")
    overlay.push(tree, loaded(tmp_path, FIRST))
    assert (tree / "mm/memory.c").read_text() == ONE


def test_a_push_killed_in_the_middle_is_healed_by_the_next(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(tree)
    text = FIRST + patch_of("mm/swapfile.c", tinytree.SWAPFILE, "int gone;\n") + file_new("fs/a.c")
    real, writes = overlay._put, iter(range(99))

    def dies(path: Path, what: overlay.Content, scratch: Path) -> None:
        if path.parent == tree / "mm" and next(writes) == 1:
            raise KeyboardInterrupt
        real(path, what, scratch)

    monkeypatch.setattr(overlay, "_put", dies)
    with pytest.raises(KeyboardInterrupt):
        overlay.push(tree, loaded(tmp_path, text))
    assert content(tree) != before
    monkeypatch.undo()
    overlay.push(tree, patchset.EMPTY)
    assert content(tree) == before


def file_new(name: str) -> str:
    return f"--- /dev/null\n+++ b/{name}\n@@ -0,0 +1 @@\n+int new;\n"


NAMES = ("mm/memory.c", "mm/swapfile.c", "fs/new.c", "fs/deep/new.c", "fs/new.c/below.c")


@st.composite
def patch_sets(draw: st.DrawFn) -> PatchSet:
    """Sets that add, change and delete files; some cannot apply, which must change nothing."""
    sources = {"mm/memory.c": tinytree.MEMORY, "mm/swapfile.c": tinytree.SWAPFILE}
    patches = []
    for name in draw(st.lists(st.sampled_from(NAMES), max_size=3, unique=True)):
        if name in sources:
            word = draw(st.sampled_from(["alpha", "beta"]))
            text = patch_of(name, sources[name], f"/* {word} */\n{sources[name]}")
        else:
            text = file_new(name)
        patches.append(Patch(f"{name}.patch", name, text, diff.read(text).files))
    return PatchSet("drawn", tuple(patches))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(patch_sets(), min_size=1, max_size=4))
def test_whatever_was_pushed_before_a_push_gives_pristine_plus_its_set(
    sets: list[PatchSet],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        warm = tinytree.write(Path(folder, "warm"))
        before = content(warm)
        for number, drawn in enumerate(sets):
            fresh = tinytree.write(Path(folder, f"fresh{number}"))
            try:
                overlay.push(fresh, drawn)
            except PatchError:
                with pytest.raises(PatchError):
                    overlay.push(warm, drawn)
            else:
                overlay.push(warm, drawn)
                assert content(warm) == content(fresh)
        overlay.push(warm, patchset.EMPTY)
        assert content(warm) == before
