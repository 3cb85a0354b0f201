# SPDX-License-Identifier: GPL-2.0-only
"""server/redis_bgsave: a real Redis saves from a forked child under swap pressure, written to.

What the snapshot must hold is known exactly: Redis forks before it answers BGSAVE, and has one
client. A second Redis loads what was saved. Bugs it would catch: what the server writes after the
fork gets into the snapshot, or the snapshot or the server has something that nobody wrote.
"""

from __future__ import annotations

import os
import shutil
import socket
import time

import guest
from records import NOISE, Chance, noise

SERVER = "/usr/sbin/redis-server"
FOLDER = "/run/twinboot.redis"
LIMIT = 5 << 20
KEYS = 1600
VALUE = 4000
BATCH = 40
PART = 64  # bytes that SETRANGE overwrites
WRITES = 800  # while it saves
START_S = 30.0
# Microseconds that the child waits after each key, or it is done before anything is written
KEY_DELAY_US = "400"


class Redis:
    """A server of its own socket, and the one client that it has."""

    def __init__(self, name: str) -> None:
        self._path = f"{FOLDER}/{name}.socket"
        words = {
            "port": "0",
            "unixsocket": self._path,
            "dir": FOLDER,
            "logfile": f"{FOLDER}/{name}.log",
            "save": "",
            "rdbcompression": "no",
            "rdb-key-save-delay": KEY_DELAY_US,
        }
        argv = [SERVER, *(word for key, value in words.items() for word in (f"--{key}", value))]
        self.pid = guest.spawn(lambda: os.execv(SERVER, argv))
        self._socket = self._connect()
        self._answers = self._socket.makefile("rb")
        while self.state("loading") != "0":
            time.sleep(0.05)

    def _connect(self) -> socket.socket:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            attempt = socket.socket(socket.AF_UNIX)
            try:
                attempt.connect(self._path)
                return attempt
            except OSError:
                attempt.close()
                time.sleep(0.05)
        raise guest.Broken(f"redis-server does not answer: {self.log()}")

    def log(self) -> str:
        """The last line of the server's log."""
        path = self._path.replace(".socket", ".log")
        lines = guest.read_text(path).splitlines() if os.path.exists(path) else []
        return lines[-1] if lines else "it has no log"

    def send(self, *words: bytes) -> None:
        parts = [b"*%d\r\n" % len(words)]
        parts += (b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
        self._socket.sendall(b"".join(parts))

    def answer(self) -> bytes:
        """One answer: what follows its sign, or the bytes of a string; empty for none."""
        line = self._answers.readline().rstrip()
        if line[:1] == b"$":
            size = int(line[1:])
            return self._answers.read(size + 2)[:-2] if size >= 0 else b""
        if line[:1] not in (b"+", b":"):
            raise guest.Broken(f"redis-server says {line!r}")
        return line[1:]

    def ask(self, *words: bytes) -> bytes:
        self.send(*words)
        return self.answer()

    def state(self, name: str) -> str:
        """A line of INFO persistence."""
        lines = self.ask(b"INFO", b"persistence").decode().splitlines()
        fields = dict(line.split(":", 1) for line in lines if ":" in line)
        return fields.get(name, "")

    def end(self) -> None:
        """SHUTDOWN closes the connection instead of an answer."""
        self.send(b"SHUTDOWN", b"NOSAVE")
        self._answers.read()
        self._socket.close()
        guest.reap(self.pid)


class Load:
    """The client's writes, and what each key ought to hold."""

    def __init__(self) -> None:
        self._noise = noise(guest.seed())
        self._chance = Chance(guest.seed())
        self.values = [self._bytes(index, 0, VALUE) for index in range(KEYS)]
        self.written = 0

    def _bytes(self, index: int, change: int, size: int) -> bytes:
        start = (index * 7919 + change * 104729) % (NOISE - size)
        return self._noise[start : start + size]

    def fill(self, redis: Redis) -> None:
        for first in range(0, KEYS, BATCH):
            for index in range(first, first + BATCH):
                redis.send(b"SET", b"user:%d" % index, self.values[index])
            for _ in range(BATCH):
                redis.answer()

    def write_batch(self, redis: Redis) -> None:
        """Every other write overwrites a part in place; the rest are new strings."""
        for _ in range(BATCH):
            self.written += 1
            index = self._chance.below(KEYS)
            key, old = b"user:%d" % index, self.values[index]
            if self.written % 2:
                part = self._bytes(index, self.written, PART)
                self.values[index] = part + old[PART:]
                redis.send(b"SETRANGE", key, b"0", part)
            else:
                self.values[index] = self._bytes(index, self.written, VALUE)
                redis.send(b"SET", key, self.values[index])
        for _ in range(BATCH):
            redis.answer()


def differing(redis: Redis, values: list[bytes]) -> int:
    """Keys that do not hold these values."""
    wrong = 0
    for first in range(0, KEYS, BATCH):
        for index in range(first, first + BATCH):
            redis.send(b"GET", b"user:%d" % index)
        wrong += sum(redis.answer() != values[first + place] for place in range(BATCH))
    return wrong


def save(redis: Redis, load: Load, writes: int) -> list[bytes]:
    """BGSAVE, with up to so many writes while it goes on; the values at the fork."""
    values = list(load.values)
    end = load.written + writes
    redis.ask(b"BGSAVE")
    while redis.state("rdb_bgsave_in_progress") == "1":
        if load.written < end:
            load.write_batch(redis)
        else:
            time.sleep(0.05)
    if redis.state("rdb_last_bgsave_status") != "ok":
        raise guest.Broken(f"the snapshot was not saved: {redis.log()}")
    return values


def limited_server(load: Load) -> Redis:
    """A server that has done once all that it will do, so that its code is not under the limit.

    Else reclaim takes the code, and reading it again is what the case spends its time on.
    """
    redis = Redis("server")
    load.write_batch(redis)
    save(redis, load, BATCH)
    redis.ask(b"GET", b"user:0")
    redis.ask(b"FLUSHALL")
    guest.join_memcg(redis.pid)
    return redis


def scenario() -> None:
    load = Load()
    redis = limited_server(load)
    load.fill(redis)
    traffic = guest.SwapTraffic()
    before = load.written
    saved = save(redis, load, WRITES)
    written = load.written - before
    wrong = differing(redis, load.values)
    came_in = traffic.swap_ins()
    traffic.measure()
    redis.end()
    guest.proof("swapped_in", came_in >= KEYS // 5, f"{came_in} pages while it was saved and read")
    guest.proof("written_while_saving", written >= KEYS // 20, f"{written} times")
    second = Redis("second")
    unlike = differing(second, saved)
    second.end()
    guest.verdict(
        "snapshot_equals_fork", not unlike, f"{unlike} of {KEYS} keys are not as at the fork"
    )
    guest.verdict("server_intact", not wrong, f"{wrong} of {KEYS} keys are not as last written")


def case() -> None:
    guest.plan(2)
    guest.require_swap()
    if not os.path.exists(SERVER):
        raise guest.Skip(
            "redis-server is not in the guest: install redis-tools where twinboot runs"
        )
    guest.make_memcg(LIMIT)
    os.sched_setaffinity(0, {0, 1})
    shutil.rmtree(FOLDER, ignore_errors=True)
    os.mkdir(FOLDER)
    try:
        scenario()
    finally:
        shutil.rmtree(FOLDER)


guest.run(case)
