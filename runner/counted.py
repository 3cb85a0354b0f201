# SPDX-License-Identifier: GPL-2.0-only
"""A number with its noun, so that no line says `1 cases`. Pure."""

from __future__ import annotations


def counted(number: int, one: str, many: str = "") -> str:
    """`1 case`, `2 cases`, `2 patches`; `many` where it is not one with an s."""
    return f"{number} {one if number == 1 else many or f'{one}s'}"
