# SPDX-License-Identifier: GPL-2.0-only
"""What can go wrong that is not a finding, each with the exit code that a script sees.

A guest that crashes, hangs or fails is a finding and never one of these exceptions.
"""

from __future__ import annotations

from pathlib import Path

EXIT_CLEAN = 0
EXIT_REGRESSION = 1
EXIT_USAGE = 2
EXIT_UNDECIDED = 3
EXIT_ALL_SKIPPED = 4


class TwinbootError(Exception):
    """One clear sentence (what, where, what to do), with the evidence beside it."""

    exit_code = EXIT_UNDECIDED

    def __init__(self, message: str, *, log: Path | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.log = log

    def __str__(self) -> str:
        return f"{self.message} (log: {self.log})" if self.log else self.message


class UserError(TwinbootError):
    """The input is wrong: an experiment, a patch, a fragment, an option."""

    exit_code = EXIT_USAGE


class BaselineUnfit(UserError):
    """The base's evidence of an earlier run cannot stand in."""


class InfraError(TwinbootError):
    """The fault is ours or the machine's: it says nothing about the patch."""


class PatchError(UserError):
    """A patch does not apply or is not acceptable; `reject` holds the refused hunks."""

    def __init__(self, message: str, *, reject: Path | None = None) -> None:
        super().__init__(message, log=reject)
        self.reject = reject


class ConfigLost(UserError):
    """Symbols that were asked for are not in the final .config."""


class BuildFailed(UserError):
    """The kernel does not compile with these patches; the message has the first errors."""


class CommandFailed(InfraError):
    """A host command failed: the command, its exit code and the end of what it printed."""

    def __init__(self, argv: tuple[str, ...], returncode: int, tail: str, log: Path | None) -> None:
        words = " ".join(argv[:6]) + (" ..." if len(argv) > 6 else "")
        said = tail.strip() or "it printed nothing"
        super().__init__(f"`{words}` ended with exit code {returncode}: {said}", log=log)
        self.argv = argv
        self.returncode = returncode
        self.tail = tail
