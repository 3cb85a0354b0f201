# SPDX-License-Identifier: GPL-2.0-only
"""What is asked of QEMU when a guest ends, and that nobody else can ask it."""

from __future__ import annotations

import json
import socket
import stat
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner import guest
from runner.guest import Boot
from runner.monitor import Corpse, Monitor
from runner.qemu import MONITOR, BootFiles, Machine, guest_argv
from runner.stack import read_map

REGISTERS = "CPU#0\r\nRAX=0 RSP=ffff888002700fe0\r\nRIP=ffffffff81000155 HLT=0\r\nXMM00=0\r\n"
MAP = read_map(
    "ffffffff81000100 T do_swap_page\nffffffff81000900 T handle_mm_fault\n"
    "ffffffff81001000 T _etext\n"
)


class FakeQemu:
    """The other end of a monitor: greets, answers, and ends when it is told to quit."""

    def __init__(self, path: Path) -> None:
        self.asked: list[str] = []
        self.gone = threading.Event()
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen(1)
        self._peer: socket.socket | None = None
        threading.Thread(target=self._work, daemon=True).start()

    def event(self, reason: str) -> None:
        stamp = {"seconds": 0, "microseconds": 0}
        data = {"guest": True, "reason": reason}
        self._say({"event": "SHUTDOWN", "data": data, "timestamp": stamp})

    def wait_for(self, command: str) -> None:
        deadline = time.monotonic() + 10
        while command not in self.asked and time.monotonic() < deadline:
            time.sleep(0.01)
        assert command in self.asked

    def _say(self, message: dict[str, Any]) -> None:
        assert self._peer is not None
        self._peer.sendall(json.dumps(message).encode() + b"\r\n")

    def _work(self) -> None:
        self._peer, _ = self._listening.accept()
        version = {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""}
        self._say({"QMP": {"version": version, "capabilities": []}})
        for asked in self._messages(self._peer):
            self.asked.append(asked["execute"])
            try:
                self._say({"return": self._answer(asked), "id": asked.get("id")})
            except OSError as error:
                what = {"class": "GenericError", "desc": str(error)}
                self._say({"error": what, "id": asked.get("id")})
            if asked["execute"] == "quit":
                break
            if asked["execute"] == "inject-nmi":
                self.event("guest-reset")
        self.gone.set()
        self._peer.close()

    def _messages(self, peer: socket.socket) -> Iterator[dict[str, Any]]:
        """One after another, with nothing in between."""
        text = ""
        while said := peer.recv(4096):
            text += said.decode()
            while text.strip():
                try:
                    message, end = json.JSONDecoder().raw_decode(text)
                except ValueError:
                    break
                text = text[end:].lstrip()
                yield message

    def _answer(self, asked: dict[str, Any]) -> object:
        given = asked.get("arguments", {})
        if asked["execute"] == "human-monitor-command":
            return REGISTERS
        if asked["execute"] == "memsave":
            assert given["val"] + (1 << 64) == 0xFFFF888002700FE0
            if given["size"] > 0x20:
                raise OSError("Invalid addr")
            Path(given["filename"]).write_bytes(struct.pack("<Q", 0xFFFFFFFF81000910))
        if asked["execute"] == "dump-guest-memory":
            assert given["format"] == "kdump-zlib"
            Path(given["protocol"].removeprefix("file:")).write_bytes(b"a core")
        return {}


@pytest.fixture
def qemu(tmp_path: Path) -> FakeQemu:
    return FakeQemu(tmp_path / "qmp")


def watch(tmp_path: Path, qemu: FakeQemu, core: Path | None = None, mib: int = 1) -> Monitor:
    return Monitor(tmp_path / "qmp", Corpse(tmp_path, MAP, mib, core), qemu.gone.is_set)


