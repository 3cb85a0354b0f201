# SPDX-License-Identifier: GPL-2.0-only
"""The signature of built code: equal signatures mean that a patch changed nothing that runs.

Line numbers of BUG and WARN are masked and build ids left out; where a kernel is configured to
carry line numbers elsewhere (dynamic debug, sleep-in-atomic checks), a moved line is a change.
"""

from __future__ import annotations

import hashlib
import re
import struct
from pathlib import Path
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile

from runner.errors import InfraError

# struct bug_entry in include/asm-generic/bug.h with relative pointers: its size and where its
# line is. With a format string, without one; without CONFIG_DEBUG_BUGVERBOSE there is no line.
LAYOUTS = ((12, 8), (16, 12), (8, None))

# A note of the owner GNU, with 20 bytes of build id
BUILD_ID = re.compile(rb"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0.{20}", re.DOTALL)


def same_code(one: Path, other: Path) -> bool:
    """Whether two vmlinux are equal but for debug info.

    The build id of the vDSO is in .rodata, and debug info of the vDSO changes it.
    """
    return signature(one, build_ids=False) == signature(other, build_ids=False)


def signature(vmlinux: Path, *, build_ids: bool = True) -> str:
    """A SHA-256 over the sections of vmlinux that are loaded, with or without build ids in them."""
    total = hashlib.sha256()
    try:
        with vmlinux.open("rb") as stream:
            loaded = [section for section in ELFFile(stream).iter_sections() if _counts(section)]
            code = [
                _span(section) for section in loaded if _flags(section) & SH_FLAGS.SHF_EXECINSTR
            ]
            for section in loaded:
                first, size = _span(section).start, section.header.sh_size
                total.update(f"{section.name} {first} {size}\n".encode())
                if section.header.sh_type == "SHT_NOBITS":
                    continue
                raw = section.data() if build_ids else BUILD_ID.sub(b"", section.data())
                total.update(_masked(raw, first, code) if section.name == "__bug_table" else raw)
    except (ELFError, OSError) as error:
        raise InfraError(f"{vmlinux} is not a readable ELF file: {error}") from error
    return total.hexdigest()


def _flags(section: Any) -> int:
    return int(section.header.sh_flags)


def _counts(section: Any) -> bool:
    """Loaded, and no note: notes hold the build id, which changes with the masked lines."""
    return bool(_flags(section) & SH_FLAGS.SHF_ALLOC) and section.header.sh_type != "SHT_NOTE"


def _span(section: Any) -> range:
    return range(section.header.sh_addr, section.header.sh_addr + section.header.sh_size)


def _masked(raw: bytes, address: int, code: list[range]) -> bytes:
    """The bug table without line numbers, in the layout in which each entry points at code."""
    for entry, line in LAYOUTS:
        places = range(0, len(raw), entry)
        if len(raw) % entry or not all(_points_at_code(raw, at, address, code) for at in places):
            continue
        masked = bytearray(raw)
        for at in places:
            if line is not None:
                masked[at + line : at + line + 2] = b"\0\0"
        return bytes(masked)
    return raw


def _points_at_code(raw: bytes, at: int, address: int, code: list[range]) -> bool:
    target = address + at + int(struct.unpack_from("<i", raw, at)[0])
    return any(target in span for span in code)
