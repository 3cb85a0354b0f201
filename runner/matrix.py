# SPDX-License-Identifier: GPL-2.0-only
"""All boots of a run: which there are, in which order, and as many side by side as fit.

It neither builds kernels nor judges what the guests say.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from runner import durations, host
from runner.build import Kernel
from runner.case import Case
from runner.counted import counted
from runner.guest import Cancelled
from runner.host import Progress
from runner.qemu import Machine
from runner.swap import Swap
from runner.transcript import ArmLabel, Transcript
from runner.trial import Trial, run_trial

ARMS: tuple[ArmLabel, ArmLabel] = ("base", "patched")
HOST_RESERVE_MIB = 1024
QEMU_OVERHEAD_MIB = 256

Keep = Callable[[Trial, tuple[Transcript, ...]], None]


@dataclass(frozen=True, slots=True)
class Matrix:
    """Both kernels, what they boot with, and what runs in them; `scale` stretches deadlines.

    Repeats are numbered from `first` on.
    """

    base: Kernel
    patched: Kernel
    rootfs: Path
    machine: Machine
    swaps: tuple[Swap, ...]
    cases: tuple[Case, ...]
    repeats: int
    seed: int
    scale: float = 1.0
    first: int = 1

    def kernel(self, arm: ArmLabel) -> Kernel:
        return self.base if arm == "base" else self.patched


@dataclass(frozen=True, slots=True)
class Desk:
    """Where trials keep their files, how many run at a time, and who takes their transcripts."""

    folder: Path
    jobs: int
    keep: Keep


def trials(matrix: Matrix) -> Iterator[Trial]:
    """Every trial, the arms interleaved and taking turns to go first."""
    for repeat in range(matrix.first, matrix.first + matrix.repeats):
        for swap in matrix.swaps:
            fitting = tuple(case for case in matrix.cases if swap.kind in case.swaps)
            for arm in ARMS if repeat % 2 else ARMS[::-1]:
                if fitting:
                    yield _trial(matrix, arm, repeat, swap, fitting)


def _trial(
    matrix: Matrix, arm: ArmLabel, repeat: int, swap: Swap, cases: tuple[Case, ...]
) -> Trial:
    kernel = matrix.kernel(arm)
    return Trial(
        arm=arm,
        repeat=repeat,
        image=kernel.image,
        release=kernel.release,
        rootfs=matrix.rootfs,
        machine=matrix.machine,
        swap=swap,
        cases=cases,
        seed=matrix.seed,
        scale=matrix.scale,
    )


def planned(matrix: Matrix) -> dict[str, tuple[str, ...]]:
    """The ids of the cases in one boot of each swap."""
    return {trial.swap.kind: tuple(case.id for case in trial.cases) for trial in trials(matrix)}


def fitting_jobs(machine: Machine) -> int:
    """As many guests as keep the host's CPUs busy and there is free memory for, at least one."""
    memory = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    each = machine.memory_mib + QEMU_OVERHEAD_MIB
    return max(1, min(_busy_guests(machine), (memory - HOST_RESERVE_MIB) // each))


def _busy_guests(machine: Machine) -> int:
    """Three for two CPUs: a guest waits in a third of its time, for its swap, for ksmd, for the
    host (docs/speed.md). One whose instructions are counted never waits.
    """
    host_cpus = os.cpu_count() or 1
    return host_cpus if machine.icount else host_cpus + host_cpus // 2


def run_all(todo: tuple[Trial, ...], desk: Desk, progress: Progress) -> None:
    """Run trials; each one's transcripts are kept as soon as it ends.

    Of each repeat the trials that took longest before come first, so that no long one is alone at
    the end; the arms stay beside each other. All runs on a host share its slots for guests, so
    that two at once do not make each other's cases miss their deadlines. The first error, Ctrl-C
    included, stops the rest and takes every guest down.
    """
    stop, cache = threading.Event(), host.cache_dir()
    slots = max([desk.jobs, *(_busy_guests(trial.machine) for trial in todo)])
    done = _Count(len(todo), progress)

    def one(trial: Trial) -> None:
        with host.slot(cache / "locks/guests", slots, stop.is_set) as granted:
            if not granted:
                raise Cancelled
            began = time.monotonic()
            transcripts = run_trial(trial, desk.folder / trial.name, stop)
            desk.keep(trial, transcripts)
            durations.remember(cache, transcripts, trial.scale)
            done.tell(trial, time.monotonic() - began)

    with ThreadPoolExecutor(max_workers=desk.jobs) as pool:
        futures = [pool.submit(one, trial) for trial in _longest_first(todo, cache)]
        try:
            _wait_all(futures)
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise


def _longest_first(todo: tuple[Trial, ...], cache: Path) -> list[Trial]:
    known = durations.recall(cache)

    def place(trial: Trial) -> tuple[int, float]:
        return trial.repeat, -durations.expected(trial.cases, trial.swap.kind, known)

    return sorted(todo, key=place)


def _wait_all(futures: list[Future[None]]) -> None:
    """Wait in short turns, so that a signal reaches the main thread; raise what one raised."""
    pending = set(futures)
    while pending:
        ended, pending = wait(pending, timeout=0.5, return_when=FIRST_EXCEPTION)
        for future in ended:
            future.result()


class _Count:
    """How many trials have ended, said once for each."""

    def __init__(self, total: int, progress: Progress) -> None:
        self._total, self._progress = total, progress
        self._lock = threading.Lock()
        self._done = 0

    def tell(self, trial: Trial, seconds: float) -> None:
        with self._lock:
            self._done += 1
            self._progress(
                f"guest {self._done}/{self._total}: {trial.arm} on {trial.swap.kind}, "
                f"run {trial.repeat}, {counted(len(trial.cases), 'case')}, {seconds:.0f} s"
            )
