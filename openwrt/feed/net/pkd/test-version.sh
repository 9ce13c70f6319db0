#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# The CI of OpenWrt's feeds runs this in a router's root file system with the package installed:
#   test-version.sh PACKAGE VERSION
# VERSION lacks the package release; a kernel module's starts with the kernel's version.

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
pktables)
	pktables --version | grep -qxF "pktables $2"
	;;
kmod-ipt-pkd | iptables-mod-pkd)
	# These contain no programs.
	;;
*)
	echo "test-version.sh: unknown package '$1'" >&2
	exit 1
	;;
esac
