# SPDX-License-Identifier: GPL-2.0-only
"""A store of page-sized records that say which they are, and prove it.

It does not know what happens to it: forks, limits and verdicts are the cases' business.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import struct
import zlib
from array import array

import guest

RECORD = 4096
HEADER = struct.Struct("<QQQI")
BODY = RECORD - HEADER.size
NOISE = 65536


def noise(seed: int) -> bytes:
    """Bytes that zram cannot make small; slices of them are the records' bodies."""
    state = (seed * 2 + 1) & 0xFFFFFFFF
    words = []
    for _ in range(NOISE // 4):
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        words.append(state)
    return struct.pack(f"<{len(words)}I", *words)


class Chance:
    """A small generator of numbers: the same seed, the same run, on every kernel."""

    def __init__(self, seed: int) -> None:
        self._state = seed & 0xFFFFFFFFFFFFFFFF or 1

    def below(self, limit: int) -> int:
        state = self._state
        state ^= state << 13 & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 7
        state ^= state << 17 & 0xFFFFFFFFFFFFFFFF
        self._state = state
        return (state >> 16) % limit


class Store:
    """Anonymous private memory, one record per page."""

    def __init__(self, records: int, seed: int, advice: int | None = None) -> None:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self.records = records
        self._map = mmap.mmap(-1, records * RECORD, flags=flags)
        # A huge page would be reclaimed as one, and this is not its case
        # (a kernel that has none refuses: as good)
        with contextlib.suppress(OSError):
            self._map.madvise(mmap.MADV_NOHUGEPAGE)
        if advice is not None:
            self._map.madvise(advice)
        self._noise = noise(seed)
        self._drafts = array("Q", [0] * records)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))

    def _body(self, index: int) -> bytes:
        start = (index * 7919 + self._drafts[index] * 104729) % (NOISE - BODY)
        return self._noise[start : start + BODY]

    def _header(self, index: int, version: int) -> bytes:
        check = zlib.crc32(self._body(index), index ^ version)
        return HEADER.pack(index, version, self._drafts[index], check)

    def put(self, index: int, version: int) -> None:
        """Write the whole record."""
        self._drafts[index] = version
        self._map[index * RECORD : (index + 1) * RECORD] = self._header(
            index, version
        ) + self._body(index)

    def renew(self, index: int, version: int) -> None:
        """Write the header alone: the rest of the page has to survive that."""
        start = index * RECORD
        self._map[start : start + HEADER.size] = self._header(index, version)

    def page(self, index: int) -> bytes:
        """The record as it lies in memory."""
        return self._map[index * RECORD : (index + 1) * RECORD]

    def page_out(self) -> int:
        """Ask for every page to go to swap; how many did."""
        self._map.madvise(guest.MADV_PAGEOUT)
        return guest.count_swapped(self.address, self.records)

    def get(self, index: int) -> int:
        """The record's version, or -1 if the page is not one whole record of this index."""
        page = self.page(index)
        named: int
        version: int
        named, version, draft, check = HEADER.unpack_from(page)
        whole = zlib.crc32(page[HEADER.size :], index ^ version) == check
        return version if whole and named == index and draft == self._drafts[index] else -1
