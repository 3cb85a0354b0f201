# SPDX-License-Identifier: GPL-2.0-only
"""A result goes where the user said, as a shell would write it, or one sentence says why not."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runner import host, output
from runner.errors import InfraError, TwinbootError, UserError

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
LOCKED = PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def loop(path: Path) -> Path:
    path.symlink_to(path.name)
    return path


def below_file(path: Path) -> Path:
    path.write_text("")
    return path / "below"


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def raising(error: OSError) -> object:
    def fail(*_args: object, **_more: object) -> None:
        raise error

    return fail


def test_what_is_written_into_a_pipe_reaches_its_reader_and_the_pipe_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = subprocess.Popen(("cat", pipe), stdout=subprocess.PIPE)
    output.attempt(pipe)
    output.write(pipe, "one")
    assert reader.communicate(timeout=20)[0] == b"one"
    assert pipe.is_fifo()


def test_a_device_is_written_to_and_stays_a_device(tmp_path: Path) -> None:
    link = tmp_path / "nothing"
    link.symlink_to("/dev/null")
    for path in (Path("/dev/null"), link):
        output.attempt(path)
        output.write(path, "one")
    assert Path("/dev/null").is_char_device()
    assert link.is_symlink()


def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    for name in ("old", "new"):
        (tmp_path / name).symlink_to(f"far/{name}")
    (tmp_path / "far/old").write_text("before")
    (tmp_path / "far/old").chmod(0o600)
    for name in ("old", "new"):
        output.write(tmp_path / name, "after")
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / "far" / name).read_text() == "after"
    assert (tmp_path / "far/old").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_our_own_standard_output_is_written_in_order(name: str, tmp_path: Path) -> None:
    words = f"from runner import output; from pathlib import Path; p = Path({name!r}); "
    words += "print('one'); output.attempt(p); output.write(p, 'two\\n'); print('three')"
    with (tmp_path / "out").open("wb") as out:
        subprocess.run((sys.executable, "-c", words), stdout=out, check=True)
    assert (tmp_path / "out").read_text() == "one\ntwo\nthree\n"


def test_a_file_is_replaced_as_a_whole_and_its_folders_are_made(tmp_path: Path) -> None:
    output.attempt(tmp_path / "a/b/c")
    assert not list(tmp_path.iterdir())
    for text in ("one", "two"):
        output.write(tmp_path / "a/b/c", text)
    assert (tmp_path / "a/b/c").read_text() == "two"
    assert [path.name for path in (tmp_path / "a/b").iterdir()] == ["c"]


def test_a_file_that_cannot_be_replaced_is_written_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "summary"
    path.write_text("something longer")
    monkeypatch.setattr("tempfile.mkstemp", raising(LOCKED))
    monkeypatch.setattr("tempfile.TemporaryFile", raising(LOCKED))
    output.attempt(path)
    output.write(path, "short")
    assert path.read_text() == "short"


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (folder, "Is a directory"),
        (below_file, "Not a directory"),
        (loop, "Too many levels of symbolic links"),
        (lambda path: path.with_name("x" * 300), "File name too long"),
        (lambda _: Path("/proc/x/y"), "No such file or directory"),
        (lambda _: Path("/dev/fd/987654"), "Bad file descriptor"),
    ],
)
def test_a_wrong_path_is_wrong_input_before_and_after(
    make: object, why: str, tmp_path: Path
) -> None:
    path = make(tmp_path / "x")  # type: ignore[operator]
    for act in (output.attempt, lambda path: output.write(path, "x")):
        with pytest.raises(UserError, match=why) as caught:
            act(path)
        assert "free space" not in caught.value.message


@pytest.mark.parametrize(
    ("write", "kind"), [(output.write, InfraError), (host.write_atomic, InfraError)]
)
def test_only_a_full_disk_is_told_to_free_space(
    write: object, kind: type[TwinbootError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.mkstemp", raising(FULL))
    with pytest.raises(kind, match="No space left on device; free space"):
        write(tmp_path / "x", "x")  # type: ignore[operator]
    monkeypatch.setattr("tempfile.mkstemp", raising(LOCKED))
    with pytest.raises(TwinbootError, match=r"Permission denied$"):
        write(tmp_path / "x", "x")  # type: ignore[operator]


def test_evidence_is_never_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("kept")
    (tmp_path / "run.json").symlink_to("theirs")
    host.write_atomic(tmp_path / "run.json", "ours")
    assert (tmp_path / "theirs").read_text() == "kept"
    assert not (tmp_path / "run.json").is_symlink()
