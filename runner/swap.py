# SPDX-License-Identifier: GPL-2.0-only
"""The kinds of swap a guest can have, as data, and whether a guest got what was asked for.

How a device is made inside the guest is guest-tests/guest/swap-up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from runner.errors import InfraError, UserError

SWAP_MIB = 256
PATIENCE_MS = 10_000
SLOT_SLACK_KB = 64  # the header page of mkswap, and rounding


@dataclass(frozen=True, slots=True)
class Swap:
    """One kind of swap; `synchronous` and `stable` are what swapon must make of it.

    `synchronous` is SWP_SYNCHRONOUS_IO: zram and brd have rw_page (mm/swapfile.c, until 6.2)
    or the queue's synchronous flag (from 6.3 on). None means that the kind does not say.
    """

    kind: str
    about: str
    mib: int = SWAP_MIB
    synchronous: bool | None = None
    stable: bool | None = None
    delay_ms: int = 0

    @property
    def needs_disk(self) -> bool:
        return self.kind == "disk"


SWAPS = (
    Swap("none", "no swap at all", mib=0),
    Swap("zram", "compressed memory: synchronous, stable writes", synchronous=True, stable=True),
    Swap("ramdisk", "brd: synchronous, no stable writes", synchronous=True, stable=False),
    Swap(
        "nullblk",
        "null_blk in memory: pages stay in the swap cache",
        synchronous=False,
        stable=False,
    ),
    Swap("disk", "virtio-blk: real asynchronous I/O", synchronous=False, stable=False),
    Swap(
        "delayed",
        "dm-delay over brd: pages stay under writeback",
        synchronous=False,
        stable=False,
        delay_ms=400,
    ),
    Swap(
        "delayed-stable",
        "dm-delay over brd with stable writes",
        synchronous=False,
        stable=True,
        delay_ms=400,
    ),
)


def swap_named(kind: str) -> Swap:
    """The swap of that kind, or UserError with the kinds there are."""
    for swap in SWAPS:
        if swap.kind == kind:
            return swap
    kinds = ", ".join(swap.kind for swap in SWAPS)
    raise UserError(f"there is no swap kind {kind!r}; choose from {kinds}")


def set_up_command(swap: Swap, seed: int, scale: float) -> tuple[str, ...]:
    """The guest command that makes this swap and prints what it became.

    On a kernel that is `scale` times slower delayed swap holds a page longer, and cases are more
    patient.
    """
    stable = "-" if swap.stable is None else str(int(swap.stable))
    delay, patience = round(swap.delay_ms * scale), round(PATIENCE_MS * scale)
    words = (swap.kind, swap.mib, stable, delay, seed, patience)
    return ("/twinboot/guest/swap-up", *(str(word) for word in words))


def parse_facts(text: str) -> dict[str, str]:
    """The name=value lines that swap-up printed."""
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line)
    return {name.strip(): value.strip() for name, value in pairs}


def verify(swap: Swap, facts: Mapping[str, str], release: str) -> None:
    """Raise InfraError unless the guest's swap is what was asked for."""
    if "error" in facts:
        raise InfraError(f"swap {swap.kind} could not be set up in the guest: {facts['error']}")
    total = int(facts.get("total_kb") or -1)
    if abs(total - swap.mib * 1024) > SLOT_SLACK_KB:
        raise InfraError(f"swap {swap.kind}: asked for {swap.mib * 1024} kB, the guest has {total}")
    _verify_flag(swap, facts, "stable_writes", swap.stable)
    if _swap_cache_is_optional(release):
        _verify_flag(swap, facts, "synchronous", swap.synchronous)


def _verify_flag(swap: Swap, facts: Mapping[str, str], name: str, asked: bool | None) -> None:
    got = {"1": True, "yes": True, "0": False, "no": False}.get(facts.get(name, ""))
    if asked is not None and got is not asked:
        raise InfraError(
            f"swap {swap.kind}: {name} should be {asked} but is {facts.get(name, 'not reported')}"
        )


def _swap_cache_is_optional(release: str) -> bool:
    """Whether synchronous swap shows by skipping the swap cache (5.10 to 6.17)."""
    major, minor = (int(part) for part in release.split("-", maxsplit=1)[0].split(".")[:2])
    return (major, minor) < (6, 18)
