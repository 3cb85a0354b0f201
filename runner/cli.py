# SPDX-License-Identifier: GPL-2.0-only
"""The command line: which commands there are. SIGTERM and SIGHUP end one as Ctrl-C does."""

from __future__ import annotations

import signal
import sys
import traceback

import typer

from runner.bisect import exitcode
from runner.commands import again, bisect, household, kernels, merge, prove, run
from runner.commands.options import nobody_reads
from runner.errors import EXIT_CLEAN, EXIT_UNDECIDED

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Boot the same kernel with and without a patch, run the same workloads, say what changed.",
    epilog="Exit codes: 0 no regression, 1 regression, 2 wrong usage or input, "
    "3 infrastructure or undecided, 4 everything skipped, 130 interrupted.",
)
app.command(
    epilog="Example: twinboot run --patch git:~/linux@v6.12..topic --each --case gup --swap zram"
)(run.run)
app.command(epilog="Example: twinboot prove --bug ksm-reuse --bug never-reuse")(prove.prove)
app.command(epilog="Example: twinboot compare ~/.cache/twinboot/runs/20220113-173000-sketch")(
    run.compare
)
app.command(epilog="Example: twinboot merge shard-1 shard-2 shard-3 --out whole --junit whole.xml")(
    merge.merge
)
app.command(
    epilog="Example: twinboot repro ~/.cache/twinboot/runs/20220113-173000-sketch stable/st_wr"
)(again.repro)
app.command(
    epilog="Example: twinboot bundle ~/.cache/twinboot/runs/20220113-173000-sketch stable/st_wr"
)(again.bundle)
app.command(epilog="Example: twinboot splats ~/.cache/twinboot/runs/20220113-173000-sketch")(
    again.splats
)
app.command(epilog="Example: twinboot build --patch my.patch")(kernels.build)
app.add_typer(bisect.app, name="bisect")
app.command("shell", epilog="Example: twinboot shell --arm patched --swap zram")(kernels.open_shell)
app.command("list", epilog="Example: twinboot list cases")(household.list_things)
app.command("doctor", epilog="Example: twinboot doctor")(household.show_doctor)
app.command(epilog="Example: twinboot clean --all-but-runs")(household.clean)
app.command(epilog="Example: twinboot version")(household.version)


def main() -> None:
    """Run a command. SIGTERM and SIGHUP end it as Ctrl-C does: through every `finally`.

    SIGINT too is taken even where it was ignored, as in the background of a script.
    """

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    code = _ended()
    sys.exit(exitcode.of_ending(code) if "--bisect-exit" in sys.argv else code)


def _ended() -> int:
    """The exit code of the command. A fault of ours is no regression and no bad commit."""
    code = EXIT_CLEAN
    try:
        app()
    except SystemExit as ended:
        code = int(ended.code or EXIT_CLEAN)
    except Exception:
        traceback.print_exc()
        code = EXIT_UNDECIDED
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        nobody_reads()
    return code


if __name__ == "__main__":
    main()
