# SPDX-License-Identifier: GPL-2.0-only
"""Draws docs/speed.svg from the figures that the benches kept in docs/speed.json.

.venv/bin/pip install -e .[bench]
.venv/bin/python ci/bench/plot.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot
from matplotlib.axes import Axes

DOCS = Path(__file__).resolve().parents[2] / "docs"
OURS, OTHERS = "#2b6cb0", "#a0aec0"


def bars(axes: Axes, title: str, figures: dict[str, float], unit: str) -> None:
    """One bar for each, the first on top; ours are the blue ones."""
    names = list(figures)[::-1]
    values = [figures[name] for name in names]
    colours = [OTHERS if is_theirs(name) else OURS for name in names]
    drawn = axes.barh([name.replace("`", "") for name in names], values, color=colours)
    axes.bar_label(
        drawn, [f"{value:.0f}" if value >= 100 else f"{value:.1f}" for value in values], padding=3
    )
    axes.set_title(title, loc="left")
    axes.set_xlabel(unit)
    axes.set_xlim(0, max(values) * 1.18)
    axes.spines[["top", "right"]].set_visible(False)


def is_theirs(name: str) -> bool:
    return any(word in name for word in ("virtme-ng", "vng", "raw QEMU", "by hand"))


def line(axes: Axes, title: str, points: list[tuple[float, float]]) -> None:
    """The points, and the straight line nearest to them."""
    ours, least = zip(*points, strict=True), sorted(points)
    trials, seconds = ours
    slope = (least[-1][1] - least[0][1]) / (least[-1][0] - least[0][0])
    axes.plot(trials, [least[0][1] + slope * (at - least[0][0]) for at in trials], color=OTHERS)
    axes.plot(trials, seconds, "o", color=OURS)
    axes.set_title(title, loc="left")
    axes.set_xlabel("trials")
    axes.set_ylabel("CPU seconds")
    axes.set_ylim(0)
    axes.set_xlim(0)
    axes.spines[["top", "right"]].set_visible(False)


def cpu(figures: dict[str, Any]) -> dict[str, float]:
    return {name: each["cpu"] for name, each in figures.items()}


def main() -> None:
    found = json.loads((DOCS / "speed.json").read_text())
    # the same figures give the same file
    mpl.rcParams.update({"svg.hashsalt": "twinboot", "font.size": 9, "axes.titleweight": "bold"})
    figure, axes = pyplot.subplots(3, 2, figsize=(11, 8), layout="constrained")
    seconds = "CPU seconds"
    drawings = (
        ("build, cold", "A build from a clean tree"),
        ("build, edit", "A build after an edit"),
        ("verdict", "From an edit to a verdict"),
        ("boot", "A guest's start"),
    )
    for place, (name, title) in zip(axes.flat, drawings, strict=False):
        bars(place, title, cpu(found[name]), seconds)
    rates = found["throughput"]["cases per minute"]
    named = {f"{jobs} guest{'s' * (jobs != '1')} at a time": rate for jobs, rate in rates.items()}
    bars(axes.flat[4], "Throughput on two CPUs", named, "cases in a minute")
    line(axes.flat[5], "A run without guests", [tuple(each) for each in found["growth"]])
    figure.savefig(DOCS / "speed.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
