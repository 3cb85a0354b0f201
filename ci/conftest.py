# SPDX-License-Identifier: GPL-2.0-only
"""`pytest ci/` runs the experiments of ci/experiments; the project's own tests do not come here."""

from runner.pytest_plugin import (
    pytest_addoption,
    pytest_collect_file,
    twinboot_guests,
    twinboot_kernels,
    twinboot_rows,
)

__all__ = [
    "pytest_addoption",
    "pytest_collect_file",
    "twinboot_guests",
    "twinboot_kernels",
    "twinboot_rows",
]
