# SPDX-License-Identifier: GPL-2.0-only
"""server/checkpoint: one process saves the swapped memory of another, and restores it to a third.

It uses process_vm_readv() and process_vm_writev(): faults taken for somebody else, where the
three share their pages through swap since a fork. Bugs it would catch: such a write fault takes
a page over that others need, or loses the rest of the page; a page so written is lost at swap-out.
"""

from __future__ import annotations

import ctypes
import zlib

import guest
from records import HEADER, RECORD, Store
from talk import Child, Gone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

RECORDS = 600
COUNT, WORK, PAGE_OUT = -1, -2, -3
NEW = 7


class Span(ctypes.Structure):
    """struct iovec"""

    _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))


class Remote:
    """The memory of another process, at this one's addresses."""

    def __init__(self, child: Child) -> None:
        self._pid = child.pid
        self._libc = ctypes.CDLL(None, use_errno=True)

    def read(self, address: int, size: int) -> bytes:
        buffer = ctypes.create_string_buffer(size)
        self._move(self._libc.process_vm_readv, ctypes.addressof(buffer), address, size)
        return buffer.raw

    def write(self, address: int, data: bytes) -> None:
        buffer = ctypes.create_string_buffer(data, len(data))
        self._move(self._libc.process_vm_writev, ctypes.addressof(buffer), address, len(data))

    def _move(self, call: Callable[..., int], here: int, there: int, size: int) -> None:
        local, remote = Span(here, size), Span(there, size)
        none = ctypes.c_ulong(0)
        one = ctypes.c_ulong(1)
        done = call(self._pid, ctypes.byref(local), one, ctypes.byref(remote), one, none)
        if done < 0 and ctypes.get_errno() == 38:  # ENOSYS
            raise guest.Skip("this kernel has no CROSS_MEMORY_ATTACH")
        if done != size:
            raise guest.Broken(f"{done} of {size} bytes moved to or from process {self._pid}")


def renewed_only(index: int) -> bool:
    return index % 3 == 1


def change(store: Store, index: int) -> bool:
    """What the application does to its store: a third written whole, a third in part."""
    if index % 3 == 0:
        store.put(index, NEW)
    elif renewed_only(index):
        store.renew(index, NEW)
    return index % 3 != 2


class Application:
    """What each child does when asked."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def answer(self, question: int) -> int:
        if question == COUNT:
            return guest.count_swapped(self.store.address, RECORDS)
        if question == WORK:
            return sum(change(self.store, index) for index in range(RECORDS))
        if question == PAGE_OUT:
            return self.store.page_out()
        return zlib.crc32(self.store.page(question))


def unlike(saved: bytes, model: Store) -> int:
    """Pages of a checkpoint that are not as the model has them."""
    return sum(
        saved[index * RECORD : (index + 1) * RECORD] != model.page(index)
        for index in range(len(saved) // RECORD)
    )


def unlike_inside(child: Child, model: Store) -> int:
    """The same as the child itself sees it."""
    return sum(child.ask(index) != zlib.crc32(model.page(index)) for index in range(RECORDS))


def restore(other: Remote, model: Store, address: int) -> None:
    """Write what has changed, a page or its first bytes."""
    for index in range(RECORDS):
        size = HEADER.size if renewed_only(index) else RECORD
        if index % 3 != 2:
            other.write(address + index * RECORD, model.page(index)[:size])


def scenario(store: Store, model: Store) -> None:
    out = store.page_out()
    children = [Child(Application(store).answer) for _ in range(2)]
    first, second = children
    shared = min(child.ask(COUNT) for child in children)
    guest.proof(
        "swapped_out",
        out == shared == RECORDS,
        f"{out} pages, {shared} in each child, of {RECORDS}",
    )
    size = RECORDS * RECORD
    wrong = unlike(Remote(first).read(store.address, size // 2), model)
    first.ask(WORK)
    for index in range(RECORDS):
        change(model, index)
    wrong += unlike(Remote(first).read(store.address, size), model)
    restore(Remote(second), model, store.address)
    lost = unlike_inside(second, model)
    out_again = second.ask(PAGE_OUT)
    lost += unlike(Remote(second).read(store.address, size), model)
    spoiled = unlike_inside(first, model)
    spoiled += sum(store.get(index) != 0 for index in range(RECORDS))
    ended = [child.end() for child in children]
    guest.proof("out_again", out_again > RECORDS // 2, f"{out_again} restored pages")
    guest.proof("all_ended", not any(ended), f"exits {ended}")
    guest.verdict("checkpoint_exact", not wrong, f"{wrong} of {RECORDS * 3 // 2} pages differ")
    guest.verdict("restored_exact", not lost, f"{lost} of {2 * RECORDS} pages differ")
    guest.verdict("others_intact", not spoiled, f"{spoiled} of {2 * RECORDS} pages differ")


def case() -> None:
    guest.plan(3)
    guest.require_swap()
    store, model = (Store(RECORDS, guest.seed()) for _ in range(2))
    for index in range(RECORDS):
        store.put(index, 0)
        model.put(index, 0)
    try:
        scenario(store, model)
    except Gone as gone:
        raise guest.Broken(f"{gone} is gone") from gone


guest.run(case)
