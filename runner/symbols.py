# SPDX-License-Identifier: GPL-2.0-only
"""A kernel's lines and types: a second build with debug info, and what is done with it.

Debug info changes no code. Where both builds have the same, the symbols of the second fit the
first as it runs; where they have not, they are not used for it.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from runner import host
from runner.build import TRACE_SCRIPT, Kernel, build, kept
from runner.errors import TwinbootError, UserError
from runner.experiment import Plan, read_inputs
from runner.host import How, Progress
from runner.signature import same_code
from runner.transcript import ArmLabel

FRAGMENT = "debug-info"
NOTE = "symbols"
SCRIPT_S = 60.0
ATTACH = Path(__file__).with_name("attach.py")

# Nothing else of a guest's text reaches the kernel's script, which gives what it reads to awk
_FRAME = re.compile(r"\b([A-Za-z_][A-Za-z0-9_.]*\+0x[0-9a-f]+/0x[0-9a-f]+)(?![\w/])")
_BLOCK = re.compile(r" \(discriminator \d+\)")
_LINES = re.compile(r"\(([\w./-]+:\d+(?: [\w./-]+:\d+)*)\)")


@dataclass(frozen=True, slots=True)
class Symbols:
    """A vmlinux with debug info; the kernel's scripts for gdb and for traces are beside it."""

    vmlinux: Path

    @property
    def trace_script(self) -> Path:
        return self.vmlinux.with_name(TRACE_SCRIPT)


def found(kernel: Kernel, cache: Path) -> Symbols | None:
    """The symbols of a kernel where they are kept: its own, or those of its second build."""
    if kernel.vmlinux is not None and _has_lines(kernel.vmlinux):
        return Symbols(kernel.vmlinux)
    try:
        fingerprint, code = kernel.image.with_name(NOTE).read_text().split()
    except (OSError, ValueError):
        return None
    other = kept(cache, fingerprint)
    if other is None or other.vmlinux is None or other.signature != code:
        return None
    return Symbols(other.vmlinux)


def build_for(
    plan: Plan, arm: ArmLabel, kernel: Kernel, cache: Path, progress: Progress
) -> Symbols:
    """The symbols of one arm of a plan, built if need be.

    Raises UserError where the code with debug info is not the code that runs.
    """
    if symbols := found(kernel, cache):
        return symbols
    progress(f"a second build with {FRAGMENT}, for the symbols")
    wanted = dataclasses.replace(plan, fragments=(*plan.fragments, FRAGMENT))
    made = read_inputs(wanted, cache, progress)
    second = build(made.request(0 if arm == "base" else None), cache, progress)
    first = kernel.vmlinux
    if first is None or second.vmlinux is None or not same_code(first, second.vmlinux):
        raise UserError(
            f"with {FRAGMENT} the {arm} kernel has other code, so its symbols do not fit; "
            f"run the experiment with --kconfig {FRAGMENT}"
        )
    told = f"{second.fingerprint} {second.signature}\n"
    host.write_atomic(kernel.image.with_name(NOTE), told)
    return Symbols(second.vmlinux)


def _has_lines(vmlinux: Path) -> bool:
    try:
        with vmlinux.open("rb") as stream:
            return ELFFile(stream).get_section_by_name(".debug_line") is not None
    except (OSError, ELFError):
        return False


def symbolised(text: str, kernel: Kernel | None, cache: Path) -> str:
    """A trace with file and line behind each frame; as it is where that cannot be had."""
    symbols = found(kernel, cache) if kernel else None
    if symbols is None or not symbols.trace_script.is_file():
        return text
    frames = tuple(dict.fromkeys(_FRAME.findall(text)))
    lines = dict(zip(frames, _lines(frames, symbols), strict=True))
    return _FRAME.sub(lambda frame: f"{frame[1]}{lines[frame[1]]}", text)


def _lines(frames: tuple[str, ...], symbols: Symbols) -> Iterator[str]:
    """The kernel's own script, asked for all frames at once: ` (mm/memory.c:3356)` for each."""
    asked = "".join(f" {frame}\n" for frame in frames)
    how = How(stdin=asked.encode(), check=False, timeout=SCRIPT_S)
    try:
        said = host.run(("bash", symbols.trace_script, symbols.vmlinux), how).stdout.splitlines()
    except TwinbootError:
        said = []
    answers: Iterable[str] = said if len(said) == len(frames) else [""] * len(frames)
    for answer in answers:
        place = _LINES.search(_BLOCK.sub("", answer))
        yield f" ({place[1]})" if place else ""


def drgn_command(target: Path, info: Path, symbols: Symbols) -> str:
    """The command line of drgn on a guest's socket or on a vmcore (runner/attach.py)."""
    return shlex.join(
        (sys.executable, *(str(path) for path in (ATTACH, target, info, symbols.vmlinux)))
    )


def core_info(kernel: Kernel, symbols: Symbols) -> str:
    """VMCOREINFO as the kernel would give it, from its System.map and .config, for drgn.

    Ours have neither kexec nor /proc/kcore, so they give none; and nokaslr, so nothing is moved.
    The build id is that of the symbols, so that drgn takes them: their code is the kernel's.
    """
    where = dict(
        re.findall(r"^(?=[0-9a-f]{16} \w (\S+)$)([0-9a-f]{16})", _map(kernel), re.MULTILINE)
    )
    wide = "\nCONFIG_X86_5LEVEL=y\n" in kernel.config.read_text()
    lines = [
        f"OSRELEASE={kernel.release}",
        f"BUILD-ID={_build_id(symbols.vmlinux)}",
        "PAGESIZE=4096",
        f"SYMBOL(init_uts_ns)={where.get('init_uts_ns', '0')}",
        f"SYMBOL(swapper_pg_dir)={where.get('init_top_pgt', '0')}",
        f"SYMBOL(_stext)={where.get('_stext', '0')}",
        f"SYMBOL(mem_section)={where.get('mem_section', '0')}",
        # NR_SECTION_ROOTS of x86-64 with four levels of page tables and 128 MiB sections
        "LENGTH(mem_section)=2048",
        "NUMBER(phys_base)=0",
        f"NUMBER(pgtable_l5_enabled)={int(wide)}",
        "KERNELOFFSET=0",
    ]
    return "\n".join(lines) + "\n"


def _build_id(vmlinux: Path) -> str:
    """Of the notes of a vmlinux; empty where it has none."""
    with vmlinux.open("rb") as stream:
        notes: list[Any] = [*ELFFile(stream).iter_sections("SHT_NOTE")]
        for section in notes:
            for note in section.iter_notes():
                if note["n_type"] == "NT_GNU_BUILD_ID":
                    return str(note["n_desc"])
    return ""


def _map(kernel: Kernel) -> str:
    try:
        return kernel.image.with_name("System.map").read_text()
    except OSError as error:
        raise UserError(f"the kernel {kernel.image} has no System.map beside it") from error
