# SPDX-License-Identifier: GPL-2.0-only
"""What is searched: commits, releases, patches of a series or config options, by the plan.

A field says how a candidate becomes something that can be built, and builds nothing itself.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from runner import apt, debian, gitstore, given, host, kconfig, source
from runner.bisect import commits
from runner.bisect.commits import Commits
from runner.bisect.line import Line
from runner.bisect.plan import BisectPlan
from runner.bisect.space import Space
from runner.bisect.subsets import Subsets, items_of
from runner.build import BuildRequest, final_config
from runner.counted import counted
from runner.errors import UserError
from runner.experiment import FRAGMENTS, PATCHES, ROOT
from runner.host import Progress
from runner.kconfig import Fragment, Kconfig
from runner.patchset import Patch, PatchSet
from runner.source import Fetched

Kind = Literal["commit", "release", "patch", "option"]
OPTIONS = "kconfig:"
PACKAGE = "linux-source-"
KCONFIGS = ROOT / "kconfigs"
# All configurations of a search are built in one warm tree, from which make rebuilds little.
FAMILY = "bisected options"


@dataclass(frozen=True, slots=True)
class Field:
    """A space with what its candidates are. `identity` changes when the candidates do."""

    kind: Kind
    space: Space
    request: Callable[[str], BuildRequest]
    title: Callable[[str], str]
    identity: str


@dataclass(frozen=True, slots=True)
class _Ground:
    """What all candidates share."""

    plan: BisectPlan
    cache: Path
    progress: Progress
    _read: dict[tuple[str, str], tuple[Patch, ...]] = field(default_factory=dict)

    def fetch(self, text: str) -> Fetched:
        return source.fetch(source.parse_source(text), self.cache, self.progress)

    def request(self, fetched: Fetched, patches: tuple[Patch, ...] = ()) -> BuildRequest:
        return BuildRequest(
            fetched,
            self._set((*self.carried(fetched.version), *patches)),
            self.kconfig,
            self.compiler,
        )

    @property
    def kconfig(self) -> Kconfig:
        return kconfig.load((*FRAGMENTS, *self.plan.fragments), KCONFIGS)

    @property
    def compiler(self) -> str:
        return self.plan.compiler

    def carried(self, version: str) -> tuple[Patch, ...]:
        """The patches for every kernel; those to take out begin with the last."""
        put = [each for asked in self.plan.carry for each in self._patches(asked, version)]
        taken = [each for asked in self.plan.carry_revert for each in self._patches(asked, version)]
        return (*(replace(each, reverse=True) for each in reversed(taken)), *put)

    @property
    def carried_digest(self) -> str:
        """What changes when one of the carried patches does, for whatever kernel."""
        ways = (("+", self.plan.carry), ("-", self.plan.carry_revert))
        return " ".join(
            f"{way}{given.digest(each, PATCHES)}" for way, asked in ways for each in asked
        )

    def _patches(self, asked: str, version: str) -> tuple[Patch, ...]:
        """Read once, and told which were taken of several."""
        if (asked, version) not in self._read:
            found = given.patches(asked, version, PATCHES)
            for note in found.notes:
                self.progress(f"carried: {note}")
            self._read[asked, version] = found.patches
        return self._read[asked, version]

    def _set(self, patches: tuple[Patch, ...]) -> PatchSet:
        return PatchSet("what is carried" if patches else "none", patches)


def open_field(plan: BisectPlan, folder: Path, cache: Path, progress: Progress) -> Field:
    """What the plan's ends are ends of. Raises UserError when they are not of one kind."""
    ground = _Ground(plan, cache, progress)
    ends = (plan.good, plan.bad)
    if all(end.startswith(OPTIONS) for end in ends):
        return _options(ground)
    if all(end.startswith("git:") for end in ends) and not plan.releases:
        return _commits(ground, folder)
    if plan.patch != "none":
        return _patches(ground)
    if plan.releases or all(end.startswith("debian:") for end in ends):
        return _releases(ground)
    raise UserError(
        f"nothing is between {plan.good} and {plan.bad}: give two git:PATH@REF, two debian: "
        "packages, two kconfig: fragments, a --release for each kernel, or a series with --patch"
    )


def pinned(plan: BisectPlan, cache: Path, progress: Progress) -> BisectPlan:
    """The plan with moving names (branches, newest versions) replaced by what they are now."""
    if plan.good.startswith("git:") and plan.bad.startswith("git:") and not plan.releases:
        good, bad = (_commit_named(end) for end in (plan.good, plan.bad))
        return replace(plan, good=good, bad=bad)
    if plan.good.startswith("debian:") and plan.bad.startswith("debian:") and not plan.releases:
        return _with_offers(plan, cache, progress)
    return plan


def _commit_named(text: str) -> str:
    path, _, ref = source.parse_source(text).spec.rpartition("@")
    return f"git:{path}@{gitstore.commit_of(path, ref)}"


def _with_offers(plan: BisectPlan, cache: Path, progress: Progress) -> BisectPlan:
    """The kernel lines on offer from the older end to the newer one, each in its newest version."""
    with host.locked(cache / "locks/apt.lock", progress):
        there = apt.Apt(cache / "apt", progress).newest(PACKAGE)
    lines = {_numbers(name): f"debian:{name}={version}" for name, version in there.items()}
    for end in (plan.good, plan.bad):
        if "=" in end or end.removeprefix("debian:") in debian.PINNED:
            lines[_numbers(end)] = end
        elif _numbers(end) not in lines:
            raise UserError(f"no Debian suite on this machine's mirror has {end}")
    good, bad = _numbers(plan.good), _numbers(plan.bad)
    between = (each for each in sorted(lines) if min(good, bad) <= each <= max(good, bad))
    releases = tuple(lines[each] for each in between)
    return replace(plan, good=lines[good], bad=lines[bad], releases=releases)


