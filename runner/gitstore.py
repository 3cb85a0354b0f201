# SPDX-License-Identifier: GPL-2.0-only
"""A git repository of ours that borrows the objects of a user's, which stays as it is.

Ours has no hooks, filters or settings of anybody: nothing in a hostile repository runs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from runner import folder, host
from runner.errors import CommandFailed, InfraError, UserError
from runner.host import How

# Reading writes nothing, and fetches nothing: a partial clone would, by a command of its own.
READING = {
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_NO_REPLACE_OBJECTS": "1",
}
# In our own store no setting of the user counts either (theirs has safe.directory).
ALONE = {**READING, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
LEAKS = (
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR"),
    *("GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_NAMESPACE"),
    *("GIT_CONFIG_PARAMETERS", "GIT_CONFIG_COUNT", "GIT_CONFIG", "GIT_TEMPLATE_DIR"),
)
COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def ask(repository: str | Path, *words: str) -> str:
    """A question to the user's repository that reads only; UserError says what git says."""
    how = How(variables=READING, unset=LEAKS)
    try:
        return host.run(("git", "-C", repository, *words), how).stdout.strip()
    except CommandFailed as failure:
        reason = (failure.tail.strip() or "it said nothing").splitlines()[-1]
        reason = reason.removeprefix("fatal: ")
        raise UserError(f"git cannot read {words[-1]} in {repository}: {reason}") from failure


def commit_of(repository: str | Path, ref: str) -> str:
    """The full name of the commit that `ref` is."""
    return ask(repository, "rev-parse", "--verify", "--end-of-options", f"{ref}^{{commit}}")


@dataclass(frozen=True, slots=True)
class Store:
    """Our repository in `folder`, without a work tree of its own."""

    folder: Path

    def git(self, *words: str | Path, tree: Path | None = None, check: bool = True) -> str:
        """Run git here; `tree` is the work tree. Raises InfraError where git fails."""
        done = self.run(*words, tree=tree)
        if check and done.returncode != 0:
            said = (done.stderr or done.stdout).strip() or "it said nothing"
            raise InfraError(f"`git {words[0]}` in {self.folder} failed: {said.splitlines()[-1]}")
        return done.stdout.strip()

    def run(self, *words: str | Path, tree: Path | None = None) -> host.Completed:
        place = {"GIT_DIR": str(self.folder)}
        if tree is not None:
            place["GIT_WORK_TREE"] = str(tree)
        how = How(cwd=self.folder, variables={**ALONE, **place}, unset=LEAKS, check=False)
        return host.run(("git", *words), how)


def borrow(repository: str | Path, place: Path) -> Store:
    """Our store at `place`, made where it is missing, with the objects of `repository`."""
    objects = Path(repository, ask(repository, "rev-parse", "--git-path", "objects")).resolve()
    if "\n" in str(objects) or str(objects).startswith(("#", '"')):
        raise UserError(f"the path of the git repository {repository} cannot be borrowed from")
    store = Store(place)
    if not (place / "HEAD").is_file():
        form = ask(repository, "rev-parse", "--show-object-format")
        host.make_folder(place)
        store.git("init", "-q", "--bare", "--template=", f"--object-format={form}", place)
    host.write_atomic(place / "objects/info/alternates", f"{objects}\n")
    shallow = Path(repository, ask(repository, "rev-parse", "--git-path", "shallow"))
    if shallow.is_file():
        host.write_atomic(place / "shallow", shallow.read_bytes())
    return store


def check_out(repository: str | Path, commit: str, tree: Path, own: str) -> None:
    """Make the tracked files in `tree` those of `commit`, writing only what differs.

    Whatever git did not write itself counts as different, so one that was killed is healed by
    the next; files that no commit has (what make wrote) stay. Ours is kept in `tree`/`own`.
    """
    store = borrow(repository, tree / own / "git")
    (store.folder / "index.lock").unlink(missing_ok=True)
    listed = store.git("ls-tree", "-r", "-z", "--full-tree", commit).split("\0")
    entries = [entry.partition("\t")[::2] for entry in listed if entry]
    if any(name.split("/")[0] == own for _, name in entries):
        raise UserError(f"{commit[:12]} holds {own}, a name that twinboot keeps for itself")
    store.git("-c", "core.bare=false", "read-tree", "--reset", "-u", commit, tree=tree)
    for meta, name in entries:
        if meta.startswith("120000") and folder.leaves(tree, tree / name):
            raise UserError(f"{commit[:12]} holds {name}, a symbolic link that leaves the tree")
