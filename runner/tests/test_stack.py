# SPDX-License-Identifier: GPL-2.0-only
"""What QEMU says of a dead guest's CPUs, and which calls are read off their stacks."""

from __future__ import annotations

import struct

from runner import stack
from runner.stack import PAGE, Registers, read_map

# As QEMU 7.2 answered `info registers -a` for a kernel that had panicked, shortened
SAID = """\r
CPU#0\r
RAX=0000000000000000 RBX=000000000000000f RCX=00000000ffffefff RDX=0000000000000cf9\r
RSI=000000000000000f RDI=0000000000000cf9 RBP=ffff88800270bc78 RSP=ffff88800270bbd0\r
RIP=ffffffff81390a0b RFL=00000046 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=0\r
CR0=80050033 CR2=00007ff5d3067000 CR3=00000000025ca000 CR4=001506b0\r
FCW=037f FSW=0000 [ST=0] FTW=00 MXCSR=00001f80\r
FPR0=0000000000000000 0000 FPR1=0000000000000000 0000\r
XMM00=0000000000000000 0000000000000000 XMM01=0000000000000000 0000000000000000\r
CPU#1\r
RIP=0000000000403d10 RFL=00000206 [-----P-] CPL=3 II=0 A20=1 SMM=0 HLT=0 RSP=00007ffe5aac4158\r
"""
MAP = read_map(
    """\
ffffffff81000000 T _stext
ffffffff81000100 T do_swap_page
ffffffff81000900 t handle_mm_fault
ffffffff81000900 W handle_mm_fault_alias
ffffffff81001000 T _etext
ffffffff82000000 D init_task
ffffffff83000000 T _sinittext
"""
)


DATA = 0xFFFFFFFF82000010


def words(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}Q", *values)


def test_every_cpu_is_read_with_its_instruction_and_stack_pointer() -> None:
    kernel, user = stack.registers(SAID)
    assert kernel == Registers(0, 0xFFFFFFFF81390A0B, 0xFFFF88800270BBD0)
    assert kernel.in_kernel
    assert not user.in_kernel
    assert stack.registers("an answer that is none") == ()


def test_floating_point_is_left_out_and_the_rest_kept() -> None:
    told = stack.integers(SAID)
    assert "CR2=00007ff5d3067000" in told
    assert "XMM" not in told
    assert "FCW" not in told
    assert "\r" not in told


def test_a_stack_tells_the_calls_that_it_may_hold() -> None:
    cpu = Registers(0, 0xFFFFFFFF81000155, 0xFFFF888002700FE0)
    # data, a user address, the first byte of a function: none of them is behind a call
    told = stack.told(cpu, words(7, 0x403D10, 0xFFFFFFFF81000100, 0xFFFFFFFF81000910, DATA), MAP)
    assert told == (
        "CPU 0 is in do_swap_page+0x55/0x800; calls that its stack may hold:\n"
        " ? handle_mm_fault+0x10/0x700\n"
    )


def test_a_cpu_in_user_space_and_a_kernel_without_a_map_are_told_too() -> None:
    assert stack.told(Registers(1, 0x403D10, 0x7FFE5AAC4158), b"", MAP) == (
        "CPU 1 is in user space\n"
    )
    told = stack.told(Registers(0, 0xFFFFFFFF81000155, 0xFFFF888002700FE0), b"", stack.Symbols())
    assert told.startswith("CPU 0 is in 0xffffffff81000155;")


def test_a_stack_is_read_no_further_than_it_can_reach() -> None:
    assert list(stack.sizes(0xFFFF888002703FE0)) == [0x20, 0x20]
    assert list(stack.sizes(0xFFFF888002700FE0)) == [0x3020, 0x20]


def test_from_an_interrupts_stack_the_interrupted_one_is_found() -> None:
    """The last word of the page is the interrupted stack pointer; what follows is per-CPU data."""
    pointer = 0xFFFF88803ED05FE8
    interrupted = 0xFFFF88800017FE50
    kept, below = stack.interrupted(pointer, words(1, 2, interrupted, 4, 5))
    assert (kept, below) == (words(1, 2), interrupted)
    assert stack.interrupted(pointer, words(1, 2, 0x2B, 4))[1] == 0
    near = pointer - PAGE
    assert stack.interrupted(pointer, words(1, 2, near, 4))[1] == 0
    assert stack.interrupted(pointer, words(1))[1] == 0
