# SPDX-License-Identifier: GPL-2.0-only
"""Finding the kernel's complaints in a console, and knowing the same one again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.splat import Splat, splats
from runner.tests import corpus

WARNING = """\
[    1.500000] ------------[ cut here ]------------
[    1.500001] WARNING: CPU: 1 PID: 77 at mm/memory.c:3100 do_wp_page+0x1ab/0x5f0
[    1.500002] CPU: 1 PID: 77 Comm: cow Not tainted 5.10.223 #1
[    1.500003] RIP: 0010:do_wp_page+0x1ab/0x5f0
[    1.500004] Call Trace:
[    1.500005]  ? __warn+0x81/0xe0
[    1.500006]  handle_mm_fault+0x7e2/0xf40
[    1.500007]  do_user_addr_fault+0x1b6/0x3f0
[    1.500008]  exc_page_fault+0x5d/0x110
[    1.500009]  asm_exc_page_fault+0x1e/0x30
[    1.500010] RIP: 0033:0x401234
[    1.500011] ---[ end trace 0123456789abcdef ]---
"""


def one(console: str) -> Splat:
    (found,) = splats(console)
    return found


def test_frames_leave_out_what_every_trace_has() -> None:
    assert one(WARNING).frames == ("do_wp_page", "handle_mm_fault")


def test_the_same_bug_elsewhere_and_later_has_the_same_signature() -> None:
    other = (
        WARNING.replace("1.5000", "17.2000")
        .replace("PID: 77", "PID: 123")
        .replace("CPU: 1", "CPU: 0")
        .replace("memory.c:3100", "memory.c:3177")
        .replace("0x1ab/0x5f0", "0x1bc/0x610")
        .replace("handle_mm_fault+", "handle_mm_fault.constprop.0+")
    )
    assert one(other).signature == one(WARNING).signature


def test_another_caller_is_another_signature() -> None:
    other = WARNING.replace("handle_mm_fault", "wp_huge_pmd")
    assert one(other).signature != one(WARNING).signature


def test_a_console_without_timestamps_reads_the_same() -> None:
    bare = "\n".join(line.partition("] ")[2] for line in WARNING.splitlines())
    assert one(bare).signature == one(WARNING).signature


def test_carriage_returns_do_not_matter() -> None:
    assert one(WARNING.replace("\n", "\r\n")).signature == one(WARNING).signature


def test_an_oops_and_the_panic_after_it_are_one_splat() -> None:
    text = (
        "BUG: kernel NULL pointer dereference, address: 0000000000000008\n"
        "#PF: supervisor read access in kernel mode\n"
        "Oops: 0000 [#1] SMP\n"
        "RIP: 0010:reuse_swap_page+0x10/0x90\n"
        "Call Trace:\n do_wp_page+0x1/0x2\n"
        "---[ end trace 0123456789abcdef ]---\n"
        "RIP: 0010:reuse_swap_page+0x10/0x90\n"
        "Kernel panic - not syncing: Fatal exception\n"
    )
    assert one(text).signature == "oops: reuse_swap_page < do_wp_page"


@pytest.mark.parametrize(
    ("headline", "finder"),
    [
        ("list_del corruption, ffff88800270bdf0->next is NULL", "__list_del_entry_valid.cold"),
        (
            "UBSAN: shift-out-of-bounds in mm/swap_state.c:98:12",
            "__ubsan_handle_shift_out_of_bounds",
        ),
        ("WARNING: CPU: 0 PID: 7 at lib/refcount.c:28", "refcount_warn_saturate"),
    ],
)
def test_a_signature_names_who_did_it_and_not_what_found_it(headline: str, finder: str) -> None:
    trace = (
        f"{headline}\nCall Trace:\n <IRQ>\n dump_stack+0x57/0x6a\n {finder}+0x1/0x2\n"
        " swap_free+0x12/0x30\n __do_softirq+0xc4/0x281\n asm_call_irq_on_stack+0xf/0x20\n"
        " __irq_exit_rcu+0x9d/0xd0\n zap_pte_range+0x5/0x9\n"
    )
    assert one(trace).frames == ("swap_free", "zap_pte_range")


def test_a_stalled_cpu_is_known_by_its_kind_alone() -> None:
    text = "watchdog: BUG: soft lockup - CPU#{}s! [cow:33]\nRIP: 0010:{}+0x1/0x2\n"
    first, second = one(text.format("1 stuck for 22", "a")), one(text.format("0 stuck for 40", "b"))
    assert first.signature == second.signature == "soft-lockup"


OOM = """\
python3 invoked oom-killer: gfp_mask=0x100cca(GFP_HIGHUSER_MOVABLE), order=0, oom_score_adj=0
Call Trace:
 dump_header+0x3f/0x1a0
 oom_kill_process+0xf1/0x1c0
{}: Killed process 58 (python3) total-vm:26060kB, anon-rss:9324kB
"""


def test_what_ran_out_of_memory_is_known_without_the_line_that_consoles_do_not_show() -> None:
    group, machine = (
        one(OOM.format(said)) for said in ("Memory cgroup out of memory", "Out of memory")
    )
    assert group.signature == "oom-kill: memcg"
    assert machine.signature == "oom-kill: none"


KASAN = """\
BUG: KASAN: {} in do_swap_page+0x{:x}/0x2
Read of size 8 at addr ffff888004535a00 by task cow/39
Call Trace:
 do_swap_page+0x1/0x2
 handle_mm_fault+0x1/0x2
"""
BAD_PAGE = """\
BUG: Bad page state in process cow  pfn:{}
page:(____ptrval____) refcount:0 mapcount:1 mapping:0000000000000000 index:0x0
page dumped because: {}
Call Trace:
 dump_stack+0x1/0x2
 bad_page+0x1/0x2
 free_pcp_prepare+0x1/0x2