def test_a_guest_that_panicked_is_looked_at_before_qemu_quits(
    tmp_path: Path, qemu: FakeQemu
) -> None:
    monitor = watch(tmp_path, qemu)
    qemu.wait_for("qmp_capabilities")
    assert not monitor.guest_ended
    qemu.event("guest-reset")
    assert qemu.gone.wait(10)
    monitor.close()
    assert monitor.guest_ended
    assert monitor.autopsy == (
        "CPU#0\nRAX=0 RSP=ffff888002700fe0\nRIP=ffffffff81000155 HLT=0\n"
        "CPU 0 is in do_swap_page+0x55/0x800; calls that its stack may hold:\n"
        " ? handle_mm_fault+0x10/0x700\n"
    )
    assert "dump-guest-memory" not in qemu.asked
    assert not list(tmp_path.glob("stack-*"))


def test_a_guest_that_powers_off_needs_no_look(tmp_path: Path, qemu: FakeQemu) -> None:
    monitor = watch(tmp_path, qemu)
    qemu.wait_for("qmp_capabilities")
    qemu.event("guest-shutdown")
    assert qemu.gone.wait(10)
    monitor.close()
    assert monitor.autopsy == ""


def test_a_guest_that_hangs_is_stopped_read_and_then_poked(tmp_path: Path, qemu: FakeQemu) -> None:
    monitor = watch(tmp_path, qemu)
    qemu.wait_for("qmp_capabilities")
    monitor.examine(threading.Event())
    monitor.close()
    assert "do_swap_page+0x55" in monitor.autopsy
    order = [word for word in qemu.asked if word in ("stop", "memsave", "cont", "inject-nmi")]
    assert order == ["stop", "memsave", "memsave", "cont", "inject-nmi"]
    assert qemu.asked.count("human-monitor-command") == 1


def test_a_vmcore_is_kept_on_request_and_only_for_its_owner(tmp_path: Path, qemu: FakeQemu) -> None:
    core = tmp_path / "vmcore"
    monitor = watch(tmp_path, qemu, core)
    qemu.wait_for("qmp_capabilities")
    qemu.event("guest-reset")
    assert qemu.gone.wait(10)
    monitor.close()
    assert core.read_bytes() == b"a core"
    assert stat.S_IMODE(core.stat().st_mode) == 0o600
    assert "vmcore: " in monitor.autopsy


@pytest.mark.parametrize(("mib", "words"), [(8192, "4096 MiB is the most"), (1, "too little")])
def test_a_vmcore_that_is_too_large_or_finds_no_room_is_left_out(
    mib: int, words: str, tmp_path: Path, qemu: FakeQemu, monkeypatch: pytest.MonkeyPatch
) -> None:
    if mib == 1:
        monkeypatch.setattr("runner.monitor.ROOM", 1 << 60)
    monitor = watch(tmp_path, qemu, tmp_path / "vmcore", mib)
    qemu.wait_for("qmp_capabilities")
    qemu.event("guest-reset")
    assert qemu.gone.wait(10)
    monitor.close()
    assert words in monitor.autopsy
    assert not (tmp_path / "vmcore").exists()


def test_a_qemu_that_dies_leaves_no_thread(tmp_path: Path, qemu: FakeQemu) -> None:
    monitor = watch(tmp_path, qemu)
    qemu.gone.set()
    monitor.close()
    assert not [each for each in threading.enumerate() if each.name == "monitor"]
    monitor.examine(threading.Event())


def test_the_socket_is_in_a_folder_that_only_its_owner_enters(tmp_path: Path) -> None:
    """And its path is short for QEMU, which is started in that folder, however long ours is."""
    folder = tmp_path / ("long" * 30)
    guest._prepare(Boot(Path("bzImage"), Path("root"), Machine(), folder))
    assert stat.S_IMODE((folder / MONITOR).parent.stat().st_mode) == 0o700
    argv = guest_argv(Machine(), BootFiles(Path("i"), Path("r"), Path("k"), folder / "results"), 1)
    assert f"unix:{MONITOR},server=on,wait=off" in argv
    assert not any("mon" in word and "chardev=" in word for word in argv)
