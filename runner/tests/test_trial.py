# SPDX-License-Identifier: GPL-2.0-only
"""The cases of one guest, one after another, told from what a made-up guest says."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest

from runner import trial
from runner.case import Case
from runner.guest import Guest, Ran
from runner.judging import judge_guests
from runner.outcome import Verdict
from runner.qemu import Machine
from runner.swap import swap_named
from runner.transcript import CaseLog
from runner.trial import Trial


class Said:
    """A guest that writes the given texts to its results channel, one for each command."""

    def __init__(self, folder: Path, *texts: str) -> None:
        self.results, self.console = folder / "results", folder / "console"
        self.results.touch()
        self.console.touch()
        self._texts = list(texts)

    def run(self, argv: Sequence[str], deadline: float) -> Ran:
        del argv, deadline
        with self.results.open("a", encoding="utf-8") as channel:
            channel.write(self._texts.pop(0))
        return Ran(0, "exit", "sh: busy\n", 1.0)


def logs(folder: Path, *texts: str) -> tuple[CaseLog, ...]:
    cases = tuple(
        Case(f"t/c{number}", "x", ("true",), ("none",), (), 1.0, (), (), ())
        for number, _ in enumerate(texts, 1)
    )
    made = Trial(
        "base", 1, Path("i"), "5.10", Path("r"), Machine(), swap_named("none"), cases, seed=1
    )
    found, end = trial._run_cases(made, cast(Guest, Said(folder, *texts)))
    assert end == "poweroff"
    return found


def framed(number: int, text: str = "ok 1 x\n", taint: int = 0) -> str:
    frame = f"c{number} {number}"
    return f"twinboot: begin t/{frame}\n{text}twinboot: end t/{frame} exit=0 taint={taint}\n"


def test_a_programs_output_is_kept_without_its_frame(tmp_path: Path) -> None:
    found = logs(tmp_path, framed(1), framed(2))
    assert [(log.text, log.framed) for log in found] == [("ok 1 x\n", True)] * 2


@pytest.mark.parametrize("text", ["", "twinboot: begin t/c1 1\nok 1 x\n", framed(2)])
def test_after_a_shell_that_broke_the_rest_gets_a_fresh_guest(tmp_path: Path, text: str) -> None:
    found = logs(tmp_path, text, framed(2))
    assert [log.framed for log in found] == [False]
    assert found[0].text.endswith("sh: busy\n")


def test_an_open_line_before_the_end_is_no_broken_shell(tmp_path: Path) -> None:
    assert [log.framed for log in logs(tmp_path, framed(1, "killed here"))] == [True]


def test_after_a_taint_the_rest_gets_a_fresh_guest(tmp_path: Path) -> None:
    assert len(logs(tmp_path, framed(1, taint=512), framed(2))) == 1


@pytest.mark.parametrize("code", [0, 1])
def test_a_qemu_that_ends_without_a_console_is_no_panic_and_its_last_words_are_the_reason(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """virtme-run ends with 0 whatever QEMU's exit code is."""
    fake = tmp_path / "bin/qemu-system-x86_64"
    fake.parent.mkdir()
    last = "cannot set up guest memory 'pc.ram': Cannot allocate memory"
    asked = 'case "$*" in *-version|*help*) exit 0;; esac'
    fake.write_text(f'#!/bin/sh\n{asked}\necho "{last}" >&2\nexit {code}\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    for name in ("image", "root"):
        (tmp_path / name).write_bytes(bytes(4096))
    case = Case("t/c", "x", ("true",), ("none",), (), 1.0, (), (), ())
    image, root = tmp_path / "image", tmp_path / "root"
    swap = swap_named("none")
    made = Trial("base", 1, image, "5.10", root, Machine(), swap, (case,), seed=1)
    found = trial.run_trial(made, tmp_path / "trial", threading.Event())
    assert {each.end for each in found} == {"qemu-died"}
    guest, only = judge_guests(found, (case,))
    assert guest.verdict is only.verdict is Verdict.INFRA
    assert only.reason == f"nothing could be read on the kernel's console: {last}"
