# SPDX-License-Identifier: GPL-2.0-only
"""Where a kernel's source comes from: a Debian package, a directory, a tarball, a git repository.

It fetches, names and unpacks pristine trees; it neither patches nor builds them.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from runner import apt, debian, folder, gitstore, host, kbuild
from runner.errors import CommandFailed, InfraError, UserError
from runner.host import How, Progress

KINDS = "debian:linux-source-5.10[=VERSION], dir:PATH, tar:PATH[#sha256=HEX] or git:PATH@REF"
TARBALL = re.compile(r"\.(tar|tar\.(xz|gz|bz2|zst)|tgz|txz)$")


@dataclass(frozen=True, slots=True)
class Source:
    """What the user named. `spec` is the part after the kind."""

    kind: str
    spec: str
    sha256: str | None = None

    def __str__(self) -> str:
        return f"{self.kind}:{self.spec}"


@dataclass(frozen=True, slots=True)
class Fetched:
    """A source at hand. `identity` is a SHA-256 that changes whenever a byte of it does."""

    source: Source
    identity: str
    version: str
    detail: str
    notes: tuple[str, ...] = ()


def parse_source(text: str) -> Source:
    """Read what the user typed; a UserError says what would have been right."""
    kind, colon, spec = text.partition(":")
    if not colon or kind not in ("debian", "dir", "tar", "git"):
        if Path(text).is_dir():
            kind, spec = "dir", text
        elif TARBALL.search(text.partition("#")[0]):
            kind, spec = "tar", text
        else:
            raise UserError(f"{text!r} is not a kernel source; write {KINDS}")
    return _PARSERS[kind](spec)


def _parse_debian(spec: str) -> Source:
    if not re.fullmatch(r"linux-source-\d+\.\d+(=[0-9][A-Za-z0-9.+~:-]*)?", spec):
        raise UserError(
            f"debian:{spec} does not name a kernel source package; "
            "write debian:linux-source-5.10 or debian:linux-source-5.10=5.10.223-1"
        )
    return Source("debian", spec)


def _parse_dir(spec: str) -> Source:
    path = Path(spec).expanduser()
    if not path.is_dir():
        raise UserError(f"the kernel source directory {spec} does not exist")
    version_of((path / "Makefile"), str(spec))
    return Source("dir", str(path.resolve()))


def _parse_tar(spec: str) -> Source:
    name, _, option = spec.partition("#")
    digest = option.removeprefix("sha256=").lower()
    if option and not re.fullmatch(r"sha256=[0-9a-fA-F]{64}", option):
        raise UserError(f"#{option} is not a checksum; write tar:PATH#sha256=<64 hex digits>")
    path = Path(name).expanduser()
    if not path.is_file():
        raise UserError(f"the kernel source tarball {name} does not exist")
    return Source("tar", str(path.resolve()), digest or None)


def _parse_git(spec: str) -> Source:
    name, at, ref = spec.rpartition("@")
    if not at or not name or not ref:
        raise UserError(f"git:{spec} names no ref; write git:PATH@REF, e.g. git:~/linux@v5.10")
    if ref.startswith("-"):
        raise UserError(f"{ref!r} is not a git ref")
    path = Path(name).expanduser()
    if not path.is_dir():
        raise UserError(f"the git repository {name} does not exist")
    return Source("git", f"{path.resolve()}@{ref}")


_PARSERS = {"debian": _parse_debian, "dir": _parse_dir, "tar": _parse_tar, "git": _parse_git}


def fetch(source: Source, cache: Path, progress: Progress) -> Fetched:
    """Have the source at hand and know its identity and version; no network when it is kept."""
    try:
        return _fetch(source, cache, progress)
    except PermissionError as error:
        raise UserError(f"{source} cannot be read: {error.filename}: {error.strerror}") from error


def _fetch(source: Source, cache: Path, progress: Progress) -> Fetched:
    match source.kind:
        case "debian":
            return _fetch_debian(source, cache, progress)
        case "dir":
            progress(f"reading the kernel source in {source.spec}")
            version = version_of(Path(source.spec, "Makefile"), source.spec)
            identity, skipped = folder.read(Path(source.spec))
            return Fetched(source, identity, version, source.spec, skipped)
        case "tar":
            return _fetch_tar(source)
        case _:
            return _fetch_git(source)


def _fetch_debian(source: Source, cache: Path, progress: Progress) -> Fetched:
    name, _, version = source.spec.partition("=")
    with host.locked(cache / "locks/apt.lock", progress):
        kept, notes = debian.fetch(apt.Wanted(name, version or None), cache, progress)
    release = re.split(r"[-~+]", kept.version)[0]
    detail = f"{name} {kept.version} from {kept.suite}"
    return Fetched(source, kept.sha256, release, detail, notes)


def _fetch_tar(source: Source) -> Fetched:
    path = Path(source.spec)
    digest = host.sha256_file(path)
    if source.sha256 and digest != source.sha256:
        raise UserError(f"{path} has the sha256 {digest}, not the {source.sha256} that was asked")
    makefile = ""
    for pattern in ("*/Makefile", "Makefile"):
        words = ("tar", "--extract", "--to-stdout", "--occurrence=1", "--file", path)
        match = ("--wildcards", "--no-wildcards-match-slash", pattern)
        done = host.run((*words, *match), How(check=False))
        if done.returncode == 0:
            makefile = done.stdout
            break
        if "Not found in archive" not in done.stderr:
            raise UserError(f"{path} is not a readable tarball: {_last_line(done.stderr)}")
    return Fetched(source, digest, _parse_version(makefile, str(path)), path.name)


def _fetch_git(source: Source) -> Fetched:
    """The tree of the ref, so that two refs with the same content are one source."""
    path, _, ref = source.spec.rpartition("@")
    commit = gitstore.commit_of(path, ref)
    tree = gitstore.ask(path, "rev-parse", "--verify", f"{commit}^{{tree}}")
    makefile = gitstore.ask(path, "show", f"{commit}:Makefile")
    version = _parse_version(makefile, source.spec)
    identity = hashlib.sha256(f"git tree {tree}".encode()).hexdigest()
    return Fetched(source, identity, version, f"commit {commit}")


def repository_of(fetched: Fetched) -> tuple[str, str]:
    """The repository and the commit of a git source."""
    return fetched.source.spec.rpartition("@")[0], fetched.detail.removeprefix("commit ")


def _last_line(text: str) -> str:
    return (text.strip() or "it said nothing").splitlines()[-1]


def version_of(makefile: Path, where: str) -> str:
    """The version that a kernel's top Makefile states, e.g. 5.10.223."""
    try:
        return _parse_version(makefile.read_text(errors="replace"), where)
    except OSError:
        return _parse_version("", where)


