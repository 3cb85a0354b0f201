# SPDX-License-Identifier: GPL-2.0-only
"""The life of one guest: boot it, talk to it over ssh, notice how it ends, leave nothing.

What its output means is read elsewhere (transcript.py); here it is only kept.
"""

from __future__ import annotations

import contextlib
import logging
import shlex
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import paramiko

from runner import flood, host
from runner.errors import InfraError, UserError
from runner.keys import BootKeys, make_keys
from runner.monitor import Corpse, Monitor
from runner.qemu import MONITOR, BootFiles, Machine, guest_argv
from runner.stack import Symbols, read_map

logging.getLogger("paramiko").setLevel(logging.CRITICAL + 1)

READY = "twinboot: ready"
VIRTME_LOG = "virtme.log"
LAST_WORDS = 300
ALIVE_PATIENCE_S = 15.0
KEEPALIVE_S = 5
LATE_OUTPUT_TURNS = 20
LAST_LOOK_S = 30.0
DUMP_S = 300.0
# What guest-tests/guest/run-case gives a case, for a case that is run by hand
SHELL = (
    "cd /root; set -a; . /run/twinboot/swap.env; set +a; export TWINBOOT_GUEST=1;"
    " PATH=/twinboot/bin:/bin:/sbin:/usr/bin:/usr/sbin exec sh"
)


class Cancelled(BaseException):
    """The run is being stopped: every wait ends, every guest is taken down."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of a guest command: its exit code, or None with the way it `ended`.

    ended: "exit", "timeout" (the deadline passed, the guest still there), "gone" (QEMU ended)
    or "broken" (the connection was lost before the deadline, QEMU runs on).
    """

    exit: int | None
    ended: str
    output: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Boot:
    """What decides one boot; `folder` takes its console, results channel and keys."""

    image: Path
    rootfs: Path
    machine: Machine
    folder: Path
    deadline: float = 60.0
    append: str = ""
    swap_disk_mib: int = 0


