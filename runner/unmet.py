# SPDX-License-Identifier: GPL-2.0-only
"""Says why Kconfig did not give a symbol the value that was asked; run as its own process.

It only explains: a wrong or missing explanation never changes what is built.
Called as `python -m runner.unmet CONFIG SYMBOL...` in a kernel tree, it prints JSON.
"""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import kconfiglib

DEPTH = 3
# Words of Kconfig that came after kconfiglib's last release, and what they say in its language.
NEWER_WORDS = (
    (re.compile(r"^[ \t]+modules[ \t]*$", re.MULTILINE), "\toption modules"),
    (re.compile(r"^[ \t]+transitional[ \t]*$", re.MULTILINE), ""),
    (re.compile(r"^([ \t]+depends on )([^#\n]+?) if ([^#\n]+)", re.M), r"\1(\2) || !(\3) "),
)


class _Kconfig(kconfiglib.Kconfig):  # type: ignore[misc]
    """Reads the Kconfig files of newer kernels too."""

    def _open(self, filename: str, mode: str) -> io.StringIO:
        text = Path(filename).read_text(errors="replace")
        for word, older in NEWER_WORDS:
            text = word.sub(older, text)
        return io.StringIO(text)


def _conjuncts(expression: Any) -> list[Any]:
    if isinstance(expression, tuple) and expression[0] is kconfiglib.AND:
        return _conjuncts(expression[1]) + _conjuncts(expression[2])
    return [expression]


def _unmet(symbol: Any) -> list[Any]:
    """The parts of the dependencies, and of the prompt's condition, that are off."""
    conditions = [symbol.direct_dep]
    conditions += [node.prompt[1] for node in symbol.nodes if node.prompt]
    parts = [part for condition in conditions for part in _conjuncts(condition)]
    off = [part for part in parts if kconfiglib.expr_value(part) == 0]
    return list({kconfiglib.expr_str(part): part for part in off}.values())


def _selectors(kconf: Any, symbol: Any) -> list[str]:
    return [
        other.name
        for other in kconf.unique_defined_syms
        if any(target is symbol for target, _ in other.selects)
    ]


def _why_off(kconf: Any, symbol: Any, depth: int = DEPTH) -> str:
    parts = _unmet(symbol)
    if parts:
        return "needs " + " and ".join(_off(kconf, part, depth) for part in parts)
    if symbol.choice is not None and symbol.choice.selection is not symbol:
        chosen = symbol.choice.selection
        return f"is one of a choice that went to CONFIG_{chosen.name if chosen else 'none'}"
    if not any(node.prompt for node in symbol.nodes):
        names = _selectors(kconf, symbol)[:4]
        return "cannot be set by hand" + (
            f"; it is selected by {', '.join(names)}" if names else ""
        )
    return ""


def _off(kconf: Any, part: Any, depth: int) -> str:
    text: str = kconfiglib.expr_str(part)
    if not isinstance(part, kconfiglib.Symbol):
        return f"({text})"
    if not part.nodes:
        return f"{text}, which this tree does not have"
    deeper = _why_off(kconf, part, depth - 1) if depth > 1 else ""
    return f"{text} (off; it {deeper})" if deeper else f"{text} (off)"


def _why_on(kconf: Any, symbol: Any) -> str:
    names = [name for name in _selectors(kconf, symbol) if kconf.syms[name].tri_value > 0]
    return f"is selected by {', '.join(names[:4])}" if names else "has no prompt that is visible"


def explain(kconf: Any, name: str) -> str:
    """A clause that follows the symbol's name, or nothing."""
    symbol = kconf.syms.get(name)
    if symbol is None or not symbol.nodes:
        return ""
    if symbol.tri_value == 0 or symbol.visibility == 0:
        return _why_off(kconf, symbol)
    if kconf.modules.tri_value == 0 and symbol.orig_type is kconfiglib.TRISTATE:
        return "cannot be a module: CONFIG_MODULES is off"
    return _why_on(kconf, symbol)


def main() -> None:
    kconf = _Kconfig("Kconfig", warn=False)
    kconf.load_config(sys.argv[1])
    print(json.dumps({name: explain(kconf, name) for name in sys.argv[2:]}))


if __name__ == "__main__":
    main()