def _parse_version(makefile: str, where: str) -> str:
    values: dict[str, str] = dict(
        re.findall(r"^(\w+)[ \t]*=[ \t]*(\S*)[ \t]*$", makefile[:4000], re.MULTILINE)
    )
    if not values.get("VERSION") or not values.get("PATCHLEVEL"):
        raise UserError(f"{where} is no kernel source: its Makefile states no VERSION")
    numbers = [values[name] for name in ("VERSION", "PATCHLEVEL", "SUBLEVEL") if values.get(name)]
    return ".".join(numbers) + values.get("EXTRAVERSION", "")


def unpack(fetched: Fetched, cache: Path, destination: Path) -> None:
    """Write the pristine tree to `destination`, which must not exist and may be left partial."""
    source = fetched.source
    if source.kind == "dir":
        identity, _ = folder.read(Path(source.spec), destination)
        if identity != fetched.identity:
            raise UserError(f"{source.spec} changed while it was copied; run again")
        host.run(
            ("make", "-C", destination, "-s", "mrproper"), How(check=False, unset=kbuild.LEAKS)
        )
        return
    host.make_folder(destination.parent)
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=".unpack-") as scratch:
        inside = Path(scratch, "inside")
        inside.mkdir()
        tarball = _material(fetched, cache, Path(scratch))
        _extract(tarball, inside)
        entries = [path for path in inside.iterdir() if not path.is_symlink()]
        top = entries[0] if len(entries) == 1 and entries[0].is_dir() else inside
        _refuse_strange(top, tarball)
        os.rename(top, destination)


def _material(fetched: Fetched, cache: Path, scratch: Path) -> Path:
    match fetched.source.kind:
        case "debian":
            return debian.tarball(cache, fetched.identity)
        case "tar":
            path = Path(fetched.source.spec)
            if host.sha256_file(path) != fetched.identity:
                raise UserError(f"{path} changed since it was read; run again")
            return path
        case _:
            repository, commit = repository_of(fetched)
            # Through a repository of ours: theirs may name a filter, which `git archive` would run
            store = gitstore.borrow(repository, scratch / "git")
            store.git("archive", "--format=tar", f"--output={scratch / 'tree.tar'}", commit)
            return scratch / "tree.tar"


def _extract(tarball: Path, inside: Path) -> None:
    """GNU tar strips leading slashes, refuses `..` and makes links that leave the tree last."""
    words = ("tar", "--extract", "--file", tarball, "--directory", inside)
    try:
        host.run((*words, "--no-same-owner", "--no-same-permissions", "--keep-old-files"))
    except CommandFailed as failure:
        if "No space left" in failure.tail:
            raise InfraError(f"the disk is full: {inside.parent} cannot hold the source") from None
        said = _last_line(failure.tail.split("\ntar: Exiting")[0])
        raise UserError(f"{tarball} cannot be unpacked: {said}") from failure


def _refuse_strange(top: Path, tarball: Path) -> None:
    """A kernel tree has folders, files and links that stay in it."""
    for path in folder.everything(top):
        name = path.relative_to(top)
        if path.is_symlink() and folder.leaves(top, path):
            raise UserError(f"{tarball} holds {name}, a symbolic link that leaves the tree")
        if not (path.is_symlink() or path.is_file() or path.is_dir()):
            raise UserError(f"{tarball} holds {name}, which is no file, folder or link")
