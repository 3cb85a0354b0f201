# SPDX-License-Identifier: GPL-2.0-only
"""The guest programs, looked at by checkpatch.pl of the default kernel."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from runner import host, source
from runner.experiment import DEFAULT_SOURCE, ROOT
from runner.tests.conftest import say

pytestmark = pytest.mark.vm

PROGRAMS = ROOT / "guest-tests"


@pytest.fixture(scope="module")
def checkpatch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script, unpacked from the kept source with what it reads beside it."""
    folder = tmp_path_factory.mktemp("scripts")
    cache = host.cache_dir()
    source.unpack(
        source.fetch(source.parse_source(DEFAULT_SOURCE), cache, say), cache, folder / "linux"
    )
    return folder / "linux/scripts/checkpatch.pl"


def complaints(checkpatch: Path, file: Path) -> list[str]:
    """Lines of checkpatch; what it need not say is in guest-tests/.checkpatch.conf."""
    words = ("perl", checkpatch, "-f", file)
    done = subprocess.run(words, check=False, cwd=PROGRAMS, capture_output=True, text=True)
    return [line for line in done.stdout.splitlines() if not line.startswith("total: 0 errors, 0 ")]


def test_the_guest_programs_are_clean_to_checkpatch(checkpatch: Path) -> None:
    files = [*PROGRAMS.glob("c/*.[ch]"), *PROGRAMS.glob("lib/*.[ch]")]
    assert len(files) > 20
    assert [each for file in files for each in complaints(checkpatch, file)] == []


def test_checkpatch_sees_what_is_not_clean(checkpatch: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.c").write_text("/* SPDX-License-Identifier: GPL-2.0 */\nint  f( void ){ }\n")
    assert any("SPACING" in line for line in complaints(checkpatch, tmp_path / "bad.c"))
