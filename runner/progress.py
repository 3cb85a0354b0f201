# SPDX-License-Identifier: GPL-2.0-only
"""Says what is being done and for how long: live on a terminal, plain lines elsewhere.

Everything goes to standard error; results are the report's affair.
"""

from __future__ import annotations

import sys
import threading
import time

from rich.console import Console


class Teller:
    """A Progress: called with one line for each step that begins or ends."""

    def __init__(self, quiet: bool = False) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._quiet = quiet
        self._began = time.monotonic()
        self._lock = threading.Lock()

    def __call__(self, line: str) -> None:
        if self._quiet:
            return
        with self._lock:
            if self._console.is_terminal:
                self._console.print(f"[dim]{self.elapsed:>6}[/dim]  {_plain(line)}")
            else:
                print(f"{self.elapsed:>6}  {line}", file=sys.stderr, flush=True)

    @property
    def elapsed(self) -> str:
        """Minutes and seconds since the command began."""
        seconds = int(time.monotonic() - self._began)
        return f"{seconds // 60}:{seconds % 60:02d}"


def _plain(line: str) -> str:
    return line.replace("[", r"\[")
