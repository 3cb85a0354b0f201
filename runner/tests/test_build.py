# SPDX-License-Identifier: GPL-2.0-only
"""Builds in a tiny real tree: what is built again, what is kept, and what a kill leaves behind."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from runner import build, diff, experiment, host, kbuild, kconfig, overlay, patchset, source
from runner import each as walks
from runner.build import BuildRequest, Kernel
from runner.errors import BuildFailed, ConfigLost, InfraError, PatchError, UserError
from runner.experiment import Inputs, Plan
from runner.patchset import Patch, PatchSet
from runner.signature import signature
from runner.tests import tinytree
from runner.tests.tinytree import patch_of

LINES: list[str] = []


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def request_(tmp_path: Path, cache: Path) -> BuildRequest:
    """The tiny tree without patches."""
    tree = tinytree.write(tmp_path / "tiny")
    folder = tinytree.write_fragments(tmp_path / "kconfigs")
    fetched = source.fetch(source.parse_source(str(tree)), cache, LINES.append)
    return BuildRequest(fetched, patchset.EMPTY, kconfig.load(["swap"], folder), jobs=2)


def patched(request: BuildRequest, *texts: str) -> BuildRequest:
    patches = (
        Patch(f"{number:04}-x.patch", "x", text, diff.read(text).files)
        for number, text in enumerate(texts, 1)
    )
    return replace(request, patchset=PatchSet("set", tuple(patches)))


def built(request: BuildRequest, cache: Path) -> Kernel:
    return build.build(request, cache, LINES.append)


def compiled(kernel: Kernel) -> set[str]:
    """What make compiled for this kernel, from its log."""
    log = (kernel.image.parent / "build.log").read_text()
    return {line.split()[1] for line in log.splitlines() if line.startswith("  CC ")}


def edit(name: str, old: str, new: str) -> str:
    text = tinytree.FILES[name]
    assert old in text
    return patch_of(name, text, text.replace(old, new))


CODE = edit("mm/swapfile.c", "count <= 1", "count <= 2")
COMMENT = edit("mm/memory.c", "int do_wp_page", "/* Called with\n * the lock. */\nint do_wp_page")
BROKEN = edit("mm/swapfile.c", "count <= 1", "count <= one")


# What a kernel is


def test_a_kernel_has_its_papers(request_: BuildRequest, cache: Path) -> None:
    kernel = built(patched(request_, CODE), cache)
    papers = json.loads((kernel.image.parent / "kernel.json").read_text())
    assert kernel.release == "5.10.7"
    assert kernel.patches == ("0001-x.patch",)
    assert "gcc" in kernel.compiler
    assert not kernel.reused
    assert kernel.cpu_seconds > 0
    assert papers["image_sha256"] == kernel.image_sha256 == host.sha256_file(kernel.image)
    assert papers["config_sha256"] == kernel.config_sha256 == host.sha256_file(kernel.config)
    names = {path.name for path in kernel.image.parent.iterdir()}
    assert names == {"bzImage", "config", "vmlinux", "System.map", "build.log", "kernel.json"}


def test_the_same_inputs_elsewhere_and_later_give_the_same_code(
    request_: BuildRequest, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = built(request_, cache)
    monkeypatch.setenv("KBUILD_BUILD_USER", "somebody")
    monkeypatch.setenv("KBUILD_BUILD_TIMESTAMP", "now")
    monkeypatch.setenv("LOCALVERSION", "-mine")
    there = built(request_, tmp_path / "other")
    assert there.signature == here.signature
    assert there.image_sha256 == here.image_sha256
    assert there.fingerprint == here.fingerprint
    assert there.release == here.release


def test_a_patch_that_only_adds_comment_lines_changes_no_code(
    request_: BuildRequest, cache: Path
) -> None:
    base, other = built(request_, cache), built(patched(request_, COMMENT), cache)
    assert other.fingerprint != base.fingerprint
    assert other.image_sha256 != base.image_sha256
    assert other.signature == base.signature


def test_a_patch_that_changes_code_changes_the_signature(
    request_: BuildRequest, cache: Path
) -> None:
    assert built(request_, cache).signature != built(patched(request_, CODE), cache).signature


def test_a_patch_that_turns_a_warning_into_another_changes_the_signature(
    request_: BuildRequest, cache: Path
) -> None:
    text = edit("mm/memory.c", "WARN_ON(count < 0)", "WARN_ON(count < 0); WARN_ON(count > 9)")
    assert built(request_, cache).signature != built(patched(request_, text), cache).signature


def test_what_is_no_elf_file_has_no_signature(tmp_path: Path) -> None:
    (tmp_path / "vmlinux").write_text("no")
    with pytest.raises(InfraError, match="not a readable ELF file"):
        signature(tmp_path / "vmlinux")


# What is built again


def test_a_patch_after_the_base_compiles_only_what_it_touches(
    request_: BuildRequest, cache: Path
) -> None:
    everything = compiled(built(request_, cache))
    assert everything == {"mm/memory.o", "mm/swapfile.o", "init/version.o"}
    assert compiled(built(patched(request_, CODE), cache)) == {"mm/swapfile.o"}
    assert compiled(built(patched(request_, CODE, COMMENT), cache)) == {"mm/memory.o"}
    assert compiled(built(patched(request_, COMMENT), cache)) == {"mm/swapfile.o"}
    assert len(list((cache / "trees").iterdir())) == 1


def configurations(cache: Path, *requests: BuildRequest) -> list[bool]:
    """Which of these builds, one after the other, began with a configuration."""
    found = []
    for request in requests:
        LINES.clear()
        built(request, cache)
        found.append(any(line.startswith("configuring ") for line in LINES))
    return found


def test_a_patch_to_code_alone_takes_the_configuration_that_is_there(
    request_: BuildRequest, cache: Path
) -> None:
    code, both = patched(request_, CODE), patched(request_, CODE, COMMENT)
    assert configurations(cache, request_, code, both) == [True, False, False]


def test_a_patch_to_kconfig_configures_and_so_does_the_next_without_it(
    request_: BuildRequest, cache: Path
) -> None:
    option = edit("Kconfig", 'bool "Block devices"', 'bool "Block devices"\n\tdefault y')
    base, wish, code = request_, patched(request_, option), patched(request_, CODE)
    assert configurations(cache, base, wish, code) == [True, True, True]
    assert configurations(cache, patched(request_, COMMENT)) == [False]


def test_a_configuration_that_somebody_changed_is_made_again(
    request_: BuildRequest, cache: Path
) -> None:
    base = built(request_, cache)
    (tree,) = (cache / "trees").iterdir()
    (tree / ".config").write_text("CONFIG_SWAP=n\n")
    assert configurations(cache, patched(request_, CODE)) == [True]
    assert built(patched(request_, CODE), cache).config_sha256 == base.config_sha256


def test_a_kernel_is_found_again_and_costs_nothing(request_: BuildRequest, cache: Path) -> None:
    first = built(request_, cache)
    built(patched(request_, CODE), cache)
    again = built(request_, cache)
    assert again.reused
    assert replace(again, reused=False) == first


def test_a_patch_popped_leaves_the_code_of_the_base(request_: BuildRequest, cache: Path) -> None:
    first = built(request_, cache)
    built(patched(request_, CODE, COMMENT), cache)
    shutil.rmtree(first.image.parent)
    again = built(request_, cache)
    assert not again.reused
    assert again.image_sha256 == first.image_sha256


def test_another_configuration_has_a_tree_of_its_own(
    request_: BuildRequest, cache: Path, tmp_path: Path
) -> None:
    small = replace(request_, kconfig=kconfig.load([], tmp_path / "kconfigs"))
    with_swap, without = built(request_, cache), built(small, cache)
    assert with_swap.signature != without.signature
    assert len(list((cache / "trees").iterdir())) == 2


@pytest.mark.parametrize("name", ["bzImage", "kernel.json"])
@pytest.mark.parametrize("damage", [b"", b"damaged"])
def test_a_damaged_kept_kernel_is_noticed_and_built_again(
    request_: BuildRequest, cache: Path, name: str, damage: bytes
) -> None:
    first = built(request_, cache)
    (first.image.parent / name).write_bytes(damage)
    again = built(request_, cache)
    assert not again.reused
    assert "was damaged, so it was built again" in again.notes[0]
    assert again.image_sha256 == first.image_sha256
    assert [path.name for path in (cache / "kernels").iterdir()] == [first.image.parent.name]


def test_a_fragment_that_asks_for_nothing_new_finds_the_same_kernel(
    request_: BuildRequest, cache: Path, tmp_path: Path
) -> None:
    first = built(request_, cache)
    base = tmp_path / "kconfigs/base.config"
    base.write_text("# Reworded.\n" + base.read_text())
    again = built(replace(request_, kconfig=kconfig.load(["swap"], base.parent)), cache)
    assert again.fingerprint == first.fingerprint
    assert again.reused


# What goes wrong


def test_a_patch_that_does_not_compile_shows_the_error_and_the_log(
    request_: BuildRequest, cache: Path
) -> None:
    with pytest.raises(BuildFailed, match="with set does not compile") as caught:
        built(patched(request_, BROKEN), cache)
    assert "mm/swapfile.c:7:" in caught.value.message
    assert "'one' undeclared" in caught.value.message
    assert caught.value.log is not None
    assert "'one' undeclared" in caught.value.log.read_text()
    assert not list((cache / "kernels").iterdir())
    assert built(request_, cache).release == "5.10.7"


def test_a_patch_that_does_not_link_says_so(request_: BuildRequest, cache: Path) -> None:
    text = edit("mm/swapfile.c", "int reuse_swap_page", "int renamed_swap_page")
    with pytest.raises(BuildFailed, match="undefined reference to `reuse_swap_page'"):
        built(patched(request_, text), cache)


def test_a_patch_that_does_not_apply_leaves_its_reject_in_the_cache(
    request_: BuildRequest, cache: Path
) -> None:
    with pytest.raises(PatchError) as caught:
        built(patched(request_, CODE.replace("<= 1", "<= 9")), cache)
    assert caught.value.reject is not None
    assert caught.value.reject.is_relative_to(cache / "rejects")
    assert built(request_, cache).release == "5.10.7"


@pytest.mark.parametrize("each", [False, True])
def test_patches_that_do_not_apply_are_refused_before_the_base_is_built(
    each: bool,
    request_: BuildRequest,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    asked = patched(request_, COMMENT, CODE.replace("<= 1", "<= 9"))
    made = Inputs(asked.fetched, asked.patchset, asked.kconfig, "gcc")
    plan, told = Plan(tmp_path / "out", each=each), []  # type: ignore[var-annotated]
    for module in (experiment, walks):
        monkeypatch.setattr(module, "read_inputs", lambda *_: made)
    monkeypatch.setenv("TWINBOOT_CACHE", str(cache))
    with pytest.raises(PatchError, match=r"0002-x\.patch does not apply: hunk 1 of mm/swapfile\.c"):
        walks.run_each(plan, told.append) if each else experiment.build_arms(
            plan, cache, told.append
        )
    assert told == ["unpacking Linux 5.10.7"]
    assert not (cache / "kernels").exists()


def test_patches_that_apply_are_tried_on_the_tree_and_not_left_in_it(
    request_: BuildRequest, cache: Path
) -> None:
    built(request_, cache)
    build.try_patches(patched(request_, CODE), cache, LINES.append)
    (tree,) = (cache / "trees").iterdir()
    assert (tree / "mm/swapfile.c").read_text() == tinytree.SWAPFILE
    assert compiled(built(patched(request_, CODE), cache)) == {"mm/swapfile.o"}
    shutil.rmtree(cache / "trees")
    build.try_patches(patched(request_, CODE), cache, LINES.append)
    assert not (cache / "trees").exists(), "the patches of a kept kernel did apply"


def test_a_lost_symbol_stops_the_build_before_it_begins(
    request_: BuildRequest, cache: Path
) -> None:
    wishes = kconfig.Kconfig((kconfig.Fragment("bad", "CONFIG_SWAP=y\n"),))
    with pytest.raises(ConfigLost, match=r"needs BLOCK \(off\)"):
        built(replace(request_, kconfig=wishes), cache)
    assert not list((cache / "kernels").iterdir())


def test_an_unknown_compiler_gets_one_sentence(request_: BuildRequest, cache: Path) -> None:
    with pytest.raises(InfraError, match="the compiler gcc-1 is not installed"):
        built(replace(request_, compiler="gcc-1"), cache)


@pytest.mark.parametrize("name", ["my cache", "a:b"])
def test_a_cache_in_which_make_does_not_work_gets_one_sentence(
    name: str, request_: BuildRequest, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=f"{name} has a space or colon in it, .* TWINBOOT_CACHE"):
        built(request_, tmp_path / name)


def test_too_little_room_for_a_tree_is_said_before_it_is_filled(
    request_: BuildRequest, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "ROOM", 1 << 60)
    with pytest.raises(InfraError, match=r"needs .* GB and .* has") as caught:
        built(request_, cache)
    assert "TWINBOOT_CACHE" in caught.value.message


def test_a_disk_that_fills_up_during_the_build_is_no_fault_of_the_patch(
    request_: BuildRequest, cache: Path
) -> None:
    text = edit(
        "Makefile",
        "\t@mkdir -p $(@D)\n\tcp vmlinux $@",
        "\t@echo 'cp: writing bzImage: No space left on device'; exit 1",
    )
    with pytest.raises(InfraError, match="the disk is full") as caught:
        built(patched(request_, text), cache)
    assert not isinstance(caught.value, BuildFailed)
    assert built(request_, cache).release == "5.10.7"


def test_a_disk_too_full_for_the_log_is_no_fault_of_the_patch(
    request_: BuildRequest, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = edit("Makefile", "\tcp vmlinux $@", "\t@exit 1")
    with pytest.raises(BuildFailed, match="Error 1"):
        built(patched(request_, silent), cache)
    monkeypatch.setattr(kbuild, "TIGHT", 1 << 60)
    with pytest.raises(InfraError, match="the disk is full"):
        built(patched(request_, silent), cache)
    with pytest.raises(BuildFailed, match="'one' undeclared"):
        built(patched(request_, BROKEN), cache)


def test_a_cache_that_cannot_be_written_gets_one_sentence(
    request_: BuildRequest, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InfraError, match="cannot create the folder"):
        built(request_, tmp_path / "file")


# Two at once, and a kill


def build_apart(request: BuildRequest, cache: Path) -> tuple[str, str, set[str]]:
    # In the background of a script it is ignored, which runner/cli.py undoes likewise
    signal.signal(signal.SIGINT, signal.default_int_handler)
    kernel = build.build(request, cache, LINES.append)
    return kernel.signature, host.sha256_file(kernel.image), compiled(kernel)


def test_runs_at_once_never_corrupt_the_cache(request_: BuildRequest, cache: Path) -> None:
    wishes = [request_, patched(request_, CODE), patched(request_, COMMENT, CODE)] * 2
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        found = pool.starmap(build_apart, [(wish, cache) for wish in wishes])
    assert found[:3] == found[3:]
    assert found[1][0] == found[2][0] != found[0][0]
    assert len(list((cache / "kernels").iterdir())) == 3
    alone = [built(wish, cache.parent / "alone").image_sha256 for wish in wishes[:3]]
    assert [image for _, image, _ in found[:3]] == alone


SLOW = edit(
    "Makefile",
    "\t@echo '  LD      $@'\n",
    "\t@echo '  LD      $@'\n\t@echo half > init/version.o; touch slow; sleep 60\n",
)


def kill_a_build_in_the_middle(request: BuildRequest, cache: Path, number: int) -> None:
    """Start it in a process of its own and kill that once make is in its last step."""
    process = multiprocessing.get_context("spawn").Process(
        target=build_apart, args=(request, cache)
    )
    process.start()
    deadline = time.monotonic() + 60
    while not list(cache.glob("trees/*/slow")):
        assert time.monotonic() < deadline, "the build never came to its slow step"
        time.sleep(0.05)
    assert process.pid is not None
    os.kill(process.pid, number)
    process.join(30)
    assert process.exitcode


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_build_killed_in_the_middle_leaves_no_process_and_is_healed(
    request_: BuildRequest, cache: Path, tmp_path: Path, number: int
) -> None:
    whole = built(request_, tmp_path / "alone")
    built(request_, cache)
    kill_a_build_in_the_middle(patched(request_, SLOW, CODE), cache, number)
    shutil.rmtree(cache / "kernels")
    began = time.monotonic()
    again = built(request_, cache)
    assert time.monotonic() - began < 30, "the build waited for an orphan to finish"
    assert again.image_sha256 == whole.image_sha256
    assert not list((cache / "kernels").glob(".partial-*"))


def test_what_a_killed_unpacking_left_is_removed(request_: BuildRequest, cache: Path) -> None:
    built(request_, cache)
    (tree,) = (cache / "trees").iterdir()
    partial = tree.parent / f".{tree.name}.partial-x"
    tree.rename(partial)
    shutil.rmtree(cache / "kernels")
    assert built(request_, cache).release == "5.10.7"
    assert not partial.exists()


def test_ccache_is_used_where_it_is_installed(cache: Path) -> None:
    chain = kbuild.toolchain("gcc", None, cache)
    assert chain.jobs == os.cpu_count()
    assert (f"CC={'ccache ' if shutil.which('ccache') else ''}gcc") in chain.words


def test_pushed_files_are_healed_when_the_kill_hit_them(
    request_: BuildRequest, cache: Path
) -> None:
    """_heal removes all that is newer than its marker, patched files included if it must."""
    first = built(request_, cache)
    (tree,) = (cache / "trees").iterdir()
    (tree / overlay.OWN / "building").touch()
    time.sleep(0.02)
    overlay.push(tree, patched(request_, CODE).patchset)
    shutil.rmtree(first.image.parent)
    assert built(request_, cache).image_sha256 == first.image_sha256


@pytest.mark.vm
def test_on_a_real_kernel_a_comment_line_changes_no_code_and_costs_little() -> None:
    """The base is kept where other tests have built it."""
    top = Path(__file__).resolve().parents[2]
    cache = host.cache_dir()
    fetched = source.fetch(source.parse_source("debian:linux-source-5.10"), cache, LINES.append)
    wishes = kconfig.load(["swap", "thp", "ksm", "memcg"], top / "kconfigs")
    base = BuildRequest(fetched, patchset.EMPTY, wishes)
    comment = patchset.load(top / "patches/known-bad/pipeline/comment-only.patch")
    first, second = built(base, cache), built(replace(base, patchset=comment), cache)
    assert second.fingerprint != first.fingerprint
    assert second.signature == first.signature
    if not (first.reused or second.reused):
        assert second.cpu_seconds <= first.cpu_seconds / 4
