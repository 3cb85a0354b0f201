# SPDX-License-Identifier: GPL-2.0-only
"""The signature of built code: equal signatures mean that a patch changed nothing that runs.

Line numbers of BUG and WARN are masked and build ids left out; where a kernel is configured to
carry line numbers elsewhere (dynamic debug, lockdep), moving a line counts as a change.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile

from runner.errors import InfraError


def signature(vmlinux: Path, config: str) -> str:
    """A SHA-256 over the sections of vmlinux that are loaded."""
    total = hashlib.sha256()
    try:
        with vmlinux.open("rb") as stream:
            for section in ELFFile(stream).iter_sections():
                header = section.header
                if not header.sh_flags & SH_FLAGS.SHF_ALLOC or header.sh_type == "SHT_NOTE":
                    continue
                total.update(f"{section.name} {header.sh_addr} {header.sh_size}\n".encode())
                if header.sh_type != "SHT_NOBITS":
                    total.update(_masked(section.name, section.data(), config))
    except ELFError as error:
        raise InfraError(f"{vmlinux} is not a readable ELF file: {error}") from error
    return total.hexdigest()


def _masked(name: str, raw: bytes, config: str) -> bytes:
    """struct bug_entry in include/asm-generic/bug.h: the line is 16 bits after the pointers."""
    lines = config.splitlines()
    if name != "__bug_table" or "CONFIG_DEBUG_BUGVERBOSE=y" not in lines:
        return raw
    pointer = 4 if "CONFIG_GENERIC_BUG_RELATIVE_POINTERS=y" in lines else 8
    pointers = 3 if "CONFIG_HAVE_ARCH_BUG_FORMAT=y" in lines else 2
    line = pointers * pointer
    entry = line + 4 if pointer == 4 else line + 8
    if len(raw) % entry:
        return raw
    masked = bytearray(raw)
    for start in range(0, len(raw), entry):
        masked[start + line : start + line + 2] = b"\0\0"
    return bytes(masked)
