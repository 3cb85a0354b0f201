# SPDX-License-Identifier: GPL-2.0-only
"""Says what is being done and for how long: live on a terminal, plain lines elsewhere.

Everything goes to standard error; results are the report's affair.
"""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from runner.timings import Told


class Teller:
    """A Progress to call with one line for each step; a context manager, for the live line."""

    def __init__(self, quiet: bool = False) -> None:
        console = Console(stderr=True, highlight=False)
        self._quiet = quiet
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._live: Progress | None = None
        self.told: list[Told] = []
        if console.is_terminal and not quiet:
            columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
            self._live = Progress(*columns, console=console, transient=True)
            self._task = self._live.add_task("starting")

    def __enter__(self) -> Teller:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, line: str) -> None:
        self.told.append(Told(self.seconds, line))
        if self._quiet:
            return
        with self._lock:
            if self._live is None:
                print(f"{self.elapsed:>6}  {line}", file=sys.stderr, flush=True)
                return
            self._live.console.print(f"[dim]{self.elapsed:>6}[/dim]  {escape(line)}")
            self._live.reset(self._task, description=escape(line))

    @property
    def seconds(self) -> float:
        """Since the command began."""
        return time.monotonic() - self._began

    @property
    def elapsed(self) -> str:
        """Minutes and seconds since the command began."""
        seconds = int(self.seconds)
        return f"{seconds // 60}:{seconds % 60:02d}"
