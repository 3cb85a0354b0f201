#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Set this machine up and run the whole test suite: style, types, fast tests, then real kernels
# in QEMU. Arguments go to pytest: `bash ci/test.sh -m "not vm"` takes a minute.
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bash "$top/ci/setup.sh"
cd "$top"
.venv/bin/ruff check runner guest-tests ci
.venv/bin/ruff format --check runner guest-tests ci
.venv/bin/mypy
exec .venv/bin/pytest "$@"
