# SPDX-License-Identifier: GPL-2.0-only
"""One archive that shows a row of a run without us: kernels, initramfs, repro.sh, what was seen.

It boots nothing. Nothing in it names the host: texts are scrubbed, and the rest is searched.
"""

from __future__ import annotations

import gzip
import io
import os
import pwd
import re
import shlex
import socket
import tarfile
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from runner import cpio, host, output, recall, rootfs
from runner.build import Kernel
from runner.case import Better, MeasureSpec
from runner.errors import InfraError, UserError
from runner.experiment import ROOT, burden
from runner.host import Progress
from runner.outcome import Outcome, Verdict
from runner.patchset import Patch, file_name
from runner.qemu import kernel_options
from runner.recall import Former
from runner.row import Row
from runner.swap import Swap, set_up_command, swap_named
from runner.transcript import ArmLabel, Transcript
from runner.trial import BOOT_DEADLINE_S, SWAP_DEADLINE_S
from runner.wording import overall_sentence, sentence, still_broken, twins_lines

# A saved run is not trusted
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
ARMS: tuple[ArmLabel, ArmLabel] = ("base", "patched")
TEMPLATES = ROOT / "bundle"
PROGRAM = re.compile(r"/twinboot/bin/([A-Za-z0-9][A-Za-z0-9_.-]*)")
NAME = re.compile(r"[a-z0-9]+/[a-z0-9_]+")
KERNEL_WORDS = ("console=ttyS0", "earlyprintk=serial,ttyS0,115200", "rdinit=/init")
# Names of hosts and users that name nobody
EVERYBODY = (
    *("admin", "build", "builder", "debian", "docker", "guest", "home", "kernel", "linux"),
    *("localhost", "nobody", "root", "runner", "sandbox", "test", "twinboot", "ubuntu", "user"),
    *("users", "vagrant", "work"),
)
SHORTEST_NAME = 4
GUEST_SCRIPTS = ("run-case", "swap-up")
MOUNTS = (
    *("proc", "sys", "dev", "tmp", "run", "root", "etc", "bin", "sbin", "usr/bin", "usr/sbin"),
)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a bundle is made of."""

    former: Former
    row: Row
    kernels: Mapping[ArmLabel, Kernel]
    patches: tuple[Patch, ...]
    root: Path

    @property
    def swap(self) -> Swap:
        return swap_named(self.row.swap)

    @property
    def name(self) -> str:
        return _name(self.row)


@dataclass(frozen=True, slots=True)
class Member:
    """One file of the archive."""

    content: bytes
    executable: bool = False


def bundle(former: Former, row: Row, path: Path | None, progress: Progress) -> Path:
    """Write the archive of a row of an earlier run; returns its path.

    Raises UserError for a case that needs more than a static program.
    """
    refuse_dependent(row)
    out = path or Path(f"{_name(row)}.tar.gz")
    if out == output.STDOUT:
        raise UserError("a bundle is no text for standard output; give --out a file")
    output.attempt(out)
    cache = host.cache_dir()
    kernels, root = recall.programs(former, progress)
    patches = recall.patches(former, cache, progress)
    parts = Parts(former, row, kernels, patches, root.path)
    members = clean_members(parts, private_words(former, cache))
    output.write(out, packed(parts.name, members))
    return out


def refuse_dependent(row: Row) -> None:
    """Only a static program can be carried away; UserError says what else the case needs."""
    case = row.case
    if case.foreign:
        raise UserError(f"{case.id} is a foreign program; a bundle carries only cases of ours")
    if case.program and case.program[0] == "python3":
        raise UserError(
            f"{case.id} is a Python case and needs an interpreter in the guest; a bundle carries "
            "static programs only. `twinboot repro` runs it again here"
        )
    if not NAME.fullmatch(case.id) or not case.program or not PROGRAM.fullmatch(case.program[0]):
        raise UserError(f"{case.id!r} has no program below /twinboot/bin, so there is no bundle")


def _name(row: Row) -> str:
    return f"twinboot-{row.case.id.replace('/', '-')}-{row.swap}"


def _members(parts: Parts) -> dict[str, Member]:
    texts = {
        "README": readme(parts),
        "settings": settings(parts),
        "repro.sh": (TEMPLATES / "repro.sh").read_text(),
    }
    found = {name: Member(text.encode(), name == "repro.sh") for name, text in texts.items()}
    found["initramfs.cpio"] = Member(cpio.archive(_initramfs(parts)))
    for arm in ARMS:
        kernel = parts.kernels[arm]
        found[f"{arm}/bzImage"] = Member(kernel.image.read_bytes())
        found[f"{arm}/config"] = Member(kernel.config.read_bytes())
        if transcript := _told(parts, arm):
            found[f"{arm}/console.log"] = Member(transcript.console.encode(errors="replace"))
            text = "".join(log.text for log in transcript.logs if log.case == parts.row.case.id)
            found[f"{arm}/results.log"] = Member(text.encode(errors="replace"))
    for number, patch in enumerate(parts.patches, 1):
        found[f"patches/{file_name(number, patch)}"] = Member(patch.mail)
    for source in _sources(parts):
        found[f"source/{source.name}"] = Member(source.read_bytes())
    return found


def _sources(parts: Parts) -> Iterator[Path]:
    """The program's source, to be read: what is run is in the initramfs."""
    group = _program(parts)
    tests = ROOT / "guest-tests"
    if (tests / f"c/{group}.c").is_file():
        yield tests / f"c/{group}.c"
        yield from sorted((tests / "lib").glob("*.[ch]"))


