# SPDX-License-Identifier: GPL-2.0-only
"""The commands of the command line, one module for each use."""
