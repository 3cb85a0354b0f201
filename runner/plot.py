# SPDX-License-Identifier: GPL-2.0-only
"""Where the dots of a measure go: one for each run, an arm above the other, on one axis.

It draws nothing (that is the page's template) and compares nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from runner.case import Better, MeasureSpec
from runner.row import Row
from runner.wording import number, span

WIDTH, HEIGHT = 260, 74
LEFT, RIGHT = 58, 12
LANES = {"base": 16.0, "patched": 40.0}
AXIS = 56.0
SPREAD = 14.0  # the height within which the dots of one lane lie
STEP = 4.0
VISIBLE = 0.1  # of the axis


@dataclass(frozen=True, slots=True)
class Dot:
    """One run. The runs of a lane lie below each other, so that equal values are all seen."""

    x: float
    y: float
    says: str


@dataclass(frozen=True, slots=True)
class Lane:
    """One arm. `x` to `x + width` is from its least to its greatest value."""

    arm: str
    y: float
    x: float
    width: float
    dots: tuple[Dot, ...]
    said: str


@dataclass(frozen=True, slots=True)
class Plot:
    """`band` is x and width of what lies within the tolerance of base's median."""

    title: str
    unit: str
    better: str
    tolerance: str
    lanes: tuple[Lane, ...]
    band: tuple[float, float] | None
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True, slots=True)
class _Axis:
    low: float
    high: float

    def x(self, value: float) -> float:
        inside = min(max(value, self.low), self.high)
        share = (inside - self.low) / (self.high - self.low)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)


def plot(row: Row, spec: MeasureSpec) -> Plot | None:
    """The plot of one measure; None if no run of either arm has a value."""
    arms = {"base": row.base.values(spec.name), "patched": row.patched.values(spec.name)}
    if not any(arms.values()):
        return None
    axis = _axis(arms["base"], arms["patched"], spec.tolerance)
    return Plot(
        title=spec.says,
        unit=spec.unit,
        better="" if spec.better is Better.NONE else f"{spec.better.value} is better",
        tolerance=f"{number(spec.tolerance)} {spec.unit}",
        lanes=tuple(_lane(arm, values, axis, spec.unit) for arm, values in arms.items()),
        band=_band(arms["base"], spec.tolerance, axis),
        ticks=((axis.x(axis.low), number(axis.low)), (axis.x(axis.high), number(axis.high))),
    )


def _axis(base: tuple[float, ...], patched: tuple[float, ...], tolerance: float) -> _Axis:
    """All values and the tolerance; from 0 on, unless that would hide how the values differ."""
    values = [*base, *patched]
    if base:
        values += [median(base) - tolerance, median(base) + tolerance]
    low, high = min(values), max(values)
    if min(*base, *patched, high) >= 0 and high - low >= high * VISIBLE:
        low = 0.0
    if low == high:
        return _Axis(low - 1, high + 1)
    return _Axis(low, high)


def _lane(arm: str, values: tuple[float, ...], axis: _Axis, unit: str) -> Lane:
    y = LANES[arm]
    step = min(STEP, SPREAD / max(len(values) - 1, 1))
    top = y - step * (len(values) - 1) / 2
    dots = tuple(
        Dot(axis.x(value), round(top + step * place, 1), f"{arm}, {number(value)} {unit}")
        for place, value in enumerate(values)
    )
    edges = [dot.x for dot in dots] or [0.0]
    return Lane(arm, y, min(edges), round(max(edges) - min(edges), 1), dots, span(values))


def _band(base: tuple[float, ...], tolerance: float, axis: _Axis) -> tuple[float, float] | None:
    if not base:
        return None
    first, last = axis.x(median(base) - tolerance), axis.x(median(base) + tolerance)
    return first, round(last - first, 1)
