# SPDX-License-Identifier: GPL-2.0-only
"""twinboot: the same kernel with and without a patch, the same workloads, what changed."""

__version__ = "0.1.0"
