# SPDX-License-Identifier: GPL-2.0-only
"""Branches as patches: which commits, on which base, and that the repository is only read."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner import gitrange, given, host, overlay, source
from runner.errors import UserError
from runner.tests import tinytree

USUAL = "debian:linux-source-5.10"


def git(top: Path, *words: str) -> str:
    names = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    return host.run(("git", "-C", top, *names, *words)).stdout.strip()


def commit(top: Path, word: str) -> str:
    """A commit that puts a line at the top of memory.c."""
    path = top / "mm/memory.c"
    path.write_text(f"/* {word} */\n{path.read_text()}")
    git(top, "commit", "-qam", f"mm: {word}")
    return git(top, "rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """main has one commit more than where topic, with two commits, began."""
    top = tinytree.write(tmp_path / "linux")
    git(top, "init", "-q", "-b", "main")
    git(top, "add", "-A")
    git(top, "commit", "-qm", "one")
    git(top, "checkout", "-q", "-b", "topic")
    commit(top, "first")
    commit(top, "second")
    git(top, "checkout", "-q", "main")
    (top / "Documentation/notes.txt").write_text("main goes on\n")
    git(top, "commit", "-qam", "main goes on")
    return top


def settled(repository: Path, words: str, named: str = "") -> tuple[str, str]:
    return given.settle(named, f"git:{repository}@{words}", USUAL, Path("/nonexistent"))


def state(top: Path) -> dict[str, tuple[int, bytes]]:
    files = (path for path in top.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


# Which commits, on which base


@pytest.mark.parametrize("words", ["main..topic", "main...topic", "topic~2..topic", "..topic"])
def test_a_range_gives_its_commits_in_order_on_its_base(repository: Path, words: str) -> None:
    where, patch = settled(repository, words)
    base = "main~1" if words in ("main...topic", "topic~2..topic") else "main"
    assert where == f"git:{repository}@{git(repository, 'rev-parse', base)}"
    found = given.patches(patch, "5.10.7", Path())
    assert [each.subject for each in found.patches] == ["mm: first", "mm: second"]
    assert found.name == words
    assert found.notes[0].startswith(f"{words} in {repository}: 2 patches")
    assert ("1 commit that the branch lacks" in "".join(found.notes)) == (base == "main")


def test_the_patches_of_a_range_apply_to_its_source(repository: Path, tmp_path: Path) -> None:
    where, patch = settled(repository, "main..topic")
    fetched = source.fetch(source.parse_source(where), tmp_path, print)
    source.unpack(fetched, tmp_path, tmp_path / "tree")
    overlay.push(tmp_path / "tree", given.patches(patch, "5.10.7", Path()))
    assert (tmp_path / "tree/mm/memory.c").read_text().startswith("/* second */\n/* first */\n")
    assert (tmp_path / "tree/Documentation/notes.txt").read_text() == "main goes on\n"


def test_a_branch_alone_begins_at_its_upstream_or_at_the_source(repository: Path) -> None:
    with pytest.raises(UserError, match=r"has no upstream .* write git:.*@BASE\.\.topic"):
        settled(repository, "topic")
    git(repository, "branch", "-q", "--set-upstream-to=main", "topic")
    fork, main = (git(repository, "rev-parse", ref) for ref in ("main~1", "main"))
    assert settled(repository, "topic")[0].endswith(f"@{fork}")
    assert f"{main}.." in settled(repository, "topic", f"git:{repository}@main")[1]


def test_what_was_settled_means_the_same_when_branches_moved_on(repository: Path) -> None:
    where, patch = settled(repository, "main..topic")
    before = given.patches(patch, "5.10.7", Path())
    git(repository, "branch", "-qf", "topic", "main~1")
    assert given.patches(patch, "5.10.7", Path()) == before
    assert given.settle(where, patch, USUAL, Path()) == (where, patch)


def test_a_source_at_another_commit_than_the_range_is_refused(repository: Path) -> None:
    with pytest.raises(UserError, match=r"--source is commit .* begin at .* leave --source out"):
        settled(repository, "topic~2..topic", f"git:{repository}@main")
    named = f"git:{repository}@main"
    assert settled(repository, "main..topic", named)[0] == named
    assert settled(repository, "main..topic", USUAL)[0] == USUAL


def test_a_merge_is_refused_with_what_to_do(repository: Path) -> None:
    git(repository, "checkout", "-q", "topic")
    git(repository, "merge", "-q", "--no-edit", "main")
    with pytest.raises(UserError, match=r"holds a merge, .*Merge branch.* rebase the branch"):
        given.patches(settled(repository, "main~1..topic")[1], "5.10.7", Path())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("topic..main~1", "holds no commit; the newer end comes last"),
        ("nosuch..topic", "git cannot read nosuch"),
        ("--output=x..topic", "names no commits of a git repository"),
        ("main..--output=x", "is not a git ref"),
        ("", "names no commits of a git repository"),
    ],
)
def test_a_wrong_range_gets_one_sentence(repository: Path, words: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        given.patches(settled(repository, words)[1], "5.10.7", Path())
    assert said in caught.value.message
    assert "\n" not in caught.value.message


def test_bytes_that_are_no_utf_8_and_hostile_subjects_survive(repository: Path) -> None:
    git(repository, "checkout", "-q", "topic")
    path = repository / "mm/memory.c"
    path.write_bytes(b"/* \xe4 */\n" + path.read_bytes())
    git(repository, "commit", "-qam", "mm: \x1b[2J evil\n\nFrom a Thu Jan 13 12:00:00 2022\nX: y\n")
    found = given.patches(settled(repository, "main..topic")[1], "5.10.7", Path())
    assert b"+/* \xe4 */" in found.patches[2].raw
    assert all(each.name.isprintable() for each in found.patches)


# The repository is only read


def test_the_checkout_and_the_index_stay(repository: Path) -> None:
    (repository / "mm/memory.c").write_text("work in progress")
    git(repository, "add", "-A")
    before = state(repository)
    given.patches(settled(repository, "main..topic")[1], "5.10.7", Path())
    assert state(repository) == before


def test_nothing_that_a_repository_configures_runs(repository: Path, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\ncat\n")
    trap.chmod(0o755)
    (repository / ".gitattributes").write_text("* filter=x diff=x\n")
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "attributes")
    for name in ("filter.x.smudge", "filter.x.process", "diff.x.textconv", "diff.x.command"):
        git(repository, "config", name, str(trap))
    for name in ("diff.external", "core.fsmonitor", "core.pager", "uploadpack.packObjectsHook"):
        git(repository, "config", name, str(trap))
    git(repository, "config", "diff.noprefix", "true")
    where, patch = settled(repository, "main...topic")
    assert given.patches(patch, "5.10.7", Path()).files == ("mm/memory.c",)
    main = source.fetch(source.parse_source(f"git:{repository}@main"), tmp_path, print)
    source.unpack(main, tmp_path, tmp_path / "tree")
    assert (tmp_path / "tree/mm/memory.c").read_text() == tinytree.MEMORY
    assert where
    assert not (tmp_path / "sprung").exists()


# base-commit


def patch_on(base: str, path: Path) -> Path:
    diff = tinytree.patch_of("mm/memory.c", tinytree.MEMORY, f"/* x */\n{tinytree.MEMORY}")
    path.write_text(
        f"From: a <a@b>\nSubject: [PATCH] x\n\n---\n{diff}base-commit: {base}\n-- \n2.39\n"
    )
    return path


def test_a_git_source_without_a_ref_is_taken_at_the_base_commit(
    repository: Path, tmp_path: Path
) -> None:
    base = git(repository, "rev-parse", "main~1")
    patch = str(patch_on(base, tmp_path / "x.patch"))
    where, _ = given.settle(f"git:{repository}", patch, USUAL, Path())
    assert where == f"git:{repository}@{base}"
    assert (
        said(where, patch, tmp_path)
        == f"applied to base-commit {base[:12]}, which the patches name"
    )
    with pytest.raises(UserError, match="names no ref and the patches no base-commit"):
        given.settle(f"git:{repository}", "none", USUAL, Path())
    gone = str(patch_on("f" * 40, tmp_path / "y.patch"))
    with pytest.raises(UserError, match=r"base-commit f{40}, which is not in .* fetch it"):
        given.settle(f"git:{repository}", gone, USUAL, Path())


def test_another_base_than_the_patches_name_is_said(repository: Path, tmp_path: Path) -> None:
    base = git(repository, "rev-parse", "main~1")
    patch = str(patch_on(base, tmp_path / "x.patch"))
    assert f"base-commit {base[:12]}; applied to main" in said(
        f"git:{repository}@main", patch, tmp_path
    )
    gone = str(patch_on("f" * 40, tmp_path / "y.patch"))
    assert "which is not in" in said(f"git:{repository}@main", gone, tmp_path)
    package = source.Fetched(
        source.Source("debian", "linux-source-5.10"), "", "5.10.223", "linux-source-5.10 5.10.223-1"
    )
    (note,) = given.stated_base(given.patches(patch, "5.10.223", Path()), package)
    instead = "applied to linux-source-5.10 5.10.223-1 instead"
    assert note == f"base-commit {base[:12]} is not in a package; {instead}"


def said(where: str, patch: str, cache: Path) -> str:
    fetched = source.fetch(source.parse_source(where), cache, print)
    return "".join(given.stated_base(given.patches(patch, "5.10.7", Path()), fetched))


def test_a_version_of_a_mailbox_is_chosen_behind_its_name(tmp_path: Path) -> None:
    path = patch_on("f" * 40, tmp_path / "x#1.mbox")
    assert len(given.patches(str(path), "5.10.7", Path())) == 1
    with pytest.raises(UserError, match="holds no patch of v2"):
        given.patches(f"{patch_on('f' * 40, tmp_path / 'x.mbox')}#v2", "5.10.7", Path())


def test_a_range_is_pinned_by_its_commits_alone(repository: Path) -> None:
    _, patch = settled(repository, "main..topic")
    assert gitrange.resolve(patch) == gitrange.resolve(f"git:{repository}@main..topic")
