# SPDX-License-Identifier: GPL-2.0-only
"""Sources: what is accepted, what it is called, and that what it comes from is never written to."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from runner import apt, debian, host, source
from runner.errors import InfraError, UserError
from runner.tests import tinytree


def quiet(_line: str) -> None:
    """Progress that nobody reads."""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return tinytree.write(tmp_path / "tiny")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def snapshot(top: Path) -> dict[str, tuple[int, bytes]]:
    """Every file with its time stamp and bytes."""
    files = (path for path in top.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def fetched(text: str, cache: Path) -> source.Fetched:
    return source.fetch(source.parse_source(text), cache, quiet)


def git(tree: Path, *words: str) -> str:
    names = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    return host.run(("git", "-C", tree, *names, *words)).stdout.strip()


# What the user types


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("linux", "is not a kernel source; write debian:"),
        ("svn:foo", "is not a kernel source"),
        ("debian:bash", "does not name a kernel source package"),
        ("debian:linux-source-5.10=; rm -rf", "does not name a kernel source package"),
        ("dir:/nonexistent", "directory /nonexistent does not exist"),
        ("tar:/nonexistent.tar", "tarball /nonexistent.tar does not exist"),
        ("tar:/etc/passwd#md5=0", "is not a checksum"),
        ("git:/tmp", "names no ref"),
        ("git:/nonexistent@v5.10", "git repository /nonexistent does not exist"),
        ("git:/tmp@--output=/etc/passwd", "is not a git ref"),
    ],
)
def test_a_wrong_source_gets_one_sentence(text: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        source.parse_source(text)
    assert said in caught.value.message
    assert "\n" not in caught.value.message


def test_a_folder_without_a_kernel_makefile_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no kernel source"):
        source.parse_source(str(tmp_path))


def test_a_bare_folder_and_a_bare_tarball_need_no_kind(tree: Path, tmp_path: Path) -> None:
    assert source.parse_source(str(tree)).kind == "dir"
    tarball = tmp_path / "linux-5.10.tar.xz"
    tarball.touch()
    assert source.parse_source(str(tarball)).kind == "tar"


# Directories


def test_a_directory_is_copied_and_never_written_to(tree: Path, cache: Path) -> None:
    before = snapshot(tree)
    copy = cache / "copy"
    source.unpack(fetched(f"dir:{tree}", cache), cache, copy)
    assert snapshot(tree) == before
    assert (copy / "mm/memory.c").read_text() == tinytree.MEMORY
    assert (copy / "fs/alias").is_symlink()


def test_what_a_build_left_in_a_directory_does_not_count(tree: Path, cache: Path) -> None:
    clean = fetched(f"dir:{tree}", cache)
    for name in ("mm/memory.o", ".config", "vmlinux", "include/generated/autoconf.h", ".git/index"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("built")
    (tree / "scripts/fixdep").write_bytes(b"\x7fELF built")
    built = fetched(f"dir:{tree}", cache)
    copy = cache / "copy"
    source.unpack(built, cache, copy)
    assert built.identity == clean.identity
    assert not (copy / "mm/memory.o").exists()
    assert not (copy / "scripts/fixdep").exists()


def test_a_changed_byte_and_a_changed_mode_change_the_identity(tree: Path, cache: Path) -> None:
    first = fetched(f"dir:{tree}", cache).identity
    (tree / "mm/memory.c").write_text(tinytree.MEMORY + "\n")
    second = fetched(f"dir:{tree}", cache).identity
    (tree / "mm/memory.c").chmod(0o755)
    third = fetched(f"dir:{tree}", cache).identity
    assert len({first, second, third}) == 3


def test_a_link_out_of_a_directory_is_left_out_and_noted(tree: Path, cache: Path) -> None:
    (tree / "cscope.out").symlink_to("/etc/passwd")
    found = fetched(f"dir:{tree}", cache)
    source.unpack(found, cache, cache / "copy")
    assert "cscope.out" in found.notes[0]
    assert not (cache / "copy/cscope.out").is_symlink()


def test_a_directory_that_changes_between_looking_and_copying_is_noticed(
    tree: Path, cache: Path
) -> None:
    found = fetched(f"dir:{tree}", cache)
    (tree / "mm/memory.c").write_text("changed")
    with pytest.raises(UserError, match="changed while it was copied"):
        source.unpack(found, cache, cache / "copy")


# Tarballs


def pack(tree: Path, tarball: Path, top: str = "linux-5.10.7") -> Path:
    with tarfile.open(tarball, "w:xz") as archive:
        archive.add(tree, arcname=top)
    return tarball


def member(name: str, **fields: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(made, field, value)
    return made


def hostile(tree: Path, tarball: Path, *members: tarfile.TarInfo) -> Path:
    """A kernel tarball with members that no kernel tarball has."""
    with tarfile.open(tarball, "w") as archive:
        archive.add(tree, arcname="linux")
        for one in members:
            one.size = 6 if one.isreg() else 0
            archive.addfile(one, io.BytesIO(b"pwned\n"))
    return tarball


@pytest.mark.parametrize("top", ["linux-5.10.7", "."])
def test_a_tarball_is_unpacked_with_and_without_a_top_folder(
    tree: Path, cache: Path, tmp_path: Path, top: str
) -> None:
    found = fetched(f"tar:{pack(tree, tmp_path / 'l.tar.xz', top)}", cache)
    source.unpack(found, cache, cache / "out")
    assert found.version == "5.10.7"
    assert (cache / "out/mm/memory.c").read_text() == tinytree.MEMORY


def test_a_checksum_that_fits_is_accepted_and_another_refused(
    tree: Path, cache: Path, tmp_path: Path
) -> None:
    tarball = pack(tree, tmp_path / "l.tar.xz")
    right = host.sha256_file(tarball)
    assert fetched(f"tar:{tarball}#sha256={right}", cache).identity == right
    with pytest.raises(UserError, match="that was asked"):
        fetched(f"tar:{tarball}#sha256={'0' * 64}", cache)


@pytest.mark.parametrize("raw", [b"", b"not a tarball at all" * 99])
def test_a_file_that_is_no_tarball_gets_one_sentence(
    cache: Path, tmp_path: Path, raw: bytes
) -> None:
    path = tmp_path / "x.tar.xz"
    path.write_bytes(raw)
    with pytest.raises(UserError, match=r"readable tarball|no kernel source"):
        fetched(f"tar:{path}", cache)


def test_a_truncated_tarball_is_refused(tree: Path, cache: Path, tmp_path: Path) -> None:
    tarball = tmp_path / "l.tar"
    with tarfile.open(tarball, "w") as archive:
        archive.add(tree, arcname="linux")
    tarball.write_bytes(tarball.read_bytes()[:6000])
    with pytest.raises(UserError):
        source.unpack(fetched(f"tar:{tarball}", cache), cache, cache / "out")
    assert not (cache / "out").exists()


LINK = {"type": tarfile.SYMTYPE}


@pytest.mark.parametrize(
    "members",
    [
        (member("../../escaped"),),
        (member("linux/../../escaped"),),
        (member("linux/way", linkname="../..", **LINK), member("linux/way/escaped")),
        (member("linux/way", linkname="/tmp", **LINK),),
        (member("linux/way", linkname="../../../..", **LINK),),
        (
            member("linux/mm/up", linkname="..", **LINK),
            member("linux/mm/way", linkname="up/../outside", **LINK),
        ),
        (member("linux/pipe", type=tarfile.FIFOTYPE),),
        (member("linux/hard", type=tarfile.LNKTYPE, linkname="../../outside"),),
    ],
)
def test_a_tarball_that_reaches_out_of_its_folder_is_refused(
    tree: Path, cache: Path, tmp_path: Path, members: tuple[tarfile.TarInfo, ...]
) -> None:
    (tmp_path / "outside").write_text("mine")
    tarball = hostile(tree, tmp_path / "h.tar", *members)
    with pytest.raises(UserError):
        source.unpack(fetched(f"tar:{tarball}", cache), cache, cache / "trees/out")
    assert not list(tmp_path.rglob("escaped"))
    assert not (cache / "trees/out").exists()
    assert (tmp_path / "outside").read_text() == "mine"


def test_an_absolute_member_lands_inside(tree: Path, cache: Path, tmp_path: Path) -> None:
    tarball = hostile(tree, tmp_path / "h.tar", member("/twinboot-escaped"))
    source.unpack(fetched(f"tar:{tarball}", cache), cache, cache / "out")
    assert not Path("/twinboot-escaped").exists()


# Git


@pytest.fixture
def repository(tree: Path) -> Path:
    git(tree, "init", "-q")
    git(tree, "add", "-A")
    git(tree, "commit", "-qm", "one")
    git(tree, "tag", "v5.10.7")
    return tree


def test_a_ref_is_taken_and_work_tree_and_index_stay(repository: Path, cache: Path) -> None:
    (repository / "mm/memory.c").write_text("work in progress")
    (repository / "staged").write_text("staged")
    git(repository, "add", "staged")
    before = snapshot(repository)
    found = fetched(f"git:{repository}@v5.10.7", cache)
    source.unpack(found, cache, cache / "out")
    assert (cache / "out/mm/memory.c").read_text() == tinytree.MEMORY
    assert not (cache / "out/staged").exists()
    assert snapshot(repository) == before


def test_two_refs_with_the_same_tree_are_one_source(repository: Path, cache: Path) -> None:
    git(repository, "commit", "-q", "--allow-empty", "-m", "two")
    old, new = (fetched(f"git:{repository}@{ref}", cache) for ref in ("v5.10.7", "HEAD"))
    assert old.identity == new.identity
    assert old.detail != new.detail


def test_a_ref_that_does_not_exist_gets_one_sentence(repository: Path, cache: Path) -> None:
    with pytest.raises(UserError, match=r"git cannot read v9\.9"):
        fetched(f"git:{repository}@v9.9", cache)


# Debian packages


LISTING = """\
http://mirror.example/debian/|bookworm|Debian
http://mirror.example/debian-security/|bookworm-security|Debian
http://other.example/apt/|stable|Other
"""
MADISON = """\
 linux-source-5.10 | 5.10.251-1 | http://m/debian-security bullseye-security/main amd64 Packages
 linux-source-5.10 | 5.10.223-1 | http://m/debian bullseye/main amd64 Packages
