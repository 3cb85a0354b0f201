# SPDX-License-Identifier: GPL-2.0-only
"""Says in plain English what a comparison found, from the clauses of the case table.

It decides nothing and lays nothing out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from runner.comparison import CONFIDENCE, Comparison, detectable_rate
from runner.cost import ratio
from runner.counted import counted
from runner.judging import GUEST
from runner.outcome import UNJUDGED, Checked, Outcome, Verdict
from runner.row import OPEN, REGRESSIONS, ArmRuns, Change, Finding, Row
from runner.twins import Arm, Twins

FOREIGN = "foreign, no proof of path"
NOTHING_ENDED = "no case came to its end on either kernel"


def headlines(rows: Sequence[Row]) -> str:
    """One case and all the swaps on which it ran; a foreign program proves no path."""
    swaps = [row.swap for row in rows if row.swap != "none"]
    where = [f"on {', '.join(swaps)}"] if swaps else []
    if len(swaps) < len(rows):
        where.insert(0, "without swap")
    case = f"{rows[0].case.id} ({FOREIGN})" if rows[0].case.foreign else rows[0].case.id
    return f"{case} {' and '.join(where)}"


def sentence(row: Row, finding: Finding) -> str:
    """One finding, without the word of its change and the name of its row."""
    told = {
        "run": _run_sentence,
        "invariant": _invariant_sentence,
        "measure": _measure_sentence,
        "splat": _splat_sentence,
        "baseline": _baseline_sentence,
    }[finding.subject](row, finding)
    return f"{told} (known: {finding.known})" if finding.known else told


def same_story(one: Row, other: Row) -> bool:
    """Whether a case changed on two swaps in the same things and by about the same figures."""
    if one.case != other.case or one.findings != other.findings:
        return False
    if still_broken(one) != still_broken(other):
        return False
    return all(_same_part(one, other, finding) for finding in one.findings)


def _same_part(one: Row, other: Row, finding: Finding) -> bool:
    if finding.subject == "invariant" and finding.change in (Change.FIXED, Change.REGRESSED):
        return True
    if finding.subject == "measure":
        spec = one.case.measure(finding.name)
        return all(
            _close(mine.values(spec.name), theirs.values(spec.name), spec.tolerance)
            for mine, theirs in ((one.base, other.base), (one.patched, other.patched))
        )
    return sentence(one, finding) == sentence(other, finding)


def _close(one: Sequence[float], other: Sequence[float], tolerance: float) -> bool:
    """For the telling alone: within the case's tolerance or a twentieth."""
    here, there = median(one), median(other)
    return abs(here - there) <= max(tolerance, 0.05 * max(abs(here), abs(there)))


def pooled(rows: Sequence[Row]) -> Row:
    """Rows with one story as one row, the runs of all of them together."""
    base = ArmRuns(tuple(run for row in rows for run in row.base.runs))
    patched = ArmRuns(tuple(run for row in rows for run in row.patched.runs))
    return replace(rows[0], base=base, patched=patched)


def still_broken(row: Row) -> tuple[str, ...]:
    """Clauses on what fails in every run of both arms."""
    says = {invariant.name: invariant.says for invariant in row.case.invariants}
    told = tuple(f"{says[name]} on both" for name in row.failing_on_both)
    return told if told or not row.broken_on_both else (f"{_reason(row.patched)}, on both",)


def overall_sentence(comparison: Comparison) -> str:
    """The verdict in one sentence."""
    unequal = comparison.twins.unequal()
    if unequal:
        return f"undecided: the arms differ in more than the patch ({', '.join(unequal)})"
    rows = [row for row in comparison.rows if row.case != GUEST]
    if comparison.planned == 0:
        return f"{comparison.overall.value}: this shard has nothing to do"
    if not rows:
        return "undecided: no case was run"
    counts = Counter(
        change for row in comparison.rows for change in {found.change for found in row.findings}
    )
    bad = _counted(counts, [change for change in reversed(Change) if change in REGRESSIONS])
    unclear = _counted(counts, OPEN)
    if comparison.missing:
        unclear = "; ".join(part for part in (unclear, _missing(comparison)) if part)
    good = _counted(counts, (Change.KNOWN, Change.FIXED, Change.IMPROVED))
    same = sum(row.change is Change.SAME for row in rows)
    broken = sum(row.broken_on_both for row in rows)
    tail = [f"{same} of {counted(len(rows), 'row')} unchanged"]
    tail += [f"{counted(broken, 'row')} failing on both"] if broken else []
    if comparison.dead:
        tail += [NOTHING_ENDED]
    tail += [comparison.twins.selection] if comparison.twins.selection else []
    parts = [part for part in (bad, unclear, good) if part] + tail
    return f"{comparison.overall.value}: {'; '.join(parts)}"


def _missing(comparison: Comparison) -> str:
    return f"missing: {', '.join(comparison.missing)}"


