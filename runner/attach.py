# SPDX-License-Identifier: GPL-2.0-only
"""drgn's prompt on a guest that runs or on its vmcore: `attach.py SOCKET|VMCORE INFO VMLINUX`.

A program of its own, run by path and with drgn installed. INFO is VMCOREINFO as
runner/symbols.py makes it: drgn's own command line takes that for a vmcore, but not over QMP.
"""

from __future__ import annotations

import stat
import sys
from pathlib import Path
from typing import Any


def program(target: Path, info: bytes, vmlinux: Path) -> Any:
    """A drgn program that sees the guest's memory, with the kernel's symbols."""
    import drgn  # noqa: PLC0415  # only this program needs it

    prog = drgn.Program(drgn.Platform(drgn.Architecture.X86_64), vmcoreinfo=info)
    if stat.S_ISSOCK(target.stat().st_mode):
        prog.set_qemu_qmp(str(target))
        prog.set_linux_kernel_custom(info, True)
    else:
        prog.set_core_dump(str(target))
    prog.load_debug_info([str(vmlinux)])
    return prog


def main(argv: list[str]) -> int:
    """Open the prompt; code on standard input runs as at the prompt."""
    try:
        from drgn.cli import run_interactive  # noqa: PLC0415
    except ImportError:
        print("drgn is not installed: pip install drgn", file=sys.stderr)
        return 2
    if len(argv) != 3:
        print("attach.py SOCKET|VMCORE INFO VMLINUX", file=sys.stderr)
        return 2
    target, info, vmlinux = (Path(word) for word in argv)
    run_interactive(program(target, info.read_bytes(), vmlinux))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
