# SPDX-License-Identifier: GPL-2.0-only
"""One bisection from its plan to its answer, begun or resumed; what the commands call.

It prints nothing; story.py has the sentences.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from runner import case, gitstore, host, needs
from runner.bisect import commits, story
from runner.bisect.bench import KernelBench, chosen_case
from runner.bisect.commits import Commits
from runner.bisect.fields import Field, open_field, pinned
from runner.bisect.plan import BisectPlan, Notebook
from runner.bisect.story import Subject
from runner.bisect.walk import Result, walk
from runner.build import try_patches
from runner.errors import UserError
from runner.experiment import CASES
from runner.host import Progress

# What its folder holds before anything was looked at
BEFORE = ("bisect.json", "searched.json", "lock", "git", "stdin.mbox")


@dataclass(frozen=True, slots=True)
class Ended:
    """The answer and the sentences for it."""

    result: Result
    text: str


def begin(plan: BisectPlan, folder: Path, progress: Progress) -> Ended:
    """A new bisection in `folder`; moving names in the plan are pinned first."""
    chosen_case(plan)
    needs.refuse_guest(plan.accelerator, plan.machine)
    notebook, cache = Notebook(folder), host.cache_dir()
    notebook.begin(pinned(plan, cache, progress))
    try:
        return resume(folder, progress)
    except UserError:
        if not (folder / "candidates").exists():
            host.withdraw(folder, BEFORE)
        raise


def resume(folder: Path, progress: Progress) -> Ended:
    """Go on with the bisection in `folder`; what has its evidence is not run again.

    Patches of an end that do not apply are refused before the first build.
    """
    notebook, cache = Notebook(folder), host.cache_dir()
    plan = notebook.plan()
    needs.refuse_guest(plan.accelerator, plan.machine)
    with host.locked(folder / "lock", progress):
        searched = open_field(plan, folder, cache, progress)
        notebook.agree("searched", {"identity": searched.identity}, "what is searched")
        chosen = chosen_case(plan)
        if not notebook.answers():
            for end in (searched.space.good, searched.space.bad):
                try_patches(searched.request(end), cache, progress)
        with KernelBench(notebook, plan, searched, cache, progress, chosen) as bench:
            result = walk(searched.space, bench, plan.asked, _titled(searched, progress))
            symptom = bench.symptom.clause(chosen, plan.swap) if bench.symptom else ""
        space = searched.space
        subject = Subject(searched.kind, space.fixes, searched.title, symptom)
        notebook.write("result", story.document(result, subject))
        text = story.told(result, subject)
        host.write_atomic(folder / "result.txt", text)
    return Ended(result, text)


def only_swap(case_id: str) -> str:
    """The swap of a case that runs on one kind only; UserError names the kinds of others."""
    chosen = case.select(case.load(CASES), (case_id,))
    if case_id != chosen[0].id:
        ids = ", ".join(each.id for each in chosen)
        raise UserError(f"--case {case_id} is a group, and one case decides: {ids}")
    found = chosen[0]
    if len(found.swaps) != 1:
        raise UserError(f"{case_id} runs on {', '.join(found.swaps)}; --swap says which decides")
    return found.swaps[0]


def _titled(searched: Field, progress: Progress) -> Progress:
    """Progress with the titles of candidates in place of their names."""
    space = searched.space

    def tell(line: str) -> None:
        words = line.split(" ")
        progress(" ".join(_title_of(searched, word) for word in words))

    return tell if isinstance(space, Commits) else progress


def _title_of(searched: Field, word: str) -> str:
    name = word.rstrip(",:")
    known = len(name) in (40, 64) and gitstore.COMMIT.fullmatch(name)
    return searched.title(name) + word[len(name) :] if known else word


def log(folder: Path) -> str:
    """What `git bisect replay` reads; of other searches the same in words."""
    notebook = Notebook(folder)
    plan = notebook.plan()
    searched = open_field(plan, folder, host.cache_dir(), lambda _: None)
    answers = notebook.answers()
    found = tuple(each["candidate"] for each in notebook.read("result").get("answer", ()))
    if isinstance(searched.space, Commits):
        return commits.replayable(searched.space, answers, found)
    lines = [f"# {term}: {searched.title(each)}" for each, term in answers.items()]
    which = "first" if notebook.read("result").get("decided", True) else "possible first"
    lines += [f"# {which} {searched.kind}: {searched.title(each)}" for each in found]
    return "".join(f"{line}\n" for line in lines)