def doubt(comparison: Comparison) -> str:
    """What so many runs cannot exclude; empty if no case passed with the patch."""
    passed = [
        len(row.patched.runs)
        for row in comparison.rows
        if row.case != GUEST and row.patched.verdict is Verdict.PASS
    ]
    if not passed:
        return ""
    fewest = min(passed)
    repeats = comparison.twins.repeats
    again = sum(len(row.patched.runs) > repeats for row in comparison.rows if row.case != GUEST)
    more = f"; {counted(again, 'row')} in doubt ran more often" if again else ""
    return (
        f"a failure that happens in fewer than {_percent(detectable_rate(fewest))} of runs could "
        f"have been missed ({counted(fewest, 'run')} of each case with the patch, "
        f"{CONFIDENCE:.0%} confidence){more}"
    )


def row_doubt(row: Row) -> tuple[str, ...]:
    """For each invariant that held in every run with the patch, what could have been missed."""
    said, all_checks = [], row.patched.by_invariant()
    for invariant in row.case.invariants:
        checks = all_checks.get(invariant.name, ())
        if checks and all(check.verdict is Verdict.PASS for check in checks):
            tried, _, unit = _tally(checks)
            rate = _percent(detectable_rate(tried))
            said.append(f"{invariant.name}: {tried} clean {unit}, would have seen {rate} or more")
    return tuple(said)


def twins_lines(twins: Twins) -> tuple[str, ...]:
    """The kernels, the machine, and what is the same in both arms."""
    platform = twins.platform
    base = twins.base
    lines = [
        f"Linux {base.release} from {base.source}; {base.compiler}",
        _arm_line(twins.base),
        _arm_line(twins.patched),
        f"machine: {platform.accelerator.upper()}, {counted(platform.cpus, 'CPU')}, "
        f"{platform.memory_mib} MiB, {platform.qemu}; "
        f"{counted(twins.repeats, 'run')} of each case in each arm, seed {twins.seed}",
    ]
    unequal = twins.unequal()
    if unequal:
        lines.append(f"the arms differ in more than the patch: {', '.join(unequal)}")
    else:
        lines.append("same in both arms: source, compiler, guest programs, QEMU arguments, .config")
    if twins.kconfig_patched and twins.base.config_digest != twins.patched.config_digest:
        lines[-1] = lines[-1].replace(", .config", "") + "; .config differs, the patch touches it"
    if twins.identical:
        lines.append("the patch changes no code: both kernels have the same signature")
    return (*lines, *twins.notes)


def _arm_line(arm: Arm) -> str:
    return (
        f"{arm.label}: {_patches(arm.patches)}; "
        f"kernel {arm.fingerprint[:12]}, code {arm.signature[:12]}"
    )


def _patches(names: tuple[str, ...]) -> str:
    if len(names) < 2:
        return names[0] if names else "no patch"
    return f"{len(names)} patches, {names[0]} to {names[-1]}"


def _run_sentence(row: Row, finding: Finding) -> str:
    if finding.change is Change.LOST:
        return f"it ran on base, with the patch {_reason(row.patched)}"
    if finding.change is Change.UNDECIDED:
        return _undecided(row)
    if finding.change is Change.FLAKY:
        return f"{_verdicts(row.base)} on base, {_verdicts(row.patched)} with the patch"
    base, patched = _process_word(row.base), _process_word(row.patched)
    return f"{base} on base, {patched} with the patch"


def _undecided(row: Row) -> str:
    parts = []
    for arm, where in ((row.base, "on base"), (row.patched, "with the patch")):
        open_runs = [run for run in arm.runs if run.verdict in UNJUDGED]
        hiding = [run for run in arm.runs if run.unsaid]
        if not arm.runs:
            parts.append(f"no run {where}")
        elif not any(run.ran for run in arm.runs):
            parts.append(f"it never ran {where} ({_reason(arm)})")
        elif open_runs:
            worst = max(open_runs, key=lambda run: run.verdict)
            said = f"{_of(len(open_runs), len(arm.runs))} {_runs(arm)} {where} said nothing"
            parts.append(f"{said} ({worst.verdict.name}: {worst.reason})")
        elif hiding:
            said = f"{_of(len(hiding), len(arm.runs))} {_runs(arm)} {where} failed"
            parts.append(f"{said} and left open whether anything else would ({hiding[0].unsaid})")
    if parts:
        return "; ".join(parts)
    return f"{_verdicts(row.base)} on base, {_verdicts(row.patched)} with the patch"


def _process_word(arm: ArmRuns) -> str:
    """How the runs went, leaving invariants aside: they are findings of their own."""
    worst = max(arm.runs, key=lambda run: run.process)
    if worst.process is Verdict.PASS:
        failed = arm.verdict is Verdict.FAIL
        return "ran to its end, though failing," if failed else "ran to its end"
    return f"{worst.process.name} ({_process_reason(worst)})"


