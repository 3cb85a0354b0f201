# SPDX-License-Identifier: GPL-2.0-only
"""The commits of a git repository to search, by `git bisect` itself, merges included.

It runs in a bare repository of ours that borrows the user's objects: neither the user's refs nor
the checkout nor a hook of theirs has a part in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from runner import gitstore
from runner.bisect.space import Answers, Found, Next, Term
from runner.errors import InfraError, UserError
from runner.gitstore import Store

# `git bisect` does not let `good` mean the newer end, so a fix is searched in these words.
WORDS = {False: ("good", "bad"), True: ("broken", "fixed")}
FIRST = re.compile(rf"^({gitstore.COMMIT.pattern}) is the first \S+ commit$", re.MULTILINE)
LEFT = re.compile(r"^Bisecting: (\d+) revisions? left", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Commits:
    """Commits between two of them; with `fixes` the bad one is the older."""

    store: Store
    good: str
    bad: str
    size: int
    fixes: bool = False

    @property
    def _words(self) -> tuple[str, str]:
        """What git calls the old and the new end."""
        return WORDS[self.fixes]

    def choose(self, answers: Answers) -> Next | Found:
        """Start git's bisection anew with all that is known; what it needs more is the next."""
        olds, new, skipped = self._sorted(answers)
        said = self._tell((*olds, *self.implied(answers)), new, skipped)
        if first := FIRST.search(said):
            return self._found((first.group(1),), olds, new)
        if "commit could be any of:" in said:
            return self._found(tuple(self._suspects(said, olds, new)), olds, new)
        return self._next(said)

    def _sorted(self, answers: Answers) -> tuple[list[str], str, list[str]]:
        """The commits with the old state, the newest word on the new one, those to skip."""
        old_term, new_term = (Term.BAD, Term.GOOD) if self.fixes else (Term.GOOD, Term.BAD)
        olds, news, skipped = (
            [each for each, term in answers.items() if term is wanted]
            for wanted in (old_term, new_term, Term.SKIP)
        )
        return olds, news[-1], skipped

    def implied(self, answers: Answers) -> tuple[str, ...]:
        """Where tested side branches left the history of the new end: these are old as well.

        git would ask for each of them to be tested. Of the ends alone that is right: there it
        shows whether their histories parted before or after the change.
        """
        olds, new, _ = self._sorted(answers)
        found: dict[str, None] = {}
        for old in olds:
            if contains(self.store, old, new):
                raise UserError(_unrelated(new, answers[new]))
            if new not in (self.good, self.bad) and not contains(self.store, new, old):
                bases = merge_bases(self.store, old, new)
                found |= dict.fromkeys(base for base in bases if base not in olds)
        return tuple(found)

    def _tell(self, olds: tuple[str, ...], new: str, skipped: list[str]) -> str:
        """Tell git all; returns what it says last."""
        old_word, new_word = self._words
        terms = (f"--term-old={old_word}", f"--term-new={new_word}") if self.fixes else ()
        said = self._git("start", *terms, "--no-checkout", new, *olds)
        return self._git("skip", *skipped) if skipped and not FIRST.search(said) else said

    def _git(self, *words: str) -> str:
        done = self.store.run("bisect", *words)
        said = f"{done.stdout}\n{done.stderr}"
        if done.returncode not in (0, 2):
            raise InfraError(f"`git bisect {words[0]}` failed: {said.strip().splitlines()[-1]}")
        return said

    def _next(self, said: str) -> Next:
        left = LEFT.search(said)
        found = self.store.git("rev-parse", "BISECT_HEAD")
        return Next(found, int(left.group(1)) + 1 if left else 1)

    def _suspects(self, said: str, olds: list[str], new: str) -> Iterator[str]:
        """The list that git prints, in the order of history."""
        listed = set(said.split("commit could be any of:", 1)[1].split())
        order = self.store.git("rev-list", "--topo-order", "--reverse", new, "--not", *olds)
        return (commit for commit in order.split() if commit in listed)

    def _found(self, answer: tuple[str, ...], olds: list[str], new: str) -> Found:
        """The tested commits that the answer lies between: for each parent one that covers it."""
        parents = {
            parent
            for each in answer
            for parent in self.store.git("rev-parse", f"{each}^@").split()
            if parent not in answer
        }
        before = tuple(dict.fromkeys(self._covering(each, olds) for each in sorted(parents)))
        return Found(answer, (new,), before) if self.fixes else Found(answer, before, (new,))

    def _covering(self, parent: str, olds: list[str]) -> str:
        """The tested commit that says what `parent` is: itself, or one that contains it."""
        if parent in olds:
            return parent
        return next(each for each in olds if self._contains(each, parent))

    def _contains(self, commit: str, older: str) -> bool:
        return contains(self.store, commit, older)