class Guest:
    """A running guest. A context manager: leaving it ends QEMU and all it started."""

    def __init__(self, boot: Boot, stop: threading.Event | None = None) -> None:
        self._boot = boot
        self._stop = stop or threading.Event()
        self._files = _prepare(boot)
        self._keys = make_keys(self._files.keys)
        self._process: host.Kept | None = None
        self._transport: paramiko.Transport | None = None
        self._monitor: Monitor | None = None
        self._poked_at: int | None = None
        self.port = 0
        self.command: tuple[str, ...] = ()
        self.boot_seconds = 0.0

    @property
    def console(self) -> Path:
        return self._boot.folder / "console.log"

    @property
    def results(self) -> Path:
        return self._files.results

    @property
    def said(self) -> str:
        """The console, without what a kernel said only because we made it."""
        return flood.kept(self.console.read_bytes()[: self._poked_at], flood.CONSOLE_KEPT)

    @property
    def autopsy(self) -> str:
        """What QEMU knew of a guest that died or hung; empty where it did neither."""
        told = self._monitor.autopsy if self._monitor else ""
        if self._poked_at is None:
            return told
        answer = flood.kept(self.console.read_bytes()[self._poked_at :], flood.CONSOLE_KEPT)
        answer = answer.replace("\r", "").strip()
        return f"{told}the kernel's answer to an NMI:\n{answer or 'none'}\n"

    @property
    def returncode(self) -> int | None:
        """None while QEMU runs. Of its exit code nothing is in it: virtme-run loses that."""
        return self._process.returncode if self._process else None

    @property
    def ended_itself(self) -> bool:
        """Whether the guest reset or powered off: QEMU's own end says nothing of the kernel."""
        return self._monitor is not None and self._monitor.guest_ended

    @property
    def last_words(self) -> str:
        """The last line that virtme-run and QEMU said beside the console, empty if none."""
        log = self._boot.folder / VIRTME_LOG
        lines = _text(log).splitlines() if log.exists() else []
        line = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return "".join(filter(str.isprintable, line))[:LAST_WORDS]

    def __enter__(self) -> Guest:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def boot(self) -> bool:
        """Start QEMU and wait until the guest takes commands.

        False when it never did (panic, hang, QEMU's death): the console says why.
        """
        began = time.monotonic()
        self.port = _free_port()
        self.command = guest_argv(self._boot.machine, self._files, self.port, self._boot.append)
        host.write_atomic(self._boot.folder / "qemu.command", shlex.join(self.command) + "\n")
        folder = self._boot.folder
        # the serial port is QEMU's standard output
        self._process = host.Kept(self.command, self.console, folder / VIRTME_LOG, cwd=folder)
        self._monitor = self._watch()
        deadline = began + self._boot.deadline
        ready = self._wait_ready(deadline) and self._connect(deadline)
        self.boot_seconds = time.monotonic() - began
        return ready

    def run(self, argv: Sequence[str], deadline: float) -> Ran:
        """Run a command; `deadline` in seconds. Its output, both streams, comes back as text.

        A guest that says too much meanwhile is not listened to any longer: "timeout".
        """
        began = time.monotonic()
        most = self._bytes_said() + flood.MOST_SAID
        try:
            channel = self._open(argv)
        except (paramiko.SSHException, OSError, EOFError):
            return Ran(None, self._why_silent(began + deadline), "", time.monotonic() - began)
        with contextlib.closing(channel):
            output = _drain(channel, self._ticks(began + deadline, most))
            seconds = time.monotonic() - began
            # -1: the connection went before a status came
            if channel.exit_status_ready() and (status := channel.recv_exit_status()) >= 0:
                return Ran(status, "exit", output, seconds)
        return Ran(None, self._why_silent(began + deadline), output, seconds)

    def alive(self, scale: float = 1.0) -> bool:
        """Whether the guest still runs a command within ALIVE_PATIENCE_S seconds, times `scale`.

        Over a new connection where the old one was lost.
        """
        patience = ALIVE_PATIENCE_S * scale
        if not self._connected():
            self._connect(time.monotonic() + patience)
        return self.run(("true",), patience).exit == 0

    def examine(self) -> None:
        """Look at a guest that no longer answers: registers, stacks, its kernel's own word."""
        if self._monitor is not None and self._poked_at is None:
            self._poked_at = self.console.stat().st_size
            self._monitor.examine(self._stop)

    def wait_end(self, seconds: float) -> int | None:
        """As `returncode`, once QEMU has ended within so many seconds, else None."""
        return self._process.wait(seconds) if self._process else None

    def close(self) -> None:
        """End QEMU and every process around it, and remove what only the guest needed."""
        if self._transport is not None:
            self._transport.close()
        if self._process is not None:
            self._process.end()
        if self._monitor is not None:
            self._monitor.close()
        for log in (self.console, self.results):
            flood.cut_short(log)
        private = (self._files.keys, self._socket.parent)
        for path in (self._files.swap_disk, *(path for each in private for path in each.glob("*"))):
            if path is not None:
                path.unlink(missing_ok=True)
        for folder in private:
            with contextlib.suppress(OSError):
                folder.rmdir()

    def shell(self, term: str, size: tuple[int, int] | None) -> paramiko.Channel:
        """A shell on a pseudo-terminal of the guest; size is columns, lines.

        Without a size it is on pipes, so that the end of its input ends it.
        """
        channel = self._session()
        if size is None:
            channel.set_combine_stderr(True)
        else:
            channel.get_pty(term, *size)
        channel.exec_command(SHELL)
        return channel

    @property
    def _socket(self) -> Path:
        return self._boot.folder / MONITOR

    def _watch(self) -> Monitor:
        boot = self._boot
        core = boot.folder / "vmcore" if boot.machine.vmcore else None
        corpse = Corpse(self._socket.parent, _symbols(boot.image), boot.machine.memory_mib, core)
        return Monitor(self._socket, corpse, lambda: self.returncode is not None)

    def _wait_ready(self, deadline: float) -> bool:
        for _ in self._ticks(deadline):
            if READY in _text(self.results):
                return True
            if self.returncode is not None:
                return False
        return False

    def _connect(self, deadline: float) -> bool:
        for _ in self._ticks(deadline):
            if self.returncode is not None:
                return False
            with contextlib.suppress(paramiko.SSHException, OSError, EOFError):
                self._transport = _handshake(self._keys, self.port)
                return True
        return False

    def _session(self) -> paramiko.Channel:
        if self._transport is None or not self._connected():
            raise paramiko.SSHException("the connection to the guest is gone")
        return self._transport.open_session(timeout=ALIVE_PATIENCE_S)

    def _open(self, argv: Sequence[str]) -> paramiko.Channel:
        channel = self._session()
        channel.set_combine_stderr(True)
        channel.settimeout(0.05)
        channel.exec_command(shlex.join(argv))
        return channel

    def _why_silent(self, deadline: float) -> str:
        """After a panic QEMU needs a moment to go, in which the dead guest is looked at."""
        if self.wait_end(0.5) is not None or self._wait_last_look():
            return "gone"
        lost = not self._connected() and time.monotonic() < deadline
        return "broken" if lost else "timeout"

    def _wait_last_look(self) -> bool:
        """Whether the guest has ended and QEMU, once that has been looked at, too."""
        if self._monitor is None or not self._monitor.guest_ended:
            return False
        patience = LAST_LOOK_S + (DUMP_S if self._boot.machine.vmcore else 0)
        deadline = time.monotonic() + patience
        while self.wait_end(0.1) is None and time.monotonic() < deadline:
            if self._stop.is_set():
                raise Cancelled
        return self.returncode is not None

    def _connected(self) -> bool:
        return self._transport is not None and self._transport.is_active()

    def _bytes_said(self) -> int:
        return self.console.stat().st_size + self.results.stat().st_size

    def _ticks(self, deadline: float, most: int | None = None) -> Iterator[None]:
        """One turn each 20 ms until the deadline, the guest's end or the run's, or until the guest
        has said so many bytes in all.
        """
        while time.monotonic() < deadline and (most is None or self._bytes_said() < most):
            if self._stop.is_set():
                raise Cancelled
            yield
            if self.returncode is not None:
                return
            time.sleep(0.02)


