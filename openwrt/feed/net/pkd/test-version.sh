#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Run by the CI of OpenWrt's feeds on a router's root file system, with the package installed:
#   test-version.sh PACKAGE VERSION
# The release is cut off VERSION; that of a kernel module begins with the kernel's.

case "$1" in
pkd)
	[ "$(pkd --version)" = "pkd $2" ]
	;;
pkdd)
	pkdd --version | grep -qxF "pkdd $2"
	;;
pkd-knock)
	knock --version | grep -qxF "knock $2"
	;;
kmod-ipt-pkd | iptables-mod-pkd)
	# No programs.
	;;
*)
	echo "pkd: there is no package $1" >&2
	exit 1
	;;
esac
