# SPDX-License-Identifier: GPL-2.0-only
"""Builds a kernel from a source, a patch set and a configuration, in a warm tree, and keeps it.

It boots nothing and judges nothing; where a kernel with the same inputs is kept, it builds
nothing either.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from runner import host, kbuild, kconfig, needs, overlay, source
from runner.errors import BuildFailed, CommandFailed, ConfigLost, InfraError, UserError
from runner.gitstore import check_out
from runner.host import Progress
from runner.kconfig import Kconfig
from runner.patchset import EMPTY, PatchSet
from runner.signature import signature
from runner.source import Fetched, repository_of

# Raise it when the way a kernel is built changes, so that no kept kernel is taken for a new one.
RECIPE = 1
IMAGE = "arch/x86/boot/bzImage"
ROOM = 3 << 30
TRACE_SCRIPT = "decode_stacktrace.sh"
GDB_SCRIPT = "vmlinux-gdb.py"


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """Everything that decides what a kernel is. `jobs` is how many compilers run at once."""

    fetched: Fetched
    patchset: PatchSet
    kconfig: Kconfig
    compiler: str = "gcc"
    jobs: int | None = None


@dataclass(frozen=True, slots=True)
class Kernel:
    """A built kernel and its papers. `cpu_seconds` is what its build cost when it was made.

    `fingerprint` names the inputs, `signature` the code that came out.
    """

    image: Path
    config: Path
    vmlinux: Path | None
    release: str
    fingerprint: str
    signature: str
    source: str
    patches: tuple[str, ...]
    compiler: str
    config_sha256: str
    image_sha256: str
    cpu_seconds: float
    seconds: float
    reused: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Site:
    """Where one build takes place."""

    request: BuildRequest
    chain: kbuild.Toolchain
    cache: Path
    fingerprint: str
    progress: Progress

    @property
    def tree(self) -> Path:
        """One warm tree per source, configuration and compiler; patches come and go in it.

        So do the commits of a git repository, within one release: make rebuilds what differs.
        """
        fetched, kconfig = self.request.fetched, self.request.kconfig
        source = fetched.identity
        if fetched.source.kind == "git":
            repository, _ = repository_of(fetched)
            line = ".".join(re.split(r"[.-]", fetched.version)[:2])
            source = f"git {repository} {line}"
        return self.cache / "trees" / _digest(source, kconfig.family, self.chain.version)[:16]

    @property
    def kept(self) -> Path:
        return _shelf(self.cache, self.fingerprint)

    @property
    def subject(self) -> str:
        patchset = self.request.patchset
        which = f"with {patchset.name}" if patchset.patches else "without patches"
        return f"Linux {self.request.fetched.version} {which}"


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def build(request: BuildRequest, cache: Path, progress: Progress) -> Kernel:
    """The kernel for these inputs: a kept one, or a new one built in the warm tree.

    Raises PatchError, ConfigLost, BuildFailed, or InfraError for a fault of the machine.
    """
    site = _site(request, cache, progress)
    with _disk_errors(cache):
        kernel, note = _take_kept(site)
        if kernel:
            return kernel
        with host.locked(cache / f"locks/tree-{site.tree.name}.lock", progress):
            kernel, _ = _take_kept(site)
            if kernel:
                return kernel
            needs.refuse_without(needs.TO_BUILD)
            _have_tree(site)
            _build_and_keep(site)
            kernel, _ = _take_kept(site)
    if kernel is None:
        raise InfraError(f"the kernel that was just built in {site.tree} cannot be read back")
    return replace(kernel, reused=False, notes=note)


def try_patches(request: BuildRequest, cache: Path, progress: Progress) -> None:
    """PatchError where the patches do not apply, found in seconds and before anything is built.

    The tree is unpacked for it, as a build does; those of a kept kernel did apply.
    """
    site = _site(request, cache, progress)
    if not request.patchset.patches or kept(cache, site.fingerprint):
        return
    needs.refuse_without(needs.TO_BUILD)
    with (
        _disk_errors(cache),
        host.locked(cache / f"locks/tree-{site.tree.name}.lock", progress),
    ):
        _have_tree(site)
        overlay.check(site.tree, request.patchset, cache / "rejects")


def _site(request: BuildRequest, cache: Path, progress: Progress) -> _Site:
    if re.search(r"[\s:]", str(cache)):
        raise UserError(
            f"{cache} has a space or colon in it, and in such a folder no kernel can be made; "
            "set TWINBOOT_CACHE to another"
        )
    chain = kbuild.toolchain(request.compiler, request.jobs, cache)
    return _Site(request, chain, cache, _fingerprint(request, chain), progress)


def fingerprint(request: BuildRequest, cache: Path) -> str:
    """What a kernel of these inputs would be kept under."""
    return _fingerprint(request, kbuild.toolchain(request.compiler, request.jobs, cache))


def _fingerprint(request: BuildRequest, chain: kbuild.Toolchain) -> str:
    inputs = (request.fetched.identity, request.patchset.digest, request.kconfig.digest)
    return _digest(f"recipe {RECIPE}", *inputs, chain.version)


def final_config(request: BuildRequest, cache: Path, progress: Progress) -> str:
    """The .config that olddefconfig makes, where every wish has to come true; nothing is built."""
    chain = kbuild.toolchain(request.compiler, request.jobs, cache)
    site = _Site(request, chain, cache, "config", progress)
    log = cache / "logs" / f"config-{site.tree.name}.log"
    strict = replace(request.kconfig, trials_of="")
    with (
        _disk_errors(cache),
        host.locked(cache / f"locks/tree-{site.tree.name}.lock", progress),
    ):
        _have_tree(site)
        overlay.push(site.tree, request.patchset, cache / "rejects")
        return kconfig.configure(site.tree, strict, log, chain)


@contextlib.contextmanager
def _disk_errors(cache: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InfraError(
            f"the build cannot go on in {cache}: {error.strerror or error}; "
            "free space, or set TWINBOOT_CACHE to another folder"
        ) from error


def kept(cache: Path, fingerprint: str) -> Kernel | None:
    """The kept kernel with this fingerprint where there is a whole one; nothing is built."""
    if not re.fullmatch(r"[0-9a-f]{64}", fingerprint):
        return None
    return _read_kept(_shelf(cache, fingerprint))


def _shelf(cache: Path, fingerprint: str) -> Path:
    return cache / "kernels" / fingerprint[:32]


def _read_kept(folder: Path) -> Kernel | None:
    try:
        kernel = _kernel_of(json.loads((folder / "kernel.json").read_text()), folder)
        whole = host.sha256_file(kernel.image) == kernel.image_sha256 and kernel.config.is_file()
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return kernel if whole else None


def _take_kept(site: _Site) -> tuple[Kernel | None, tuple[str, ...]]:
    """The kept kernel with this fingerprint; a damaged one is discarded, with a note."""
    if not site.kept.exists():
        return None, ()
    if kernel := _read_kept(site.kept):
        return kernel, ()
    note = f"the kept kernel {site.kept.name} was damaged, so it was built again"
    site.progress(note)
    away = Path(tempfile.mkdtemp(dir=site.kept.parent, prefix=".discarded-"))
    with contextlib.suppress(FileNotFoundError):
        os.rename(site.kept, away / "kernel")
    shutil.rmtree(away, ignore_errors=True)
    return None, (note,)


def _kernel_of(stated: dict[str, object], folder: Path) -> Kernel:
    names = [name for name in Kernel.__dataclass_fields__ if name in stated]
    fields = {name: stated[name] for name in names}
    patches = fields["patches"]
    if not isinstance(patches, list):
        raise ValueError("patches is not a list")
    vmlinux = folder / "vmlinux"
    paths = {
        "image": folder / "bzImage",
        "config": folder / "config",
        "vmlinux": vmlinux if vmlinux.is_file() else None,
    }
    return Kernel(**{**fields, **paths, "patches": tuple(patches), "reused": True})  # type: ignore[arg-type]


def _have_tree(site: _Site) -> None:
    """Unpack the source beside its place and rename it there whole; then heal what broke off."""
    tree = site.tree
    host.make_folder(tree.parent)
    for partial in tree.parent.glob(f".{tree.name}.partial-*"):
        shutil.rmtree(partial, ignore_errors=True)
    if tree.is_dir():
        _heal(tree)
        _move(site)
        return
    free = shutil.disk_usage(tree.parent).free
    if free < ROOM:
        raise InfraError(
            f"a kernel tree needs {ROOM >> 30} GB and {tree.parent} has {free / (1 << 30):.1f} GB; "
            "free space, or set TWINBOOT_CACHE to another folder"
        )
    site.progress(f"unpacking Linux {site.request.fetched.version}")
    with tempfile.TemporaryDirectory(dir=tree.parent, prefix=f".{tree.name}.partial-") as scratch:
        if site.request.fetched.source.kind != "git":
            source.unpack(site.request.fetched, site.cache, Path(scratch, "tree"))
        host.make_folder(Path(scratch, "tree", overlay.OWN))
        os.rename(Path(scratch, "tree"), tree)
    _move(site)


def _move(site: _Site) -> None:
    """Take a git tree to the commit that is asked for; of any other source a tree has one.

    The record is written last, so that a move that was killed is made again as a whole.
    """
    tree, fetched = site.tree, site.request.fetched
    record = tree / overlay.OWN / "at"
    if fetched.source.kind != "git" or _said(record) == fetched.identity:
        return
    repository, commit = repository_of(fetched)
    site.progress(f"taking the tree to {commit[:12]}")
    overlay.push(tree, EMPTY)
    check_out(repository, commit, tree, overlay.OWN)
    overlay.forget(tree)
    host.write_atomic(record, fetched.identity)


def _said(record: Path) -> str:
    try:
        return record.read_text()
    except FileNotFoundError:
        return ""


def _marker(tree: Path) -> Path:
    return tree / overlay.OWN / "building"


def _heal(tree: Path) -> None:
    """After a build that was killed: remove all that it wrote.

    An object may be cut short and yet newer than its source, with the command file of an
    earlier build beside it; make would take it for finished.
    """
    overlay.clean_stages(tree)
    marker = _marker(tree)
    if not marker.exists():
        return
    began = marker.stat().st_mtime_ns
    for folder, folders, files in os.walk(tree):
        if overlay.OWN in folders:
            folders.remove(overlay.OWN)
        for name in files:
            path = Path(folder, name)
            if path.lstat().st_mtime_ns >= began:
                path.unlink()
    marker.unlink()


def _build_and_keep(site: _Site) -> None:
    """Push, configure, make, and publish the finished folder with one rename."""
    host.make_folder(site.kept.parent)
    logs = site.cache / "logs"
    log = logs / f"build-{site.fingerprint[:32]}.log"
    log.unlink(missing_ok=True)
    overlay.push(site.tree, site.request.patchset, site.cache / "rejects")
    marker = _marker(site.tree)
    # Written after the push, so that _heal takes what make wrote; whatever else it takes, a push
    # and a configure bring back.
    host.write_atomic(marker, "")
    try:
        kernel = _make(site, log)
    except (CommandFailed, BuildFailed, ConfigLost):
        marker.unlink()  # make ended by itself and has removed what it left half done
        raise
    marker.unlink()
    with tempfile.TemporaryDirectory(dir=site.kept.parent, prefix=".partial-") as scratch:
        _publish(site, kernel, log, Path(scratch, "kernel"))
    log.unlink()  # a copy is kept with the kernel; the log of a failed build stays


def _make(site: _Site, log: Path) -> Kernel:
    tree, chain, request = site.tree, site.chain, site.request
    before = host.children_cpu()
    config = _configured(site, log)
    site.progress(f"building {site.subject} with {chain.jobs} jobs")
    try:
        done = kbuild.make(tree, log, chain, "bzImage")
        cpu_seconds = host.children_cpu() - before
        if "\nCONFIG_GDB_SCRIPTS=y\n" in config:
            kbuild.make(tree, log, chain, "scripts_gdb")
    except CommandFailed as failure:
        raise BuildFailed(_first_errors(site, log, failure), log=log) from failure
    return Kernel(
        image=tree / IMAGE,
        config=tree / ".config",
        vmlinux=tree / "vmlinux",
        release=(tree / "include/config/kernel.release").read_text().strip(),
        fingerprint=site.fingerprint,
        signature=signature(tree / "vmlinux"),
        source=f"{request.fetched.source} ({request.fetched.detail})",
        patches=tuple(patch.name for patch in request.patchset.patches),
        compiler=chain.version,
        config_sha256=hashlib.sha256(config.encode()).hexdigest(),
        image_sha256=host.sha256_file(tree / IMAGE),
        cpu_seconds=round(cpu_seconds, 1),
        seconds=round(done.seconds, 1),
        reused=False,
    )


def _configured(site: _Site, log: Path) -> str:
    """The tree's .config: the one that is there, where nothing changed that it was made of.

    A patch to code alone is no such change, whatever other code was patched before.
    """
    tree, request = site.tree, site.request
    record, made = tree / overlay.OWN / "configured", tree / ".config"
    wishes = _digest(request.fetched.identity, request.kconfig.digest, site.chain.version)
    only_code = all(map(_is_code, request.patchset.files))
    if only_code and made.is_file() and _said(record) == _digest(wishes, made.read_text()):
        return made.read_text()
    site.progress(f"configuring {site.subject}")
    record.unlink(missing_ok=True)
    config = kconfig.configure(tree, request.kconfig, log, site.chain)
    if only_code:
        host.write_atomic(record, _digest(wishes, config))
    return config


def _is_code(name: str) -> bool:
    """Whether no configuration depends on this file of a kernel."""
    return name.endswith((".c", ".h", ".S")) and not name.startswith(("scripts/", "tools/"))


def _first_errors(site: _Site, log: Path, failure: CommandFailed) -> str:
    errors = kbuild.errors(log)
    shown = "; ".join(errors[:3]) or failure.tail.strip().splitlines()[-1]
    more = f" (and {len(errors) - 3} more)" if len(errors) > 3 else ""
    return f"{site.subject} does not compile: {shown}{more}"


def _publish(site: _Site, kernel: Kernel, log: Path, folder: Path) -> None:
    folder.mkdir()
    for name, path in (
        ("bzImage", kernel.image),
        ("config", kernel.config),
        ("vmlinux", site.tree / "vmlinux"),
        ("System.map", site.tree / "System.map"),
        ("build.log", log),
        # what gives a trace its lines; it is of use only with CONFIG_DEBUG_INFO
        (TRACE_SCRIPT, site.tree / "scripts" / TRACE_SCRIPT),
        (GDB_SCRIPT, site.tree / GDB_SCRIPT),
    ):
        if path.is_file():
            shutil.copyfile(path, folder / name)
    if (folder / GDB_SCRIPT).is_file():
        shutil.copytree(
            site.tree / "scripts/gdb",
            folder / "scripts/gdb",
            ignore=shutil.ignore_patterns("*.in", "Makefile", ".*", "__pycache__"),
        )
        _repair_constants(folder / "scripts/gdb/linux/constants.py")
    papers = asdict(kernel)
    for name in ("image", "config", "vmlinux", "reused", "notes"):
        del papers[name]
    host.write_atomic(folder / "kernel.json", json.dumps(papers, indent=1) + "\n")
    os.rename(folder, site.kept)


def _repair_constants(path: Path) -> None:
    """5.10's gdb scripts are made with C's suffixes, `1UL`, which Python does not read."""
    if path.is_file():
        plain = re.sub(r"\b(0[xX][0-9a-fA-F]+|\d+)[uU]?[lL]+\b", r"\1", path.read_text())
        host.write_atomic(path, plain)
