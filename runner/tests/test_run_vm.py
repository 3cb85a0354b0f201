# SPDX-License-Identifier: GPL-2.0-only
"""The product as its users call it, on real kernels: findings, silence, and every known bug."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from runner import case, host, recall
from runner.build import Kernel
from runner.case import SWAP_NAMES
from runner.experiment import CASES, ROOT, Plan
from runner.keeper import descendants
from runner.prove import ProofPlan, prove
from runner.tests.conftest import say
from runner.tests.test_keeper import ours_now

pytestmark = pytest.mark.vm

TWINBOOT = (sys.executable, "-m", "runner.cli")
EVERY_BUG = sorted(path.stem for path in (ROOT / "patches/known-bad").glob("*.patch"))
# One bug of each kind; TWINBOOT_PROVE=1 takes them all, which needs an hour
SOME_BUGS = (
    "khugepaged-ignores-references",
    "ksm-reuse",
    "reuse-ignores-swapcount",
    "thp-swapin-maps-head",
)
KNOWN_BAD = EVERY_BUG if os.environ.get("TWINBOOT_PROVE") else SOME_BUGS
PIPELINE = ROOT / "patches/known-bad/pipeline"


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    before = ours_now()
    yield
    assert ours_now() <= before


def twinboot(*words: str | Path) -> subprocess.CompletedProcess[str]:
    argv = [*TWINBOOT, *(str(word) for word in words)]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=1800, check=False)


def run(out: Path, *words: str | Path) -> tuple[int, dict[str, Any]]:
    """`twinboot run` with its evidence in `out`: the exit code and the JSON document."""
    done = twinboot("run", "--out", out, "--json", out.with_suffix(".json"), *words)
    document = out.with_suffix(".json")
    assert document.exists(), done.stderr[-3000:]
    loaded: dict[str, Any] = json.loads(document.read_text())
    return done.returncode, loaded


def changes(document: dict[str, Any]) -> dict[tuple[str, str], str]:
    return {(row["case"], row["swap"]): row["change"] for row in document["cases"]}


@pytest.fixture(scope="module")
def sketch(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, dict[str, Any]]:
    out = tmp_path_factory.mktemp("sketch") / "run"
    return out, *run(out)


def test_the_main_job_ends_in_a_verdict_on_the_sketch(
    sketch: tuple[Path, int, dict[str, Any]],
) -> None:
    _, code, document = sketch
    assert code == 1
    assert document["verdict"] == "regression"
    schema = json.loads((ROOT / "docs/twinboot-comparison.schema.json").read_text())
    jsonschema.validate(document, schema)


def test_every_case_ran_and_none_was_undecided(sketch: tuple[Path, int, dict[str, Any]]) -> None:
    found = changes(sketch[2])
    expected = {(each.id, swap) for each in case.load(CASES) for swap in each.default}
    assert expected <= set(found)
    assert not {where for where, change in found.items() if change in ("UNDECIDED", "FLAKY")}


def test_saved_evidence_gives_the_same_comparison(
    sketch: tuple[Path, int, dict[str, Any]], tmp_path: Path
) -> None:
    out, code, document = sketch
    again = tmp_path / "again.json"
    assert twinboot("compare", out, "--json", again).returncode == code
    assert json.loads(again.read_text()) == document


def test_base_against_base_gives_no_change(tmp_path: Path) -> None:
    code, document = run(tmp_path / "run", "--patch", "none")
    assert set(changes(document).values()) == {"SAME"}
    assert code == 0


@pytest.mark.parametrize("bug", KNOWN_BAD)
def test_a_known_bad_kernel_is_noticed_by_every_case_it_names(
    bug: str, base_kernel: Kernel
) -> None:
    """All bugs share the evidence of the base, which stays in the cache."""
    swaps = tuple(swap for swap in SWAP_NAMES if swap not in ("ramdisk", "disk"))
    plan = Plan(host.cache_dir() / "proofs", swaps=swaps)
    (found,) = prove(ProofPlan(plan, (bug,)), say).bugs
    assert found.unmet == ()
    assert not found.survived


@pytest.mark.parametrize(
    ("patch", "verdict", "seen"),
    [
        ("panic-at-boot", "CRASH", "? do_one_initcall+"),
        ("panic-in-fault", "CRASH", "? do_swap_page+"),
        ("loop-irqs-off", "HANG", "is in do_swap_page+"),
        ("stuck-in-fault", "HANG", "CPU 1 is in "),
    ],
)
def test_a_kernel_that_dies_or_hangs_is_a_finding_and_is_looked_at(
    patch: str, verdict: str, seen: str, tmp_path: Path
) -> None:
    chosen = ("--case", "cow/wr_hit", "--swap", "nullblk", "--repeats", "1")
    code, document = run(tmp_path / "run", "--patch", PIPELINE / f"{patch}.patch", *chosen)
    (row,) = [row for row in document["cases"] if row["case"] == "cow/wr_hit"]
    assert row["change"] == "REGRESSED"
    assert row["base"]["verdict"] == "PASS"
    assert row["patched"]["verdict"] == verdict
    assert code == 1
    (dead,) = (each for each in recall.load(tmp_path / "run").saved.transcripts[-1:])
    assert dead.boot.arm == "patched"
    assert "RIP=" in dead.autopsy
    assert seen in dead.autopsy


def test_a_warning_that_base_never_printed_is_a_regression(
    base_kernel: Kernel, tmp_path: Path
) -> None:
    chosen = ("--case", "cow/wr_hit", "--swap", "nullblk", "--repeats", "1", "--confirm", "0")
    code, document = run(tmp_path / "run", "--patch", PIPELINE / "warning-in-fault.patch", *chosen)
    assert changes(document)["cow/wr_hit", "nullblk"] == "NEW_SPLAT"
    assert code == 1


def test_a_patch_that_changes_only_a_comment_changes_no_code(base_kernel: Kernel) -> None:
    done = twinboot("build", "--patch", PIPELINE / "comment-only.patch")
    assert done.returncode == 0
    assert "changes no code" in done.stdout


@pytest.mark.parametrize(
    ("patch", "sentence"),
    [
        ("does-not-apply", r"does-not-apply\.patch.*mm/"),
        ("does-not-compile", r"does not compile: .*error: "),
    ],
)
def test_a_patch_that_cannot_be_built_is_one_sentence_and_a_usage_error(
    patch: str, sentence: str, base_kernel: Kernel
) -> None:
    done = twinboot("build", "--quiet", "--patch", PIPELINE / f"{patch}.patch")
    assert done.returncode == 2
    assert re.search(sentence, done.stderr), done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("CONFIG_ZRAMM=y", r"CONFIG_ZRAMM.*no such symbol.*ZRAM"),
        ("CONFIG_ZSWAP_DEFAULT_ON=y", r"CONFIG_ZSWAP_DEFAULT_ON.*ZSWAP"),
    ],
)
def test_a_lost_symbol_is_named_with_its_cause(
    line: str, sentence: str, base_kernel: Kernel, tmp_path: Path
) -> None:
    fragment = tmp_path / "mine.config"
    fragment.write_text(line + "\n")
    done = twinboot("build", "--quiet", "--patch", "none", "--kconfig", fragment)
    assert done.returncode == 2
    assert re.search(sentence, done.stderr, re.DOTALL), done.stderr


def test_swapon_that_fails_is_infrastructure_and_not_the_patch(
    base_kernel: Kernel, tmp_path: Path
) -> None:
    patch = PIPELINE / "swapon-fails.patch"
    chosen = ("--case", "cow/wr_hit", "--swap", "nullblk", "--repeats", "1")
    code, document = run(tmp_path / "run", "--patch", patch, *chosen)
    assert code == 3
    assert changes(document)["cow/wr_hit", "nullblk"] == "UNDECIDED"


def test_a_corrupted_kept_kernel_is_noticed_and_built_again(base_kernel: Kernel) -> None:
    base_kernel.image.write_bytes(b"\0" * 4096)
    done = twinboot("build", "--patch", "none")
    assert done.returncode == 0
    assert "damaged" in done.stderr


def test_a_full_disk_for_the_evidence_is_one_sentence(base_kernel: Kernel, tmp_path: Path) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32k", "none", mount], check=True)
    try:
        chosen = ("--case", "gup/leak_base", "--swap", "none", "--patch", "none")
        done = twinboot("run", "--quiet", "--out", mount / "run", *chosen)
    finally:
        subprocess.run(["umount", mount], check=True)
    assert done.returncode == 3
    assert "free space" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("stage", ["building|kept|guests run", "guests to boot", "guest 1/"])
def test_an_interrupted_run_leaves_nothing_running(
    number: signal.Signals, stage: str, base_kernel: Kernel, tmp_path: Path
) -> None:
    chosen = ("--patch", "none", "--case", "gup/leak_base", "--swap", "none", "--repeats", "3")
    process = subprocess.Popen(
        [*TWINBOOT, "run", "--out", str(tmp_path / "run"), *chosen],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if re.search(stage, line):
            break
    below = descendants(process.pid)
    process.send_signal(number)
    rest = process.stderr.read()
    process.wait(30)
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in below) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [pid for pid in below if Path(f"/proc/{pid}").exists()] == []
    if number != signal.SIGKILL:
        assert process.returncode == 130
        assert "interrupted" in rest
        assert "Traceback" not in rest


def test_two_runs_at_once_both_end_well(base_kernel: Kernel, tmp_path: Path) -> None:
    chosen = ("--patch", "none", "--case", "gup/leak_base", "--swap", "none", "--repeats", "1")
    both = [
        subprocess.Popen(
            [*TWINBOOT, "run", "--quiet", "--out", str(tmp_path / name), *chosen],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
        )
        for name in ("one", "two")
    ]
    assert [process.wait(300) for process in both] == [0, 0]


def test_a_row_is_reproduced_here_and_in_a_bare_folder_elsewhere(
    base_kernel: Kernel, tmp_path: Path
) -> None:
    """Base leaks through swap, and the sketch does not."""
    row = ("--case", "gup/leak_swap_fork", "--swap", "zram")
    twinboot("run", "--out", tmp_path / "run", *row, "--repeats", "1", "--confirm", "0")
    again = twinboot("repro", tmp_path / "run", "gup", "--times", "1", "--out", tmp_path / "again")
    assert "none of 1 (at most 95 %) on patched" in again.stdout
    assert "1 of 1 (at least 5.0 %) on base" in again.stdout
    assert again.returncode == 1
    out = tmp_path / "bundle.tar.gz"
    assert twinboot("bundle", tmp_path / "run", row[1], "--out", out).returncode == 0
    bare = tmp_path / "bare"
    bare.mkdir()
    subprocess.run(["tar", "xzf", out], cwd=bare, check=True)
    done = subprocess.run(
        ["sh", *bare.glob("*/repro.sh")],
        env={"PATH": "/usr/bin:/bin"},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert re.search(r"^base: FAIL no_leak.*^patched: PASS$.*^FIXED", done.stdout, re.M | re.S)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ten_percent_more_instructions_per_fault_are_found_and_nothing_else(
    tmp_path: Path,
) -> None:
    slower = ROOT / "patches/cost/ten-per-cent-per-fault.patch"
    cases = ("--case", "cost/wr_sync", "--case", "cost/loop", "--swap", "zram")
    words = ("--cost", *cases, "--repeats", "1")
    code, document = run(tmp_path / "run", *words, "--confirm", "0", "--patch", slower)
    assert changes(document) == {
        ("guest/boot", "zram"): "SAME",
        ("cost/loop", "zram"): "SAME",
        ("cost/wr_sync", "zram"): "WORSENED",
    }
    assert code == 1
