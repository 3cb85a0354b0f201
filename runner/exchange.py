# SPDX-License-Identifier: GPL-2.0-only
"""A comparison in the formats that other machines read: JUnit XML, KTAP, a check of `b4 review`.

It judges and phrases nothing. In the first two a test is one case on one swap, and it fails
when the patch made it worse: what fails on both kernels is no news to a gate (KTAP: XFAIL).
What has not run at all is an error, too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from xml.etree import ElementTree

from runner.comparison import Comparison, Overall
from runner.judging import GUEST
from runner.outcome import Outcome, Verdict
from runner.row import OPEN, REGRESSIONS, Change, Row
from runner.steps import Step
from runner.wording import (
    NOTHING_ENDED,
    headlines,
    overall_sentence,
    sentence,
    still_broken,
    twins_lines,
)

# What XML 1.0 cannot hold, and what would end a line of KTAP
_FORBIDDEN = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LINE_ENDS = re.compile(r"[\x00-\x1f\x7f-\x9f]+")

# b4/review/checks.py knows these three, and takes anything else for a failure
_B4_STATUS = {
    Overall.CLEAN: "pass",
    Overall.REGRESSION: "fail",
    Overall.UNDECIDED: "warn",
    Overall.SKIPPED: "warn",
}


def junit(comparison: Comparison) -> str:
    """JUnit XML: one suite, a failure for each regression, an error for what was left open or
    has not run.
    """
    return _junit([_suite(comparison, "twinboot")])


def junit_series(steps: Sequence[Step]) -> str:
    """A suite for each prefix of a series; a patch with which the kernel does not build fails."""
    return _junit([_step_suite(step, f"{step.number}/{len(steps)} {step.title}") for step in steps])


def _junit(suites: Sequence[ElementTree.Element]) -> str:
    whole = ElementTree.Element("testsuites")
    whole.extend(suites)
    ElementTree.indent(whole)
    return ElementTree.tostring(whole, encoding="unicode", xml_declaration=True) + "\n"


def _step_suite(step: Step, name: str) -> ElementTree.Element:
    if step.comparison:
        return _suite(step.comparison, name)
    kind = "failure" if step.failure else "error"
    suite = ElementTree.Element("testsuite", name=_xml(name))
    _junit_fault(suite, "the kernel builds", kind, step.failure or "it has not run")
    _count(suite, [kind], 0.0)
    return suite


def _suite(comparison: Comparison, title: str) -> ElementTree.Element:
    rows = [row for row in comparison.rows if not _idle_guest(row)]
    suite = ElementTree.Element("testsuite", name=_xml(title))
    properties = ElementTree.SubElement(suite, "properties")
    told = [("verdict", overall_sentence(comparison))]
    told += [("run", line) for line in twins_lines(comparison.twins)]
    for name, value in told:
        ElementTree.SubElement(properties, "property", name=name, value=_xml(value))
    kinds = [_junit_case(suite, row, comparison) for row in rows]
    for said in _gaps(comparison):
        _junit_fault(suite, said, "error", said)
        kinds.append("error")
    _count(suite, kinds, sum(_seconds(row) for row in rows))
    return suite


def _count(suite: ElementTree.Element, kinds: Sequence[str], seconds: float) -> None:
    suite.set("tests", str(len(kinds)))
    suite.set("failures", str(kinds.count("failure")))
    suite.set("errors", str(kinds.count("error")))
    suite.set("skipped", str(kinds.count("skipped")))
    suite.set("time", f"{seconds:.1f}")


def _junit_case(suite: ElementTree.Element, row: Row, comparison: Comparison) -> str:
    """Add one test case; returns its kind: "failure", "error", "skipped" or "pass"."""
    test = ElementTree.SubElement(
        suite,
        "testcase",
        classname=f"twinboot.{row.case.group}",
        name=headlines([row]),
        time=f"{_seconds(row):.1f}",
    )
    kind, message = ruling(row, comparison)
    if kind != "pass":
        fault = ElementTree.SubElement(test, kind, message=_xml(message), type=row.change.name)
        fault.text = _xml("\n".join(evidence(row)))
    elif message:
        ElementTree.SubElement(test, "system-out").text = _xml(message)
    return kind


def _junit_fault(suite: ElementTree.Element, name: str, kind: str, said: str) -> None:
    """A test case that is no row."""
    test = ElementTree.SubElement(
        suite, "testcase", classname="twinboot", name=_xml(name), time="0.0"
    )
    word = Overall.REGRESSION if kind == "failure" else Overall.UNDECIDED
    ElementTree.SubElement(test, kind, message=_xml(said), type=word.name)


def _gaps(comparison: Comparison) -> Iterator[str]:
    """What leaves the whole open and is in no row."""
    for said in comparison.missing:
        yield f"missing: {said}"
    if any(row.case != GUEST for row in comparison.rows):
        if comparison.dead:
            yield NOTHING_ENDED
        return
    if unequal := comparison.twins.unequal():
        yield _unequal(unequal)
    elif comparison.planned != 0:
        yield "no case was run"


def _unequal(names: Sequence[str]) -> str:
    return f"the arms differ in more than the patch ({', '.join(names)})"


def ktap(comparison: Comparison) -> str:
    """KTAP version 1, flat: one result for each case on one swap, evidence as diagnostics; then
    one for each thing that has not run.
    """
    rows = [row for row in comparison.rows if not _idle_guest(row)]
    gaps = tuple(_gaps(comparison))
    lines = ["KTAP version 1", f"1..{len(rows) + len(gaps)}"]
    lines += [f"# {_line(said)}" for said in twins_lines(comparison.twins)]
    for number, row in enumerate(rows, 1):
        lines += _ktap_result(row, number, comparison)
    for number, said in enumerate(gaps, len(rows) + 1):
        lines += [f"# {_line(said)}", f"not ok {number} twinboot # ERROR {_line(said)}"]
    lines.append(f"# {_line(overall_sentence(comparison))}")
    return "\n".join(lines) + "\n"


def _ktap_result(row: Row, number: int, comparison: Comparison) -> Iterator[str]:
    kind, message = ruling(row, comparison)
    for said in evidence(row) if kind in ("failure", "error") else _told(row):
        yield f"# {_line(said)}"
    name = headlines([row]).replace("#", "")
    word = "not ok" if kind in ("failure", "error") else "ok"
    directive = ""
    if kind == "skipped":
        directive = f" # SKIP {_line(message)}"
    elif kind == "error":
        directive = f" # ERROR {_line(message)}"
    elif row.broken_on_both or row.change is Change.KNOWN:
        directive = f" # XFAIL {_line(message)}"
    yield f"{word} {number} {name}{directive}"


def b4_checks(comparison: Comparison, details: str, url: str = "") -> str:
    """What `b4 review` reads from a check: a JSON array, of one entry for the whole comparison.

    One, since b4 keeps one result for each message and tool. `details` is plain text, `url`
    where to read on.
    """
    entry = {
        "tool": "twinboot",
        "status": _B4_STATUS[comparison.overall],
        "summary": _line(overall_sentence(comparison)),
        "url": url,
        "details": details,
    }
    return json.dumps([entry], indent=1) + "\n"


def ruling(row: Row, comparison: Comparison) -> tuple[str, str]:
    """What a gate makes of a row (failure, error, skipped or pass), and the sentence for it."""
    told = _told(row)
    if unequal := comparison.twins.unequal():
        return "error", _unequal(unequal)
    if row.change in REGRESSIONS:
        return "failure", told[0]
    if row.change in OPEN:
        return "error", told[0]
    if row.patched.verdict is Verdict.SKIP and row.patched.worst is not None:
        return "skipped", row.patched.worst.reason
    return "pass", "; ".join((*told, *still_broken(row)))


def _told(row: Row) -> list[str]:
    return [f"{finding.change.name}: {sentence(row, finding)}" for finding in row.findings]


def evidence(row: Row) -> Iterator[str]:
    """Every finding, then each run of both arms with its reason and the kernel's complaints."""
    yield from _told(row)
    for label, arm in (("base", row.base), ("patched", row.patched)):
        for run in arm.runs:
            yield from _run_lines(label, run)


def _run_lines(label: str, run: Outcome) -> Iterator[str]:
    yield f"{label}, run {run.repeat}: {run.verdict.name}: {run.reason}"
    for splat in run.splats:
        yield f"{label}, run {run.repeat}: {splat.title}, from {', '.join(splat.frames)}"


def _idle_guest(row: Row) -> bool:
    return row.case == GUEST and not row.findings


def _seconds(row: Row) -> float:
    return sum(run.seconds for run in (*row.base.runs, *row.patched.runs))


def _xml(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text)


def _line(text: str) -> str:
    return _LINE_ENDS.sub(" ", text).replace("#", "").strip()
