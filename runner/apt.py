# SPDX-License-Identifier: GPL-2.0-only
"""Fetches a Debian package through the machine's own apt set-up: its mirror, proxies, keyrings.

It never writes the system's apt files and installs nothing: all state is kept in our cache.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from runner import host
from runner.errors import CommandFailed, InfraError
from runner.host import How, Progress

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# The suite a kernel line was released with is asked first; the rest are tried newest first.
HOME_OF = {"5.10": "bullseye", "6.1": "bookworm", "6.12": "trixie"}
CODENAMES = ("sid", "forky", "trixie", "bookworm", "bullseye")
# Left in place, hooks of the system's configuration would clean the system's own cache, and a
# lax setting would let an unsigned mirror through.
CONFIGURATION = """\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear Dir::Etc::SourceParts;
Dir::State "{top}/state";
Dir::State::lists "{top}/state/lists";
Dir::State::status "{top}/state/status";
Dir::Cache "{top}/cache";
Dir::Cache::archives "{top}/cache/archives";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Dir::Etc::SourceList "{top}/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::Log "{top}/log";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::Languages "none";
Acquire::Retries "2";
"""


@dataclass(frozen=True, slots=True)
class Mirror:
    """Where the machine's apt takes Debian from; `security` is None when not configured."""

    main: str
    security: str | None


@dataclass(frozen=True, slots=True)
class Offer:
    """One version of a package in one suite."""

    version: str
    suite: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """A package at one version, or the newest one on offer."""

    package: str
    version: str | None


def parse_mirror(listing: str) -> Mirror:
    """Choose the Debian mirror from lines of `uri|suite|origin|codename`.

    Before the first `apt-get update` apt does not know the origin, hence the look at the name.
    """
    main, security = None, None
    for line in listing.splitlines():
        uri, suite, origin = [*line.split("|"), "", ""][:3]
        if origin != "Debian" and not _looks_like_debian(uri, suite):
            continue
        if suite.endswith("-security") or "security" in uri:
            security = security or uri
        else:
            main = main or uri
    if main is None:
        raise InfraError(
            "apt on this machine has no Debian mirror among its sources; "
            "give the kernel as dir:PATH, tar:PATH or git:PATH@REF instead"
        )
    return Mirror(main, security)


def _looks_like_debian(uri: str, suite: str) -> bool:
    codename = suite.split("-", maxsplit=1)[0].split("/", maxsplit=1)[0]
    known = (*CODENAMES, "stable", "oldstable", "testing", "unstable")
    return codename in known and bool(re.search(r"/debian(-security)?(\.list)?/?$", uri))


def mirror() -> Mirror:
    """The Debian mirror that the machine's own apt uses."""
    form = "$(REPO_URI)|$(RELEASE)|$(ORIGIN)"
    done = host.run(("apt-get", "indextargets", "--format", form, "Created-By: Packages"))
    return parse_mirror(done.stdout)


def suites(package: str) -> tuple[tuple[str, ...], ...]:
    """Groups of suites to ask, most likely first; a group is asked as a whole."""
    line = package.removeprefix("linux-source-")
    home = HOME_OF.get(line)
    names = ([home] if home else []) + [name for name in CODENAMES if name != home]
    return tuple((name,) if name == "sid" else (name, f"{name}-security") for name in names)


def parse_offers(listing: str, package: str) -> tuple[Offer, ...]:
    """What `apt-cache madison` prints, newest first: `package | version | uri suite/main ...`."""
    offers = []
    for line in listing.splitlines():
        columns = [column.strip() for column in line.split("|")]
        if len(columns) == 3 and columns[0] == package and columns[2].endswith("Packages"):
            offers.append(Offer(columns[1], columns[2].split()[1].split("/")[0]))
    return tuple(offers)


