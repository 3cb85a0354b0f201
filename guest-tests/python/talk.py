# SPDX-License-Identifier: GPL-2.0-only
"""Children that answer numbers with numbers, so that several processes go in step.

It does not say what the numbers mean.
"""

from __future__ import annotations

import contextlib
import os
import struct

import guest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

NUMBER = struct.Struct("<q")
END = -(1 << 62)


class Gone(Exception):
    """The child ended where an answer was due: what it crashed on is the case's to judge."""


class Child:
    """A forked process that calls answer(number) for each number it is asked."""

    def __init__(self, answer: Callable[[int], int]) -> None:
        asked, answered = os.pipe(), os.pipe()

        def serve() -> int:
            os.close(asked[1])
            os.close(answered[0])
            while (number := NUMBER.unpack(os.read(asked[0], NUMBER.size))[0]) != END:
                os.write(answered[1], NUMBER.pack(answer(number)))
            return 0

        self.pid = guest.spawn(serve)
        os.close(asked[0])
        os.close(answered[1])
        self._to, self._from = asked[1], answered[0]

    def ask(self, number: int) -> int:
        """tell() and hear(); raises Gone."""
        self.tell(number)
        return self.hear()

    def tell(self, number: int) -> None:
        try:
            os.write(self._to, NUMBER.pack(number))
        except BrokenPipeError:
            raise Gone(f"process {self.pid}") from None

    def hear(self) -> int:
        answer = os.read(self._from, NUMBER.size)
        if not answer:
            raise Gone(f"process {self.pid}")
        number: int = NUMBER.unpack(answer)[0]
        return number

    def end(self) -> int:
        """Its exit value, or -signal."""
        with contextlib.suppress(Gone):
            self.tell(END)
        os.close(self._to)
        os.close(self._from)
        return guest.reap(self.pid)
