# SPDX-License-Identifier: GPL-2.0-only
"""What goes into the guest's root, as far as it can be told without composing one."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner import rootfs


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    for name in ("guest", "python", "programs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    return tmp_path


def digest(sources: Path, *programs: tuple[str, Path]) -> str:
    file = sources / "programs/file"
    tools = rootfs._Tools(file, programs, file, sources)
    return rootfs._digest(sources / "programs", sources, tools)


def test_an_optional_program_belongs_to_the_digest(sources: Path) -> None:
    server = sources / "redis-check-rdb"
    server.write_text("7.0")
    without = digest(sources)
    first = digest(sources, ("redis-server", server))
    server.write_text("7.2")
    assert len({without, first, digest(sources, ("redis-server", server))}) == 3


def test_a_program_that_the_host_lacks_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rootfs, "OPTIONAL", {"redis-server": "no-such-program"})
    assert "redis-server" not in dict(rootfs._tools().programs)
