# SPDX-License-Identifier: GPL-2.0-only
"""What goes into the guest's root, as far as it can be told without composing one."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner import host, rootfs


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


def test_the_guests_disk_holds_the_folder_and_is_written_anew_where_it_is_gone(
    tmp_path: Path,
) -> None:
    plain, big = tmp_path / "plain", "x" * 300_000
    (plain / "bin").mkdir(parents=True)
    (plain / "bin/a file").write_text(big)
    (plain / "bin/link").symlink_to("a file")

    def kept() -> rootfs.Rootfs:
        empty = rootfs.Guests({}, {})
        return rootfs.with_guests(rootfs.Rootfs(plain, "first"), empty, tmp_path, lambda _: None)

    def read(name: str) -> str:
        return host.run(("/sbin/debugfs", "-R", name, kept().image)).stdout

    assert read('cat "/bin/a file"') == big
    kept().image.unlink()
    assert 'Fast link dest: "a file"' in read("stat /bin/link")
    assert [path.name for path in kept().image.parent.glob(".new-*")] == []


def test_a_root_without_the_first_process_of_today_cannot_be_booted_again(tmp_path: Path) -> None:
    digest = "ab" * 32
    folder = tmp_path / "rootfs" / digest[:16]
    (folder / "twinboot/bin").mkdir(parents=True)
    assert rootfs.kept(tmp_path, digest, lambda _: None) is None
    (folder / "twinboot/bin/init").write_text("x")
    found = rootfs.kept(tmp_path, digest, lambda _: None)
    assert found is not None
    assert found.image.exists()
