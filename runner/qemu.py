# SPDX-License-Identifier: GPL-2.0-only
"""The command line of one guest: virtme-ng's runner with our own devices and first process. Pure.

It starts nothing; runner/guest.py does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

RESULTS_PORT = "twinboot.results"
SWAP_SERIAL = "twinboot-swap"
RAMDISK_KIB = 256 * 1024
# guest-tests/c/init.c
INIT = "/twinboot/bin/init"
# The disk that virtme-run adds first. From a 9p folder 5.10 reads page by page, each a round trip
# to the host, and guests side by side then wait for QEMU's one lock
ROOT_OPTIONS = (
    *("console=ttyS0", "earlyprintk=serial,ttyS0,115200"),
    *("root=/dev/vda", "rootfstype=ext2", "ro"),
)
# Where QEMU listens for its owner, below the folder that it is started in: the path of a socket
# may have 107 bytes. No guest reaches it.
MONITOR = "monitor/qmp"
GDB = Path("monitor/gdb")
DRGN = Path("monitor/drgn")


@dataclass(frozen=True, slots=True)
class Machine:
    """What a guest is made of. A timing under KVM is never compared with one under TCG.

    With `icount` its time counts instructions: one nanosecond for each, on its one CPU.
    `gdb` and `drgn` are the sockets at which QEMU waits for those debuggers; with `vmcore` the
    memory of a guest that dies is kept.
    """

    accelerator: str = "tcg"
    cpus: int = 2
    memory_mib: int = 1024
    gdb: Path | None = None
    vmcore: bool = False
    drgn: Path | None = None
    icount: bool = False


@dataclass(frozen=True, slots=True)
class BootFiles:
    """The host paths that one guest touches: it reads the first three, QEMU writes the rest.

    QEMU is started in the folder that holds `keys`.
    """

    image: Path
    rootfs: Path
    keys: Path
    results: Path
    swap_disk: Path | None = None


def guest_argv(
    machine: Machine, files: BootFiles, ssh_port: int, append: str = ""
) -> tuple[str, ...]:
    """virtme-run and its arguments; it waits for QEMU, whose exit code it does not hand on.

    `vng` itself is passed by: it reads ~/.config/virtme-ng.
    """
    return (
        *_virtme_words(machine, files),
        "--qemu-opts",
        *_kernel_words(machine, append),
        *_accelerator_words(machine),
        *_network_words(ssh_port),
        *_results_words(files),
        *_swap_disk_words(files),
        *_monitor_words(),
        *_debugger_words(machine),
    )


def _virtme_words(machine: Machine, files: BootFiles) -> tuple[str, ...]:
    return (
        *("virtme-run", "--kimg", str(files.image), "--mods", "none", "--name", "twinboot"),
        *("--root-disk", str(files.rootfs)),
        # 9p: virtiofsd would be one more process to own, and microvm comes only with it
        *("--force-9p", "--disable-microvm", "--disable-monitor"),
        # relative to where QEMU is started: virtme-run takes letters, digits and _+ /.- in it
        *("--rodir", f"/twinboot/trial={files.keys.name or files.keys}"),
        *("--memory", f"{machine.memory_mib}M", "--cpus", str(machine.cpus)),
        # without it virtme-ng asks for KVM wherever /dev/kvm opens, usable or not
        *(() if machine.accelerator == "kvm" else ("--disable-kvm",)),
    )


def _kernel_words(machine: Machine, append: str) -> tuple[str, ...]:
    """The kernel's command line in place of virtme-run's: QEMU takes the last -append.

    virtme-run names an init of its own behind all that --kopt gives, which mounts, probes and
    rewrites much that no case needs: more than half of a boot without KVM (docs/speed.md).
    """
    # Where an instruction is a nanosecond, calibrating the local timer fails after 400 million.
    # How many page tables a process has, and fork copies, depends on where its mappings are
    fixed = ("noapictimer", "norandmaps") if machine.icount else ()
    words = (*ROOT_OPTIONS, "twinboot.guest=1", *kernel_options(), *fixed, *append.split())
    return ("-append", " ".join((*words, f"init={INIT}")))


def kernel_options() -> tuple[str, ...]:
    """What every kernel of ours is started with."""
    return (
        "loglevel=6",
        # the marks between cases on the console must not be rate limited
        "printk.devkmsg=on",
        # the ssh server waits for random numbers, and a guest without devices has few
        "random.trust_cpu=on",
        "panic=-1",
        "oops=panic",
        "nokaslr",
        # under TCG on a loaded host the timer interrupts come late, and the kernel panics with
        # "IO-APIC + timer doesn't work!" before it runs anything
        "no_timer_check",
        # an NMI from the monitor makes a kernel that hangs tell where it is, and panic
        "unknown_nmi_panic",
        # one ram disk, exactly the size of the swap
        "brd.rd_nr=1",
        f"brd.rd_size={RAMDISK_KIB}",
        "null_blk.nr_devices=0",
    )


def _accelerator_words(machine: Machine) -> tuple[str, ...]:
    if machine.accelerator == "kvm":
        return ()
    if machine.icount:
        # idle time passes as on the host (sleep=on): nothing that is counted is idle
        return ("-accel", "tcg,thread=single", "-icount", "shift=0")
    # one host thread per guest CPU, or a race between them can never show
    return ("-accel", "tcg,thread=multi")


def _network_words(ssh_port: int) -> tuple[str, ...]:
    """User networking that reaches nothing (restrict) and is reached on our loopback only."""
    forward = f"hostfwd=tcp:127.0.0.1:{ssh_port}-:22"
    return (
        "-netdev",
        f"user,id=twinboot,restrict=on,{forward}",
        *_device("virtio-net-pci,netdev=twinboot"),
    )


def _results_words(files: BootFiles) -> tuple[str, ...]:
    """A channel of its own, unbuffered in the guest: what was written survives a panic."""
    return (
        *("-chardev", f"file,id=twinboot-results,path={_escaped(files.results)}"),
        *_device("virtio-serial-pci,id=twinboot-serial"),
        *_device(
            f"virtserialport,bus=twinboot-serial.0,name={RESULTS_PORT},chardev=twinboot-results"
        ),
    )


def _swap_disk_words(files: BootFiles) -> tuple[str, ...]:
    if files.swap_disk is None:
        return ()
    drive = f"file={_escaped(files.swap_disk)},if=none,id=twinboot-swap,format=raw,cache=unsafe"
    return ("-drive", drive, *_device(f"virtio-blk-pci,drive=twinboot-swap,serial={SWAP_SERIAL}"))


def _monitor_words() -> tuple[str, ...]:
    """A guest that panics is reset (panic=-1): instead it stops, so that it can be looked at."""
    return (
        *("-qmp", f"unix:{MONITOR},server=on,wait=off"),
        *("-action", "reboot=shutdown,shutdown=pause"),
    )


def _debugger_words(machine: Machine) -> Iterator[str]:
    """drgn speaks QMP, over a socket of its own."""
    if machine.gdb is not None:
        yield from ("-gdb", f"unix:{_escaped(machine.gdb)},server=on,wait=off")
    if machine.drgn is not None:
        yield from ("-qmp", f"unix:{_escaped(machine.drgn)},server=on,wait=off")


def _device(text: str) -> tuple[str, str]:
    return ("-device", text)


def _escaped(path: Path) -> str:
    """QEMU's option lists take a comma as a doubled comma."""
    return str(path).replace(",", ",,")
