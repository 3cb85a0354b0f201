# SPDX-License-Identifier: GPL-2.0-only
"""A kernel configuration as a value: fragments merged by the tree's own tools, then verified.

It takes nothing from the user's home or an old .config, and it builds nothing.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from runner import host, kbuild, source
from runner.errors import CommandFailed, ConfigLost, InfraError, UserError
from runner.host import How

SET = re.compile(r"^CONFIG_(\w+)=(.+)$")
UNSET = re.compile(r"^# CONFIG_(\w+) is not set$")
DIRECTIVE = re.compile(r"^# twinboot:(.*)$")
RANGE = re.compile(r"^ *(?:since (\d+\.\d+))? *(?:before (\d+\.\d+))? *$")
SYMBOL = re.compile(r"^[ \t]*(?:menu)?config[ \t]+(\w+)[ \t]*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Line:
    """One wish of a fragment, and the kernel versions in which it is one."""

    symbol: str
    value: str
    since: str | None = None
    before: str | None = None

    def applies(self, version: str) -> bool:
        here = _numbers(version)
        late = self.since is None or here >= _numbers(self.since)
        return late and (self.before is None or here < _numbers(self.before))

    def __str__(self) -> str:
        if self.value == "n":
            return f"# CONFIG_{self.symbol} is not set"
        return f"CONFIG_{self.symbol}={self.value}"


@dataclass(frozen=True, slots=True)
class Fragment:
    """A named piece of configuration. `# twinboot: since 5.16 before 6.0` limits the next line."""

    name: str
    text: str

    @property
    def lines(self) -> tuple[Line, ...]:
        return tuple(_parse(self))


@dataclass(frozen=True, slots=True)
class Kconfig:
    """Fragments in order; a later one wins.

    With `trials_of` wishes may be lost: what olddefconfig makes of them is what is wanted, and
    all such configurations of one name are built in one warm tree.
    """

    fragments: tuple[Fragment, ...]
    trials_of: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(fragment.name for fragment in self.fragments)

    @property
    def digest(self) -> str:
        """A SHA-256 over the wishes alone: a reworded comment is the same configuration."""
        wishes = [repr(line) for fragment in self.fragments for line in fragment.lines]
        wishes += [self.trials_of] if self.trials_of else []
        return hashlib.sha256("\n".join(wishes).encode()).hexdigest()

    @property
    def family(self) -> str:
        """What configurations that share a warm tree have in common."""
        return self.trials_of or self.digest

    def asked(self, version: str) -> dict[str, str]:
        """Symbol to value, for one kernel version."""
        lines = (line for fragment in self.fragments for line in fragment.lines)
        return {line.symbol: line.value for line in lines if line.applies(version)}


def _numbers(version: str) -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", version)
    if not found:
        raise InfraError(f"{version!r} is not a kernel version")
    return int(found.group(1)), int(found.group(2))


def _parse(fragment: Fragment) -> Iterable[Line]:
    limits: tuple[str | None, str | None] | None = None
    for number, line in enumerate(fragment.text.splitlines(), 1):
        where = f"the fragment {fragment.name}, line {number}"
        directive = DIRECTIVE.match(line)
        wish = SET.match(line) or UNSET.match(line)
        if limits is not None and not wish:
            raise UserError(f"{where}: a `# twinboot:` line must stand right before a symbol")
        if directive:
            limits = _limits(directive.group(1), where)
        elif wish:
            value = line.partition("=")[2].strip() if SET.match(line) else "n"
            yield Line(wish.group(1), value, *(limits or (None, None)))
            limits = None
        elif line.strip() and not line.startswith("#"):
            raise UserError(f"{where}: {line!r} is neither CONFIG_X=value nor a comment")
    if limits is not None:
        raise UserError(f"the fragment {fragment.name} ends with a `# twinboot:` line")


def _limits(text: str, where: str) -> tuple[str | None, str | None]:
    found = RANGE.match(text)
    if not found or found.groups() == (None, None):
        raise UserError(f"{where}: write `# twinboot: since 5.16`, `before 6.0`, or both")
    return found.group(1), found.group(2)


def load(names: Iterable[str | Path], folder: Path) -> Kconfig:
    """Fragments by name (from `folder`) or by path; `base` comes first, asked for or not."""
    return _checked(_load(name, folder) for name in dict.fromkeys(["base", *map(str, names)]))


def load_kept(paths: Iterable[Path], more: Iterable[str], folder: Path) -> Kconfig:
    """The fragments that an earlier run kept, and more of ours by name after them."""
    return _checked(
        _load(name, folder) for name in (*(str(path.absolute()) for path in paths), *more)
    )


def _checked(fragments: Iterable[Fragment]) -> Kconfig:
    kconfig = Kconfig(tuple(fragments))
    _ = kconfig.digest  # reads every line, so that a malformed one is refused here
    return kconfig


def is_path(name: str) -> bool:
    """Whether a fragment is named by a file and not by a name of ours."""
    return "/" in name or name.endswith(".config")


def _load(name: str, folder: Path) -> Fragment:
    path = Path(name).expanduser() if is_path(name) else folder / f"{name}.config"
    if not path.is_file():
        there = ", ".join(sorted(found.stem for found in folder.glob("*.config")))
        raise UserError(f"there is no kconfig fragment {name}; there are {there}, or give a path")
    try:
        return Fragment(path.stem, path.read_text(errors="replace"))
    except OSError as error:
        raise UserError(f"the kconfig fragment {name} cannot be read: {error.strerror}") from error


def configure(tree: Path, kconfig: Kconfig, log: Path, chain: kbuild.Toolchain) -> str:
    """Write the tree's .config; returns its text.

    allnoconfig takes the merged wishes, olddefconfig settles them. Raises ConfigLost, naming
    each wish that did not come true and what it lacks. An unchanged .config is not rewritten.
    """
    version = source.version_of(tree / "Makefile", str(tree))
    asked = kconfig.asked(version)
    place = Path(".twinboot/kconfig")
    merged, final = place / ".config", place / "final"
    names = _write_fragments(tree, place, kconfig, version)
    merge = ("sh", "scripts/kconfig/merge_config.sh", "-m", "-O", str(place))
    kbuild.run(tree, log, chain, *merge, *(str(name) for name in names))
    kbuild.make(
        tree, log, chain, f"KCONFIG_CONFIG={final}", f"KCONFIG_ALLCONFIG={merged}", "allnoconfig"
    )
    kbuild.make(tree, log, chain, f"KCONFIG_CONFIG={final}", "olddefconfig")
    text = (tree / final).read_text()
    lost = () if kconfig.trials_of else _lost(asked, text)
    if lost:
        raise ConfigLost(_explain(tree, (tree / final).absolute(), lost, chain))
    if not (tree / ".config").is_file() or (tree / ".config").read_text() != text:
        host.write_atomic(tree / ".config", text)
    return text


def _write_fragments(tree: Path, place: Path, kconfig: Kconfig, version: str) -> list[Path]:
    names = []
    for number, fragment in enumerate(kconfig.fragments):
        wishes = [f"{line}\n" for line in fragment.lines if line.applies(version)]
        name = place / f"{number:02}-{re.sub(r'[^A-Za-z0-9._-]', '_', fragment.name)}.config"
        host.write_atomic(tree / name, "".join(wishes))
        names.append(name)
    return names


def values(config: str) -> dict[str, str]:
    """Symbol to value, as a .config states them; an unset symbol is `n`."""
    stated = {}
    for line in config.splitlines():
        if found := SET.match(line):
            stated[found.group(1)] = found.group(2)
        elif found := UNSET.match(line):
            stated[found.group(1)] = "n"
    return stated


@dataclass(frozen=True, slots=True)
class Lost:
    """A wish that did not come true."""

    symbol: str
    asked: str
    got: str


def _lost(asked: dict[str, str], config: str) -> tuple[Lost, ...]:
    got = values(config)
    pairs = ((symbol, value, got.get(symbol, "n")) for symbol, value in asked.items())
    return tuple(Lost(*three) for three in pairs if three[1] != three[2])


def _explain(tree: Path, config: Path, lost: tuple[Lost, ...], chain: kbuild.Toolchain) -> str:
    known = _symbols(tree)
    present = [one.symbol for one in lost if one.symbol in known]
    reasons, note = _reasons(tree, config, present, chain) if present else ({}, "")
    clauses = []
    for one in lost:
        if one.symbol not in known:
            near = difflib.get_close_matches(one.symbol, known, 2, 0.7)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            clauses.append(f"CONFIG_{one.symbol}: no such symbol in this tree{hint}")
            continue
        reason = reasons.get(one.symbol, "")
        asked = f"CONFIG_{one.symbol}={one.asked} became {one.got}"
        clauses.append(f"{asked}: it {reason}" if reason else asked)
    return f"the kernel configuration lost what was asked: {'; '.join(clauses)}{note}"


def _kconfig_texts(tree: Path) -> Iterable[str]:
    for folder, folders, files in os.walk(tree):
        foreign = Path(folder).name == "arch"
        folders[:] = [
            name for name in folders if not name.startswith(".") and (not foreign or name == "x86")
        ]
        for name in files:
            if name.startswith("Kconfig"):
                yield Path(folder, name).read_text(errors="replace")


def _symbols(tree: Path) -> set[str]:
    return {name for text in _kconfig_texts(tree) for name in SYMBOL.findall(text)}


def _reasons(
    tree: Path, config: Path, symbols: list[str], chain: kbuild.Toolchain
) -> tuple[dict[str, str], str]:
    """Why each symbol was lost; where kconfiglib cannot read this tree, from its text alone."""
    version = source.version_of(tree / "Makefile", str(tree))
    variables = {
        **{"srctree": ".", "ARCH": "x86", "SRCARCH": "x86", "KERNELVERSION": version},
        **{"CC": chain.compiler, "LD": "ld", "HOSTCC": "gcc", "HOSTCXX": "g++"},
        **{"CC_VERSION_TEXT": chain.version.split(";")[0], "RUSTC": "rustc", "NM": "nm"},
        "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
    }
    how = How(cwd=tree, variables=variables, timeout=120)
    try:
        done = host.run((sys.executable, "-m", "runner.unmet", config, *symbols), how)
        found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    except (CommandFailed, ValueError, IndexError):
        note = " (read from the text of the Kconfig files, which kconfiglib could not parse)"
        stated = values(config.read_text())
        return {name: _depends_text(tree, name, stated) for name in symbols}, note
    return found, ""


def _depends_text(tree: Path, symbol: str, stated: dict[str, str]) -> str:
    """The `depends on` lines below `config SYMBOL`, and which symbols in them are off."""
    block = re.compile(
        rf"^[ \t]*(?:menu)?config[ \t]+{symbol}[ \t]*\n((?:(?:[ \t].*)?\n)*)", re.MULTILINE
    )
    bodies = (body for text in _kconfig_texts(tree) for body in block.findall(text))
    depends = [line for body in bodies for line in re.findall(r"^\s+depends on (.+)$", body, re.M)]
    depends = list(dict.fromkeys(depends))
    if not depends:
        return ""
    named = dict.fromkeys(re.findall(r"[A-Z][A-Z0-9_]+", " ".join(depends)))
    off = [name for name in named if stated.get(name, "n") == "n"]
    return f"depends on {' and on '.join(depends)}" + (f"; off: {', '.join(off)}" if off else "")
