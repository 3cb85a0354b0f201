# SPDX-License-Identifier: GPL-2.0-only
"""Finds the kernel's complaints (panic, oops, warning, KASAN, lockdep, lockups, ...) in a console.

What kmemleak finds is none of them: it counts at a level that does not come to the console, and
when it scans is a matter of time.

It does not say whose fault they are or whether they are new.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

FRAMES_IN_SIGNATURE = 5
_LINES_AT_MOST = 150

_PREFIX = re.compile(r"^(?:<\d+>)?(?:\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? ?)?")
_ARROW_FRAME = re.compile(
    r"^\s*(?:\[<[0-9a-f]+>\]\s+)?(\? )?([A-Za-z_][\w.]*)\+0x[0-9a-f]+/0x[0-9a-f]+"
)
_RIP = re.compile(r"^(?:RIP: 0010:|RIP: .*\] |pc : )(?:\[<[0-9a-f]+>\] )?([A-Za-z_][\w.]*)\+0x")
_SUFFIX = re.compile(r"\.(?:isra|constprop|part|cold|llvm)\b.*$")

# The first that matches names the kind; the more telling come first.
_KINDS = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        ("panic", r"Kernel panic - not syncing: ?(?P<what>.*)"),
        ("kasan", r"BUG: (?:KASAN|KFENCE|KMSAN|KCSAN): (?P<what>.*)"),
        ("ubsan", r"UBSAN: (?P<what>.*)"),
        ("soft-lockup", r"BUG: soft lockup - (?P<what>CPU#\d+ stuck.*)"),
        ("hard-lockup", r"(?:Watchdog detected hard LOCKUP|hard LOCKUP)(?P<what>.*)"),
        ("workqueue-lockup", r"BUG: workqueue lockup(?P<what>.*)"),
        ("rcu-stall", r"(?P<what>rcu\w* (?:self-)?detected (?:expedited )?stalls?.*)"),
        ("hung-task", r"INFO: (?P<what>task \S+ blocked for more than \d+ seconds)"),
        ("atomic", r"BUG: (?P<what>sleeping function called from invalid context.*)"),
        ("atomic", r"BUG: (?P<what>scheduling while atomic.*)"),
        (
            "lockdep",
            r"(?:WARNING|BUG|INFO|DEBUG): (?P<what>possible (?:circular|recursive|irq lock|deadlock"
            r"|irq-unsafe|reason).*|inconsistent lock state.*|bad unlock balance.*|.*irq-safe.*"
            r"|suspicious RCU usage.*|held lock freed.*|lock held when returning.*"
            r"|.*lock order inversion.*|.*still has locks held.*|.*has .*locks? held.*"
            r"|[Ii]nvalid wait context.*|MAX_LOCK\w+ .*too low.*|key .* has not been registered.*)",
        ),
        ("list", r"(?P<what>list_(?:add|del) corruption.*)"),
        ("bad-page", r"BUG: (?P<what>Bad (?:page|rss).*|non-zero pgtables_bytes.*)"),
        # pmd_ERROR() and its like in arch/x86/include/asm/pgtable_64.h: a table's entry is cleared
        ("bad-entry", r":\d+: (?P<what>bad (?:pgd|p4d|pud|pmd|pte)) "),
        ("bug", r"(?P<what>kernel BUG at \S+?)!"),
        ("slub", r"BUG (?P<what>\S+ \((?:Not tainted|Tainted).*)"),
        # __slab_error() in mm/slab.c, up to 6.7
        ("slab", r"(?P<what>slab error in \w+\(\).*)"),
        ("oops", r"BUG: (?P<what>unable to handle .*|kernel NULL pointer dereference.*)"),
        ("oops", r"(?P<what>Unable to handle kernel .*)"),
        ("oops", r"^(?:traps: )?(?P<what>general protection fault(?! ip:).*)"),
        (
            "oops",
            # exc_double_fault() says `traps: PANIC: double fault`, and then dies
            r"^(?:traps: )?(?P<what>(?:Oops|PANIC|divide error|invalid opcode|stack segment"
            r"|double fault|Internal error|Thread overran stack|kernel stack overflow)\b.*: .*)",
        ),
        ("oom-kill", r"(?P<what>\S+) invoked oom-killer:"),
        ("alloc-failure", r"(?P<what>page allocation failure: order:\d+)"),
        (
            "swap-error",
            r"(?P<what>\w+: (?:Bad|Unused) swap (?:file|offset) entry"
            r"|(?:Read|Write)-error on swap-device)",
        ),
        # blk_print_req_error() in block/blk-mq.c (5.10: print_req_error() in block/blk-core.c); a
        # discard that fails loses nothing
        (
            "io-error",
            r"(?P<what>(?:I/O|timeout|critical medium|protection) error, dev \S+), sector \d+ "
            r"op 0x[0-9a-f]+:\((?:READ|WRITE|FLUSH)\)",
        ),
        # buffer_io_error() in fs/buffer.c
        ("io-error", r"(?P<what>Buffer I/O error on dev [^\s,]+), logical block"),
        # drivers/block/zram/zram_drv.c: what was swapped out is lost, or is not swapped out
        ("io-error", r"zram: (?P<what>(?:Dec|C)ompression failed)!"),
        # __ext4_error() and __ext4_std_error() in fs/ext4/super.c, with the function that found it
        ("fs-error", r"(?P<what>EXT4-fs error \(device \S+\)(?::| in) \w+)"),
        ("warning", r"WARNING: (?P<what>.*)"),
        ("bug", r"^BUG: (?P<what>.*)"),
    )
)

# Where a stalled CPU happens to be says nothing: the kind alone identifies these.
_BY_KIND = frozenset({"soft-lockup", "hard-lockup", "rcu-stall", "workqueue-lockup", "oom-kill"})

# One line each: a trace further down is of something else.
_ONE_LINE = frozenset({"bad-entry", "swap-error", "io-error", "fs-error"})

# The kernel itself is broken, whatever the program printed.
FATAL_KINDS = frozenset({"panic", "oops", "bug"})
STALL_KINDS = frozenset(
    {"soft-lockup", "hard-lockup", "rcu-stall", "workqueue-lockup", "hung-task"}
)

_BOILERPLATE = re.compile(
    r"(?:dump_stack(?:_lvl)?|show_(?:stack|regs|trace)\w*|panic|__warn\w*|warn_slowpath\w*"
    r"|report_bug|handle_bug|fixup_bug\w*|do_error_trap|do_trap\w*|do_invalid_op|die(?:_addr)?|__die"
    r"|oops_(?:begin|end)|no_context|page_fault_oops|bad_area\w*|__bad_area\w*|kernelmode_fixup\w*"
    r"|do_user_addr_fault|do_kern_addr_fault|(?:asm_)?(?:exc|sysvec|common)_\w+|__sysvec_\w+"
    r"|do_syscall_64|do_int80\w*|do_fast_syscall\w*|x64_sys_call|entry_\w+|ret_from_fork\w*|kthread"
    r"|print_address_description\w*|print_report|end_report|kasan_\w+|__kasan_\w+|__asan_\w+"
    r"|check_memory_region\w*|__might_\w*|___might_sleep|might_fault"
    r"|(?:__)?lock_(?:acquire|release)\w*|lockdep_\w+|print_(?:circular|usage|bad|unlock)\w*"
    r"|print_deadlock\w*|check_noncircular|check_deadlock|check_prev\w+|validate_chain"
    r"|mark_lock\w*|debug_check_no_locks\w*|_raw_(?:spin|read|write)_\w+|do_raw_spin_\w+"
    r"|queued_spin_lock\w*|native_queued_spin\w*"
    r"|rcu_dump_cpu_stacks|rcu_sched_clock_irq|print_cpu_stall|check_cpu_stall|update_process_times"
    r"|tick_\w+|hrtimer_\w+|__hrtimer_\w+|nmi_\w+|irq_exit\w*|watchdog\w*"
    r"|dump_header|oom_kill_\w+|out_of_memory|warn_alloc|slab_err|object_err|__slab_err\w*"
    r"|__schedule|schedule|schedule_timeout\w*|io_schedule\w*|__schedule_bug|schedule_debug"
    r"|bad_page|dump_page|check_preemption_disabled|sched_show_task|debug_show\w*"
    # who was interrupted matters, not how
    r"|irqentry_\w+|asm_call_\w+|(?:__)?do_softirq\w*|handle_softirqs|invoke_softirq"
    r"|__irq_exit_rcu|end_repeat_nmi|default_do_nmi|(?:syscall_)?exit_to_user_mode\w*"
    # what found it, not what did it
    r"|(?:__)?ubsan_\w+|kfence_\w+|__list_(?:add|del_entry)_valid\w*|refcount_warn_saturate"
    r"|usercopy_abort|__check_object_size|fortify_panic|print_trailer|slab_(?:bug|fix))"
)


@dataclass(frozen=True, slots=True)
class Splat:
    """One complaint. `frames` are innermost first, without what every trace has.

    `signature` is equal for the same bug at another time, address or line.
    """

    kind: str
    title: str
    frames: tuple[str, ...]
    signature: str
    text: str

    @property
    def fatal(self) -> bool:
        return self.kind in FATAL_KINDS

    @property
    def stall(self) -> bool:
        return self.kind in STALL_KINDS


def splats(console: str) -> tuple[Splat, ...]:
    """All complaints in the order in which they were printed; one crash is one splat."""
    lines = [_PREFIX.sub("", line.rstrip("\r")) for line in console.split("\n")]
    return tuple(_splat(kind, what, text) for kind, what, text in _join(_blocks(lines)))


_Block = tuple[str, str, tuple[str, ...]]


def _headline(line: str) -> tuple[str, str] | None:
    for kind, pattern in _KINDS:
        if found := pattern.search(line):
            return kind, found.group("what").strip()
    return None


def _blocks(lines: list[str]) -> Iterator[_Block]:
    """From each headline to the next one, to the end of its report, or at most 150 lines."""
    start: int | None = None
    head = ("", "")
    for index, line in enumerate(lines):
        found = _headline(line)
        if start is not None and (found or index - start >= _LINES_AT_MOST or _is_end(line)):
            yield (*head, tuple(lines[start : index + (not found)]))
            start = None
        if found:
            start, head = index, found
    if start is not None:
        yield (*head, tuple(lines[start:]))


def _is_end(line: str) -> bool:
    return line.startswith(("---[ end ", "twinboot: "))


def _join(blocks: Iterable[_Block]) -> Iterator[_Block]:
    """One crash prints several headlines: keep the first, with the text of those that follow.

    An oops is a title, `Oops:` and a fatal-exception panic; a corrupted list is a line before
    its BUG or WARNING; a panic on request (panic_on_warn and kin) follows what it is about.
    """
    held: _Block | None = None
    for block in blocks:
        if held is not None and _continues(held, block):
            kind = block[0] if block[0] in FATAL_KINDS and held[0] == "list" else held[0]
            held = (kind, held[1], held[2] + block[2])
            continue
        if held is not None:
            yield held
        held = block
    if held is not None:
        yield held


def _continues(first: _Block, second: _Block) -> bool:
    kind, what, _ = second
    if kind == "panic" and re.match(r"Fatal exception|Attempted to kill init", what):
        return first[0] in FATAL_KINDS
    if kind == "panic":
        on_request = r"(?:KASAN: )?(?:panic_on_warn|softlockup|hung_task|Hard LOCKUP|RCU Stall)\b"
        return re.match(on_request, what) is not None
    if kind == "oops" and re.match(r"Oops|double fault|invalid opcode|Internal error", what):
        return first[0] in FATAL_KINDS
    if first[0] == "list":
        return kind in ("bug", "warning")
    return False


def _splat(kind: str, what: str, lines: tuple[str, ...]) -> Splat:
    frames = () if kind in _ONE_LINE else _frames(lines)
    text = "\n".join(lines).rstrip()
    return Splat(kind, _title(kind, what), frames, _signature(kind, what, frames, text), text)


def _title(kind: str, what: str) -> str:
    what = re.sub(r"\+0x[0-9a-f]+/0x[0-9a-f]+|CPU: \d+ PID: \d+ ", "", what)
    told = what if kind.split("-", maxsplit=1)[0] in what.lower() else f"{kind}: {what}"
    return " ".join(told.split())[:160]


def _signature(kind: str, what: str, frames: tuple[str, ...], text: str) -> str:
    if kind == "oom-kill":
        return f"{kind}: {_oom_scope(text)}"
    if kind in _BY_KIND:
        return kind
    if frames:
        where = " < ".join(frames[:FRAMES_IN_SIGNATURE])
        defect = _defect(kind, what, text)
        return f"{kind}: {defect} in {where}" if defect else f"{kind}: {where}"
    return f"{kind}: {_timeless(what)}"


def _oom_scope(text: str) -> str:
    """What ran out of memory, in the words of dump_oom_summary() in mm/oom_kill.c.

    Its line has a level that does not come to our consoles; the one about who is killed does.
    """
    if scope := re.search(r"constraint=CONSTRAINT_(\w+)", text):
        return scope.group(1).lower()
    killed = re.search(r"(Memory cgroup out|Out) of memory(?::| \()", text)
    if not killed:
        return "unknown"
    return "none" if killed.group(1) == "Out" else "memcg"


def _defect(kind: str, what: str, text: str) -> str:
    """What is wrong there, where a kind has several classes: one does not stand for another.

    KASAN and its kin print `CLASS in FUNCTION+0x...`, dump_page() the reason below a bad page.
    """
    if kind == "kasan":
        found = re.match(r"(.+?) in ", what)
    elif kind == "bad-page":
        found = re.search(r"^page dumped because: (.+)", text, re.MULTILINE)
    else:
        return ""
    return _timeless(found.group(1).strip()) if found else ""


def _timeless(what: str) -> str:
    """A title without what differs from boot to boot: addresses, numbers, processes."""
    what = re.sub(r"\b(?:0x)?[0-9a-f]{8,}\b", "X", what)
    return re.sub(r"\d+", "N", what)[:120]


def _frames(lines: tuple[str, ...]) -> tuple[str, ...]:
    """The reliable frames of the first trace, after the instruction pointer if it was given."""
    found: list[str] = []
    in_trace = ended = False
    for line in lines:
        if rip := _RIP.match(line):
            if not found:
                found.append(_plain(rip.group(1)))
        elif re.match(r"\s*(?:Call [Tt]race:|<(?:TASK|IRQ|NMI)>)", line):
            in_trace = not ended
        elif in_trace and (frame := _ARROW_FRAME.match(line)):
            if not frame.group(1):
                found.append(_plain(frame.group(2)))
        elif in_trace and not line.strip():
            in_trace, ended = False, True
    kept = [name for name in found if not _BOILERPLATE.fullmatch(name)]
    return tuple(name for index, name in enumerate(kept) if index == 0 or name != kept[index - 1])


def _plain(name: str) -> str:
    """A function's name without what the compiler added."""
    return _SUFFIX.sub("", name)
