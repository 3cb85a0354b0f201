# SPDX-License-Identifier: GPL-2.0-only
"""An experiment file: the options of `twinboot run` in YAML, for a gate that asks the same daily.

It is not trusted. What it names as a patch or a fragment comes with twinboot or lies below the
file's own folder; anything else is said on the command line, whose options override the file's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic import StrictBool as Yes
from pydantic import StrictInt as Number

from runner import variant
from runner.case import UniqueKeys
from runner.errors import UserError
from runner.experiment import COST_REPEATS, PATCHES, ROOT, Plan
from runner.qemu import Machine


def _several(value: object) -> object:
    """One word is a list of one."""
    return (value,) if isinstance(value, str) else value


_Word = Annotated[str, Field(min_length=1)]
_Words = Annotated[tuple[_Word, ...], BeforeValidator(_several)]


class Experiment(BaseModel):
    """The keys of the file, each named like its option and with the same meaning."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=lambda name: name.replace("_", "-")
    )

    source: _Word | None = None
    patch: _Word | None = None
    kconfig: _Words = ()
    cc: _Word | None = None
    case: _Words = ()
    swap: _Words = ()
    kselftest: _Words = ()
    command: _Words = ()
    ltp: _Words = ()
    cost: Yes = False
    full: Yes = False
    repeats: Annotated[Number, Field(ge=1)] | None = None
    confirm: Annotated[Number, Field(ge=0)] | None = None
    jobs: Annotated[Number, Field(ge=0)] | None = None
    accel: _Word | None = None
    cpus: Annotated[Number, Field(ge=1)] | None = None
    memory: Annotated[Number, Field(ge=1)] | None = None
    seed: Number | None = None

    def options(self) -> dict[str, Any]:
        """What the file says, by the names of the options' parameters."""
        said = self.model_dump(exclude_unset=True, exclude_none=True)
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in said.items()
        }

    def plan(self, folder: Path) -> Plan:
        """The plan of the run; what the file leaves open is as for `twinboot run`."""
        said = self.model_dump(exclude_unset=True, exclude_none=True)
        if self.cost:
            said.setdefault("repeats", COST_REPEATS)
        names = {
            "kconfig": "fragments",
            "cc": "compiler",
            "case": "cases",
            "swap": "swaps",
            "kselftest": "kselftests",
            "command": "commands",
            "accel": "accelerator",
        }
        sizes = {"cpus": "cpus", "memory": "memory_mib"}
        machine = Machine(**{sizes[name]: said.pop(name) for name in sizes if name in said})
        return Plan(folder, machine=machine, **{names.get(name, name): said[name] for name in said})


def read(path: Path) -> Experiment:
    """Read an experiment file; UserError names the file, the key and what is wrong with it."""
    try:
        told = yaml.load(path.read_text(encoding="utf-8"), UniqueKeys)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the experiment file {path}: {error}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(told, dict):
        raise UserError(f"{path} must hold options of `twinboot run`, as `patch: my.patch`")
    try:
        found = Experiment.model_validate(told)
    except ValidationError as error:
        raise UserError(f"{path}: {_fault(error)}") from error
    changed: dict[str, Any] = {}
    if found.patch is not None:
        changed["patch"] = _inside(path, "patch", found.patch)
    if found.kconfig:
        changed["kconfig"] = tuple(_inside(path, "kconfig", each) for each in found.kconfig)
    return found.model_copy(update=changed)


def _inside(path: Path, key: str, named: str) -> str:
    """A path below the file's folder, made absolute, or a plain name, which is left as it is."""
    folder = path.resolve().parent
    here = (folder / named).resolve()
    if here != folder and here.is_relative_to(folder) and here.exists():
        return str(here)
    if named in _ours(key):
        return named
    raise UserError(
        f"{path}: {key} is {named!r}, which is neither a name of ours nor a file below {folder}; "
        f"give another on the command line, with --{key}"
    )


def _ours(key: str) -> set[str]:
    """The names that mean what comes with twinboot."""
    if key == "patch":
        return {"none", *(each.name for each in variant.variants(PATCHES))}
    return {each.stem for each in (ROOT / "kconfigs").glob("*.config")}


def _fault(error: ValidationError) -> str:
    """The first fault; a key that does not exist before all others."""
    fault = sorted(error.errors(), key=lambda each: each["type"] != "extra_forbidden")[0]
    key = str(fault["loc"][0]) if fault["loc"] else ""
    if fault["type"] == "extra_forbidden":
        keys = ", ".join(name.replace("_", "-") for name in Experiment.model_fields)
        return f"there is no key {key!r}; the keys are {keys}"
    given = fault["input"]
    shown = repr(given)[:60] if isinstance(given, str | int | float) else type(given).__name__
    return f"{key} is {shown}: {fault['msg'][0].lower()}{fault['msg'][1:]}"
