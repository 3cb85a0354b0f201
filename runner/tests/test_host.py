# SPDX-License-Identifier: GPL-2.0-only
"""The host's commands and files: errors carry their evidence, files are whole or absent."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from runner import host
from runner.errors import CommandFailed, InfraError, UserError
from runner.host import How
from runner.tests.test_keeper import ours_now, wait_for, wait_gone


def test_a_failed_command_tells_its_words_its_exit_code_and_its_last_lines() -> None:
    with pytest.raises(CommandFailed, match=r"`sh -c .*` ended with exit code 3: oh no"):
        host.run(("sh", "-c", "echo oh no >&2; exit 3"))


def test_a_failed_command_with_a_log_names_the_log(tmp_path: Path) -> None:
    log = tmp_path / "logs/make.log"
    with pytest.raises(CommandFailed, match=r"bad thing.*log: .*make\.log") as caught:
        host.run(("sh", "-c", "echo bad thing; exit 1"), How(log=log))
    assert caught.value.log == log
    assert log.read_text() == "bad thing\n"


def test_a_command_that_is_not_installed_is_named() -> None:
    with pytest.raises(InfraError, match="no-such-tool"):
        host.run(("no-such-tool",))


def test_a_command_that_takes_too_long_is_ended_with_its_children() -> None:
    began = time.monotonic()
    with pytest.raises(CommandFailed, match="no end after"):
        host.run(("sh", "-c", "sleep 100 & wait"), How(timeout=0.3))
    assert time.monotonic() - began < 5


def test_nothing_of_an_argument_reaches_a_shell() -> None:
    assert host.run(("echo", "$(id)", ";ls", "'")).stdout == "$(id) ;ls '\n"


def test_cpu_seconds_count_the_commands_children() -> None:
    burn = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done"
    assert host.run(("sh", "-c", f"({burn}); true")).cpu_seconds > 0.05


def test_a_file_is_written_whole_and_nothing_else_is_left(tmp_path: Path) -> None:
    host.write_atomic(tmp_path / "a/b", "one")
    host.write_atomic(tmp_path / "a/b", "two")
    assert (tmp_path / "a/b").read_text() == "two"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]


def test_a_path_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InfraError, match="cannot create the folder"):
        host.write_atomic(tmp_path / "file/below", "x")


def test_a_cache_folder_that_cannot_be_there_is_wrong_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    for name in ("file", "file/below"):
        monkeypatch.setenv("TWINBOOT_CACHE", str(tmp_path / name))
        with pytest.raises(UserError, match=r"cannot create the cache folder .*/file"):
            host.cache_dir()


def test_a_second_user_of_a_lock_waits_and_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    order: list[str] = []

    def second() -> None:
        with host.locked(tmp_path / "lock", told.append):
            order.append("second")

    with host.locked(tmp_path / "lock"):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.3)
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]
    assert told == ["waiting for another twinboot that holds lock"]


def test_a_lock_that_is_a_link_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "slot-0.lock").symlink_to(tmp_path / "elsewhere")
    said = r"^cannot lock .*/slot-0.lock: it is a symbolic link; remove it$"
    with pytest.raises(InfraError, match=said), host.locked(tmp_path / "slot-0.lock"):
        pass
    with pytest.raises(InfraError, match=said), host.slot(tmp_path, 1, lambda: False):
        pass
    assert not (tmp_path / "elsewhere").exists()
    (tmp_path / "folder").mkdir()
    with pytest.raises(InfraError, match="Is a directory; remove it"):
        host.locked(tmp_path / "folder").__enter__()


def test_kill_9_of_twinboot_ends_a_long_command(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from runner import host; "
        "host.run(('sh', '-c', 'sleep 300 & sleep 301'), host.How(log=Path(sys.argv[1])))"
    )
    ours = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "log")])
    started = wait_for(4, ours.pid)
    ours.kill()
    ours.wait()
    wait_gone(started)


def test_a_long_command_that_takes_too_long_is_ended_with_its_children(tmp_path: Path) -> None:
    before = ours_now()
    with pytest.raises(CommandFailed, match="no end after"):
        host.run(("sh", "-c", "setsid sleep 300 & wait"), How(log=tmp_path / "log", timeout=0.5))
    assert ours_now() <= before


def test_who_asked_for_a_slot_first_gets_it_first(tmp_path: Path) -> None:
    order: list[int] = []

    def wait_for_it(number: int) -> None:
        with host.slot(tmp_path, 1, lambda: False):
            order.append(number)

    def standing() -> int:
        return len(list((tmp_path / "line").iterdir()))

    with host.slot(tmp_path, 1, lambda: False):
        waiters = [threading.Thread(target=wait_for_it, args=(number,)) for number in range(5)]
        for number, waiter in enumerate(waiters, 1):
            waiter.start()
            while standing() < number:
                time.sleep(0.01)
    for waiter in waiters:
        waiter.join()
    assert order == [0, 1, 2, 3, 4]
    assert standing() == 0


def test_a_place_that_the_dead_left_holds_nobody_up(tmp_path: Path) -> None:
    (tmp_path / "line").mkdir()
    (tmp_path / "line/00000000000000000001-1-1").touch()
    with host.slot(tmp_path, 1, lambda: False) as granted:
        assert granted
    assert list((tmp_path / "line").iterdir()) == []


def test_slots_are_shared_and_a_waiter_takes_the_first_that_is_free(tmp_path: Path) -> None:
    def never() -> bool:
        return False

    with host.slot(tmp_path, 2, never) as one, host.slot(tmp_path, 2, never) as two:
        assert one
        assert two
        with host.slot(tmp_path, 2, lambda: True) as third:
            assert not third
    with host.slot(tmp_path, 1, never) as again:
        assert again
