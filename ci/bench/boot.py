# SPDX-License-Identifier: GPL-2.0-only
"""CPU seconds from QEMU's start to a command's end: raw QEMU, virtme-ng by hand, and ours.

The same image, machine and accelerator (TCG); a round of all after another, so that the host's mood
meets each alike. CPU seconds are those of QEMU and all around it.

    .venv/bin/python ci/bench/boot.py IMAGE [ROUNDS [FILE]]    # FILE keeps figures for plot.py
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import measuring

from runner import cpio, host, rootfs
from runner.experiment import ROOT
from runner.guest import Boot, Guest
from runner.host import How
from runner.qemu import Machine
from runner.swap import set_up_command, swap_named

INIT = b"#!/bin/busybox sh\nexec /bin/busybox poweroff -f\n"


def raw(image: Path, folder: Path) -> None:
    """A kernel whose init powers off at once."""
    busybox = Path(shutil.which("busybox") or "busybox").read_bytes()
    init = cpio.file("init", INIT, executable=True)
    archive = cpio.archive([cpio.console(), cpio.file("bin/busybox", busybox, True), init])
    host.write_atomic(folder / "raw.cpio", archive)
    machine = ("-machine", "q35", "-cpu", "max", "-smp", "2", "-m", "1024M")
    quiet = ("-display", "none", "-serial", f"file:{folder}/raw.log", "-monitor", "none")
    what = ("-kernel", image, "-initrd", folder / "raw.cpio", "-append", "console=ttyS0 quiet")
    host.run(
        ("qemu-system-x86_64", *machine, "-accel", "tcg,thread=multi", *quiet, "-no-reboot", *what),
        How(timeout=measuring.PATIENCE_S),
    )


def by_hand(image: Path, folder: Path) -> None:
    """The command runs on the host's root folder."""
    measuring.run_by_hand(image, "true", folder)


def ours(image: Path, folder: Path, swap: bool = False) -> None:
    """A command over ssh; with `swap` zram is set up and checked before, and the command is framed
    as a case is.
    """
    root = rootfs.build_rootfs(ROOT / "guest-tests", host.cache_dir(), lambda _: None)
    with Guest(Boot(image, root.image, Machine(), folder / "boot", measuring.PATIENCE_S)) as guest:
        if not guest.boot():
            raise SystemExit(f"the guest did not boot; see {guest.console}")
        if swap:
            guest.run(set_up_command(swap_named("zram"), 1, 1.0), measuring.PATIENCE_S)
        word = ("/twinboot/guest/run-case", "bench/true", "1", "true") if swap else ("true",)
        if guest.run(word, measuring.PATIENCE_S).exit != 0:
            raise SystemExit("the guest ran no command")


def with_swap(image: Path, folder: Path) -> None:
    ours(image, folder, swap=True)


WAYS: dict[str, Callable[[Path, Path], None]] = {
    "raw QEMU, init powers off": raw,
    "`vng --run IMAGE --force-9p --exec true`": by_hand,
    "ours, to the end of `true`": ours,
    "ours, swap set up, to the end of the first case": with_swap,
}


def measured(way: Callable[[Path, Path], None], image: Path) -> float:
    """CPU seconds of all that it started."""
    before = host.children_cpu()
    with tempfile.TemporaryDirectory(prefix="twinboot-bench-") as folder:
        way(image, Path(folder))
    return host.children_cpu() - before


def main(image: Path, rounds: int, save: Path | None) -> None:
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    measured(ours, image)  # builds what is missing
    figures: dict[str, list[float]] = {name: [] for name in WAYS}
    for number in range(rounds):
        for name, way in WAYS.items():
            figures[name].append(measured(way, image))
        measuring.say(f"round {number + 1} of {rounds}")
    medians = {name: measuring.middle(seconds) for name, seconds in figures.items()}
    floor = next(iter(medians.values()))
    rows = [
        (
            name,
            f"{medians[name]:.2f}",
            f"{min(seconds):.2f} to {max(seconds):.2f}",
            f"{medians[name] / floor:.1f}",
        )
        for name, seconds in figures.items()
    ]
    print(measuring.table(("way", "CPU seconds, median", "least to greatest", "times raw"), rows))
    measuring.keep(save, "boot", {name: {"cpu": middle} for name, middle in medians.items()})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", type=Path)
    parser.add_argument("rounds", type=int, nargs="?", default=5)
    parser.add_argument("save", type=Path, nargs="?")
    asked = parser.parse_args()
    main(asked.image.absolute(), asked.rounds, asked.save)
