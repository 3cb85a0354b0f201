# SPDX-License-Identifier: GPL-2.0-only
"""The keys of one boot, read back by dropbear's own tool."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from runner.keys import SEED_BYTES, make_keys


@pytest.mark.skipif(shutil.which("dropbearkey") is None, reason="dropbearkey is not installed")
def test_dropbear_reads_the_host_key_that_we_expect(tmp_path: Path) -> None:
    keys = make_keys(tmp_path / "keys")
    said = subprocess.run(
        ["dropbearkey", "-y", "-f", tmp_path / "keys/hostkey"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert f"ssh-ed25519 {keys.server.get_base64()}" in said


def test_two_boots_share_no_key_and_no_random_numbers(tmp_path: Path) -> None:
    first, second = make_keys(tmp_path / "a"), make_keys(tmp_path / "b")
    seeds = {(tmp_path / name / "seed").read_bytes() for name in "ab"}
    assert {len(seed) for seed in seeds} == {SEED_BYTES}
    assert len(seeds) == 2
    assert first.client != second.client
    assert first.server != second.server


def test_nobody_else_on_the_host_can_read_the_keys_and_ours_is_never_written(
    tmp_path: Path,
) -> None:
    make_keys(tmp_path / "keys")
    assert (tmp_path / "keys").stat().st_mode & 0o077 == 0
    assert sorted(path.name for path in (tmp_path / "keys").iterdir()) == [
        "authorized_keys",
        "hostkey",
        "seed",
    ]