def _program(parts: Parts) -> str:
    return PurePosixPath(parts.row.case.program[0]).name


def _run(parts: Parts, arm: ArmLabel) -> Outcome | None:
    """The run that the bundle shows: the worst, as the comparison does."""
    return (parts.row.base if arm == "base" else parts.row.patched).worst


def _told(parts: Parts, arm: ArmLabel) -> Transcript | None:
    """The boot in which that run was."""
    run = _run(parts, arm)
    fitting = [
        each
        for each in parts.former.saved.transcripts
        if run is not None
        and (each.boot.arm, each.boot.swap, each.boot.repeat) == (arm, parts.row.swap, run.repeat)
    ]
    ours = [each for each in fitting if parts.row.case.id in {log.case for log in each.logs}]
    return next(iter((*ours, *fitting)), None)


def _initramfs(parts: Parts) -> Iterator[cpio.Entry]:
    root, group = parts.root, _program(parts)
    for name in MOUNTS:
        yield cpio.folder(name)
    yield cpio.console()
    yield cpio.file("init", (TEMPLATES / "init").read_bytes(), executable=True)
    yield _copied(root, "bin/busybox")
    yield cpio.link("bin/sh", "busybox")
    yield cpio.file("twinboot/case", case_script(parts).encode())
    for name in ("etc/passwd", "etc/group"):
        yield cpio.file(name, (root / name).read_bytes())
    for name in GUEST_SCRIPTS:
        yield _copied(root, f"twinboot/guest/{name}")
    for name in dict.fromkeys(("swap-probe", group)):
        yield _copied(root, f"twinboot/bin/{name}")
    if parts.swap.delay_ms:
        yield _copied(root, "usr/sbin/dmsetup")
        for library in rootfs.libraries(root / "usr/sbin/dmsetup"):
            yield _copied(root, library.lstrip("/"))


def _copied(root: Path, name: str) -> cpio.Entry:
    try:
        return cpio.file(name, (root / name).read_bytes(), executable=True)
    except OSError as error:
        raise UserError(f"the case needs {name}, which is not in the guest's root") from error


def case_script(parts: Parts) -> str:
    """What init runs: the swap, then the case, as a run does."""
    case, seed = parts.row.case, parts.former.saved.twins.seed
    slowness = burden(parts.former.plan).slowness
    lines = (
        "# Started by init: the swap, then the case",
        shlex.join(set_up_command(parts.swap, seed, slowness)),
        shlex.join(("/twinboot/guest/run-case", case.id, "1", *case.program)),
    )
    return "\n".join(lines) + "\n"


