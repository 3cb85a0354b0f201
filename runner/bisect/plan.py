# SPDX-License-Identifier: GPL-2.0-only
"""What the user asked to bisect, and the folder that remembers it.

Everything in the folder is written whole or not at all, so a bisection may be killed anywhere.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from runner import host
from runner.bisect.space import Term
from runner.bisect.symptom import Wanted
from runner.bisect.walk import Asked
from runner.errors import UserError
from runner.experiment import DEFAULT_SOURCE
from runner.qemu import Machine

FORMAT = "twinboot-bisect"
VERSION = 1


@dataclass(frozen=True, slots=True)
class BisectPlan:
    """What is searched, what decides, and how kernels are built and run.

    `good` and `bad` are sources, `kconfig:` fragments or places in the series `patch`.
    `releases` is the list to search where the ends do not say it. `carry` is applied to every
    kernel, `carry_revert` taken out of it.
    """

    good: str
    bad: str
    case: str
    swap: str
    source: str = DEFAULT_SOURCE
    patch: str = "none"
    releases: tuple[str, ...] = ()
    carry: tuple[str, ...] = ()
    carry_revert: tuple[str, ...] = ()
    fragments: tuple[str, ...] = ()
    compiler: str = "gcc"
    wanted: Wanted = field(default_factory=Wanted)
    asked: Asked = field(default_factory=Asked)
    jobs: int = 0
    accelerator: str = "auto"
    machine: Machine = field(default_factory=Machine)
    seed: int = 1
    ahead: bool = True


_PLAN = TypeAdapter(BisectPlan)
_ANSWERS = TypeAdapter(dict[str, Term])


@dataclass(frozen=True, slots=True)
class Notebook:
    """The folder of one bisection."""

    folder: Path

    def begin(self, plan: BisectPlan) -> None:
        """Write the plan first; UserError when the folder has one."""
        if self._plan.exists():
            raise UserError(f"{self.folder} holds a bisection already; --resume goes on with it")
        self._keep(plan)

    def ask_again(self, asked: Asked) -> None:
        """The same bisection with another confidence: runs that are there count for it."""
        self._keep(replace(self.plan(), asked=asked))

    def _keep(self, plan: BisectPlan) -> None:
        head = {"format": FORMAT, "version": VERSION, "plan": _PLAN.dump_python(plan, mode="json")}
        self.write("bisect", head)

    def plan(self) -> BisectPlan:
        """What was asked; UserError when the folder is not that of a bisection."""
        try:
            head = json.loads(self._plan.read_bytes())
            if (head["format"], head["version"]) != (FORMAT, VERSION):
                raise UserError(f"{self._plan} is {head['format']} version {head['version']}")
            return _PLAN.validate_python(head["plan"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(f"{self.folder} is not the folder of a bisection") from error

    @property
    def _plan(self) -> Path:
        return self.folder / "bisect.json"

    def write(self, name: str, content: dict[str, Any]) -> None:
        host.write_atomic(self.folder / f"{name}.json", json.dumps(content, indent=1) + "\n")

    def read(self, name: str) -> dict[str, Any]:
        """What was written under that name, empty when nothing was."""
        try:
            found = json.loads((self.folder / f"{name}.json").read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{self.folder}/{name}.json cannot be read: {error}") from error
        return found if isinstance(found, dict) else {}

    def agree(self, name: str, content: dict[str, Any], what: str) -> None:
        """Keep what must stay the same from one session to the next; UserError when it did not."""
        before = self.read(name)
        if before and before != content:
            raise UserError(f"{what} is not what it was when {self.folder} began; begin anew")
        if not before:
            self.write(name, content)

    def answers(self) -> dict[str, Term]:
        """Those so far; UserError when what was written is not that."""
        try:
            return _ANSWERS.validate_python(self.read("answers"))
        except ValueError as error:
            raise UserError(f"{self.folder}/answers.json is damaged; remove it") from error