def _numbers(name: str) -> tuple[int, int]:
    found = re.search(rf"{PACKAGE}(\d+)\.(\d+)(?![\d.])", name)
    return (int(found.group(1)), int(found.group(2))) if found else (0, 0)


def _commits(ground: _Ground, folder: Path) -> Field:
    plan = ground.plan
    paths, refs = zip(
        *(source.parse_source(end).spec.rpartition("@")[::2] for end in (plan.good, plan.bad)),
        strict=True,
    )
    if paths[0] != paths[1]:
        raise UserError(f"{paths[0]} and {paths[1]} are two repositories; both ends must be in one")
    space: Commits = commits.open_commits(paths[0], refs[0], refs[1], folder / "git")

    def request(commit: str) -> BuildRequest:
        return ground.request(ground.fetch(f"git:{paths[0]}@{commit}"))

    def title(commit: str) -> str:
        return commits.title(space.store, commit)

    identity = _identity(space.good, space.bad, ground)
    return Field("commit", space, request, title, identity)


def _releases(ground: _Ground) -> Field:
    plan, listed = ground.plan, ground.plan.releases
    for end in (plan.good, plan.bad):
        if end not in listed:
            raise UserError(f"{end} is not among the releases: {', '.join(listed)}")
    first, last = listed.index(plan.good), listed.index(plan.bad)
    if first == last:
        raise UserError(f"{plan.good} is both ends")
    chosen = listed[min(first, last) : max(first, last) + 1]

    def request(release: str) -> BuildRequest:
        return ground.request(ground.fetch(release))

    space = Line(chosen, fixes=first > last)
    return Field("release", space, request, str, _identity(*chosen, ground))


def _patches(ground: _Ground) -> Field:
    """Candidate n is the source with the first n patches."""
    plan = ground.plan
    given.check(plan.patch, PATCHES)
    fetched = ground.fetch(plan.source)
    series = given.patches(plan.patch, fetched.version, PATCHES)
    for note in (*series.notes, *given.stated_base(series, fetched)):
        ground.progress(note)
    good, bad = (_place(end, len(series)) for end in (plan.good, plan.bad))
    if good == bad:
        raise UserError(f"both ends are the series with {counted(good, 'patch', 'patches')}")
    places = tuple(str(n) for n in range(min(good, bad), max(good, bad) + 1))

    def request(place: str) -> BuildRequest:
        return ground.request(fetched, series.prefix(int(place)).patches if int(place) else ())

    def title(place: str) -> str:
        return f"{place} {series.patches[int(place) - 1].name}" if int(place) else "0 no patch"

    space = Line(places, fixes=good > bad)
    return Field("patch", space, request, title, _identity(series.digest, *places, ground))


def _place(end: str, count: int) -> int:
    """`base`, `all` or the number of patches."""
    known = {"base": 0, "all": count}
    if end in known:
        return known[end]
    if not end.isdecimal() or int(end) > count:
        raise UserError(f"{end!r} is no place in a series of {count}; write base, all or a number")
    return int(end)


def _options(ground: _Ground) -> Field:
    """Candidates are sets of the options that differ between the ends' final .config files."""
    fetched = ground.fetch(ground.plan.source)
    texts = [_final_config(ground, fetched, end) for end in (ground.plan.good, ground.plan.bad)]
    good, bad = (kconfig.values(text) for text in texts)
    names = {*good, *bad}
    differing = tuple(name for name in sorted(names) if good.get(name, "n") != bad.get(name, "n"))
    if not differing:
        raise UserError("both ends have the same .config")
    ground.progress(f"different in the ends: {counted(len(differing), 'option')}")
    identity = _identity(*texts, ground)

    def request(candidate: str) -> BuildRequest:
        chosen = {differing[item] for item in items_of(candidate)}
        mixed = {name: (bad if name in chosen else good).get(name, "n") for name in names}
        lines = (f"{kconfig.Line(name, value)}\n" for name, value in sorted(mixed.items()))
        fragment = Fragment("mixed", "".join(lines))
        return replace(ground.request(fetched), kconfig=Kconfig((fragment,), trials_of=FAMILY))

    def title(candidate: str) -> str:
        items = [differing[item] for item in items_of(candidate)]
        told = [f"{name} {good.get(name, 'n')} -> {bad.get(name, 'n')}" for name in items]
        many = f" and {len(told) - 8} more" if len(told) > 8 else ""
        return (", ".join(told[:8]) or "none of the options") + many

    return Field("option", Subsets(len(differing)), request, title, identity)


def _final_config(ground: _Ground, fetched: Fetched, end: str) -> str:
    """What olddefconfig makes of an end: our fragments and those that are named."""
    names = [name for name in end.removeprefix(OPTIONS).split(",") if name]
    chosen = kconfig.load((*FRAGMENTS, *ground.plan.fragments, *names), KCONFIGS)
    request = replace(ground.request(fetched), kconfig=replace(chosen, trials_of=FAMILY))
    return final_config(request, ground.cache, ground.progress)


def _identity(*parts: str | _Ground) -> str:
    total = hashlib.sha256()
    for part in parts:
        text = part if isinstance(part, str) else f"{part.kconfig.digest} {part.carried_digest}"
        total.update(f"{len(text)} {text}\n".encode())
    return total.hexdigest()
