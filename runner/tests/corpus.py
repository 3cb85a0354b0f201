# SPDX-License-Identifier: GPL-2.0-only
"""The corpus of recorded transcripts: one file per way in which a guest can go wrong.

A file is a YAML head (what it is, how the guest ended, the verdict that is expected), a line
`=== results`, the results channel, a line `=== console`, the console.
`python -m runner.tests.corpus` rewrites the expectations from what the code says now; the diff
is then to be read as carefully as the code.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from runner import case
from runner.judging import GUEST, judge_guests
from runner.outcome import Outcome
from runner.transcript import BootRecord, CaseLog, Transcript

FOLDER = Path(__file__).parent / "transcripts"
(LEAK,) = case.parse("""
- id: gup/leak_base
  catches: the child reads what the parent writes after the fork
  program: gup leak_base
  swaps: [zram]
  deadline: 20
  proof: [child_read]
  invariants:
    data_intact: the pages hold wrong bytes
    no_leak: the parent's secret reaches the child
  measures:
    pages_reused: {unit: pages, better: higher, says: pages reused without a copy}
""")


@dataclass(frozen=True, slots=True)
class Recorded:
    """One file of the corpus."""

    path: Path
    head: dict[str, Any]
    results: str
    console: str

    @property
    def transcript(self) -> Transcript:
        """The file as the runner would have recorded it."""
        boot = BootRecord("base", "zram", 0, 0, 1, (LEAK.id,))
        log = CaseLog(
            case=LEAK.id,
            swap="zram",
            number=1,
            text=self.results,
            exit=self.head.get("exit"),
            ended=self.head.get("ended", "exit"),
            seconds=20.0,
        )
        logs = () if self.head.get("ended") == "never began" else (log,)
        return Transcript(boot, logs, self.console, self.head["end"])

    @property
    def outcomes(self) -> dict[str, Outcome]:
        return {outcome.case: outcome for outcome in judge_guests([self.transcript], [LEAK])}

    def expectation(self) -> dict[str, Any]:
        """What the code makes of it, as the head says it."""
        of_case, of_guest = self.outcomes[LEAK.id], self.outcomes[GUEST.id]
        return {
            "verdict": of_case.verdict.name,
            "reason": of_case.reason,
            "splats": [splat.signature for splat in of_case.splats],
            "guest": of_guest.verdict.name,
            "guest_splats": [splat.signature for splat in of_guest.splats],
        }


def read(path: Path) -> Recorded:
    head, _, rest = path.read_text(encoding="utf-8").partition("=== results\n")
    results, _, console = rest.partition("=== console\n")
    # `\c` at the very end stands for the newline that never came
    return Recorded(path, yaml.safe_load(head), results.removesuffix("\\c\n"), console)


def everything() -> tuple[Recorded, ...]:
    return tuple(read(path) for path in sorted(FOLDER.glob("*.transcript")))


def write(recorded: Recorded) -> None:
    """Write a file back with the expectations that the code meets now."""
    head = {key: recorded.head[key] for key in ("about", "from", "end", "ended", "exit")}
    text = yaml.safe_dump(head | recorded.expectation(), sort_keys=False, width=96)
    results = recorded.results
    if results and not results.endswith("\n"):
        results += "\\c\n"
    recorded.path.write_text(
        f"{text}=== results\n{results}=== console\n{recorded.console}", encoding="utf-8"
    )


if __name__ == "__main__":
    for each in everything():
        write(each)
