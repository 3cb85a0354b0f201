# SPDX-License-Identifier: GPL-2.0-only
"""How make is called in a kernel tree: compiler, ccache, fixed stamps, a clean environment.

It knows neither what is built nor why.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from runner import host
from runner.errors import CommandFailed, InfraError
from runner.host import Completed, How

# The same inputs must give the same image, whoever builds it, wherever and whenever.
STAMPS = (
    "KBUILD_BUILD_TIMESTAMP=Thu Jan  1 00:00:00 UTC 1970",
    "KBUILD_BUILD_USER=twinboot",
    "KBUILD_BUILD_HOST=twinboot",
    "KBUILD_BUILD_VERSION=1",
    "LOCALVERSION=",
)
# Whatever a shell exports for another build would change ours.
LEAKS = (
    *("ARCH", "SUBARCH", "CROSS_COMPILE", "CC", "LD", "HOSTCC", "LLVM", "LLVM_IAS", "LOCALVERSION"),
    *("KBUILD_OUTPUT", "KCONFIG_CONFIG", "KCONFIG_ALLCONFIG", "KCFLAGS", "KCPPFLAGS", "KAFLAGS"),
    *("HOSTCFLAGS", "HOSTLDFLAGS", "KBUILD_CFLAGS", "KBUILD_EXTMOD", "KBUILD_VERBOSE", "V", "O"),
    *("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "CFLAGS", "LDFLAGS", "CONFIG_", "KBUILD_DEFCONFIG"),
    *("MAKE", "MAKEFILES", "SRCARCH", "KCONFIG_NOSILENTUPDATE", "KCONFIG_OVERWRITECONFIG"),
)

# Below this much free space a build that fails without a word is taken to lack space.
TIGHT = 64 << 20
ERROR = re.compile(
    r"^.*?(?:(?:fatal )?error: |undefined reference to |\*\*\* No rule to make "
    r"|: multiple definition|ERROR: modpost).*$",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Toolchain:
    """The compiler as called and as it names itself, and the way to call make with it."""

    compiler: str
    version: str
    ccache: Path | None
    jobs: int

    @property
    def variables(self) -> dict[str, str]:
        """One base folder for all warm trees, so that one finds what another compiled."""
        if self.ccache is None:
            return {}
        folder = os.environ.get("CCACHE_DIR", str(self.ccache / "ccache"))
        return {"CCACHE_DIR": folder, "CCACHE_BASEDIR": str(self.ccache), "CCACHE_NOHASHDIR": "1"}

    @property
    def words(self) -> tuple[str, ...]:
        """Variables on make's command line; they win over those of the Makefile."""
        prefix = "ccache " if self.ccache else ""
        return (f"CC={prefix}{self.compiler}", f"HOSTCC={prefix}gcc", *STAMPS)


def toolchain(compiler: str, jobs: int | None, cache: Path) -> Toolchain:
    """Ask the compiler and the linker who they are. Raises InfraError where there is none."""
    path = shutil.which(compiler)
    if path is None:
        raise InfraError(f"the compiler {compiler} is not installed")
    said = host.run((path, "--version")).stdout.splitlines()
    linker = host.run((path, "-print-prog-name=ld")).stdout.strip()
    linked = host.run((linker, "--version")).stdout.splitlines()
    if not said or not linked:
        raise InfraError(f"{compiler} --version printed nothing")
    folder = cache if shutil.which("ccache") else None
    return Toolchain(compiler, f"{said[0]}; {linked[0]}", folder, jobs or os.cpu_count() or 1)


def make(tree: Path, log: Path, chain: Toolchain, *words: str) -> Completed:
    """Run make in the tree; its output goes to the end of `log`.

    flock's descriptor is inherited by every process under make, so that what outlives a killed
    twinboot by a moment is waited for.
    """
    guard = ("flock", "--no-fork", str(tree / ".twinboot.lock"))
    return run(tree, log, chain, *guard, "make", f"-j{chain.jobs}", *chain.words, *words)


def run(tree: Path, log: Path, chain: Toolchain, *words: str) -> Completed:
    """Run a command in the tree. Raises CommandFailed, or InfraError when the disk is full."""
    how = How(cwd=tree, variables=chain.variables, unset=LEAKS, log=log)
    try:
        return host.run(words, how)
    except CommandFailed as failure:
        if _disk_is_full(tree, log):
            raise InfraError(
                f"the disk is full: the build in {tree} stopped; free space or set TWINBOOT_CACHE",
                log=log,
            ) from failure
        raise


def errors(log: Path) -> tuple[str, ...]:
    """The lines of a build log that say what is wrong, first ones first."""
    text = log.read_text(errors="replace")
    return tuple(dict.fromkeys(match.group(0).strip() for match in ERROR.finditer(text)))


def _disk_is_full(tree: Path, log: Path) -> bool:
    """A full disk often keeps the very log from saying so: then no error is in it either."""
    if "No space left on device" in log.read_text(errors="replace"):
        return True
    return not errors(log) and shutil.disk_usage(tree).free < TIGHT
