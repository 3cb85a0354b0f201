# SPDX-License-Identifier: GPL-2.0-only
"""The structure of the package: imports go downwards, one module runs host commands."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in PACKAGE.rglob("*.py")
    if path.stem != "__init__" and "tests" not in path.parts
}
# Lower modules know nothing of these.
PURE = (
    "ktap",
    "splat",
    "transcript",
    "outcome",
    "row",
    "changes",
    "comparison",
    "qemu",
    "swap",
    "case",
    "wording",
)


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            if node.module.startswith("runner"):
                found |= {f"{node.module}.{name.name}" for name in node.names}
    return found


def ours(path: Path) -> set[str]:
    return {name.removeprefix("runner.") for name in imports(path)} & set(MODULES)


def test_no_module_imports_itself_through_another() -> None:
    reached: dict[str, set[str]] = {name: ours(path) for name, path in MODULES.items()}
    for _ in MODULES:
        for name, below in reached.items():
            reached[name] = below.union(*(reached[each] for each in below))
    assert [name for name, below in reached.items() if name in below] == []


def test_only_one_module_runs_host_commands() -> None:
    users = {name for name, path in MODULES.items() if "subprocess" in imports(path)}
    assert users == {"host"}


def test_the_judging_half_needs_neither_host_nor_guest() -> None:
    for name in PURE:
        assert not ours(MODULES[name]) & {"host", "guest", "build", "source", "rootfs"}, name


def test_only_the_command_line_knows_the_argument_parser() -> None:
    users = {name for name, path in MODULES.items() if "typer" in imports(path)}
    assert {name for name in users if not name.startswith("commands.")} == {"cli"}


def test_nothing_but_the_command_line_knows_the_commands() -> None:
    users = {
        name
        for name in MODULES
        if any(each.startswith("commands.") for each in ours(MODULES[name]))
    }
    assert {name for name in users if not name.startswith("commands.")} == {"cli"}


def test_every_file_says_its_licence_first() -> None:
    top = PACKAGE.parent
    names = (
        "runner/**/*.py",
        "guest-tests/**/*.[ch]",
        "guest-tests/guest/*",
        "bundle/*",
        "ci/*.sh",
    )
    for path in (path for name in names for path in top.glob(name) if path.is_file()):
        head = path.read_text(errors="replace").splitlines()[:2]
        assert not head or any("SPDX-License-Identifier: GPL-2.0-only" in line for line in head), (
            path
        )
