# SPDX-License-Identifier: GPL-2.0-only
"""Reads what QEMU says of its CPUs, and which calls their kernel stacks may hold. Pure.

It unwinds nothing: it lists words of the stack that point behind a call, as the kernel does for
the frames that it marks with a question mark. Some of them may be stale.
"""

from __future__ import annotations

import bisect
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

KERNEL = 0xFFFF800000000000
# Where stacks are: in the direct map or among what vmalloc gave (nokaslr), below the kernel's text
DIRECT, TEXT = 0xFFFF888000000000, 0xFFFFFFFF80000000
PAGE = 4096
THREAD_SIZE = 4 * PAGE
FRAMES_AT_MOST = 40

_CPU = re.compile(r"^CPU#(\d+)", re.MULTILINE)
_FLOATS = re.compile(r"^(?:FCW|FPR|MXCSR|XMM|YMM|ZMM|Opmask)")
# What follows them is no code
_ENDS = ("_etext", "_einittext")
_MAP = re.compile(r"^([0-9a-f]{16}) [tTwW] (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Registers:
    """One CPU as `info registers` tells it."""

    number: int
    pointer: int
    stack_pointer: int

    @property
    def in_kernel(self) -> bool:
        return self.pointer >= KERNEL and self.stack_pointer >= KERNEL


@dataclass(frozen=True, slots=True)
class Symbols:
    """The functions of a kernel that runs where it was linked, from its System.map."""

    addresses: tuple[int, ...] = ()
    names: tuple[str, ...] = ()

    def name(self, address: int) -> str | None:
        """`function+0x12/0x34`, or None where no function is."""
        index = bisect.bisect_right(self.addresses, address) - 1
        if index < 0 or index + 1 >= len(self.addresses) or self.names[index] in _ENDS:
            return None
        start, end = self.addresses[index], self.addresses[index + 1]
        return f"{self.names[index]}+{address - start:#x}/{end - start:#x}"


def read_map(text: str) -> Symbols:
    """The functions of a System.map; of several names for one address the first."""
    found: dict[int, str] = {}
    for address, name in _MAP.findall(text):
        found.setdefault(int(address, 16), name)
    ordered = sorted(found)
    return Symbols(tuple(ordered), tuple(found[address] for address in ordered))


def registers(said: str) -> tuple[Registers, ...]:
    """Every CPU in the answer to `info registers -a`."""
    starts = [*_CPU.finditer(said)]
    ends = [each.start() for each in starts[1:]] + [len(said)]
    parts = [
        (int(each[1]), said[each.start() : end]) for each, end in zip(starts, ends, strict=False)
    ]
    return tuple(
        Registers(number, _value(part, "RIP"), _value(part, "RSP")) for number, part in parts
    )


def _value(part: str, name: str) -> int:
    found = re.search(rf"\b{name}=([0-9a-f]+)", part)
    return int(found[1], 16) if found else 0


def integers(said: str) -> str:
    """The answer without floating point and vector registers."""
    lines = (line.rstrip("\r") for line in said.splitlines())
    return "".join(f"{line}\n" for line in lines if line and not _FLOATS.match(line))


def sizes(pointer: int) -> Iterator[int]:
    """How much to read from a stack pointer on: to the end of a thread's stack, or of the page."""
    yield THREAD_SIZE - pointer % THREAD_SIZE
    yield PAGE - pointer % PAGE


def interrupted(pointer: int, stack: bytes) -> tuple[bytes, int]:
    """An interrupt's stack up to its end, and the pointer that it keeps there; else 0.

    Linux on x86-64 puts the interrupted stack pointer into the last word of the page
    (asm_call_irq_on_stack, later call_on_stack).
    """
    last = PAGE - pointer % PAGE - 8
    if len(stack) < last + 8:
        return stack, 0
    below = int(struct.unpack_from("<Q", stack, last)[0])
    elsewhere = abs(below - pointer) > THREAD_SIZE
    if below % 8 or not DIRECT <= below < TEXT or not elsewhere:
        return stack, 0
    return stack[:last], below


def told(cpu: Registers, stack: bytes, symbols: Symbols) -> str:
    """Where a CPU is, and the calls that its stack may hold, innermost first."""
    if not cpu.in_kernel:
        return f"CPU {cpu.number} is in user space\n"
    here = symbols.name(cpu.pointer) or f"{cpu.pointer:#x}"
    lines = [f"CPU {cpu.number} is in {here}; calls that its stack may hold:"]
    lines += [f" ? {frame}" for frame in _frames(stack, symbols)]
    return "\n".join(lines[: FRAMES_AT_MOST + 1]) + "\n"


def _frames(stack: bytes, symbols: Symbols) -> Iterator[str]:
    """A call returns behind itself: never to the first byte of a function."""
    for (word,) in struct.iter_unpack("<Q", stack[: len(stack) // 8 * 8]):
        name = symbols.name(word) if word >= KERNEL else None
        if name and "+0x0/" not in name:
            yield name
