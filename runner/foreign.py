# SPDX-License-Identifier: GPL-2.0-only
"""Foreign test programs as cases: kselftests of any kernel tree, LTP's tests, plain commands.

They declare no invariants and prove no path; what they print is judged as outcome.py says.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from runner import host, kbuild, source
from runner.case import SWAP_NAMES, Case, Protocol
from runner.errors import CommandFailed, UserError
from runner.host import How, Progress
from runner.rootfs import SYSTEM_PATH, Guests, interpreter
from runner.source import Source

WHERE = "/twinboot/foreign"
SELFTESTS = Path("tools/testing/selftests")
# Of tools/testing/selftests/kselftest/runner.sh
TIMEOUT_S = 45.0
# Such times are meant for real machines; a guest without KVM is several times slower.
SLACK = 4.0
LONGEST_S = 600.0
COMMAND_S = 180.0
DEFAULT_SWAP = ("zram",)
# The root is read-only, and many programs want to write somewhere.
IN_FOLDER = 'grep -q " /tmp " /proc/mounts || mount -t tmpfs tmpfs /tmp; cd "$0" && exec "$@"'
# Where LTP's `make install` puts its tests if nobody says otherwise
LTPROOT = "/opt/ltp"
# Its tests look after their own time, and want a kernel configuration to look at
LTP_RUN = ("env", f"LTP_TIMEOUT_MUL={SLACK:.0f}", "KCONFIG_SKIP_CHECK=1")
_KSELFTEST = re.compile(r"([A-Za-z0-9_/-]+)(?::([^@]+))?(?:@(.+))?")
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")
_SOURCES = (".c", ".h", ".o", ".S", ".mod", ".ko")


@dataclass(frozen=True, slots=True)
class Kselftest:
    """`DIR[:TEST [ARG...]][@SOURCE]`: a folder of a tree's selftests, and one program of it.

    No `words` means every program that the folder's Makefile has kselftest run.
    """

    folder: str
    words: tuple[str, ...]
    source: Source


@dataclass(frozen=True, slots=True)
class Command:
    """`NAME='PROGRAM [ARG...]'`: a program of the host, or of the guest's own root.

    With the protocol `ltp` a test of the Linux Test Project.
    """

    name: str
    words: tuple[str, ...]
    protocol: Protocol = "ktap"


@dataclass(frozen=True, slots=True)
class Foreign:
    """The cases, and what of the host the guest's root must hold for them."""

    cases: tuple[Case, ...]
    needs: Guests


def parse_kselftest(text: str, tree: str) -> Kselftest:
    """Read `--kselftest`; without @SOURCE it is the kernel's own tree, `tree`."""
    found = _KSELFTEST.fullmatch(text)
    if not found or found.group(1).startswith("/"):
        raise UserError(
            f"{text!r} is not a kselftest; write DIR[:TEST][@SOURCE], "
            "e.g. mm:cow@debian:linux-source-6.12"
        )
    folder, test, where = found.groups()
    words = _split(test or "", "kselftest")
    if words and "/" in words[0]:
        raise UserError(f"the kselftest {words[0]} must be a file of {folder} itself")
    return Kselftest(folder, words, source.parse_source(where or tree))


def parse_command(text: str) -> Command:
    """Read `--command`; UserError says what would have been right."""
    name, equals, line = text.partition("=")
    words = _split(line, "command")
    if not equals or not words or not _NAME.fullmatch(name):
        raise UserError(f"{text!r} is not a command; write NAME='PROGRAM ARG...'")
    return Command(name, words)


def parse_ltp(text: str) -> Command:
    """Read `--ltp`: TEST [ARG...], in LTPROOT/testcases/bin, LTPROOT being of the environment."""
    words = _split(text, "test of LTP")
    if not words or "/" in words[0]:
        raise UserError(f"{text!r} is not a test of LTP; write TEST [ARG...], e.g. 'ksm01 -s 32'")
    return Command("_".join(words).replace("/", "_"), words, "ltp")


def _split(line: str, what: str) -> tuple[str, ...]:
    """The words as a shell has them."""
    try:
        return tuple(shlex.split(line))
    except ValueError as error:
        why = "a quotation is not closed" if "quotation" in str(error) else "it ends in a backslash"
        raise UserError(f"{line!r} is no {what}: {why}") from error


def prepare(
    selftests: Sequence[Kselftest], commands: Sequence[Command], cache: Path, progress: Progress
) -> Foreign:
    """Build the selftests, find the commands' programs; every case has a name of its own."""
    cases: list[Case] = []
    folders: dict[str, Path] = {}
    programs: dict[str, Path] = {}
    sources = dict.fromkeys(asked.source for asked in selftests)
    trees = {each: source.fetch(each, cache, progress) for each in sources}
    for asked in selftests:
        fetched = trees[asked.source]
        built = _built(asked, fetched, cache, progress)
        place = f"{WHERE}/{fetched.version}/{asked.folder}"
        folders[place] = built
        cases += _selftest_cases(asked, fetched.version, built, place)
    for command in commands:
        program = _program(command)
        if program is not None:
            programs[f"{WHERE}/bin/{program.name}"] = program
        cases.append(_command_case(command, program))
    names = [case.id for case in cases]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"the foreign case {name} is asked for twice")
    return Foreign(tuple(cases), Guests(folders, programs))


