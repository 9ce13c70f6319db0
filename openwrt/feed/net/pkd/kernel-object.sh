#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Extracts pkd-kmod's own object from its archive, and checks that a kernel provides every symbol it needs.
#   AR=… NM=… kernel-object.sh ARCHIVE OBJECT SYMBOL...
# With fat LTO, that object contains everything it uses of other crates; the rest of the archive is the compiler's
# and is left out. A reference to pkd_panic_path_survived means that some input can cause a panic.

set -eu
archive=$1
object=$2
shift 2

members=$("${AR:-ar}" t "$archive" | grep '^pkd_kmod-' || :)
[ "$(printf '%s\n' "$members" | grep -c .)" = 1 ] || {
	echo "kernel-object.sh: $archive: expected one object of pkd-kmod, found: ${members:-none}" >&2
	exit 1
}
"${AR:-ar}" p "$archive" "$members" > "$object"

needed=$("${NM:-nm}" --undefined-only "$object" | awk '{ print $NF }')
for symbol in $needed; do
	case " $* " in
	*" $symbol "*) ;;
	*)
		rm -f "$object"
		echo "kernel-object.sh: $archive: needs the symbol $symbol, which no kernel provides" >&2
		exit 1
		;;
	esac
done