"""


def test_two_defects_at_one_place_are_two_complaints() -> None:
    first, second = one(KASAN.format("use-after-free", 1)), one(KASAN.format("double-free", 1))
    assert first.signature == "kasan: use-after-free in do_swap_page < handle_mm_fault"
    assert second.signature == "kasan: double-free in do_swap_page < handle_mm_fault"
    first, second = (
        one(BAD_PAGE.format("1234", why)) for why in ("nonzero mapcount", "non-NULL mapping")
    )
    assert first.signature == "bad-page: nonzero mapcount in free_pcp_prepare"
    assert second.signature == "bad-page: non-NULL mapping in free_pcp_prepare"


def test_one_defect_is_one_complaint_wherever_the_page_is() -> None:
    assert one(KASAN.format("x", 1)).signature == one(KASAN.format("x", 2)).signature
    reason = "corrupted mapping in tail page"
    pages = (one(BAD_PAGE.format(number, reason)) for number in ("1234", "0abcd"))
    assert len({page.signature for page in pages}) == 1


@pytest.mark.parametrize(
    ("line", "signature"),
    [
        (
            "mm/pgtable-generic.c:50: bad pmd 00000000deadbeef(0000000012345067)",
            "bad-entry: bad pmd",
        ),
        (
            "mm/pgtable-generic.c:29: bad p4d (____ptrval____)(8000000012345067)",
            "bad-entry: bad pNd",
        ),
        (
            "blk_update_request: I/O error, dev nullb0, sector 8 op 0x1:(WRITE) flags 0x0",
            "io-error: I/O error, dev nullbN",
        ),
        (
            "critical medium error, dev vda, sector 8 op 0x0:(READ) flags 0x0 phys_seg 1",
            "io-error: critical medium error, dev vda",
        ),
        (
            "Buffer I/O error on dev zram0, logical block 3, lost async page write",
            "io-error: Buffer I/O error on dev zramN",
        ),
        ("zram: Decompression failed! err=-22, page=17", "io-error: Decompression failed"),
        (
            "EXT4-fs error (device vda): ext4_lookup:1702: inode #12: comm sh: bad",
            "fs-error: EXTN-fs error (device vda): extN_lookup",
        ),
        (
            "EXT4-fs error (device vda) in ext4_setattr:5400: Journal has aborted",
            "fs-error: EXTN-fs error (device vda) in extN_setattr",
        ),
        (
            "get_swap_device: Bad swap file entry 1",
            "swap-error: get_swap_device: Bad swap file entry",
        ),
    ],
)
def test_a_complaint_of_one_line_is_known_by_that_line(line: str, signature: str) -> None:
    trace = "Call Trace:\n __schedule+0x1/0x2\n swap_readpage+0x1/0x2\n"
    found = one(f"[    1.5] {line}\nsysrq: Show Blocked State\n{trace}")
    assert found.signature == signature
    assert found.frames == ()


def test_slab_says_what_it_found() -> None:
    found = one(
        "slab error in cache_free_debugcheck(): cache `kmalloc-64': double free detected\n"
        "Call Trace:\n dump_stack+0x1/0x2\n __slab_error.isra.0+0x1/0x2\n kfree+0x1/0x2\n"
    )
    assert found.signature == "slab: kfree"


@pytest.mark.parametrize("second", ["double fault: 0000 [#1] SMP", "Oops: double fault: 0000 [#1]"])
def test_a_double_fault_is_one_oops(second: str) -> None:
    found = one(
        f"traps: PANIC: double fault, error_code: 0x0\n{second}\n"
        "RIP: 0010:do_swap_page+0x1/0x2\n---[ end trace 1 ]---\n"
        "Kernel panic - not syncing: Fatal exception in interrupt\n"
    )
    assert (found.kind, found.signature) == ("oops", "oops: do_swap_page")


@pytest.mark.parametrize(
    "line",
    [
        "operation not supported error, dev loop0, sector 8 op 0x9:(WRITE_ZEROES) flags 0x0",
        "blk_update_request: I/O error, dev loop0, sector 8 op 0x3:(DISCARD) flags 0x800",
        "EXT4-fs (vda): mounted filesystem with ordered data mode. Opts: errors=remount-ro",
        "kmemleak: 5 new suspected memory leaks (see /sys/kernel/debug/kmemleak)",
        "Kernel command line: console=ttyS0 panic=-1 oops=panic",
        "NMI watchdog: Enabled. Permanently consumes one hw-PMU counter.",
        "cow[77]: segfault at 0 ip 0000000000401234 sp 00007ffd error 6",
        "traps: cow[77] general protection fault ip:401234 sp:7ffd error:0",
        "rcu: Hierarchical RCU implementation.",
        "Freeing unused kernel image (initmem) memory: 708K",
        "twinboot: swap zram ready",
        "sysrq: Show Blocked State",
        "lkdtm: No crash points registered, enable through debugfs",
        "debug: unmapping init [mem 0xffffffff81000000-0xffffffff81200000]",
    ],
)
def test_ordinary_lines_are_no_complaint(line: str) -> None:
    assert splats(line + "\n") == ()


def test_the_corpus_boots_without_a_false_alarm() -> None:
    clean = corpus.read(corpus.FOLDER / "pass.transcript")
    assert splats(clean.console) == ()


@given(st.text())
def test_finding_splats_never_raises(text: str) -> None:
    splats(text)


@given(st.lists(st.sampled_from(WARNING.splitlines())).map("\n".join))
def test_a_torn_trace_never_raises(text: str) -> None:
    splats(text)
