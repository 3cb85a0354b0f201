# SPDX-License-Identifier: GPL-2.0-only
"""The program's start: Ctrl-C ends it in a sentence, while its modules are loaded too."""

from __future__ import annotations

import sys
import traceback


def main() -> None:
    """Load the command line, which takes a second or more on a busy host, and run it.

    What cannot be loaded is a fault of ours: 3, or what stops `git bisect run`, and never 1.
    """
    try:
        from runner import cli  # noqa: PLC0415
    except KeyboardInterrupt:
        print("twinboot: interrupted before anything was begun", file=sys.stderr)
        sys.exit(130)
    except Exception:
        traceback.print_exc()
        sys.exit(131 if "--bisect-exit" in sys.argv else 3)
    cli.main()
