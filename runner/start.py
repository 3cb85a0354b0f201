# SPDX-License-Identifier: GPL-2.0-only
"""The program's start: Ctrl-C ends it in a sentence, while its modules are loaded too."""

from __future__ import annotations

import sys


def main() -> None:
    """Load the command line, which takes a second or more on a busy host, and run it."""
    try:
        from runner import cli  # noqa: PLC0415

        cli.main()
    except KeyboardInterrupt:
        print("twinboot: interrupted before anything was begun", file=sys.stderr)
        sys.exit(130)
