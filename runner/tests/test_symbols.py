# SPDX-License-Identifier: GPL-2.0-only
"""Lines for traces: from the kernel's own script, which is given nothing but frames."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from runner import symbols
from runner.build import Kernel
from runner.complaints import complaints
from runner.qemu import DRGN, GDB
from runner.shell import Debuggers, Stage, debugger_lines, welcome
from runner.signature import same_code
from runner.swap import swap_named
from runner.symbols import Symbols, core_info, symbolised
from runner.tests.arms import REUSE, compared, run, splat
from runner.tests.test_recall import HEX, kernel_at

SCRIPT = """\
#!/bin/bash
cat >"$(dirname "$0")/asked"
sed 's|\\(.*\\)+0x.*|\\1 (mm/memory.c:3356 (discriminator 1) mm/swap.h:1)|' "$(dirname "$0")/asked"
"""
HOSTILE = 'x"){system("touch${IFS}pwned")}+0x1/0x2'
TRACE = f"""\
RIP: 0010:do_swap_page+0x611/0x7d0
 ? exc_page_fault+0x191/0x370
 {HOSTILE}
 do_swap_page+0x611/0x7d0 [evil]
"""


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    """A kernel whose second build, with debug info, is kept beside it and has the same code."""
    first = kernel_at(tmp_path / "kernels" / HEX[:32])
    other = tmp_path / "kernels" / HEX[::-1][:32]
    kernel_at(other, fingerprint=HEX[::-1])
    (tmp_path / "x.c").write_text("int main(void) { return 0; }\n")
    subprocess.run(["gcc", "-g", "-o", other / "vmlinux", tmp_path / "x.c"], check=True)
    (other / "decode_stacktrace.sh").write_text(SCRIPT)
    first.image.with_name("symbols").write_text(f"{HEX[::-1]} code\n")
    return first


def test_each_frame_of_a_trace_gets_its_lines(kernel: Kernel, tmp_path: Path) -> None:
    said = symbolised(TRACE, kernel, tmp_path)
    assert said.splitlines()[:2] == [
        "RIP: 0010:do_swap_page+0x611/0x7d0 (mm/memory.c:3356 mm/swap.h:1)",
        " ? exc_page_fault+0x191/0x370 (mm/memory.c:3356 mm/swap.h:1)",
    ]


def test_the_script_is_given_frames_and_nothing_else_that_a_guest_wrote(
    kernel: Kernel, tmp_path: Path
) -> None:
    """It puts what it reads into a program of awk."""
    said = symbolised(TRACE, kernel, tmp_path)
    asked = (tmp_path / "kernels" / HEX[::-1][:32] / "asked").read_text()
    assert asked == " do_swap_page+0x611/0x7d0\n exc_page_fault+0x191/0x370\n"
    assert HOSTILE in said


@pytest.mark.parametrize("script", ["exit 1\n", "echo one line for two frames\n", "sleep 60\n"])
def test_a_script_that_fails_leaves_the_trace_as_it_is(
    script: str, kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(symbols, "SCRIPT_S", 1.0)
    (tmp_path / "kernels" / HEX[::-1][:32] / "decode_stacktrace.sh").write_text(script)
    assert symbolised(TRACE, kernel, tmp_path) == TRACE


def test_symbols_of_other_code_are_not_used(kernel: Kernel, tmp_path: Path) -> None:
    assert symbols.found(kernel, tmp_path) is not None
    kernel.image.with_name("symbols").write_text(f"{HEX[::-1]} other\n")
    assert symbols.found(kernel, tmp_path) is None
    kernel.image.with_name("symbols").write_text("../../etc x\n")
    assert symbols.found(kernel, tmp_path) is None


def test_debug_info_changes_no_code_and_a_changed_line_does(tmp_path: Path) -> None:
    """Not even where the build id, which hashes the debug info, is itself loaded."""
    source = tmp_path / "x.c"
    text = (
        'const char id[] __attribute__((section(".rodata"))) = '
        '"\\x04\\0\\0\\0\\x14\\0\\0\\0\\x03\\0\\0\\0GNU\\0" ID;\n'
        "int _start(void) { return CODE; }\n"
    )
    source.write_text(text)
    built = {}
    for name, flags in {
        "plain": ("-DCODE=1", '-DID="aaaaaaaaaaaaaaaaaaaa"'),
        "debug": ("-g", "-DCODE=1", '-DID="bbbbbbbbbbbbbbbbbbbb"'),
        "other": ("-DCODE=2", '-DID="aaaaaaaaaaaaaaaaaaaa"'),
    }.items():
        built[name] = tmp_path / name
        always = ("-O1", "-nostdlib", "-static", "-Wl,--build-id")
        subprocess.run(["gcc", *always, *flags, "-o", built[name], source], check=True)
    assert same_code(built["plain"], built["debug"])
    assert not same_code(built["plain"], built["other"])


def test_vmcoreinfo_is_what_the_kernel_would_say(kernel: Kernel, tmp_path: Path) -> None:
    found = symbols.found(kernel, tmp_path)
    assert found is not None
    told = core_info(kernel, found).splitlines()
    (build_id,) = [line for line in told if line.startswith("BUILD-ID=")]
    asked = subprocess.run(
        ["file", "-b", found.vmlinux], capture_output=True, text=True, check=True
    )
    assert build_id.removeprefix("BUILD-ID=") in asked.stdout
    assert "OSRELEASE=5.10.7" in told
    assert "SYMBOL(swapper_pg_dir)=ffffffff81a09000" in told
    assert "NUMBER(pgtable_l5_enabled)=0" in told


def test_debuggers_get_their_command_lines(tmp_path: Path) -> None:
    found = Symbols(tmp_path / "my kernel/vmlinux")
    both = debugger_lines(found, Debuggers(gdb=True, drgn=True), tmp_path)
    assert f"'{found.vmlinux}' -ex 'target remote {tmp_path / GDB}'" in both
    assert f"-iex 'add-auto-load-safe-path {found.vmlinux.parent}'" in both
    assert f"attach.py {tmp_path / DRGN} {tmp_path}/vmcoreinfo '{found.vmlinux}'" in both
    assert debugger_lines(found, Debuggers(), tmp_path) == ""


def test_a_shell_says_how_its_case_is_run(kernel: Kernel) -> None:
    swap = swap_named("nullblk")
    stage = Stage(None, "base", kernel, None, None, swap, 1, 1.0, REUSE)  # type: ignore[arg-type]
    assert welcome(stage).splitlines()[-1] == "cow/wr_hit: /twinboot/bin/cow wr_hit"
    assert "base kernel 5.10.7 on nullblk swap" in welcome(stage)


def test_equal_complaints_are_counted_together() -> None:
    """Two that one run prints are one run."""
    twice = replace(run(splats=(splat("swap"), splat("swap"))), repeat=1)
    other = replace(run(splats=(splat("rmap"), splat("swap"))), repeat=2)
    found = complaints(compared([run()], [twice, other]))
    assert [str(each) for each in found] == [
        "warning: at mm/swap.c:1 in swap: never on base, 2 runs with the patch "
        "(cow/wr_hit on nullblk)",
        "warning: at mm/rmap.c:1 in rmap: never on base, 1 run with the patch "
        "(cow/wr_hit on nullblk)",
    ]