def _drain(channel: paramiko.Channel, ticks: Iterator[None]) -> str:
    """Read to the end of the output; the exit status may arrive before the last of it.

    A process left in the background can hold the output open: then the status ends the wait.
    """
    chunks: list[bytes] = []
    patience = LATE_OUTPUT_TURNS
    for _ in ticks:
        with contextlib.suppress(socket.timeout, TimeoutError):
            while chunk := channel.recv(65536):
                chunks.append(chunk)
            break
        patience -= channel.exit_status_ready()
        if patience <= 0:
            break
    for _ in ticks:
        if channel.exit_status_ready():
            break
    return b"".join(chunks).decode(errors="replace")


def _handshake(keys: BootKeys, port: int) -> paramiko.Transport:
    """An ssh connection to the guest whose host key is the one made for this boot."""
    transport = paramiko.Transport(socket.create_connection(("127.0.0.1", port), timeout=10))
    try:
        transport.banner_timeout = transport.auth_timeout = 30
        transport.start_client(timeout=30)
        if transport.get_remote_server_key() != keys.server:
            raise InfraError(f"port {port} answers with another host key than the guest's")
        transport.auth_publickey("root", keys.client)
        transport.set_keepalive(KEEPALIVE_S)
    except BaseException:
        transport.close()
        raise
    return transport


def refuse_path(folder: Path) -> None:
    """UserError for a folder whose name cannot be told in one line of a log."""
    if not str(folder).isprintable():
        raise UserError(f"{str(folder)!r} has a character that cannot be printed; choose another")


def _prepare(boot: Boot) -> BootFiles:
    """The folder of one boot, with an empty file for each channel."""
    refuse_path(boot.folder)
    host.make_folder(boot.folder)
    results = boot.folder / "results.log"
    for path in (results, boot.folder / "console.log"):
        host.write_atomic(path, "")
    monitor = boot.folder / MONITOR
    host.make_folder(monitor.parent)
    monitor.parent.chmod(0o700)
    disk = boot.folder / "swap.img" if boot.swap_disk_mib else None
    if disk is not None:
        host.write_sparse(disk, boot.swap_disk_mib << 20)
    return BootFiles(boot.image, boot.rootfs, boot.folder / "keys", results, disk)


def _symbols(image: Path) -> Symbols:
    """The System.map that is kept beside an image, if one is."""
    try:
        return read_map(image.with_name("System.map").read_text())
    except OSError:
        return Symbols()


def _free_port() -> int:
    """A port of the loopback that is free now; QEMU may still lose it, and boot() then fails."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _text(path: Path) -> str:
    return path.read_bytes().decode(errors="replace")