class Apt:
    """Our own view of the machine's Debian mirror; suites are added to it one after another."""

    def __init__(self, top: Path, progress: Progress) -> None:
        self.top = top
        self.progress = progress
        self.mirror = mirror()
        self._lines: list[str] = []
        if not KEYRING.exists():
            raise InfraError(f"{KEYRING} is missing; install the package debian-archive-keyring")
        for folder in ("state/lists/partial", "cache/archives/partial", "log"):
            host.make_folder(top / folder)
        (top / "state/status").touch()
        host.write_atomic(top / "apt.conf", CONFIGURATION.format(top=top))

    def find(self, wanted: Wanted) -> tuple[Offer, ...]:
        """The versions on offer, newest first, from the first group of suites that has any.

        A group is left early once it has shown the version that is wanted.
        """
        refusals: list[str] = []
        offers: tuple[Offer, ...] = ()
        reached = False
        for group in suites(wanted.package):
            for suite in group:
                refusal = self._add(suite)
                reached = reached or not refusal
                refusals += [refusal] if refusal else []
                offers = self._offers(wanted.package)
                if any(offer.version == wanted.version for offer in offers):
                    return offers
            if offers:
                return offers
        if not reached:
            raise InfraError(
                f"the Debian mirror {self.mirror.main} could not be read: {refusals[0]}"
            )
        return ()

    def newest(self, prefix: str) -> dict[str, str]:
        """Every package of that prefix in any suite that can be read, with its newest version."""
        names = tuple(suite for group in suites(prefix) for suite in group)
        self._add_all(names)
        there = self._run("apt-cache", "pkgnames", prefix).stdout.split()
        offers = {name: self._offers(name) for name in sorted(there)}
        return {name: found[0].version for name, found in offers.items() if found}

    def _add_all(self, names: tuple[str, ...]) -> None:
        """Fetch the indexes of several suites at once; one after another where one is missing."""
        self.progress(f"asking {self.mirror.main} for {len(names)} suites")
        lines = [line for name in names if (line := self._line(name))]
        self._write(lines)
        try:
            self._run("apt-get", "update")
            self._lines = lines
        except CommandFailed:
            for name in names:
                self._add(name)

    def _line(self, suite: str) -> str:
        """Its line in sources.list, empty where this machine has no mirror of it."""
        uri = self._uri(suite)
        arch = host.run(("dpkg", "--print-architecture")).stdout.strip()
        return f"deb [signed-by={KEYRING} arch={arch}] {uri} {suite} main\n" if uri else ""

    def _uri(self, suite: str) -> str | None:
        return self.mirror.security if suite.endswith("-security") else self.mirror.main

    def _add(self, suite: str) -> str:
        """Fetch one more suite's signed index; returns why not, or nothing."""
        line = self._line(suite)
        if not line:
            return f"no security mirror for {suite}"
        self.progress(f"asking {self._uri(suite)} for the suite {suite}")
        self._write([*self._lines, line])
        try:
            self._run("apt-get", "update")
        except CommandFailed as failure:
            self._write(self._lines)
            return _first_complaint(failure.tail)
        self._lines.append(line)
        return ""

    def _write(self, lines: list[str]) -> None:
        host.write_atomic(self.top / "sources.list", "".join(lines))

    def _offers(self, package: str) -> tuple[Offer, ...]:
        return parse_offers(self._run("apt-cache", "madison", package).stdout, package)

    def _run(self, program: str, *words: str, cwd: Path | None = None) -> host.Completed:
        how = How(cwd=cwd, unset=("APT_CONFIG",), timeout=1800)
        return host.run((program, "-q", "-c", self.top / "apt.conf", *words), how)

    def download(self, package: str, version: str, folder: Path) -> Path:
        """The .deb, checked by apt against the signed index, in `folder`."""
        try:
            self._run("apt-get", "download", f"{package}={version}", cwd=folder)
        except CommandFailed as failure:
            reason = _first_complaint(failure.tail)
            raise InfraError(f"{package} {version} could not be downloaded: {reason}") from failure
        return next(folder.glob(f"{package}_*.deb"))


def _first_complaint(text: str) -> str:
    """apt's first error; its first warning where it stopped at one."""
    found = re.findall(r"^E: (.*)$", text, re.MULTILINE) or re.findall(r"^W: (.*)$", text, re.M)
    return found[0] if found else text.strip().split("\n")[-1]
