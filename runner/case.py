# SPDX-License-Identifier: GPL-2.0-only
"""A case: one behaviour that a guest program tries, read from guest-tests/cases/GROUP.yaml.

It does not run cases, and it does not check that their programs exist.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runner.errors import UserError

SwapName = Literal["none", "zram", "ramdisk", "nullblk", "disk", "delayed", "delayed-stable"]
# What a program prints: KTAP, or what the tests of the Linux Test Project print (ltp.py)
Protocol = Literal["ktap", "ltp"]
SWAP_NAMES: tuple[str, ...] = get_args(SwapName)

_ID = re.compile(r"[a-z0-9]+/[a-z0-9_]+")
_WORD = r"^[a-z][a-z0-9_]*$"
_PROGRAM_WORD = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"


class Better(enum.StrEnum):
    """Which direction of a measure is good news; a measure with none is shown, never judged."""

    HIGHER = "higher"
    LOWER = "lower"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Invariant:
    """What holds on every correct kernel; `says` is the clause that is true when it is broken."""

    name: str
    says: str


@dataclass(frozen=True, slots=True)
class MeasureSpec:
    """A count that may differ between kernels; a difference up to `tolerance` does not matter.

    A cost has a `floor`: no share of base's figure below it is ever called a change (cost.py).
    """

    name: str
    unit: str
    better: Better
    says: str
    tolerance: float
    floor: float = 0.0


@dataclass(frozen=True, slots=True)
class Case:
    """One row of a case table. `program` is the command line inside the guest.

    `swaps` are all kinds it runs on, `default` those it runs on when nobody chose. A `foreign`
    program declares nothing: what it prints is what it checks.
    """

    id: str
    catches: str
    program: tuple[str, ...]
    swaps: tuple[str, ...]
    kconfig: tuple[str, ...]
    deadline: float
    proof: tuple[str, ...]
    invariants: tuple[Invariant, ...]
    measures: tuple[MeasureSpec, ...]
    default: tuple[str, ...] = ()
    foreign: bool = False
    protocol: Protocol = "ktap"

    @property
    def group(self) -> str:
        return self.id.partition("/")[0]

    def measure(self, name: str) -> MeasureSpec:
        """The measure of that name, which the case must have."""
        return next(spec for spec in self.measures if spec.name == name)


def without_allocations(case: Case) -> Case:
    """The case with its allocations shown and not judged.

    They are read from pgalloc_* of /proc/vmstat, which counts the whole machine's.
    """
    measures = tuple(
        replace(spec, better=Better.NONE) if spec.name.endswith("allocations") else spec
        for spec in case.measures
    )
    return replace(case, measures=measures)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


_Name = Annotated[str, Field(pattern=_WORD)]
_Sentence = Annotated[str, Field(min_length=1)]


class _MeasureRow(_Strict):
    unit: _Sentence
    better: Better
    says: _Sentence
    tolerance: float = Field(0.0, ge=0.0, allow_inf_nan=False)
    floor: float = Field(0.0, ge=0.0, lt=1.0, allow_inf_nan=False)


class _CaseRow(_Strict):
    id: str = Field(pattern=rf"^{_ID.pattern}$")
    catches: _Sentence
    program: str | None = None
    python: Annotated[str, Field(pattern=r"^[a-z0-9_]+\.py$")] | None = None
    swaps: tuple[SwapName, ...] = Field(min_length=1)
    default: tuple[SwapName, ...] | None = None
    kconfig: tuple[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")], ...] = ()
    deadline: float = Field(gt=0, allow_inf_nan=False)
    proof: tuple[_Name, ...] = ()
    invariants: dict[_Name, _Sentence] = Field(min_length=1)
    measures: dict[_Name, _MeasureRow] = Field(default_factory=dict)


def load(folder: Path) -> tuple[Case, ...]:
    """Read every table GROUP.yaml of a folder; UserError names file, case and what is wrong."""
    tables = sorted(folder.glob("*.yaml"))
    if not tables:
        raise UserError(f"there is no case table (GROUP.yaml) in {folder}")
    cases = tuple(case for table in tables for case in _load_group(table))
    _refuse_twice(cases, str(folder))
    return cases


def _load_group(path: Path) -> tuple[Case, ...]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the case table {path}: {error}") from error
    cases = parse(text, str(path))
    for case in cases:
        if case.group != path.stem:
            raise UserError(f"{path}: case {case.id} belongs into {case.group}.yaml")
    return cases


def parse(text: str, origin: str = "case table") -> tuple[Case, ...]:
    """The cases of a table's text, in its order."""
    try:
        rows = yaml.load(text, UniqueKeys)
    except yaml.YAMLError as error:
        raise UserError(f"{origin} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(rows, list) or not rows:
        raise UserError(f"{origin} must be a list of cases, each beginning with `- id:`")
    cases = tuple(_case(row, index, origin) for index, row in enumerate(rows, 1))
    _refuse_twice(cases, origin)
    return cases


def select(cases: Iterable[Case], words: Iterable[str]) -> tuple[Case, ...]:
    """The cases named by id (`gup/leak_base`) or group (`gup`), in the table's order."""
    table, wanted = tuple(cases), tuple(words)
    for word in wanted:
        if not any(word in (case.id, case.group) for case in table):
            groups = ", ".join(dict.fromkeys(case.group for case in table))
            raise UserError(f"there is no case or group `{word}`; the groups are {groups}")
    return tuple(case for case in table if not wanted or {case.id, case.group} & set(wanted))


def by_default(cases: Iterable[Case]) -> tuple[Case, ...]:
    """The selection of a run in which nobody chose: each case on its default swaps only."""
    return tuple(replace(case, swaps=case.default) for case in cases if case.default)


class UniqueKeys(yaml.SafeLoader):
    """A SafeLoader that refuses a key given twice, which plain YAML silently lets win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"`{key.value}` is given twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _case(row: object, index: int, origin: str) -> Case:
    named = row.get("id", f"number {index}") if isinstance(row, Mapping) else f"number {index}"
    where = f"{origin}: case {named}"
    if not isinstance(row, Mapping):
        raise UserError(f"{where} is not a mapping with `id`, `catches`, ...")
    try:
        read = _CaseRow.model_validate(dict(row))
    except ValidationError as error:
        raise UserError(f"{where}: {first_fault(error, _CaseRow)}") from error
    return Case(
        id=read.id,
        catches=" ".join(read.catches.split()),
        program=_program(read, where),
        swaps=_distinct(read.swaps, f"{where}: swaps"),
        kconfig=_distinct(read.kconfig, f"{where}: kconfig"),
        deadline=read.deadline,
        proof=_distinct(read.proof, f"{where}: proof"),
        invariants=tuple(Invariant(name, says) for name, says in read.invariants.items()),
        measures=tuple(
            MeasureSpec(name, spec.unit, spec.better, spec.says, spec.tolerance, spec.floor)
            for name, spec in read.measures.items()
        ),
        default=_default(read, where),
    )


def _default(read: _CaseRow, where: str) -> tuple[str, ...]:
    """The swaps of the default selection: all of the case's, unless the row names some or none."""
    if read.default is None:
        return read.swaps
    for name in read.default:
        if name not in read.swaps:
            raise UserError(f"{where}: default names `{name}`, which is not among its swaps")
    return _distinct(read.default, f"{where}: default")


def _program(read: _CaseRow, where: str) -> tuple[str, ...]:
    """Where the guest finds the program; every word is plain, so no shell can read it otherwise."""
    if (read.program is None) == (read.python is None):
        raise UserError(f"{where}: give either `program: GROUP CASE` or `python: FILE.py`")
    if read.python is not None:
        return ("python3", f"/twinboot/python/{read.python}")
    words = (read.program or "").split()
    if not words or not all(re.match(_PROGRAM_WORD, word) for word in words):
        raise UserError(f"{where}: `program` is the binary and its arguments as plain words")
    return (f"/twinboot/bin/{words[0]}", *words[1:])


def _distinct(names: tuple[str, ...], what: str) -> tuple[str, ...]:
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{what} names `{name}` twice")
    return names


def first_fault(error: ValidationError, model: type[BaseModel]) -> str:
    """What is wrong with a row of a YAML file, in one clause."""
    # A misspelt key is also a missing one: the misspelling says more.
    faults = sorted(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
    fault = faults[0]
    place = ".".join(str(part) for part in fault["loc"] if part != "[key]")
    if fault["type"] == "extra_forbidden":
        return f"there is no key `{place}`; the keys are {', '.join(model.model_fields)}"
    if fault["type"] == "missing":
        return f"the key `{place}` is missing"
    shown = f"`{place}` is {fault['input']!r:.60}"
    if fault["type"] == "string_type" and isinstance(fault["input"], int | float | date):
        return f"{shown}, which YAML reads as no text; quote it"
    return f"{shown}: {fault['msg'][0].lower()}{fault['msg'][1:]}"


def _refuse_twice(cases: tuple[Case, ...], origin: str) -> None:
    seen: set[str] = set()
    for case in cases:
        if case.id in seen:
            raise UserError(f"{origin}: case {case.id} is there twice")
        seen.add(case.id)
