# SPDX-License-Identifier: GPL-2.0-only
"""Bisection: which commit, release, patch or config option changed an outcome.

Read walk.py first; it asks a space which kernel to look at next, and a bench what it does.
"""
