# SPDX-License-Identifier: GPL-2.0-only
"""Builds what may be needed next while guests run, in a process of its own at the lowest priority.

`python3 -m runner.bisect.ahead FOLDER CANDIDATE` builds one candidate; it is killed as soon as
it is known not to be needed, which a warm tree survives.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from runner import host
from runner.bisect.fields import open_field
from runner.bisect.plan import Notebook
from runner.build import build
from runner.errors import TwinbootError
from runner.experiment import ROOT
from runner.host import Kept

POLL_S = 0.2
LOWEST = ("nice", "-n", "19")
# On a busy host the lowest priority may get nothing: then the wanted kernel is built in front,
# where ccache has what was compiled.
PATIENCE_S = 30.0


class Ahead:
    """Builds one of the candidates after another, until it is told which one is wanted."""

    def __init__(self, folder: Path, candidates: tuple[str, ...]) -> None:
        self._folder, self.candidates = folder, candidates
        self._wanted: str | None = None
        self._decided, self._given_up = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def settle(self, wanted: str | None) -> None:
        """Only this one is wanted (None: no one): its build is waited for a while, others end."""
        self._wanted = wanted
        self._decided.set()
        self._thread.join(PATIENCE_S)
        self._given_up.set()
        self._thread.join()

    def _run(self) -> None:
        for candidate in self.candidates:
            if self._decided.is_set():
                return
            building = self._start(candidate)
            try:
                while building.wait(POLL_S) is None:
                    useless = self._decided.is_set() and candidate != self._wanted
                    if useless or self._given_up.is_set():
                        return
            finally:
                building.end()

    def _start(self, candidate: str) -> Kept:
        log = self._folder / "ahead.log"
        python = (*LOWEST, sys.executable, "-m", "runner.bisect.ahead")
        words = ("env", f"PYTHONPATH={ROOT}", *python, self._folder, candidate)
        return Kept(words, log, log)


def main(argv: list[str]) -> int:
    """Build a candidate of the bisection in a folder; whatever goes wrong shows when it is used."""
    notebook, cache = Notebook(Path(argv[0])), host.cache_dir()
    try:
        field = open_field(notebook.plan(), notebook.folder, cache, print)
        build(field.request(argv[1]), cache, print)
    except TwinbootError as error:
        print(error)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
