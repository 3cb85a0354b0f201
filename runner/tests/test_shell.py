# SPDX-License-Identifier: GPL-2.0-only
"""A shell whose commands come from a pipe, and drgn's prompt: how both begin and end."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner import attach, shell

ATTACH = Path(attach.__file__)
FAKE_DRGN = """\
class Architecture: X86_64 = "x86-64"
def Platform(*words): return words
class Program:
    def __init__(self, platform, vmcoreinfo): print("program", platform, vmcoreinfo)
    def __getattr__(self, name): return lambda *words: print(name, *words)
"""
FAKE_PROMPT = "def run_interactive(prog): print('prompt of', type(prog).__name__)\n"


class Line:
    """What attach() uses of an ssh channel, with a shell of this host at the other end."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair()
        end = theirs.fileno()
        self._shell = subprocess.Popen(["sh"], stdin=end, stdout=end, stderr=end)
        theirs.close()
        self.fileno, self.sendall = self._ours.fileno, self._ours.sendall

    def recv(self, size: int) -> bytes:
        """Nothing once it is closed, as a channel has it, whatever was not read there."""
        with contextlib.suppress(ConnectionResetError):
            return self._ours.recv(size)
        return b""

    def shutdown_write(self) -> None:
        self._ours.shutdown(socket.SHUT_WR)

    def recv_exit_status(self) -> int:
        return self._shell.wait()

    def close(self) -> None:
        self._ours.close()
        self._shell.kill()
        self._shell.wait()


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], int | None]]:
    """The exit code of a shell that is given this input; None where it does not end."""
    line, codes = Line(), list[int]()

    def attached(typed: str) -> int | None:
        (tmp_path / "typed").write_text(typed)
        with (tmp_path / "typed").open() as stream:
            monkeypatch.setattr(sys, "stdin", stream)
            work = threading.Thread(
                target=lambda: codes.append(shell.attach(line)),  # type: ignore[arg-type]
                daemon=True,
            )
            work.start()
            work.join(20)
        return codes[0] if codes else None

    yield attached
    line.close()


@pytest.mark.parametrize(
    ("typed", "ends"),
    [
        ("echo one; echo two >&2\n", ("one\ntwo\n", 0)),
        ("echo last; exit 7\n", ("last\n", 7)),
        ("false", ("", 1)),
        ("exit 4\n" + "echo more\n" * 100_000, ("", 4)),
        ("", ("", 0)),
    ],
)
def test_a_shell_ends_with_its_input_and_its_exit_code_is_passed_on(
    typed: str,
    ends: tuple[str, int],
    given: Callable[[str], int | None],
    capfd: pytest.CaptureFixture[str],
) -> None:
    code = given(typed)
    assert (capfd.readouterr().out, code) == ends


def test_only_who_types_gets_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "typed").open("w") as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        assert shell._size_here() is None


# drgn


def attach_with(fake: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """attach.py as the printed command line runs it, with a drgn that says what it was asked."""
    return subprocess.run(
        [sys.executable, ATTACH, *words],
        env={"PYTHONPATH": str(fake)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    (tmp_path / "fake/drgn").mkdir(parents=True)
    (tmp_path / "fake/drgn/__init__.py").write_text(FAKE_DRGN)
    (tmp_path / "fake/drgn/cli.py").write_text(FAKE_PROMPT)
    (tmp_path / "info").write_text("OSRELEASE=5.10")
    return tmp_path / "fake"


def test_a_socket_is_a_guest_that_runs_and_a_file_its_memory(fake: Path, tmp_path: Path) -> None:
    info, core, place = tmp_path / "info", tmp_path / "vmcore", tmp_path / "drgn"
    core.touch()
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(place))
        living = attach_with(fake, place, info, "vmlinux").stdout.splitlines()
    dead = attach_with(fake, core, info, "vmlinux").stdout.splitlines()
    begin = "program ('x86-64',) b'OSRELEASE=5.10'"
    end = ["load_debug_info ['vmlinux']", "prompt of Program"]
    qmp = [f"set_qemu_qmp {place}", "set_linux_kernel_custom b'OSRELEASE=5.10' True"]
    assert living == [begin, *qmp, *end]
    assert dead == [begin, f"set_core_dump {core}", *end]


def test_without_drgn_or_with_other_words_it_says_what_to_do(fake: Path, tmp_path: Path) -> None:
    said = attach_with(fake, "one")
    assert (said.returncode, said.stderr) == (2, "attach.py SOCKET|VMCORE INFO VMLINUX\n")
    (fake / "drgn/cli.py").write_text("raise ImportError\n")
    said = attach_with(fake, "a", "b", "c")
    assert (said.returncode, said.stderr) == (2, "drgn is not installed: pip install drgn\n")


def test_the_drgn_that_is_installed_has_what_is_asked_of_it() -> None:
    drgn = pytest.importorskip("drgn")
    for name in ("set_qemu_qmp", "set_linux_kernel_custom", "set_core_dump", "load_debug_info"):
        assert hasattr(drgn.Program, name)
