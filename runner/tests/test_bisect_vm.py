# SPDX-License-Identifier: GPL-2.0-only
"""Bisections on real kernels. They take hours on a small host: TWINBOOT_BISECT=1 asks for them.

TWINBOOT_BISECT_MOST is how often a kernel runs at most, for those with less time (1: once).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runner.bisect import session
from runner.bisect.plan import BisectPlan
from runner.bisect.walk import Asked
from runner.experiment import ROOT
from runner.tests import histories
from runner.tests.conftest import say

pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif("TWINBOOT_BISECT" not in os.environ, reason="TWINBOOT_BISECT is not set"),
]
MOST = int(os.environ.get("TWINBOOT_BISECT_MOST", "200"))
RELEASES = tuple(f"debian:linux-source-{line}" for line in ("5.10", "6.1", "6.12", "7.2"))
PLANTED = """\
--- a/mm/memory.c
+++ b/mm/memory.c
@@ -3479,6 +3479,10 @@ vm_fault_t do_swap_page(struct vm_fault *vmf)
 	dec_mm_counter_fast(vma->vm_mm, MM_SWAPENTS);
 	pte = mk_pte(page, vma->vm_page_prot);
 	if ((vmf->flags & FAULT_FLAG_WRITE) && reuse_swap_page(page, NULL)) {
+#ifndef CONFIG_CROSS_MEMORY_ATTACH
+		memset(page_address(page) + PAGE_SIZE - sizeof(long), 0,
+		       sizeof(long));
+#endif
 		pte = maybe_mkwrite(pte_mkdirty(pte), vma);
 		vmf->flags &= ~FAULT_FLAG_WRITE;
 		ret |= VM_FAULT_WRITE;
"""  # noqa: E101
WITHOUT = """\
# CONFIG_CROSS_MEMORY_ATTACH is not set
# CONFIG_MEMBARRIER is not set
CONFIG_CRC7=y
CONFIG_CRC8=y
CONFIG_XZ_DEC=y
CONFIG_BSD_PROCESS_ACCT=y
"""


def answer(plan: BisectPlan, folder: Path) -> str:
    """The first line of what is told."""
    return session.begin(plan, folder, say).text.splitlines()[0]


def plan_of(good: str, bad: str, case: str, swap: str, **more: object) -> BisectPlan:
    return BisectPlan(good, bad, case, swap, jobs=1, asked=Asked(most=MOST), **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return histories.write(tmp_path_factory.mktemp("history") / "linux")


def ends(history: Path) -> tuple[str, str]:
    return f"git:{history}@v0", f"git:{history}@v{histories.LAST}"


def test_forty_commits_that_do_not_all_build_or_boot_give_the_bad_one(
    history: Path, tmp_path: Path
) -> None:
    found = answer(plan_of(*ends(history), "cow/wr_sync", "zram"), tmp_path / "state")
    assert found.endswith(f"v{histories.CULPRIT}: the known-bad change")


def test_the_same_killed_in_the_middle_gives_the_same(history: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    good, bad = ends(history)
    words = ("--good", good, "--bad", bad, "--case", "cow/wr_sync", "--swap", "zram")
    how = ("--jobs", "1", "--most", str(MOST), "--out", state)
    process = subprocess.Popen(
        (sys.executable, "-m", "runner.cli", "bisect", *words, *how), cwd=ROOT
    )
    while len(list(state.glob("candidates/*"))) < 4 and process.poll() is None:
        time.sleep(1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    found = session.resume(state, say).text.splitlines()[0]
    assert found.endswith(f"v{histories.CULPRIT}: the known-bad change")


def test_a_bug_that_shows_in_three_boots_of_ten_is_found(tmp_path: Path) -> None:
    top = histories.write_short(tmp_path / "linux")
    ends = f"git:{top}@v0", f"git:{top}@v{histories.SHORT}"
    found = answer(plan_of(*ends, "cow/wr_sync", "zram"), tmp_path / "state")
    assert found.endswith(f"v{histories.RARE}: the bug in 3 boots of 10")


def test_the_release_that_ended_the_leak_through_swap_is_named(tmp_path: Path) -> None:
    plan = plan_of(RELEASES[-1], RELEASES[0], "gup/leak_swap_fork", "zram", releases=RELEASES)
    assert answer(plan, tmp_path / "state") == f"first good release: {RELEASES[1]}"


def test_the_patch_of_the_sketch_that_breaks_stable_writes_is_named(tmp_path: Path) -> None:
    plan = plan_of("base", "all", "stable/st_wr", "delayed-stable", patch="sketch")
    assert answer(plan, tmp_path / "state").startswith("first bad patch: 3 0003-")


def test_the_option_without_which_a_planted_bug_shows_is_named(tmp_path: Path) -> None:
    carried, fragment = tmp_path / "planted.patch", tmp_path / "without.config"
    carried.write_text(PLANTED)
    fragment.write_text(WITHOUT)
    plan = plan_of("kconfig:", f"kconfig:{fragment}", "cow/wr_sync", "zram", carry=(str(carried),))
    found = answer(plan, tmp_path / "state")
    assert found == "these options make it bad: CROSS_MEMORY_ATTACH y -> n"
