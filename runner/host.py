# SPDX-License-Identifier: GPL-2.0-only
"""The host: the only module that runs commands, and where files are written atomically.

It knows nothing of kernels, patches or guests.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import platform
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import filelock
import platformdirs

from runner.errors import CommandFailed, InfraError, UserError

Progress = Callable[[str], None]
Words = Sequence[str | Path]


@dataclass(frozen=True, slots=True)
class Completed:
    """A command that ran: what it printed and what it cost (seconds, children included)."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str
    seconds: float
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class How:
    """How a command runs. `log` takes stdout and stderr; without it both are returned."""

    cwd: Path | None = None
    variables: Mapping[str, str] | None = None
    unset: tuple[str, ...] = ()
    log: Path | None = None
    stdin: bytes = b""
    timeout: float | None = None
    check: bool = True


DEFAULT = How()
SLOT_POLL_S = 0.1
FOREVER = -1.0  # as filelock has it
FULL = (errno.ENOSPC, errno.EDQUOT)
# What is wrong with a path, not with the machine
WRONG_PATH = (
    *(errno.EISDIR, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EROFS, errno.EBADF),
    *(errno.ELOOP, errno.ENAMETOOLONG, errno.ENOENT, errno.EEXIST, errno.ENXIO),
)


def cache_path() -> Path:
    """Where trees, kernels and downloads are kept: $TWINBOOT_CACHE or the user's cache."""
    named = os.environ.get("TWINBOOT_CACHE")
    return Path(named).absolute() if named else platformdirs.user_cache_path("twinboot")


def cache_dir() -> Path:
    """The same, made where it is missing; UserError where it cannot be there."""
    path = cache_path()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        kind = UserError if error.errno in WRONG_PATH else InfraError
        raise kind(
            f"cannot create the cache folder {path}: {error.strerror}; TWINBOOT_CACHE names another"
        ) from error
    return path


def processor() -> str:
    """What guests run on here: how many CPUs, and which."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    found = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    return f"{os.cpu_count()} x {found.group(1).strip() if found else platform.machine()}"


def now() -> str:
    """The time in UTC, for people: 2022-01-13 17:30 UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def make_folder(path: Path) -> None:
    """Create `path` with its parents; InfraError says why it cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InfraError(f"cannot create the folder {path}: {error.strerror}") from error


def withdraw(folder: Path, names: Sequence[str]) -> None:
    """Remove what was begun in a folder, and the folder itself where nothing else is in it."""
    for path in (folder / name for name in names):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def run(argv: Words, how: How = DEFAULT) -> Completed:
    """Run a command to its end, in a process group that dies with us.

    Raises CommandFailed on a non-zero exit (unless `how.check` is off) and on a timeout,
    InfraError when the command is not installed.
    """
    words = tuple(str(word) for word in argv)
    began, cpu_before = time.monotonic(), children_cpu()
    with contextlib.ExitStack() as stack:
        out: int | IO[bytes] = subprocess.PIPE
        if how.log is not None:
            make_folder(how.log.parent)
            out = stack.enter_context(how.log.open("ab"))
        process = _start(words, how, out)
        stdout, stderr = _finish(process, words, how)
    done = Completed(
        words,
        process.returncode,
        stdout,
        stderr,
        time.monotonic() - began,
        children_cpu() - cpu_before,
    )
    if how.check and done.returncode != 0:
        tail = _tail(how.log) if how.log else (stderr or stdout)[-2000:]
        raise CommandFailed(words, done.returncode, tail, how.log)
    return done


def _start(words: tuple[str, ...], how: How, out: int | IO[bytes]) -> subprocess.Popen[bytes]:
    """What is logged may be long, so it runs below a keeper and ends when we are killed."""
    if shutil.which(words[0]) is None:
        raise InfraError(f"`{words[0]}` is not installed or not found")
    kept = {name: value for name, value in os.environ.items() if name not in how.unset}
    return subprocess.Popen(
        words if how.log is None else _below_keeper(words),
        cwd=how.cwd,
        env={**kept, "LC_ALL": "C", **(how.variables or {})},
        stdin=subprocess.PIPE if how.stdin or how.log else subprocess.DEVNULL,
        stdout=out,
        stderr=subprocess.STDOUT if how.log else subprocess.PIPE,
        start_new_session=True,
    )


def _below_keeper(words: Sequence[str]) -> tuple[str, ...]:
    return (sys.executable, "-I", "-S", str(KEEPER), *words)


def _finish(process: subprocess.Popen[bytes], words: tuple[str, ...], how: How) -> tuple[str, str]:
    """Wait; whatever interrupts the wait (timeout, Ctrl-C) ends the command and its children."""
    stdout = stderr = b""
    try:
        if how.log is None:
            stdout, stderr = process.communicate(how.stdin or None, timeout=how.timeout)
        else:
            process.wait(timeout=how.timeout)
    except subprocess.TimeoutExpired:
        raise CommandFailed(words, -9, f"no end after {how.timeout:.0f} s", how.log) from None
    finally:
        _end(process, kept=how.log is not None)
    return stdout.decode(errors="replace"), stderr.decode(errors="replace")


def _end(process: subprocess.Popen[bytes], kept: bool) -> None:
    """Leave nothing of it: a keeper ends when its standard input does, others by signal."""
    if kept and process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
    elif process.poll() is None:
        end_group(process.pid)
    process.wait()


def end_group(pid: int) -> None:
    """SIGTERM, two seconds, SIGKILL to the process group that `pid` leads (one of ours)."""
    for number, patience in ((signal.SIGTERM, 2.0), (signal.SIGKILL, 0.0)):
        try:
            os.killpg(pid, number)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            if not Path(f"/proc/{pid}").exists():
                break
            time.sleep(0.02)


def children_cpu() -> float:
    """CPU seconds of all commands that have ended so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _tail(log: Path, size: int = 2000) -> str:
    text = log.read_bytes()[-size:].decode(errors="replace")
    return "\n".join(text.splitlines()[-12:])


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part.

    Whatever had the name is replaced, a link too: nothing is written through it (output.py does).
    """
    make_folder(path.parent)
    try:
        replace_file(path, content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise InfraError(unwritten(path, error)) from error


def replace_file(path: Path, raw: bytes, mode: int = 0o644) -> None:
    """What write_atomic does, in a folder that is there, for who has an own word for an OSError."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(raw)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, mode)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


