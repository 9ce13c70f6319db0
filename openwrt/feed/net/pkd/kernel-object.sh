#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Takes the one object of pkd-kmod itself out of its archive, and checks that a kernel has all that it wants.
#   AR=… NM=… kernel-object.sh ARCHIVE OBJECT SYMBOL...
# With fat LTO that object holds all that is used of the crates below it; the rest of the archive is the compiler's own
# and stays out. A call of pkd_panic_path_survived would mean that some input can panic.

set -eu
archive=$1
object=$2
shift 2

members=$("${AR:-ar}" t "$archive" | grep '^pkd_kmod-' || :)
[ "$(printf '%s\n' "$members" | grep -c .)" = 1 ] || {
	echo "pkd: $archive holds not one object of pkd-kmod but: $members" >&2
	exit 1
}
"${AR:-ar}" p "$archive" "$members" > "$object"

wanted=$("${NM:-nm}" --undefined-only "$object" | awk '{ print $NF }')
for symbol in $wanted; do
	case " $* " in
	*" $symbol "*) ;;
	*)
		rm -f "$object"
		echo "pkd: the Rust object wants $symbol, which no kernel gives" >&2
		exit 1
		;;
	esac
done