def _selftest_cases(asked: Kselftest, version: str, built: Path, place: str) -> Iterator[Case]:
    tests = [asked.words] if asked.words else [(name,) for name in _listed(built)]
    for name, *arguments in tests:
        if not os.access(built / name, os.X_OK):
            raise UserError(
                f"the kselftest {asked.folder}:{name} of Linux {version} is not there or does not "
                f"build on this host; remove {built} to build it again (log: {_log(built)})"
            )
        # Some tests find their files beside them
        words = ("sh", "-c", IN_FOLDER, place, *_run_by(built / name), f"./{name}")
        label = "_".join((name, *arguments)).replace("/", "_")
        yield _case(
            f"kselftest-{asked.folder.replace('/', '-')}-{version}/{label}",
            f"what {name} of the {asked.folder} selftests of Linux {version} checks",
            (*words, *arguments),
            _timeout(built),
        )


def _run_by(program: Path) -> tuple[str, ...]:
    """busybox's shell in the place of /bin/sh; another interpreter goes along, see rootfs.py."""
    name = interpreter(program)
    return (str(name),) if name is not None else ()


def _command_case(command: Command, program: Path | None) -> Case:
    first = f"{WHERE}/bin/{program.name}" if program else command.words[0]
    line = shlex.join(command.words)
    run_by = LTP_RUN if command.protocol == "ltp" else ()
    words = ("sh", "-c", IN_FOLDER, "/tmp", *run_by, first, *command.words[1:])
    if command.protocol == "ltp":
        what = f"what `{line}` of LTP checks"
        return _case(f"ltp/{command.name}", what, words, LONGEST_S, command.protocol)
    return _case(f"command/{command.name}", f"what `{line}` checks", words, COMMAND_S)


def _case(
    name: str,
    catches: str,
    program: tuple[str, ...],
    deadline: float,
    protocol: Protocol = "ktap",
) -> Case:
    return Case(
        id=name,
        catches=f"{catches} (foreign, no proof of path)",
        program=program,
        swaps=SWAP_NAMES,
        kconfig=(),
        deadline=deadline,
        proof=(),
        invariants=(),
        measures=(),
        default=DEFAULT_SWAP,
        foreign=True,
        protocol=protocol,
    )


def _program(command: Command) -> Path | None:
    """The host's file; None for what is in every guest (busybox, python3)."""
    first = command.words[0]
    if command.protocol == "ltp":
        return _of_ltp(first)
    if first in ("sh", "python3"):
        return None
    found = shutil.which(first, path=SYSTEM_PATH)
    if found is None:
        raise UserError(f"the program {first} of the command {command.name} is not on this host")
    return Path(found)


def _of_ltp(name: str) -> Path:
    folder = Path(os.environ.get("LTPROOT", LTPROOT), "testcases/bin")
    if not os.access(folder / name, os.X_OK):
        raise UserError(
            f"LTP's test {name} is not in {folder}; set LTPROOT to where LTP was installed"
        )
    return folder / name


def _timeout(built: Path) -> float:
    """The folder's `settings` file, as kselftest reads it; 0 means none there, and ours here."""
    try:
        text = (built / "settings").read_text()
    except OSError:
        text = ""
    found = re.search(r"^timeout=(\d+)$", text, re.MULTILINE)
    seconds = float(found.group(1)) if found else TIMEOUT_S
    return min(seconds * SLACK or LONGEST_S, LONGEST_S)


def _listed(built: Path) -> list[str]:
    return (built / "twinboot.tests").read_text().split()


def _log(built: Path) -> Path:
    return built / "twinboot.log"


def _built(asked: Kselftest, fetched: source.Fetched, cache: Path, progress: Progress) -> Path:
    """The folder with its programs, built once for each source, in a tree of its own."""
    where = cache / "kselftests" / fetched.identity[:16]
    done = where / asked.folder.replace("/", "-")
    with host.locked(cache / "locks/kselftests.lock", progress):
        if not done.exists():
            progress(f"building the {asked.folder} selftests of Linux {fetched.version}")
            host.make_folder(where)
            with tempfile.TemporaryDirectory(dir=where, prefix=".new-") as scratch:
                source.unpack(fetched, cache, Path(scratch, "tree"))
                fresh = _make(asked.folder, Path(scratch, "tree"))
                os.rename(fresh, done)
    return done


def _make(folder: str, tree: Path) -> Path:
    """Build what builds. Static, so that the guest's libraries do not matter."""
    place = tree / SELFTESTS / folder
    if not (place / "Makefile").is_file():
        raise UserError(f"this source has no selftests in {SELFTESTS / folder}")
    log = tree / ".twinboot.log"
    how = How(cwd=tree, log=log, unset=kbuild.LEAKS)
    host.run(("make", "-s", "headers_install"), how)
    static = ("make", "-k", "-C", place, "CC=gcc -static", "all")
    host.run(static, How(cwd=tree, log=log, unset=kbuild.LEAKS, check=False))
    try:
        listing = ("make", "-s", "-C", place, "emit_tests")
        said = host.run(listing, How(cwd=tree, unset=kbuild.LEAKS)).stdout
    except CommandFailed as failure:
        raise UserError(f"{SELFTESTS / folder} does not name its tests: {failure.tail}") from None
    names = [line.partition(":")[2] for line in said.splitlines()]
    tests = [name for name in names if os.access(place / name, os.X_OK)]
    host.write_atomic(place / "twinboot.tests", "".join(f"{name}\n" for name in tests))
    shutil.copyfile(log, _log(place))
    for path in place.rglob("*"):
        if path.suffix in _SOURCES or path.is_symlink():
            path.unlink()
    return place