def settings(parts: Parts) -> str:
    """What repro.sh reads: every value quoted for the shell."""
    row, machine = parts.row, parts.former.machine
    case, scale = row.case, burden(parts.former.plan).slowness
    deadline = (BOOT_DEADLINE_S + SWAP_DEADLINE_S + case.deadline) * scale
    measures = "\n".join(
        f"{spec.name} {spec.better} {spec.tolerance:g} {spec.unit}" for spec in case.measures
    )
    values = {
        "title": f"{case.id} on {row.swap}",
        "accel": machine.accelerator,
        "memory": machine.memory_mib,
        "cpus": machine.cpus,
        "append": " ".join((*KERNEL_WORDS, *kernel_options())),
        "disk_mib": parts.swap.mib if parts.swap.needs_disk else 0,
        "deadline": round(deadline),
        "invariants": " ".join(each.name for each in case.invariants),
        "proofs": " ".join(case.proof),
        "measures": measures,
        "base_expected": _expected(parts, "base"),
        "patched_expected": _expected(parts, "patched"),
        "disk": "",
    }
    return "".join(f"{name}={shlex.quote(str(value))}\n" for name, value in values.items())


def _expected(parts: Parts, arm: ArmLabel) -> str:
    run = _run(parts, arm)
    return run.verdict.name if run else "not run"


def readme(parts: Parts) -> str:
    """What is expected, what was seen, how to read it."""
    row, former = parts.row, parts.former
    case = row.case
    where = "without swap" if row.swap == "none" else f"on {row.swap} swap"
    seen = [f"{each.change.name}: {sentence(row, each)}" for each in row.findings]
    seen += list(still_broken(row)) or ([] if seen else ["no difference between the kernels"])
    files = [
        ("repro.sh", "boots both kernels, runs the case in each, prints the verdict"),
        ("settings", "what repro.sh needs to know: the machine, the kernel's options"),
        ("initramfs.cpio", "the guest: busybox, the static program, the set-up of the swap"),
        ("base/, patched/", "the kernel, its .config, console and results of a run"),
        ("patches/", _patches_line(parts)),
        ("source/", "the program's source, as twinboot has it today"),
        ("out/", "made by repro.sh: consoles and results of your run"),
    ]
    sections = (
        f"{case.id} {where}\n{'=' * len(f'{case.id} {where}')}",
        _filled(f"What the case catches: {case.catches}."),
        "Run it (needs qemu-system-x86_64 and a POSIX shell):\n\n    sh repro.sh",
        _filled(
            "Exit code 0: not worse with the patch; 1: worse; 2: wrong usage, or no QEMU; 3: no "
            f"verdict. It takes at most {_seconds(parts)} seconds for each kernel, by far most of "
            "them only if one hangs. ACCEL=kvm sh repro.sh uses KVM; the run did"
            + (" too." if former.machine.accelerator == "kvm" else " not.")
        ),
        "What was seen\n-------------\n" + _list(seen),
        "\n".join(f"{arm}: {_verdict_line(parts, arm)}" for arm in ARMS),
        "How to read it\n--------------\n"
        + _filled(
            "The case prints one line for each invariant, a property that holds on every correct "
            "kernel: `ok` it held, `not ok` it was broken. `# proof:` lines show that the path "
            "under test did run; without them there is no verdict. `# measure:` lines are counts. "
            "A broken invariant means:"
        )
        + "\n"
        + _list([f"{each.name}: {each.says}" for each in case.invariants]),
        *(
            ["Measures:\n" + _list([_measure_line(each) for each in case.measures])]
            if case.measures
            else []
        ),
        "Kernels and machine\n-------------------\n" + _list(list(twins_lines(former.saved.twins))),
        "Files\n-----\n" + "\n".join(f"{name:16} {what}" for name, what in files),
        _filled(
            f"Made by twinboot from a run whose verdict was: {overall_sentence(former.comparison)}."
        ),
    )
    return _CONTROL.sub(" ", "\n\n".join(sections)) + "\n"


