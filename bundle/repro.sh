#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# repro.sh [base|patched]...: boot the kernels of this bundle, run the case in each, say what came
# out of it. Needs qemu-system-x86_64 and what POSIX says a system has.
#
# Exit code 0: not worse with the patch; 1: worse; 2: wrong usage, or QEMU is missing; 3: no
# verdict. QEMU, ACCEL and SLOWER (a factor for all deadlines) can be set in the environment.
# shellcheck disable=SC2154,SC2317  # what is not assigned here is in settings; stop() is a trap
cd "$(dirname "$0")" || exit 2
# shellcheck source=/dev/null
. ./settings
: "${QEMU:=qemu-system-x86_64}" "${ACCEL:=$accel}" "${SLOWER:=1}"
pid=

stop()
{
	[ -z "$pid" ] || kill "$pid" 2>/dev/null
	[ -z "$disk" ] || rm -f "$disk"
}
trap stop EXIT
trap 'exit 130' HUP INT TERM

usage()
{
	echo "repro.sh: $*" >&2
	exit 2
}

# What a guest prints is not trusted
clean()
{
	tr -cd '\11\12\40-\176'
}

boot()
{
	out=out/$1
	mkdir -p "$out" || usage "cannot write in $PWD"
	: >"$out/results.log"
	: >"$out/console.log"
	set -- -kernel "$1/bzImage" -initrd initramfs.cpio -append "$append" \
		-machine q35 -m "$memory" -smp "$cpus" \
		-display none -vga none -net none -parallel none -monitor none -no-reboot \
		-serial "file:$out/console.log" \
		-chardev "file,id=results,path=$out/results.log" \
		-device virtio-serial-pci -device virtserialport,name=twinboot.results,chardev=results
	case $ACCEL in
	kvm) set -- "$@" -accel kvm -cpu host ;;
	*) set -- "$@" -accel tcg,thread=multi -cpu max ;;
	esac
	if [ "$disk_mib" -gt 0 ]; then
		disk=$out/swap.img
		dd if=/dev/zero of="$disk" bs=1 count=1 seek=$((disk_mib * 1048576 - 1)) 2>/dev/null
		set -- "$@" -drive "file=$disk,if=none,id=swap,format=raw,cache=unsafe" \
			-device virtio-blk-pci,drive=swap,serial=twinboot-swap
	fi
	"$QEMU" "$@" >"$out/qemu.log" 2>&1 </dev/null &
	pid=$!
	left=$((deadline * SLOWER))
	while kill -0 "$pid" 2>/dev/null && [ "$left" -gt 0 ]; do
		sleep 1
		left=$((left - 1))
	done
	timed_out=no
	if kill "$pid" 2>/dev/null; then
		timed_out=yes
	fi
	wait "$pid"
	pid=
	if [ -n "$disk" ]; then
		rm -f "$disk"
		disk=
	fi
}

# Kernel messages that are not there on a good day
complaints()
{
	grep -cE 'Kernel panic|BUG: |WARNING: |kernel BUG at|Oops: |UBSAN: |general protection' \
		"$out/console.log"
}

# One line: the verdict, and why. The order is twinboot's: CRASH, HANG, FAIL, INCONCLUSIVE, SKIP.
judge()
{
	results=$out/results.log
	code=$(sed -n 's/^twinboot: end .* exit=\([0-9]*\) .*/\1/p' "$results" | tail -n 1)
	broken=$(sed -n 's/^not ok [0-9]* \([a-z0-9_]*\).*/\1/p' "$results" | tr '\n' ' ')
	if grep -qE 'Kernel panic|kernel BUG at|Oops: ' "$out/console.log"; then
		echo "CRASH $(grep -E 'Kernel panic|kernel BUG at|Oops: ' "$out/console.log" | head -n 1)"
	elif [ "$timed_out" = yes ] && grep -q '^twinboot: begin ' "$results"; then
		echo "HANG not finished in time"
	elif [ "$timed_out" = yes ]; then
		echo "HANG the kernel did not come to the case in time"
	elif [ -n "$broken" ]; then
		echo "FAIL $broken"
	elif grep -q '^# tries: .* failed [1-9]' "$results"; then
		echo "FAIL $(grep '^# tries: .* failed [1-9]' "$results" | head -n 1)"
	elif [ -z "$code" ]; then
		echo "INCONCLUSIVE the case did not come to its end: see $out"
	elif grep -qE '^ok [0-9]+ .*# SKIP|^1\.\.0 # SKIP' "$results"; then
		echo "SKIP $(grep -E '# SKIP' "$results" | head -n 1)"
	elif [ "$code" != 0 ]; then
		echo "FAIL exit code $code"
	else
		missing=
		for name in $invariants; do
			grep -qE "^ok [0-9]+ $name( |\$)" "$results" || missing="$missing $name"
		done
		for name in $proofs; do
			grep -qE "^# proof: $name ok" "$results" || missing="$missing $name"
		done
		if [ -n "$missing" ]; then
			echo "INCONCLUSIVE not shown:$missing"
		else
			echo "PASS"
		fi
	fi
}