"""


def test_the_mirror_is_the_one_that_apt_uses() -> None:
    found = apt.parse_mirror(LISTING)
    assert found == apt.Mirror(
        "http://mirror.example/debian/", "http://mirror.example/debian-security/"
    )


def test_the_mirror_is_known_before_the_first_update() -> None:
    unknown = LISTING.replace("|Debian", "|$(ORIGIN)")
    assert apt.parse_mirror(unknown).main == "http://mirror.example/debian/"


def test_a_machine_without_a_debian_mirror_is_told_what_to_do() -> None:
    with pytest.raises(InfraError, match="give the kernel as dir:PATH"):
        apt.parse_mirror("http://other.example/apt/|stable|Other\n")


def test_the_suite_of_the_release_is_asked_first() -> None:
    assert apt.suites("linux-source-5.10")[0] == ("bullseye", "bullseye-security")
    assert apt.suites("linux-source-9.9")[0] == ("sid",)


def test_the_pinned_version_is_chosen_even_when_a_newer_one_is_there() -> None:
    offers = apt.parse_offers(MADISON, "linux-source-5.10")
    chosen, notes = debian.choose(offers, apt.Wanted("linux-source-5.10", None))
    assert (chosen.version, chosen.suite, notes) == ("5.10.223-1", "bullseye", ())


def test_where_the_pinned_version_is_gone_the_newest_is_taken_and_said() -> None:
    offers = apt.parse_offers(MADISON, "linux-source-5.10")[:1]
    chosen, notes = debian.choose(offers, apt.Wanted("linux-source-5.10", None))
    assert chosen.version == "5.10.251-1"
    assert "5.10.223-1" in notes[0]
    assert "5.10.251-1 was used" in notes[0]


def test_a_version_that_was_asked_for_by_name_is_not_replaced() -> None:
    offers = apt.parse_offers(MADISON, "linux-source-5.10")
    with pytest.raises(UserError, match=r"not on offer; there is 5\.10\.251-1, 5\.10\.223-1"):
        debian.choose(offers, apt.Wanted("linux-source-5.10", "5.10.1-1"))


class NoNetwork:
    """Stands for apt on a machine that is offline."""

    def __init__(self, *_: object) -> None:
        raise InfraError("the Debian mirror could not be read")


def keep(tree: Path, cache: Path, version: str) -> Path:
    """Put a tarball into the cache as a fetch would."""
    (cache / "sources").mkdir(parents=True, exist_ok=True)
    packed = pack(tree, cache / "sources/new", "linux-source-5.10")
    digest = host.sha256_file(packed)
    packed.rename(debian.tarball(cache, digest))
    papers = {"version": version, "suite": "bullseye", "sha256": digest}
    (cache / f"sources/linux-source-5.10_{version}.json").write_text(json.dumps(papers))
    return debian.tarball(cache, digest)


def test_a_kept_package_needs_no_network(
    tree: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apt, "Apt", NoNetwork)
    keep(tree, cache, "5.10.223-1")
    found = fetched("debian:linux-source-5.10", cache)
    source.unpack(found, cache, cache / "out")
    assert found.version == "5.10.223"
    assert (cache / "out/mm/memory.c").is_file()


def test_without_network_another_kept_version_serves_and_is_noted(
    tree: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apt, "Apt", NoNetwork)
    keep(tree, cache, "5.10.251-1")
    assert "5.10.251-1 was used" in fetched("debian:linux-source-5.10", cache).notes[-1]
    with pytest.raises(InfraError, match="could not be read"):
        fetched("debian:linux-source-5.10=5.10.223-1", cache)


def test_a_damaged_kept_package_is_not_used(
    tree: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apt, "Apt", NoNetwork)
    keep(tree, cache, "5.10.223-1").write_bytes(b"damaged")
    with pytest.raises(InfraError):
        fetched("debian:linux-source-5.10", cache)


def system_apt() -> dict[str, int]:
    """Time stamps of all that belongs to the machine's own apt."""
    places = [Path("/etc/apt"), Path("/var/lib/apt/lists"), Path("/var/cache/apt")]
    return {str(path): path.stat().st_mtime_ns for top in places for path in top.rglob("*")}


@pytest.mark.vm
def test_the_pinned_kernel_comes_from_the_mirror(cache: Path) -> None:
    found = fetched("debian:linux-source-5.10", cache)
    assert found.version.startswith("5.10.")
    assert debian.tarball(cache, found.identity).stat().st_size > 100_000_000


@pytest.mark.vm
def test_asking_the_mirror_leaves_the_system_apt_untouched(cache: Path) -> None:
    """Three tries, since somebody else may use the machine's apt in the same seconds."""
    unchanged = []
    for number in range(3):
        before = system_apt()
        own = apt.Apt(cache / f"apt{number}", quiet)
        assert own.find(apt.Wanted("linux-source-5.10", None))
        unchanged.append(system_apt() == before)
        if unchanged[-1]:
            break
    assert unchanged[-1]


@pytest.mark.vm
def test_a_mirror_whose_signature_does_not_verify_is_refused(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apt, "KEYRING", apt.KEYRING.with_name("debian-archive-removed-keys.gpg"))
    monkeypatch.setattr(apt, "suites", lambda _: (("bullseye-security",),))
    with pytest.raises(InfraError, match="is not signed"):
        fetched("debian:linux-source-5.10", cache)
