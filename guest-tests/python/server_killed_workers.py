# SPDX-License-Identifier: GPL-2.0-only
"""server/killed_workers: clients of a server under pressure, whose workers are killed at work.

Workers are forked from a master that has the store, answer on a UNIX socket, and die by SIGKILL
with requests unanswered; so does the master in the end. Bugs it would catch: a wrong answer from
memory shared through swap, and swap slots that nobody gives back when a process is killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import time

import guest
from records import RECORD, Chance, Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

LIMIT = 7 << 20
RECORDS = LIMIT // RECORD * 5 // 4
WORKERS = 3
LIVES = 3
REQUESTS = 80  # of each client, before
UNANSWERED = 20  # it sends these and kills
# 64 free slots in each of two caches of each CPU (mm/swap_slots.c), and some left to spare
SLACK = 512
REQUEST = struct.Struct("<QQ")  # record, version to write or 0
ANSWER = struct.Struct("<q")
ADDRESS = "\0twinboot.killed_workers"


def work(listener: socket.socket, store: Store) -> NoReturn:
    """A worker: one client, until the end."""
    client = listener.accept()[0]
    client.send(ANSWER.pack(os.getpid()))
    while request := client.recv(REQUEST.size):
        index, version = REQUEST.unpack(request)
        if version:
            change = store.renew if version % 2 else store.put
            change(index, version)
        client.send(ANSWER.pack(store.get(index)))
    os._exit(0)


def master(listener: socket.socket) -> int:
    """Fill the store, then keep as many workers as there should be; it ends when it is killed."""
    guest.join_memcg()
    store = Store(RECORDS, guest.seed())
    for index in range(RECORDS):
        store.put(index, 0)
    living = 0
    while True:
        while living < WORKERS:
            if not os.fork():
                work(listener, store)
            living += 1
        os.wait()
        living -= 1


class Client:
    """A conversation with one worker, and what its answers have to be."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.connect(ADDRESS)
        self._written: dict[int, int] = {}
        self._due: list[int] = []
        self.worker = self._read()

    def _read(self) -> int | None:
        """An answer, or None when there is nobody any more."""
        try:
            answer = self._socket.recv(ANSWER.size)
        except ConnectionResetError:
            return None
        return ANSWER.unpack(answer)[0] if answer else None

    def request(self, index: int, version: int) -> None:
        if version:
            self._written[index] = version
        self._due.append(self._written.get(index, 0))
        self._socket.send(REQUEST.pack(index, version))

    def is_right(self) -> bool:
        return self._read() == self._due.pop(0)

    def kill(self) -> int:
        """End the worker at work; how many of the answers that it still gave are wrong."""
        if self.worker is None:
            raise guest.Broken("there is no worker")
        os.kill(self.worker, signal.SIGKILL)
        wrong = 0
        while (answer := self._read()) is not None:
            wrong += answer != self._due.pop(0)
        self._socket.close()
        return wrong


def one_life(chance: Chance) -> int:
    """As many clients as workers; each worker ends with requests unanswered."""
    clients = [Client() for _ in range(WORKERS)]
    wrong = 0
    for request in range(REQUESTS):
        for client in clients:
            client.request(chance.below(RECORDS), request % 2 * (request + 1))
        wrong += sum(not client.is_right() for client in clients)
    for client in clients:
        for request in range(UNANSWERED):
            client.request(chance.below(RECORDS), request % 3)
    return wrong + sum(client.kill() for client in clients)


def slots_left(before: int) -> int:
    """Slots in use once nobody is left; those of orphaned pages in the swap cache are freed."""
    left = 0
    for _ in range(20):
        guest.squeeze_memcg()
        left = guest.swap_used() - before
        if left <= SLACK // 4:
            break
        time.sleep(0.1)
    return left


def case() -> None:
    guest.plan(2)
    guest.require_swap()
    os.sched_setaffinity(0, {0, 1})
    guest.make_memcg(LIMIT)
    before = guest.swap_used()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(ADDRESS)
    listener.listen(2 * WORKERS)
    server = guest.spawn(lambda: master(listener))
    chance = Chance(guest.seed())
    wrong = sum(one_life(chance) for _ in range(LIVES))
    used = guest.swap_used() - before
    guest.proof("swapped_out", used >= RECORDS // 5, f"{used} slots in use before the last kill")
    with contextlib.suppress(ProcessLookupError):
        os.kill(server, signal.SIGKILL)
    guest.proof("master_killed", guest.reap(server) == -signal.SIGKILL, "while it had its store")
    guest.kill_memcg()
    left = slots_left(before)
    guest.measure("slots_left", left, "slots")
    guest.verdict("answers_right", not wrong, f"{wrong} answers are not what was put there")
    guest.verdict("slots_returned", left <= SLACK, f"{left} slots in use when all were gone")


guest.run(case)