measure()
{
	sed -n "s/^# measure: $2 \([0-9.-]*\) .*/\1/p" "out/$1/results.log" | tail -n 1
}

# Measures of both arms; prints those that are worse with the patch into the file `worse`
compare_measures()
{
	printf '%s\n' "$measures" | while read -r name better tolerance unit; do
		[ -n "$name" ] || continue
		b=$(measure base "$name")
		p=$(measure patched "$name")
		word=$(awk -v b="$b" -v p="$p" -v t="$tolerance" -v better="$better" 'BEGIN {
			if (b == "" || p == "") { print "not told"; exit }
			d = better == "higher" ? b - p : p - b
			if (better == "none" || (d <= t && -d <= t)) print "no change"
			else print (d > 0 ? "WORSENED" : "IMPROVED")
		}')
		echo "$name: ${b:--} $unit on base, ${p:--} with the patch: $word"
		[ "$word" != WORSENED ] || echo "$name" >>out/worse
	done
}

command -v "$QEMU" >/dev/null || usage "there is no $QEMU; on Debian: apt-get install qemu-system-x86"
[ "$#" -gt 0 ] || set -- base patched
for arm in "$@"; do
	case $arm in
	base | patched) ;;
	*) usage "there is no arm $arm: say base, patched or nothing" ;;
	esac
done

mkdir -p out || usage "cannot write in $PWD"
rm -f out/worse
echo "$title"
base_verdict="" patched_verdict="" base_said=0 patched_said=0
for arm in "$@"; do
	boot "$arm"
	verdict=$(judge | clean)
	count=$(complaints)
	grep -E '^(not )?ok |^# (proof|measure|tries):' "out/$arm/results.log" | clean | sed 's/^/    /'
	echo "$arm: $verdict"
	case $arm in
	base) base_verdict=${verdict%% *} base_said=$count expected=$base_expected ;;
	patched) patched_verdict=${verdict%% *} patched_said=$count expected=$patched_expected ;;
	esac
	[ "${verdict%% *}" = "$expected" ] || echo "$arm: in the run that this is from it was $expected"
	[ "$count" = 0 ] || echo "$arm: $count complaints of the kernel in out/$arm/console.log"
done

for word in $base_verdict $patched_verdict; do
	case $word in
	INCONCLUSIVE)
		echo "no verdict"
		exit 3
		;;
	esac
done
if [ -z "$base_verdict" ] || [ -z "$patched_verdict" ]; then
	case $base_verdict$patched_verdict in
	PASS | SKIP) exit 0 ;;
	esac
	exit 1
fi
compare_measures
case $base_verdict-$patched_verdict in
PASS-PASS | SKIP-SKIP) ;;
PASS-*)
	echo "REGRESSED: $base_verdict on base, $patched_verdict with the patch"
	exit 1
	;;
*-PASS) echo "FIXED: $base_verdict on base, $patched_verdict with the patch" ;;
*-SKIP | FAIL-HANG | FAIL-CRASH)
	echo "REGRESSED: $base_verdict on base, $patched_verdict with the patch"
	exit 1
	;;
*) echo "no change: $base_verdict on base, $patched_verdict with the patch" ;;
esac
if [ "$base_said" = 0 ] && [ "$patched_said" != 0 ]; then
	echo "NEW_SPLAT: the kernel complains with the patch, and not on base"
	exit 1
fi
if [ -s out/worse ]; then
	echo "WORSENED: $(tr '\n' ' ' <out/worse)"
	exit 1
fi
echo "not worse with the patch"
exit 0
