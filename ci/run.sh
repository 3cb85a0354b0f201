#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Set this machine up and run the main job; arguments go to `twinboot run`.
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bash "$top/ci/setup.sh"
exec "$top/.venv/bin/twinboot" run "$@"
