#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Any other service, or a cron job: run an experiment in N shards one after another, and leave
# the results in a folder. Each shard could as well be a job of its own.
#
#   ci/templates/gate.sh PATCHES [SHARDS [EXPERIMENT [FOLDER]]]
#
# Ends with twinboot's exit code: 0 no regression, 1 regression, 2 wrong input, 3 undecided,
# 4 everything skipped.
set -euo pipefail

if [ $# -lt 1 ] || [ $# -gt 4 ]; then
	sed -n 's/^#   //p' "$0" >&2
	exit 2
fi
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
patches=$1
shards=${2:-1}
experiment=${3:-$top/ci/experiments/gate.yaml}
folder=${4:-twinboot-results}
twinboot=${TWINBOOT:-$top/.venv/bin/twinboot}

if [[ ! $shards =~ ^[1-9][0-9]{0,2}$ ]]; then
	echo "$0: $shards is no number of shards" >&2
	exit 2
fi
if [ -e "$folder" ]; then
	echo "$0: $folder exists; remove it or name another folder" >&2
	exit 2
fi
if [ -z "${TWINBOOT:-}" ]; then bash "$top/ci/setup.sh"; fi
mkdir -p "$folder/parts"

# 0, 1, 3 and 4 are results, which count when all shards are joined; 2 and others end it here
for number in $(seq "$shards"); do
	code=0
	"$twinboot" run --experiment "$experiment" --patch "$patches" \
		--shard "$number/$shards" --out "$folder/parts/$number" \
		>"$folder/shard-$number.log" || code=$?
	case $code in
	0 | 1 | 3 | 4) ;;
	*) exit "$code" ;;
	esac
	if [ ! -f "$folder/parts/$number/run.json" ]; then exit "$code"; fi
done

exec "$twinboot" merge "$folder"/parts/* --out "$folder/whole" \
	--html "$folder/twinboot.html" --junit "$folder/junit.xml" --ktap "$folder/twinboot.ktap" \
	--json "$folder/twinboot.json" --markdown "$folder/twinboot.md" --mail "$folder/reply.txt"
