# SPDX-License-Identifier: GPL-2.0-only
"""`doctor` says everything that it found, whatever is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from runner import accel, rootfs
from runner.cli import app
from runner.errors import InfraError


def test_a_host_without_qemu_still_gets_the_whole_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWINBOOT_CACHE", str(tmp_path))
    (tmp_path / "kernels/1").mkdir(parents=True)
    (tmp_path / "kernels/1/bzImage").write_text("")
    monkeypatch.setattr(accel, "KVM", tmp_path)
    monkeypatch.setattr(
        rootfs, "build_rootfs", lambda *_: rootfs.Rootfs(tmp_path / "root", "digest")
    )

    def missing() -> str:
        raise InfraError("qemu-system-x86_64 is not installed; on Debian: apt-get install it")

    monkeypatch.setattr(accel, "qemu_version", missing)
    ended = CliRunner().invoke(app, ["doctor"])
    assert ended.exit_code == 3
    rows = {line.split()[0]: line.split()[1] for line in ended.stdout.splitlines()}
    assert {"make", "git", "ccache", "disk", "memory"} <= set(rows)
    assert (rows["qemu"], rows["kvm"]) == ("MISSING", "no")
