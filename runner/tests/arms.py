# SPDX-License-Identifier: GPL-2.0-only
"""Outcomes and arms made up for tests of the comparison and of the reports."""

from __future__ import annotations

from runner import case
from runner.comparison import Comparison, compare
from runner.ktap import Measure
from runner.outcome import Checked, Outcome, Verdict
from runner.splat import Splat
from runner.twins import Arm, Platform, Twins

(REUSE,) = case.parse("""
- id: cow/wr_hit
  catches: a page of its own that is copied nonetheless
  program: cow wr_hit
  swaps: [nullblk]
  deadline: 20
  proof: [swapped_out]
  invariants:
    data_intact: the pages hold wrong bytes
    no_leak: the parent's secret reaches the child
  measures:
    pages_reused: {unit: pages, better: higher, says: pages reused without a copy, tolerance: 2}
    copies: {unit: pages, better: lower, says: pages copied}
    faults: {unit: faults, better: none, says: faults taken}
""")
PASS, SKIP, FAIL, HANG, CRASH = (
    Verdict.PASS,
    Verdict.SKIP,
    Verdict.FAIL,
    Verdict.HANG,
    Verdict.CRASH,
)
INCONCLUSIVE, INFRA = Verdict.INCONCLUSIVE, Verdict.INFRA


def arm(label: str, **changed: str) -> Arm:
    known = {
        "release": "5.10.223",
        "fingerprint": f"{label}-fingerprint",
        "signature": f"{label}-code",
        "source": "debian:linux-source-5.10=5.10.223-1",
        "compiler": "gcc 12.2.0",
        "config_digest": "config",
        "programs_digest": "programs",
        "qemu_digest": "qemu",
    }
    patches = () if label == "base" else ("0001-sketch.patch",)
    return Arm(label=label, patches=patches, **(known | changed))


TWINS = Twins(arm("base"), arm("patched"), Platform("tcg", 2, 1024, "QEMU 7.2"), repeats=2)


def splat(name: str) -> Splat:
    return Splat("warning", f"warning: at mm/{name}.c:1", (name,), f"warning: {name}", "")


def run(  # noqa: PLR0913
    data_intact: Verdict = PASS,
    no_leak: Verdict = PASS,
    *,
    process: Verdict = PASS,
    measures: dict[str, float] | None = None,
    splats: tuple[Splat, ...] = (),
    tries: tuple[int, int] = (0, 0),
    ran: bool = True,
    swap: str = "nullblk",
) -> Outcome:
    """One run of cow/wr_hit. A crash or a hang reports no invariant."""
    checked: tuple[Checked, ...]
    checked = (Checked("data_intact", data_intact, ""), Checked("no_leak", no_leak, "", *tries))
    if process >= HANG or not ran:
        checked = ()
    quiet = process is INCONCLUSIVE or (process < FAIL and INCONCLUSIVE in (data_intact, no_leak))
    worst = max(process, *(check.verdict for check in checked), PASS)
    return Outcome(
        case=REUSE.id,
        swap=swap,
        repeat=0,
        verdict=worst,
        reason="made up",
        process=process,
        invariants=checked,
        measures=tuple(Measure(name, value, "pages") for name, value in (measures or {}).items()),
        splats=splats,
        ran=ran,
        unsaid="made up" if quiet else "",
    )


def reused(pages: float) -> Outcome:
    return run(measures={"pages_reused": pages})


def compared(base: list[Outcome], patched: list[Outcome], twins: Twins = TWINS) -> Comparison:
    return compare([REUSE], base, patched, twins)
