# SPDX-License-Identifier: GPL-2.0-only
"""Real kernels for the tests marked vm: built once, by the product, in the user's cache."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from runner import host, rootfs
from runner.build import Kernel
from runner.experiment import ROOT, Plan, build_arms
from runner.rootfs import Rootfs


def say(line: str) -> None:
    print(f"        {line}", file=sys.stderr, flush=True)


def kernel_with(patch: str) -> Kernel:
    """The default source with one patch set of ours ("none" for the base)."""
    path = patch if patch == "none" else str(ROOT / "patches" / patch)
    return build_arms(Plan(Path(), patch=path), host.cache_dir(), say).patched


@pytest.fixture(scope="session")
def base_kernel() -> Kernel:
    return kernel_with("none")


@pytest.fixture(scope="session")
def root() -> Rootfs:
    return rootfs.build_rootfs(ROOT / "guest-tests", host.cache_dir(), say)
