# SPDX-License-Identifier: GPL-2.0-only
"""QEMU's monitor: notices that the guest has ended, and looks at one that is dead or hangs.

It knows nothing of cases. The socket is in a folder that only this user enters, and no device of
the guest leads to it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import os
import shutil
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from qemu.qmp import EventListener, Message, QMPClient, QMPError

from runner import stack
from runner.stack import Registers

logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL + 1)

CONNECT_TURN_S = 0.05
ANSWER_S = 20.0
DUMP_S = 300.0
NMI_S = 5.0
# a vmcore is at most as large as the guest's memory, and leaves this much to others
ROOM = 2 << 30
LARGEST_MIB = 4096


@dataclass(frozen=True, slots=True)
class Corpse:
    """Whose monitor it is: where the guest keeps its files, what its addresses mean.

    `vmcore` is where its memory goes, if it is to be kept.
    """

    folder: Path
    symbols: stack.Symbols
    memory_mib: int
    vmcore: Path | None = None


class Monitor:
    """A connection to one QEMU, on a thread of its own that ends with it.

    When the guest resets or powers off it is looked at, and then QEMU is told to quit.
    """

    def __init__(self, path: Path, corpse: Corpse, gone: Callable[[], bool]) -> None:
        self._path, self._corpse, self._gone = path, corpse, gone
        self._client = QMPClient("twinboot")
        self._runner = asyncio.Runner()
        self._loop = self._runner.get_loop()
        self._ended = threading.Event()
        self._looked = False
        self.autopsy = ""
        self._thread = threading.Thread(target=self._work, name="monitor", daemon=True)
        self._thread.start()

    @property
    def guest_ended(self) -> bool:
        """The guest has reset or powered off; QEMU quits as soon as it has been looked at."""
        return self._ended.is_set()

    def examine(self, stop: threading.Event) -> None:
        """Look at a guest that no longer answers, then make its kernel say where it is (an NMI)."""
        if self._loop.is_closed():
            return
        work = self._examine_hung()
        try:
            job = asyncio.run_coroutine_threadsafe(work, self._loop)
            deadline = time.monotonic() + ANSWER_S + NMI_S + DUMP_S * bool(self._corpse.vmcore)
            while not job.done() and time.monotonic() < deadline and not stop.is_set():
                concurrent.futures.wait((job,), 0.1)
            if not job.done():
                job.cancel()
        except RuntimeError:  # closed at this moment
            work.close()

    def close(self) -> None:
        """Wait for the thread; QEMU has been ended before."""
        self._thread.join(ANSWER_S)

    def _work(self) -> None:
        """Closing the runner cancels an examination that QEMU's end has overtaken."""
        with self._runner, contextlib.suppress(QMPError, OSError, asyncio.CancelledError):
            self._runner.run(self._watch())

    async def _watch(self) -> None:
        """Until QEMU goes: one event that counts, the guest's end."""
        listener = EventListener(names=("SHUTDOWN",))
        self._client.register_listener(listener)
        await self._connect()
        try:
            async for event in self._events(listener):
                self._ended.set()
                if "guest-shutdown" not in str(event.get("data")):
                    with contextlib.suppress(QMPError, OSError, ValueError):
                        await self._look(ANSWER_S)
                await self._client.execute("quit")
                return
        finally:
            with contextlib.suppress(QMPError, OSError, EOFError):
                await self._client.disconnect()

    async def _events(self, listener: EventListener) -> AsyncIterator[Message]:
        while not self._gone():
            with contextlib.suppress(asyncio.TimeoutError):
                yield await asyncio.wait_for(listener.get(), 0.2)

    async def _connect(self) -> None:
        """QEMU makes the socket before it runs the guest."""
        while not self._gone():
            if self._path.exists():
                with contextlib.suppress(QMPError, OSError):
                    await self._client.connect(_open(self._path))
                    return
            await asyncio.sleep(CONNECT_TURN_S)
        raise ConnectionError("QEMU ended before it could be asked")

    async def _examine_hung(self) -> None:
        await self._client.execute("stop")
        await self._look(ANSWER_S)
        await self._client.execute("cont")
        await self._client.execute("inject-nmi")
        # the kernel prints its trace and panics: the event loop takes that from here
        for _ in range(int(NMI_S / 0.1)):
            if self._ended.is_set():
                return
            await asyncio.sleep(0.1)

    async def _look(self, patience: float) -> None:
        """Registers and stacks of all CPUs, once: after an NMI a panic follows a hang."""
        if self._looked:
            return
        self._looked = True
        said = await asyncio.wait_for(self._ask("info registers -a"), patience)
        cpus = stack.registers(said)
        self.autopsy = stack.integers(said)
        for cpu in cpus:
            words = await asyncio.wait_for(self._stacks(cpu), patience)
            self.autopsy += stack.told(cpu, words, self._corpse.symbols)
        if self._corpse.vmcore is not None:
            self.autopsy += await asyncio.wait_for(self._dump(self._corpse.vmcore), DUMP_S)

    async def _ask(self, line: str) -> str:
        answer = await self._client.execute("human-monitor-command", {"command-line": line})
        return str(answer)

    async def _stacks(self, cpu: Registers) -> bytes:
        """A CPU's kernel stack from its pointer on, and the one that an interrupt came upon."""
        if not cpu.in_kernel:
            return b""
        words = await self._stack(cpu.number, cpu.stack_pointer)
        words, below = stack.interrupted(cpu.stack_pointer, words)
        return words + (await self._stack(cpu.number, below) if below else b"")

    async def _stack(self, number: int, pointer: int) -> bytes:
        file = self._corpse.folder / f"stack-{number}"
        for size in stack.sizes(pointer):
            # QMP's integers are signed
            where = {"val": pointer - (1 << 64), "size": size, "cpu-index": number}
            with contextlib.suppress(QMPError, OSError):
                await self._client.execute("memsave", {**where, "filename": str(file)})
                said = file.read_bytes()
                file.unlink()
                return said
        return b""

    async def _dump(self, path: Path) -> str:
        """Keep the guest's memory, where it is small enough and the disk has room."""
        if why := _no_room(self._corpse.memory_mib, path.parent):
            return f"no vmcore: {why}\n"
        partial = path.with_name(".vmcore.partial")
        how = {"paging": False, "protocol": f"file:{partial}", "format": "kdump-zlib"}
        try:
            await self._client.execute("dump-guest-memory", how)
            os.chmod(partial, 0o600)
            partial.rename(path)
        except (QMPError, OSError) as error:
            return f"no vmcore: {error}\n"
        finally:
            partial.unlink(missing_ok=True)
        return f"vmcore: {path.stat().st_size >> 10} KiB\n"


def _no_room(memory_mib: int, folder: Path) -> str:
    free = shutil.disk_usage(folder).free
    if memory_mib > LARGEST_MIB:
        return f"a guest of {memory_mib} MiB, and {LARGEST_MIB} MiB is the most that is kept"
    if free < (memory_mib << 20) + ROOM:
        return f"{free >> 20} MiB are free in the run's folder, which is too little"
    return ""


def _open(path: Path) -> socket.socket:
    """Connect by way of an open folder: a socket's path may have 107 bytes, ours may be longer."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        opened = socket.socket(socket.AF_UNIX)
        opened.connect(f"/proc/self/fd/{folder}/{path.name}")
        return opened
    finally:
        os.close(folder)
