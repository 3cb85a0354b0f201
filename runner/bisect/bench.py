# SPDX-License-Identifier: GPL-2.0-only
"""The bench with real kernels: builds a candidate, boots it as often as asked, counts what it saw.

All that it sees stays in the folder, so nothing is built or booted twice. Kernels of equal code
share their runs.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType

from runner import accel, case, evidence, experiment, host, matrix, rootfs
from runner.bisect.ahead import Ahead
from runner.bisect.exitcode import fault_of_the_tree
from runner.bisect.fields import Field
from runner.bisect.plan import BisectPlan, Notebook
from runner.bisect.space import Answers
from runner.bisect.symptom import Sight, Symptom, does_not_boot, look, settle
from runner.bisect.walk import Tally
from runner.build import Kernel, build
from runner.case import Case
from runner.errors import TwinbootError, UserError
from runner.host import Progress
from runner.judging import judge_guests
from runner.matrix import Desk
from runner.outcome import Outcome, Verdict
from runner.qemu import Machine
from runner.rootfs import Rootfs
from runner.swap import swap_named
from runner.transcript import Transcript, whole_trials
from runner.trial import Trial

# So many runs that say nothing, and one more for each that did, before a kernel is given up.
UNTOLD = 3
Runs = dict[int, tuple[Outcome, ...]]


@dataclass(frozen=True, slots=True)
class Guests:
    """What all guests of a bisection have in common."""

    case: Case
    root: Rootfs
    machine: Machine
    scale: float


@dataclass(slots=True)
class KernelBench:
    """See walk.Bench. A context manager: what is built ahead ends with it."""

    notebook: Notebook
    plan: BisectPlan
    searched: Field
    cache: Path
    progress: Progress
    chosen: Case
    _guests: Guests | None = None
    _kernels: dict[str, Kernel] = field(default_factory=dict)
    _runs: dict[str, Runs] = field(default_factory=dict)
    _symptom: Symptom | None = None
    _ahead: Ahead | None = None
    _next: tuple[str, ...] = ()

    def __enter__(self) -> KernelBench:
        known = self.notebook.read("symptom")
        try:
            if known:
                self._symptom = Symptom(**{**known, "names": tuple(known["names"])})
        except (KeyError, TypeError) as error:
            where = f"{self.notebook.folder}/symptom.json"
            raise UserError(f"{where} is damaged; remove it to settle it anew") from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._settle_ahead(None)

    @property
    def symptom(self) -> Symptom | None:
        return self._symptom

    # What the walk asks

    def look(self, candidate: str, clean: int) -> Tally:
        return self._run(candidate, lambda tally: 0 if tally.shown else clean - tally.clean)

    def measure(self, candidate: str, runs: int) -> Tally:
        return self._run(candidate, lambda tally: runs - tally.told)

    def expect(self, candidates: tuple[str, ...]) -> None:
        """Nothing begins before guests run: until then the machine builds what they will boot."""
        self._next = candidates
        if not candidates:
            self._settle_ahead(None)

    def note(self, answers: Answers) -> None:
        self.notebook.write("answers", {name: str(term) for name, term in answers.items()})

    def _run(self, candidate: str, missing: Callable[[Tally], int]) -> Tally:
        """Boot in batches until none is missing, or it is no use."""
        record = self._record(candidate) or self._build(candidate)
        if record["problem"]:
            return Tally(problem=record["problem"])
        kernel = record["signature"]
        while True:
            self._settle_symptom(candidate, kernel)
            tally = self._tally(kernel)
            want = missing(tally)
            if want <= 0 or tally.problem or len(tally.untold) >= UNTOLD + tally.told:
                return tally
            self._boot(candidate, kernel, want)

    # Kernels

    def _record(self, candidate: str) -> dict[str, str]:
        """What is known of its kernel; nothing where that is not whole."""
        record = self.notebook.read(f"candidates/{_short(candidate)}")
        whole = record.get("problem") or record.get("signature")
        return record if whole and "problem" in record else {}

    def _build(self, candidate: str) -> dict[str, str]:
        """Build it and keep what it is, or why there is none of it.

        A full disk and its like are no property of a candidate: they end the bisection.
        """
        self._settle_ahead(candidate)
        record = {"candidate": candidate, "title": self.searched.title(candidate), "problem": ""}
        try:
            kernel = build(self.searched.request(candidate), self.cache, self.progress)
            self._kernels[candidate] = kernel
            record |= {"signature": kernel.signature, "release": kernel.release}
            record |= {"fingerprint": kernel.fingerprint, "source": kernel.source}
        except TwinbootError as error:
            if not (isinstance(error, UserError) or fault_of_the_tree(error)):
                raise
            record["problem"] = error.message
        self.notebook.write(f"candidates/{_short(candidate)}", record)
        return record

    def _build_ahead(self) -> None:
        """While guests run: what may be next, unless just that is being built already."""
        unbuilt = tuple(each for each in self._next if not self._record(each))
        if self.plan.ahead and (self._ahead is None or self._ahead.candidates != unbuilt):
            self._settle_ahead(None)
            self._ahead = Ahead(self.notebook.folder, unbuilt) if unbuilt else None

    def _settle_ahead(self, wanted: str | None) -> None:
        if self._ahead is not None:
            self._ahead.settle(wanted)
            self._ahead = None

    def _kernel(self, candidate: str) -> Kernel:
        """The image; in a resumed bisection it is taken from the cache, or built once more."""
        if candidate not in self._kernels:
            self._settle_ahead(candidate)
            request = self.searched.request(candidate)
            kernel = build(request, self.cache, self.progress)
            if kernel.signature != self._record(candidate)["signature"]:
                title = self.searched.title(candidate)
                raise UserError(f"the kernel of {title} has other code than it had; begin anew")
            self._kernels[candidate] = kernel
        return self._kernels[candidate]

    # Runs

    def _boot(self, candidate: str, kernel: str, want: int) -> None:
        image = self._kernel(candidate)
        guests = self._prepared(image)
        folder, first = self._folder(kernel), max(self._known(kernel), default=0) + 1
        jobs = self.plan.jobs or matrix.fitting_jobs(guests.machine)
        trials = tuple(
            Trial(
                arm="patched",
                repeat=repeat,
                image=image.image,
                release=image.release,
                rootfs=guests.root.image,
                machine=guests.machine,
                swap=swap_named(self.plan.swap),
                cases=(guests.case,),
                seed=self.plan.seed,
                scale=guests.scale,
            )
            for repeat in range(first, first + min(want, jobs))
        )

        def keep(trial: Trial, transcripts: tuple[Transcript, ...]) -> None:
            for transcript in transcripts:
                evidence.save_transcript(folder, transcript)
            self._known(kernel)[trial.repeat] = judge_guests(transcripts, (guests.case,))

        host.make_folder(folder)
        self._build_ahead()
        with tempfile.TemporaryDirectory(dir=folder, prefix=".boots-") as boots:
            matrix.run_all(trials, Desk(Path(boots), jobs, keep), self.progress)

    def _folder(self, kernel: str) -> Path:
        return self.notebook.folder / "kernels" / kernel[:32]

    def _known(self, kernel: str) -> Runs:
        """The judged runs of a kernel, those of earlier sessions included.

        One that was half saved when a session was killed is none of them.
        """
        if kernel not in self._runs:
            paths = (self._folder(kernel) / "transcripts").glob("*.json")
            whole = whole_trials(map(evidence.load_transcript, sorted(paths)))
            self._runs[kernel] = {
                repeat: judge_guests(parts, (self.chosen,))
                for (_, _, repeat, _), parts in whole.items()
            }
        return self._runs[kernel]

    def _prepared(self, kernel: Kernel) -> Guests:
        """Root and machine, chosen once, and the same in every session of this bisection."""
        if self._guests is None:
            plan = self._as_experiment()
            root = rootfs.build_rootfs(experiment.ROOT / "guest-tests", self.cache, self.progress)
            machine = experiment.choose_machine(plan, kernel, root, self.cache, self.progress)
            self._guests = Guests(self.chosen, root, machine, experiment.burden(plan).slowness)
            same = {"programs": root.digest, "machine": asdict(machine)}
            same |= {"qemu": accel.qemu_version(), "case": list(self.chosen.program)}
            self.notebook.agree("guests", same, "the guests' programs or machine")
        return self._guests

    def _as_experiment(self) -> experiment.Plan:
        plan = self.plan
        return experiment.Plan(
            folder=self.notebook.folder,
            fragments=plan.fragments,
            accelerator=plan.accelerator,
            machine=plan.machine,
        )

    # What runs say

    def _tally(self, kernel: str) -> Tally:
        runs = [self._known(kernel)[repeat] for repeat in sorted(self._known(kernel))]
        sights = [self._sight(run) for run in runs]
        shown = sum(1 for sight in sights if sight.shown is True)
        clean = sum(1 for sight in sights if sight.shown is False)
        untold = tuple(sight.text for sight in sights if sight.shown is None)
        problem = ""
        if runs and not shown and not clean and all(does_not_boot(run) for run in runs):
            problem = f"it does not boot ({untold[0]})"
        return Tally(shown, clean, untold, problem, kernel)

    def _sight(self, run: Sequence[Outcome]) -> Sight:
        """Before the symptom is known only a run that passed says anything: it is not there."""
        if self._symptom is not None:
            return look(self._symptom, run, self.chosen.id)
        outcome = next((each for each in run if each.case == self.chosen.id), None)
        if outcome is not None and outcome.verdict is Verdict.PASS:
            return Sight(False, outcome.reason)
        return Sight(None, outcome.reason if outcome else "the case was not run")

    def _settle_symptom(self, candidate: str, kernel: str) -> None:
        """The runs of the bad end say what is looked for everywhere else."""
        if self._symptom is None and candidate == self.searched.space.bad:
            runs = tuple(self._known(kernel).values())
            self._symptom = settle(self.plan.wanted, runs, self.chosen)
            if self._symptom is not None:
                self.notebook.write("symptom", asdict(self._symptom))
                what = self._symptom.clause(self.chosen, self.plan.swap)
                self.progress(f"bad means: {what}")


def chosen_case(plan: BisectPlan) -> Case:
    """The one case that decides; UserError when the plan's words name none or cannot decide."""
    found = [each for each in case.load(experiment.CASES) if each.id == plan.case]
    if not found:
        raise UserError(f"there is no case {plan.case!r}; see `twinboot list cases`")
    chosen, wanted = found[0], plan.wanted
    if plan.swap not in chosen.swaps:
        raise UserError(f"{chosen.id} runs on {', '.join(chosen.swaps)}, not on {plan.swap}")
    there = [each.name for each in chosen.invariants]
    if wanted.invariant and wanted.invariant not in there:
        raise UserError(f"{chosen.id} has no invariant {wanted.invariant}, only {', '.join(there)}")
    measures = [each.name for each in chosen.measures]
    if wanted.measure and wanted.measure not in measures:
        raise UserError(f"{chosen.id} has no measure {wanted.measure}, only {', '.join(measures)}")
    return replace(chosen, swaps=(plan.swap,))


def _short(candidate: str) -> str:
    return hashlib.sha256(candidate.encode()).hexdigest()[:16]
