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
from runner.patchset import PatchSet, load, read_patch

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


def hunk(*lines: str, header: str = "static int before(int a)", file: str = "mm/memory.c") -> str:
    """A patch with one hunk."""
    old, new = (sum(each[0] in signs for each in lines) for signs in (" -", " +"))
    text = "".join(f"{line}\n" for line in lines)
    return f"--- a/{file}\n+++ b/{file}\n@@ -9,{old} +9,{new} @@ {header}\n{text}"


def functions(patch: str) -> set[str]:
    return {place.function for place in places(patch)}


@pytest.mark.parametrize(
    "defined",
    [
        "swp_entry_t get_swap_page(int type)",
        "pte_t frob(pte_t pte)",
        "sector_t place(swp_entry_t entry)",
        "static __attribute__((noinline)) int zap(struct vm_fault *vmf)",
        "SYSCALL_DEFINE1(swapoff, const char __user *, specialfile)",
    ],
)
def test_a_function_of_any_type_is_known_by_its_first_line(defined: str) -> None:
    names = {"get_swap_page", "frob", "place", "zap", "swapoff"}
    found = functions(hunk(" }", " ", f" {defined}", " {", "+\tx();"))
    assert len(found & names) == 1
    assert found == functions(hunk("+\tx();", header=defined))


def test_a_function_whose_type_is_on_the_line_before_is_known() -> None:
    lines = (" int", " copy_page_range(struct vm_area_struct *a,", " \t\tint b)", " {", "+\tx();")
    assert functions(hunk(*lines)) == {"copy_page_range"}
    assert functions(hunk(*lines[1:], header="int")) == {"copy_page_range"}


@pytest.mark.parametrize(
    "lines",
    [
        ("+#define SAME(a, b) 1",),
        (" #define SAME(a, b) \\", "+\t(void)(a); \\"),
        ("-\t(void)(a); \\",),
        (" }", " ", "+static int limit;"),
        (" struct range {", "+\tint more;"),
        (" static const int order[] = {", "+\t1,"),
        ("+static DEFINE_MUTEX(lock);",),
        (" again:", "+\tx();", "\0again:"),
    ],
)
def test_what_is_in_no_function_is_not_taken_for_one(lines: tuple[str, ...]) -> None:
    header = lines[-1][1:] if lines[-1].startswith("\0") else "static int before(int a)"
    assert functions(hunk(*(each for each in lines if each[0] != "\0"), header=header)) == {""}


def test_a_comment_between_functions_and_the_end_of_a_mail_are_no_change() -> None:
    lines = (" }", " ", "+/*", "+ * It helps.", "+ */", "+static int helper(void)", "+{", "+\ty();")
    rest = ("+}", "+", " static int real(void)", " {", "-\told();", "+\tnew();", "-- ", "2.39.5")
    assert functions(hunk(*lines, *rest)) == {"real"}


def test_a_changed_signature_is_a_change_of_the_function() -> None:
    assert functions(hunk("-static int f(int a)", "+static int f(long a)", " {")) == {"f"}


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


def test_what_is_outside_of_functions_takes_all_cases_of_its_file() -> None:
    lessons = (
        Lesson(frozenset({Place("mm/a.c", "f")}), frozenset({"x/f"})),
        Lesson(frozenset({Place("mm/a.c")}), frozenset({"x/somewhere"})),
    )
    assert affected({Place("mm/a.c")}, lessons).cases == {"x/f", "x/somewhere"}
    # a bug of which nobody knows the function may be in each
    assert affected({Place("mm/a.c", "f")}, lessons).cases == {"x/f", "x/somewhere"}
    assert affected({Place("mm/a.c", "g")}, lessons).cases == {"x/f", "x/somewhere"}


@pytest.mark.parametrize("file", ["mm/Kconfig", "mm/Makefile", "arch/x86/entry/entry_64.S"])
def test_only_a_header_is_left_out_beside_code(file: str) -> None:
    lessons = (Lesson(frozenset({Place("mm/a.c", "f")}), frozenset({"x/f"})),)
    assert affected({Place("mm/a.c", "f"), Place(file)}, lessons).cases == frozenset()


def test_a_change_to_fork_or_a_macro_takes_more_than_the_one_case_of_a_bug_nearby() -> None:
    top = hunk(" int", " copy_page_range(struct vm_area_struct *a, int b)", " {", "+\tx();")
    macro = hunk("+#define pte_same(a, b) (1)", header="")
    ours = tuple(each for each in case.load(CASES) if "zram" in each.swaps)
    for text in (top, macro):
        changed = PatchSet("x", (read_patch("x.patch", "x", text),))
        picked = {each.id for each in quick.select(ours, ("zram",), changed, known()).cases}
        assert {"fork/both_swapped", "cow/wr_sync", "server/killed_workers"} <= picked


def test_a_function_whose_bugs_none_of_the_cases_noticed_takes_all_cases() -> None:
    ours = case.by_default(case.load(CASES))
    lessons = (
        Lesson(frozenset({Place("mm/memory.c", "f")}), frozenset({"not/selected"})),
        Lesson(frozenset({Place("mm/memory.c", "g")}), frozenset({ours[0].id})),
    )
    both = hunk(" }", " int f(int a)", " {", "+\tx();", " }", " int g(int a)", " {", "+\tx();")
    changed = PatchSet("x", (read_patch("x.patch", "x", both),))
    picked = quick.select(ours, (), changed, lessons)
    assert len(picked.cases) == len(ours)
    assert "none of these cases noticed a known bug in f(), so all of them" in picked.why


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
    assert "none of these cases noticed a known bug in mm/memory.c" in blind.why


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
