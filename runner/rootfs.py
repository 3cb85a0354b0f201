# SPDX-License-Identifier: GPL-2.0-only
"""What a guest sees as its root: a small folder as a disk, built once and the same in both arms.

It boots nothing; which programs a case needs is the case table's affair.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from runner import host
from runner.errors import InfraError, UserError
from runner.host import How, Progress
from runner.qemu import INIT

FOLDERS = (
    *("bin", "sbin", "usr/bin", "usr/sbin", "usr/lib", "lib", "lib64", "etc", "dev", "proc"),
    *("sys", "tmp", "run", "var", "home", "opt", "srv", "root", "mnt", "twinboot/trial"),
)
PROGRAMS = {"dropbear": "dropbear-bin", "dmsetup": "dmsetup"}
# Composed in where the host has them; a case that needs one is skipped where it is not.
# Redis's server is the same file under another name, which redis-tools brings without a service.
OPTIONAL = {"redis-server": "redis-check-rdb"}
LEFT_OUT = (
    "test",
    "tests",
    "idlelib",
    "tkinter",
    "ensurepip",
    "lib2to3",
    "turtledemo",
    "pydoc_data",
)
BLOCK, INODE = 4096, 256
LIBRARY = re.compile(r"(?:=> )?(/\S+) \(0x")
SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Rootfs:
    """The folder, and a digest over every guest program in it (the arms must share it)."""

    path: Path
    digest: str

    @property
    def image(self) -> Path:
        """The same as a disk to boot from (ext2, to be read only)."""
        return self.path.with_name(f"{self.path.name}.img")


@dataclass(frozen=True, slots=True)
class Guests:
    """Foreign folders and programs, each with the path that it gets in the guest."""

    folders: Mapping[str, Path]
    programs: Mapping[str, Path]


def guest_programs(sources: Path, cache: Path, progress: Progress) -> Path:
    """Compile guest-tests/ once for each content; returns the folder of static programs."""
    digest = tree_digest(sources)
    log = cache / "logs" / f"guest-programs-{digest[:16]}.log"

    def compile_into(fresh: Path) -> None:
        make = ("make", "-s", "-C", sources, f"OUT={fresh}")
        host.run(make, How(log=log, timeout=300))

    done = cache / "guest-programs" / digest[:16]
    return _filled(done, compile_into, "compiling the guest programs", progress)


def _filled(done: Path, fill: Callable[[Path], None], line: str, progress: Progress) -> Path:
    """The folder, filled and put in its place at once where it is not kept."""
    with host.locked(done.with_name("lock"), progress):
        if not done.exists():
            progress(line)
            fresh = Path(tempfile.mkdtemp(dir=done.parent, prefix=".new-"))
            try:
                fill(fresh)
                fresh.chmod(0o755)
                fresh.rename(done)
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
    return done


def _kept_at(cache: Path, digest: str) -> Path:
    """Where the root with this digest is kept, if it is."""
    return cache / "rootfs" / digest[:16]


def kept(cache: Path, digest: str, progress: Progress) -> Rootfs | None:
    """The root with this digest, if it is kept and has the first process that guests start."""
    path = _kept_at(cache, digest)
    if not (path / INIT.lstrip("/")).is_file():
        return None
    return _with_image(Rootfs(path, digest), progress)


def build_rootfs(sources: Path, cache: Path, progress: Progress) -> Rootfs:
    """Compose the root folder, or find it again: busybox, dropbear, dmsetup, python3, cases."""
    programs = guest_programs(sources, cache, progress)
    tools = _tools()
    digest = _digest(programs, sources, tools)
    path = _filled(
        _kept_at(cache, digest),
        lambda fresh: _compose(fresh, tools, programs, sources),
        "composing the guest's root folder",
        progress,
    )
    return _with_image(Rootfs(path, digest), progress)


def with_guests(root: Rootfs, guests: Guests, cache: Path, progress: Progress) -> Rootfs:
    """A second root: the first, and foreign programs with the libraries that they need."""
    total = hashlib.sha256(root.digest.encode())
    for place, folder in guests.folders.items():
        total.update(f"{place}\0{tree_digest(folder)}\n".encode())
    for place, program in guests.programs.items():
        total.update(f"{place}\0{host.sha256_file(program)}\n".encode())
    digest = total.hexdigest()
    path = _filled(
        _kept_at(cache, digest),
        lambda fresh: _add_guests(root.path, fresh, guests),
        "composing the guest's root folder with the foreign programs",
        progress,
    )
    return _with_image(Rootfs(path, digest), progress)


def _with_image(root: Rootfs, progress: Progress) -> Rootfs:
    """The root with its image, made where it is missing."""
    with host.locked(root.path.with_name("lock"), progress):
        if not root.image.exists():
            progress("writing the guest's disk")
            fresh = root.path.with_name(f".new-{root.image.name}")
            try:
                _make_image(root.path, fresh)
                fresh.rename(root.image)
            finally:
                fresh.unlink(missing_ok=True)
    return root


def _make_image(folder: Path, image: Path) -> None:
    """A file system of the folder's files, with a tenth to spare; nothing is mounted for it."""
    sizes = [path.lstat().st_size for path in folder.rglob("*")]
    blocks = sum(size // BLOCK + 1 for size in sizes) + len(sizes) * INODE // BLOCK
    shape = ("-t", "ext2", "-b", BLOCK, "-I", INODE, "-N", len(sizes) + 64, "-m", 0)
    mke2fs = _found("mke2fs", "e2fsprogs")
    words = (mke2fs, "-F", "-q", *shape, "-d", folder, image, blocks * 11 // 10 + 1024)
    host.run(tuple(str(word) for word in words))


def _add_guests(root: Path, fresh: Path, guests: Guests) -> None:
    """No guest writes to its root, so both share the files that they have in common."""
    shutil.copytree(root, fresh, symlinks=True, copy_function=os.link, dirs_exist_ok=True)
    for place, folder in guests.folders.items():
        target = fresh / place.lstrip("/")
        shutil.copytree(folder, target)
        for needed in sorted({*filter(None, map(interpreter, folder.iterdir()))}):
            if not (fresh / str(needed).lstrip("/")).exists():
                _copy_with_libraries(fresh, needed, fresh / str(needed).lstrip("/"))
    for place, program in guests.programs.items():
        _copy_with_libraries(fresh, program, fresh / place.lstrip("/"))


def interpreter(script: Path) -> Path | None:
    """What a script names in its first line, where the host has it and it is not /bin/sh."""
    if not script.is_file():
        return None
    with script.open("rb") as stream:
        first = stream.readline(200)
    words = first[2:].decode(errors="replace").split() if first.startswith(b"#!") else []
    found = shutil.which(words[-1] if words[0].endswith("/env") else words[0]) if words else None
    return Path(found) if found and Path(found).name not in ("sh", "python3") else None


def tree_digest(folder: Path) -> str:
    """SHA-256 over names and contents of all files below a folder."""
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder} with guest tests")
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            total.update(f"{path.relative_to(folder)}\0{host.sha256_file(path)}\n".encode())
    return total.hexdigest()


@dataclass(frozen=True, slots=True)
class _Tools:
    busybox: Path
    programs: tuple[tuple[str, Path], ...]
    python: Path
    stdlib: Path


def _tools() -> _Tools:
    python = _found("python3", "python3").resolve()
    asked = "import sysconfig; print(sysconfig.get_path('stdlib'))"
    stdlib = host.run((python, "-I", "-S", "-c", asked)).stdout.strip()
    programs = {name: _found(name, package) for name, package in PROGRAMS.items()}
    for name, other in OPTIONAL.items():
        if where := shutil.which(other, path=SYSTEM_PATH):
            programs[name] = Path(where)
    return _Tools(
        _found("busybox", "busybox-static"), tuple(programs.items()), python, Path(stdlib)
    )


def _found(name: str, package: str) -> Path:
    where = shutil.which(name, path=SYSTEM_PATH)
    if where is None:
        raise InfraError(f"`{name}` is not installed; on Debian: apt-get install {package}")
    return Path(where)


def _digest(programs: Path, sources: Path, tools: _Tools) -> str:
    total = hashlib.sha256(tree_digest(programs).encode())
    total.update(tree_digest(sources / "guest").encode())
    total.update(tree_digest(sources / "python").encode())
    for name, path in (
        ("busybox", tools.busybox),
        *tools.programs,
        ("python3", tools.python),
    ):
        total.update(f"{name}\0{host.sha256_file(path)}\n".encode())
    return total.hexdigest()


def _compose(root: Path, tools: _Tools, programs: Path, sources: Path) -> None:
    for name in FOLDERS:
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    (root / "etc/shells").write_text("/bin/sh\n")
    _copy_busybox(root, tools.busybox)
    for name, path in tools.programs:
        _copy_with_libraries(root, path, root / "usr/sbin" / name)
    _copy_python(root, tools)
    ours = root / "twinboot"
    shutil.copytree(programs, ours / "bin", dirs_exist_ok=True)
    shutil.copytree(sources / "guest", ours / "guest")
    shutil.copytree(sources / "python", ours / "python", ignore=_compiled)


def _compiled(_folder: str, names: list[str]) -> set[str]:
    return {name for name in names if name == "__pycache__"}


def _copy_busybox(root: Path, busybox: Path) -> None:
    shutil.copy2(busybox, root / "bin/busybox")
    for applet in host.run((busybox, "--list")).stdout.split():
        link = root / "bin" / applet
        if not link.exists() and "/" not in applet:
            link.symlink_to("busybox")


def _copy_with_libraries(root: Path, source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)
    _copy_libraries(root, (source,))


def libraries(program: Path) -> tuple[str, ...]:
    """The shared libraries that a program of this host is loaded with; none for a static one."""
    return tuple(LIBRARY.findall(host.run(("ldd", program), How(check=False)).stdout))


def _copy_libraries(root: Path, programs: Iterable[Path]) -> None:
    for program in programs:
        for name in libraries(program):
            target = root / name.lstrip("/")
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(Path(name).resolve(), target)


def _copy_python(root: Path, tools: _Tools) -> None:
    """The interpreter and its library, precompiled modules included: reads over 9p are slow."""
    _copy_with_libraries(root, tools.python, root / "usr/bin" / tools.python.name)
    (root / "usr/bin/python3").symlink_to(tools.python.name)
    target = root / str(tools.stdlib).lstrip("/")
    unwanted = shutil.ignore_patterns(*LEFT_OUT, "dist-packages", "site-packages", "config-*")
    shutil.copytree(tools.stdlib, target, ignore=unwanted, ignore_dangling_symlinks=True)
    _copy_libraries(root, sorted((target / "lib-dynload").glob("*.so")))