def _measure_line(spec: MeasureSpec) -> str:
    good = "no direction is better" if spec.better is Better.NONE else f"{spec.better} is better"
    return f"{spec.name}: {spec.says}, in {spec.unit}; {good}"


def _verdict_line(parts: Parts, arm: ArmLabel) -> str:
    run = _run(parts, arm)
    if run is None:
        return "not run"
    return run.verdict.name if run.verdict is Verdict.PASS else f"{run.verdict.name} ({run.reason})"


def _patches_line(parts: Parts) -> str:
    if parts.patches:
        return "what base has not"
    return "not here" if parts.former.arm("patched").patches else "none: both kernels are base"


def _seconds(parts: Parts) -> int:
    scale = burden(parts.former.plan).slowness
    return round((BOOT_DEADLINE_S + SWAP_DEADLINE_S + parts.row.case.deadline) * scale)


def _filled(text: str) -> str:
    return textwrap.fill(text, 76)


def _list(lines: list[str]) -> str:
    return "\n".join(
        textwrap.fill(line, 76, initial_indent="- ", subsequent_indent="  ") for line in lines
    )


def private_words(former: Former, cache: Path) -> tuple[tuple[str, str], ...]:
    """What names this host or user, and what stands for it in a bundle; longest first."""
    places = {
        str(former.folder.absolute()): "RUN",
        str(former.plan.folder): "RUN",
        str(cache): "CACHE",
        str(ROOT): "TWINBOOT",
        str(Path.home()): "HOME",
    }
    places |= {name: "HOST" for name in (socket.gethostname(),) if name not in EVERYBODY}
    places |= {user: "USER" for user in (Path.home().name, _login()) if user not in EVERYBODY}
    # /root and / are in every guest, and a short name is in any program
    told = ((word, instead) for word, instead in places.items() if word not in ("/", "/root"))
    long = (each for each in told if "/" in each[0] or len(each[0]) >= SHORTEST_NAME)
    return tuple(sorted(long, key=lambda each: -len(each[0])))


def _login() -> str:
    """Whose process this is; the home folder may be named after somebody else."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return "root"


def clean_members(parts: Parts, words: tuple[tuple[str, str], ...]) -> dict[str, Member]:
    """Without these words: replaced in texts; InfraError where an image holds one."""
    searched = [word for word, _ in words if not _in_busybox(word, parts.root)]
    return {
        name: _searched(name, each, searched)
        if name.endswith(("bzImage", ".cpio"))
        else _scrubbed(each, words)
        for name, each in _members(parts).items()
    }


def _in_busybox(name: str, root: Path) -> bool:
    """A name that is a word of a program that everybody has (mark, will) says nothing."""
    return "/" not in name and bool(_pattern(name).search((root / "bin/busybox").read_bytes()))


def _searched(name: str, member: Member, words: Sequence[str]) -> Member:
    for word in words:
        if _pattern(word).search(member.content):
            raise InfraError(f"{name} of the bundle would name this host or user: it holds {word}")
    return member


def _scrubbed(member: Member, words: tuple[tuple[str, str], ...]) -> Member:
    content = member.content
    for word, instead in words:
        content = _pattern(word).sub(instead.encode(), content)
    return Member(content, member.executable)


def _pattern(word: str) -> re.Pattern[bytes]:
    """A path anywhere, a name as a whole word."""
    escaped = re.escape(os.fsencode(word))
    return re.compile(escaped if "/" in word else rb"(?<![\w-])" + escaped + rb"(?![\w-])")


def packed(top: str, members: Mapping[str, Member]) -> bytes:
    """A tar.gz below one folder; the same members give the same bytes."""
    raw = io.BytesIO()
    with (
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=6, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for name, member in sorted(members.items()):
            info = tarfile.TarInfo(f"{top}/{name}")
            info.size = len(member.content)
            info.mode = 0o755 if member.executable else 0o644
            tar.addfile(info, io.BytesIO(member.content))
    return raw.getvalue()
