# SPDX-License-Identifier: GPL-2.0-only
"""The comparison as JSON for other programs: `twinboot-comparison` version 1, and its schema.

It keeps no raw evidence (evidence.py) and lays nothing out for people (report.py).
`python -m runner.document` prints the schema that is checked in as
docs/twinboot-comparison.schema.json.
"""

from __future__ import annotations

import enum
import json
import sys
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema

from runner import host
from runner.case import Better, Case
from runner.comparison import Comparison, Overall, detectable_rate
from runner.outcome import Outcome, Verdict
from runner.row import ArmRuns, Change, Row, Subject
from runner.twins import Arm, Platform
from runner.wording import doubt, overall_sentence, sentence

FORMAT = "twinboot-comparison"
VERSION = 1


def _by_name(kind: type[enum.IntEnum]) -> tuple[PlainSerializer, WithJsonSchema]:
    """Ordered enums are written by name: their order is ours and may grow."""
    names = [member.name for member in kind]
    written = PlainSerializer(lambda member: member.name, return_type=str)
    return written, WithJsonSchema({"type": "string", "enum": names})


ChangeName = Annotated[Change, *_by_name(Change)]
VerdictName = Annotated[Verdict, *_by_name(Verdict)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SplatPart(_Part):
    kind: str
    title: str
    signature: str


class InvariantPart(_Part):
    verdict: VerdictName
    text: str
    tried: int
    failed: int


class RunPart(_Part):
    """One run of the case: its verdict, and why."""

    repeat: int
    verdict: VerdictName
    reason: str
    seconds: float
    invariants: dict[str, InvariantPart]
    measures: dict[str, float]
    proofs: dict[str, bool]
    splats: list[SplatPart]


class MeasurePart(_Part):
    """All values of the arm's runs; `better` is the declared good direction."""

    unit: str
    better: Better
    median: float | None
    values: list[float]


class ArmRunsPart(_Part):
    """One arm: `verdict` is the worst of its runs, null if there were none."""

    verdict: VerdictName | None
    measures: dict[str, MeasurePart]
    runs: list[RunPart]


class FindingPart(_Part):
    change: ChangeName
    subject: Subject
    name: str
    sentence: str


class CasePart(_Part):
    """One case on one swap. `change` is the most serious of the findings."""

    case: str
    swap: str
    catches: str
    change: ChangeName
    findings: list[FindingPart]
    failing_on_both: list[str]
    base: ArmRunsPart
    patched: ArmRunsPart


class ArmsPart(_Part):
    base: Arm
    patched: Arm


class Document(_Part):
    """A comparison of two kernels by twinboot."""

    format: Literal["twinboot-comparison"]
    version: Literal[1]
    verdict: Overall
    sentence: str
    exit_code: int
    doubt: str
    detectable_rate: float = Field(
        description="the failure rate that so many repeats would have shown, 95 % confidence"
    )
    identical_code: bool
    unequal: list[str] = Field(description="what differs between the arms besides the patch")
    repeats: int
    seed: int
    notes: list[str]
    arms: ArmsPart
    machine: Platform
    cases: list[CasePart]


def document(comparison: Comparison) -> dict[str, Any]:
    """The comparison in the format `twinboot-comparison` version 1."""
    twins = comparison.twins
    page = Document(
        format="twinboot-comparison",
        version=1,
        verdict=comparison.overall,
        sentence=overall_sentence(comparison),
        exit_code=comparison.exit_code,
        doubt=doubt(comparison),
        detectable_rate=detectable_rate(twins.repeats),
        identical_code=twins.identical,
        unequal=list(twins.unequal()),
        repeats=twins.repeats,
        seed=twins.seed,
        notes=list(twins.notes),
        arms=ArmsPart(base=twins.base, patched=twins.patched),
        machine=twins.platform,
        cases=[_case_part(row) for row in comparison.rows],
    )
    return page.model_dump(mode="json")


def save_document(comparison: Comparison, path: Path) -> None:
    """Write the JSON document, whole or not at all."""
    host.write_atomic(path, document_text(comparison))


def document_text(comparison: Comparison) -> str:
    return json.dumps(document(comparison), indent=1) + "\n"


def schema() -> str:
    """The JSON schema of the document, as it is checked in."""
    page = Document.model_json_schema()
    page["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    page["title"] = f"{FORMAT} version {VERSION}"
    return json.dumps(page, indent=1, sort_keys=True) + "\n"


def _case_part(row: Row) -> CasePart:
    return CasePart(
        case=row.case.id,
        swap=row.swap,
        catches=row.case.catches,
        change=row.change,
        findings=[
            FindingPart(
                change=finding.change,
                subject=finding.subject,
                name=finding.name,
                sentence=sentence(row, finding),
            )
            for finding in row.findings
        ],
        failing_on_both=list(row.failing_on_both),
        base=_arm_part(row.case, row.base),
        patched=_arm_part(row.case, row.patched),
    )


def _arm_part(case: Case, arm: ArmRuns) -> ArmRunsPart:
    return ArmRunsPart(
        verdict=arm.verdict,
        measures={
            spec.name: MeasurePart(
                unit=spec.unit,
                better=spec.better,
                median=median(arm.values(spec.name)) if arm.values(spec.name) else None,
                values=list(arm.values(spec.name)),
            )
            for spec in case.measures
        },
        runs=[_run_part(run) for run in arm.runs],
    )


def _run_part(run: Outcome) -> RunPart:
    return RunPart(
        repeat=run.repeat,
        verdict=run.verdict,
        reason=run.reason,
        seconds=round(run.seconds, 3),
        invariants={
            check.name: InvariantPart(
                verdict=check.verdict,
                text=check.text,
                tried=check.tried,
                failed=check.failed,
            )
            for check in run.invariants
        },
        measures={measure.name: measure.value for measure in run.measures},
        proofs={proof.name: proof.ok for proof in run.proofs},
        splats=[
            SplatPart(kind=splat.kind, title=splat.title, signature=splat.signature)
            for splat in run.splats
        ],
    )


if __name__ == "__main__":
    sys.stdout.write(schema())
