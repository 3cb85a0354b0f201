# SPDX-License-Identifier: GPL-2.0-only
"""--quick: which cases it begins with, and that it never claims more than ran."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runner import case, quick
from runner.affected import Lesson, Place, affected, places
from runner.commands.watch import changes, watched
from runner.errors import UserError
from runner.experiment import CASES, PATCHES, Plan, chosen_cases
from runner.patchset import load

FORK = "patches/known-bad/fork-forgets-swap-entry.patch"
TWO_PLACES = """\
diff --git a/mm/memory.c b/mm/memory.c
--- a/mm/memory.c
+++ b/mm/memory.c
@@ -10,6 +10,7 @@ vm_fault_t do_swap_page(struct vm_fault *vmf)
 	one();
+	two();
 	three();
@@ -90,6 +91,11 @@ static void unrelated(void)
 }
 
+static bool helper(struct page *page)
+{
+	return !page;
+}
+
 static vm_fault_t wp_page_copy(struct vm_fault *vmf)
 {
-	old();
+	new();
diff --git a/include/linux/swap.h b/include/linux/swap.h
--- a/include/linux/swap.h
+++ b/include/linux/swap.h
@@ -1,3 +1,4 @@ struct page;
+extern bool helper(struct page *);
"""  # noqa: E101, W293


def known() -> tuple[Lesson, ...]:
    return quick.lessons(PATCHES / "known-bad", "5.10.223")


def test_a_patch_is_where_its_changed_lines_are_and_not_where_its_context_is() -> None:
    memory = "mm/memory.c"
    assert places(TWO_PLACES) == {
        Place(memory, "do_swap_page"),
        Place(memory, "wp_page_copy"),
        Place("include/linux/swap.h"),
    }


def test_the_cases_are_those_that_noticed_a_bug_in_the_same_function() -> None:
    lessons = (
        Lesson(frozenset({Place("mm/a.c", "f")}), frozenset({"x/f"})),
        Lesson(frozenset({Place("mm/a.c", "g")}), frozenset({"x/g"})),
    )
    assert affected({Place("mm/a.c", "f")}, lessons).cases == {"x/f"}
    # no bug was in h(): all that noticed one in its file
    assert affected({Place("mm/a.c", "h")}, lessons).cases == {"x/f", "x/g"}


def test_what_nothing_is_known_of_makes_all_unknown() -> None:
    lessons = (Lesson(frozenset({Place("mm/a.c", "f")}), frozenset({"x/f"})),)
    places = {Place("mm/a.c", "f"), Place("mm/unheard-of.c", "f")}
    assert affected(places, lessons).cases == frozenset()
    assert "mm/unheard-of.c" in affected(places, lessons).why
    # a header is part of the code beside it
    assert affected({Place("mm/a.c", "f"), Place("linux/a.h")}, lessons).cases == {"x/f"}


def test_every_known_bug_is_looked_for_by_all_cases_that_noticed_it() -> None:
    ours = case.load(CASES)
    for lesson in known():
        assert affected(lesson.places, known()).cases >= lesson.cases
    assert {name for lesson in known() for name in lesson.cases} <= {each.id for each in ours}


def test_each_case_runs_on_one_swap_of_those_asked_for() -> None:
    ours = case.by_default(case.load(CASES))
    picked = quick.select(ours, (), load(Path(FORK)), known())
    assert 0 < len(picked.cases) < len(ours)
    assert all(len(each.swaps) == 1 for each in picked.cases)
    assert all(each.swaps[0] == each.default[0] for each in picked.cases)
    on_disk = quick.select(case.load(CASES), ("disk",), load(Path(FORK)), known())
    assert {swap for each in on_disk.cases for swap in each.swaps} == {"disk"}


def test_what_was_left_out_is_said() -> None:
    ours = case.by_default(case.load(CASES))
    picked = quick.select(ours, (), load(Path(FORK)), known())
    assert picked.brief == f"quick: {len(picked.cases)} of {len(ours)} cases, each on one swap"
    assert "copy_nonpresent_pte()" in picked.why
    # a kernel version without known bugs
    blind = quick.select(ours, (), load(Path(FORK)), ())
    assert len(blind.cases) == len(ours)
    assert "no known bug was in mm/memory.c" in blind.why


def test_quick_is_refused_beside_what_chooses_cases_too() -> None:
    with pytest.raises(UserError, match="--quick chooses the cases itself"):
        chosen_cases(Plan(Path("/nowhere"), quick=True, full=True))


def waited(changed: Iterator[None], what: Callable[[], object]) -> None:
    """Make a change again and again until it is noticed: watching begins a moment after asking."""
    noticed = threading.Event()

    def make() -> None:
        while not noticed.wait(0.2):
            what()

    with ThreadPoolExecutor() as pool:
        pool.submit(make)
        next(changed)
        noticed.set()


def test_a_patch_that_an_editor_replaces_is_a_change_and_a_neighbour_is_none(
    tmp_path: Path,
) -> None:
    patch = tmp_path / "my.patch"
    patch.write_text("one")
    changed = changes(watched("debian:linux-source-5.10", str(patch)))
    next(changed)

    def replace() -> None:
        fresh = tmp_path / ".my.patch.swp"
        fresh.write_text("two")
        fresh.rename(patch)

    waited(changed, replace)


def test_nothing_to_watch_is_refused_in_one_sentence() -> None:
    with pytest.raises(UserError, match="--watch needs a --patch that is a file"):
        watched("debian:linux-source-5.10", "sketch-of-somebody")
