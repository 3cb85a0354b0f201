#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Make this machine ready for twinboot: Debian packages, a virtual environment in .venv, the
# package in it. Sourced or run; costs nothing when there is nothing to do.
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

packages=(
	# building kernels
	gcc make libc6-dev flex bison bc libelf-dev libssl-dev cpio kmod xz-utils zstd lz4
	patch perl rsync ccache git ca-certificates
	# booting them
	qemu-system-x86
	# what the guest is made of
	busybox-static dropbear-bin dmsetup e2fsprogs python3
	# twinboot itself
	python3-venv
)
# a case that needs one of them is skipped where it is not in the guest
optional=(redis-tools)

missing()
{
	local package
	for package in "$@"; do
		dpkg-query -W -f='${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed ||
			echo "$package"
	done
}

available()
{
	local package
	for package in "$@"; do
		if apt-cache show "$package" >/dev/null 2>&1; then echo "$package"; fi
	done
}

install_packages()
{
	local -a wanted
	mapfile -t wanted < <(missing "${packages[@]}")
	if [ "${#wanted[@]}" -eq 0 ]; then return; fi
	if ! command -v apt-get >/dev/null; then
		echo "ci/setup.sh: no apt-get here; install by hand: ${wanted[*]}" >&2
		exit 2
	fi
	local -a as_root=()
	if [ "$(id -u)" -ne 0 ]; then as_root=(sudo); fi
	"${as_root[@]}" apt-get update -qq
	mapfile -t wanted < <(available "${wanted[@]}")
	echo "ci/setup.sh: installing ${wanted[*]}" >&2
	"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
		apt-get install -y -qq --no-install-recommends "${wanted[@]}" >/dev/null
}

install_optional()
{
	local -a wanted as_root=()
	mapfile -t wanted < <(missing "${optional[@]}")
	if [ "${#wanted[@]}" -eq 0 ] || ! command -v apt-get >/dev/null; then return; fi
	mapfile -t wanted < <(available "${wanted[@]}")
	if [ "${#wanted[@]}" -eq 0 ]; then return; fi
	if [ "$(id -u)" -ne 0 ]; then as_root=(sudo -n); fi
	echo "ci/setup.sh: installing ${wanted[*]}, which some cases use" >&2
	"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
		apt-get install -y -qq --no-install-recommends "${wanted[@]}" >/dev/null ||
		echo "ci/setup.sh: goes on without ${wanted[*]}" >&2
}

install_twinboot()
{
	local stamp="$top/.venv/.twinboot" now
	now=$(sha256sum "$top/pyproject.toml" | cut -d' ' -f1)
	if [ -x "$top/.venv/bin/twinboot" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$now" ]; then
		return
	fi
	echo "ci/setup.sh: installing twinboot into .venv" >&2
	/usr/bin/python3 -m venv --clear "$top/.venv"
	"$top/.venv/bin/pip" install -qq --disable-pip-version-check -e "${top}[test]"
	echo "$now" >"$stamp"
}

install_packages
install_optional
install_twinboot
