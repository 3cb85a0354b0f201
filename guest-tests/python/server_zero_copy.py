# SPDX-License-Identifier: GPL-2.0-only
"""server/zero_copy: a worker answers with the server's own pages and ends; then the server writes.

The worker gives the pages to the client's pipe by vmsplice(), which copies nothing. Bugs it would
catch: the server, alone in mapping a page, writes in place while the pipe still has it
(CVE-2020-29374): a client gets an answer that is half old and half new, or somebody else's.
"""

from __future__ import annotations

import ctypes
import fcntl
import os

import guest
from records import RECORD, Store

RECORDS = 240
F_SETPIPE_SZ = 1031  # linux/fcntl.h
PIPE = 256 * RECORD


class Span(ctypes.Structure):
    """struct iovec"""

    _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))


def answer(store: Store, pipe: int) -> int:
    """In the worker: all records into the pipe, none of them copied."""
    libc = ctypes.CDLL(None)
    for index in range(RECORDS):
        span = Span(store.address + index * RECORD, RECORD)
        if libc.vmsplice(pipe, ctypes.byref(span), ctypes.c_ulong(1), 0) != RECORD:
            return 1
    return 0


def differing(pipe: int, sent: list[bytes]) -> int:
    """As the client: answers that are not what the store held when they were given."""
    return sum(os.read(pipe, RECORD) != page for page in sent)


def case() -> None:
    guest.plan(2)
    guest.require_swap()
    store = Store(RECORDS, guest.seed())
    for index in range(RECORDS):
        store.put(index, 0)
    sent = [store.page(index) for index in range(RECORDS)]
    client, server = os.pipe()
    fcntl.fcntl(server, F_SETPIPE_SZ, PIPE)
    out = store.page_out()
    guest.proof("swapped_out", out == RECORDS, f"{out} of {RECORDS} pages")
    worker = guest.spawn(lambda: answer(store, server))
    guest.proof("answered", guest.reap(worker) == 0, f"{RECORDS} pages are in the pipe")
    for index in range(RECORDS):
        # half of them in part: the rest of the page has to survive that
        (store.renew if index % 2 else store.put)(index, 1)
    wrong = differing(client, sent)
    lost = sum(store.get(index) != 1 for index in range(RECORDS))
    guest.verdict("answers_stable", not wrong, f"{wrong} of {RECORDS} answers changed on their way")
    guest.verdict("server_intact", not lost, f"{lost} of {RECORDS} records are not as last put")


guest.run(case)