def _process_reason(run: Outcome) -> str:
    return run.ending or run.reason


def _reason(arm: ArmRuns) -> str:
    worst = arm.worst
    return worst.reason if worst else "there is no run"


def _verdicts(arm: ArmRuns) -> str:
    counts = Counter(run.verdict for run in arm.runs)
    if len(counts) == 1:
        return next(iter(counts)).name
    return " and ".join(f"{verdict.name} x{count}" for verdict, count in sorted(counts.items()))


def _invariant_sentence(row: Row, finding: Finding) -> str:
    says = next(inv.says for inv in row.case.invariants if inv.name == finding.name)
    base, patched = row.base.checks(finding.name), row.patched.checks(finding.name)
    if finding.change is Change.NEW_SKIP:
        return f"{finding.name} is skipped with the patch ({patched[0].text}), it was tried on base"
    if finding.change is Change.LOST:
        return f"{finding.name} has a result on base, with the patch none is printed"
    if Verdict.SKIP in {check.verdict for check in (*base, *patched)}:
        before, after = _check_words(base), _check_words(patched)
        return f"{finding.name}: {before} on base, {after} with the patch"
    tally = _runs_tally if finding.change is Change.FLAKY else _tally
    tried, failed, unit = tally(base)
    again, still, other = tally(patched)
    tail = "" if other[0] == unit[0] else f" {other}"
    return f"{says}: {_of(failed, tried)} {unit} on base, {_of(still, again)}{tail} with the patch"


def _check_words(checks: Sequence[Checked]) -> str:
    counts = Counter(check.verdict for check in checks)
    return " and ".join(f"{verdict.name} x{count}" for verdict, count in sorted(counts.items()))


def _tally(checks: Sequence[Checked]) -> tuple[int, int, str]:
    """How often it was tried and broken: in tries where every run counts them, else in runs."""
    if checks and all(check.tried > 0 for check in checks):
        tried = sum(check.tried for check in checks)
        return tried, sum(check.failed for check in checks), _plural(tried, "try", "tries")
    return _runs_tally(checks)


def _runs_tally(checks: Sequence[Checked]) -> tuple[int, int, str]:
    failed = sum(check.verdict is Verdict.FAIL for check in checks)
    return len(checks), failed, _plural(len(checks), "run", "runs")


def _measure_sentence(row: Row, finding: Finding) -> str:
    spec = row.case.measure(finding.name)
    base, patched = row.base.values(spec.name), row.patched.values(spec.name)
    told = f"{spec.says}: {span(base)} on base, {span(patched)} with the patch"
    found = ratio(base, patched) if spec.floor else None
    return f"{told}, {found.middle - 1:+.2%}" if found else told


def span(values: Sequence[float]) -> str:
    """The median, and the range where the runs differ."""
    if not values:
        return "none"
    middle, low, high = median(values), min(values), max(values)
    return number(middle) if low == high else f"{number(middle)} ({number(low)}..{number(high)})"


def number(value: float) -> str:
    whole = float(value).is_integer() or abs(value) >= 1000
    return f"{value:.0f}" if whole else f"{value:.4g}"


def _splat_sentence(row: Row, finding: Finding) -> str:
    gone = finding.change is Change.FIXED
    splat = (row.base if gone else row.patched).splats()[finding.name]
    where = "on base, not with the patch" if gone else "with the patch, never on base"
    if finding.change is Change.FLAKY:
        showing = sum(
            finding.name in {each.signature for each in run.splats} for run in row.patched.runs
        )
        where = f"in {_of(showing, len(row.patched.runs))} {_runs(row.patched)} {where}"
    if finding.change is Change.UNDECIDED:
        where = "with the patch; base did not live to say it"
    trace = f" in {', from '.join(splat.frames[:3])}," if splat.frames else ""
    return f"the kernel says `{splat.title}`{trace} {where}"


def _baseline_sentence(row: Row, finding: Finding) -> str:
    return (
        f"base did something else this time than in the baseline ({finding.name}): "
        f"{_verdicts(row.base)} on base, {_verdicts(row.patched)} with the patch"
    )


def _counted(counts: Counter[Change], changes: Sequence[Change]) -> str:
    parts = [f"{counts[change]} {change.name}" for change in changes if counts[change]]
    return ", ".join(parts)


def _of(part: int, whole: int) -> str:
    return f"none of {whole}" if part == 0 else f"{part} of {whole}"


def _runs(arm: ArmRuns) -> str:
    return _plural(len(arm.runs), "run", "runs")


def _plural(count: int, one: str, many: str) -> str:
    return one if count == 1 else many


def _percent(rate: float) -> str:
    return f"{rate:.0%}" if rate >= 0.1 else f"{rate:.1%}"