def contains(store: Store, commit: str, older: str) -> bool:
    """Whether `older` is in the history of `commit`."""
    return store.run("merge-base", "--is-ancestor", older, commit).returncode == 0


def merge_bases(store: Store, one: str, other: str) -> tuple[str, ...]:
    """The youngest commits that both have in their history: none where each has a root of its own.

    git then ends with 1 and says nothing.
    """
    done = store.run("merge-base", "--all", one, other)
    if done.returncode not in (0, 1):
        raise InfraError(f"`git merge-base` in {store.folder} failed: {done.stderr.strip()}")
    return tuple(done.stdout.split())


def open_commits(repository: str, good: str, bad: str, place: Path) -> Commits:
    """The space between two refs; the older of them may be the bad one. Our store is `place`."""
    first, last = (gitstore.commit_of(repository, ref) for ref in (good, bad))
    if first == last:
        raise UserError(f"{good} and {bad} are the same commit, {first[:12]}")
    store = gitstore.borrow(repository, place)
    # `git bisect start` asks for a HEAD
    store.git("update-ref", store.git("symbolic-ref", "HEAD"), last)
    if not merge_bases(store, first, last):
        raise UserError(
            f"{good} and {bad} have no common ancestor, so nothing lies between them to search"
        )
    fixes = contains(store, first, last)
    old, new = (last, first) if fixes else (first, last)
    size = int(store.git("rev-list", "--count", new, f"^{old}"))
    return Commits(store, first, last, size, fixes)


def title(store: Store, commit: str) -> str:
    """`1234567890ab subject`, without anything a terminal would obey."""
    text = store.git("log", "-1", "--no-show-signature", "--format=%h %s", "--abbrev=12", commit)
    return "".join(each if each.isprintable() else "?" for each in text)


def replayable(space: Commits, answers: dict[str, Term], answer: tuple[str, ...]) -> str:
    """What `git bisect replay` reads: the answers in the order in which they were given."""
    old, new = space._words
    terms = {Term.SKIP: "skip"} | (
        {Term.BAD: old, Term.GOOD: new} if space.fixes else {Term.GOOD: old, Term.BAD: new}
    )
    begin = f"git bisect start '--term-new={new}' '--term-old={old}'" if space.fixes else ""
    lines = [begin or "git bisect start"]
    olds = dict.fromkeys(space.implied(answers), Term.BAD if space.fixes else Term.GOOD)
    for commit, term in (answers | olds).items():
        lines.append(f"# {terms[term]}: [{commit}] {title(space.store, commit)[13:]}")
        lines.append(f"git bisect {terms[term]} {commit}")
    which = "first" if len(answer) == 1 else "possible first"
    for commit in answer:
        lines.append(f"# {which} {new} commit: [{commit}] {title(space.store, commit)[13:]}")
    return "".join(f"{line}\n" for line in lines)


def _unrelated(base: str, term: Term) -> str:
    other = "good" if term is Term.BAD else "bad"
    return (
        f"the merge base {base[:12]} of both ends is {term} as well, so what changed is between it "
        f"and the {other} end: give the merge base as the {term} end"
    )