def unwritten(path: Path, error: OSError) -> str:
    """That a path cannot be written and why; what to do where it is space that lacks."""
    advice = "; free space or choose another folder" if error.errno in FULL else ""
    return f"cannot write {path}: {error.strerror or error}{advice}"


def write_sparse(path: Path, size: int) -> None:
    """Create a file of `size` bytes that takes no space until it is written."""
    try:
        with path.open("wb") as stream:
            stream.truncate(size)
    except OSError as error:
        raise InfraError(f"cannot create {path}: {error.strerror}") from error


def sha256_file(path: Path) -> str:
    """The hex SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def locked(path: Path, progress: Progress | None = None) -> Iterator[None]:
    """Hold an exclusive lock file; a second twinboot waits for the first and says so."""
    make_folder(path.parent)
    try:
        lock = _lock(path)
    except filelock.Timeout:
        (progress or _to_stderr)(f"waiting for another twinboot that holds {path.name}")
        lock = _lock(path, FOREVER)
    try:
        yield
    finally:
        lock.release()


def _lock(path: Path, patience: float = 0) -> filelock.FileLock:
    """Take a lock file; filelock.Timeout: another has it. No lock is taken through a link."""
    lock = filelock.FileLock(str(path), timeout=patience, thread_local=False)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise
    except OSError as error:
        why = "it is a symbolic link" if path.is_symlink() else error.strerror
        raise InfraError(f"cannot lock {path}: {why}; remove it") from error
    return lock


@contextlib.contextmanager
def slot(folder: Path, count: int, give_up: Callable[[], bool]) -> Iterator[bool]:
    """Hold one of `count` slots that all processes of this user share; who asked first is first.

    Yields False, without a slot, once `give_up()` is true.
    """
    lock = None
    with _place_in_line(folder) as place:
        while not give_up():
            if _first_in_line(place) and (lock := _free_slot(folder, count)):
                break
            time.sleep(SLOT_POLL_S)
    try:
        yield lock is not None
    finally:
        if lock is not None:
            lock.release()


@contextlib.contextmanager
def _place_in_line(folder: Path) -> Iterator[Path]:
    """A file named after the time, which is locked as long as somebody stands there."""
    make_folder(folder / "line")
    place = folder / "line" / f"{time.time_ns():020}-{os.getpid()}-{threading.get_ident()}"
    with _lock(place, FOREVER):
        try:
            yield place
        finally:
            place.unlink(missing_ok=True)


def _first_in_line(place: Path) -> bool:
    """Whether nobody who lives stands before; places that the dead left are cleared."""
    for other in sorted(place.parent.iterdir()):
        if other.name >= place.name:
            break
        try:
            with _lock(other):
                other.unlink(missing_ok=True)
        except filelock.Timeout:
            return False
    return True


def _free_slot(folder: Path, count: int) -> filelock.FileLock | None:
    for number in range(count):
        with contextlib.suppress(filelock.Timeout):
            return _lock(folder / f"slot-{number}.lock")
    return None


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)


class Kept:
    """A long-running command that ends with us, however we end (runner/keeper.py)."""

    def __init__(self, argv: Words, stdout: Path, stderr: Path, cwd: Path | None = None) -> None:
        words = _below_keeper([str(word) for word in argv])
        tools = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
        with stdout.open("ab") as out, stderr.open("ab") as err:
            self._process = subprocess.Popen(
                words,
                cwd=cwd,
                env={**os.environ, "LC_ALL": "C", "PATH": tools},
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    @property
    def returncode(self) -> int | None:
        """None while it runs; above 128 when a signal ended it."""
        return self._process.poll()

    def wait(self, seconds: float) -> int | None:
        """The exit code, or None when it still runs after so many seconds."""
        try:
            return self._process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return None

    def end(self) -> None:
        """End it with all that it started; returns when nothing is left."""
        _end(self._process, kept=True)


KEEPER = Path(__file__).with_name("keeper.py")
