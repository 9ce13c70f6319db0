#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# The CI of OpenWrt's feeds runs this in a router's root file system with the package installed:
#   test.sh PACKAGE VERSION
# The router's kernel is not running there, so this loads no module and adds no rules.

fail() {
	echo "test.sh: $*" >&2
	exit 1
}

# has_mode MODE FILE: MODE as shown by ls
has_mode() {
	# OpenWrt has no stat.
	# shellcheck disable=SC2012
	[ "$(ls -l "$2" | cut -c 1-10)" = "$1" ] || fail "$2 is missing or does not have mode $1"
}

# is_elf TYPE FILE: 1 is an object file, 3 a shared library
is_elf() {
	[ "$(head -c 4 "$2" | hexdump -v -e '1/1 "%02x"')" = 7f454c46 ] || fail "$2 is not an ELF file"
	case "$(hexdump -v -s 16 -n 2 -e '1/1 "%02x"' "$2")" in
	"0${1}00" | "000$1") ;;
	*) fail "$2 does not have ELF type $1" ;;
	esac
}

test_service() {
	local file
	[ "$(pkd --version)" = "pkd $1" ] || fail "pkd --version prints: $(pkd --version)"
	pkd --help | grep -q '^usage: pkd ' || fail "pkd --help prints no usage"
	pkd no-such-command 2> /dev/null
	[ $? = 2 ] || fail "an unknown command does not exit with 2"

	has_mode -rw------- /etc/config/pkd
	grep -qx "	option enabled '0'" /etc/config/pkd || fail "the gate is not disabled by default"
	grep -q 'option key' /etc/config/pkd && fail "the default configuration contains a key"
	[ ! -e /etc/pkd/keys ] || fail "the installation created keys"

	for file in /etc/init.d/pkd /usr/sbin/pkd /usr/lib/pkd/timer /usr/lib/pkd/firewall-include; do
		has_mode -rwxr-xr-x "$file"
	done
	for file in /etc/init.d/pkd /usr/sbin/pkd /usr/lib/pkd/* /etc/hotplug.d/ntp/50-pkd; do
		sh -n "$file" || fail "$file has a syntax error"
	done
	grep -qx 'include "/var/run/pkd/fw4/table-\*.nft"' /usr/share/nftables.d/table-pre/20-pkd.nft ||
		fail "firewall4 does not include our sets"
	for file in /etc/pkd/ /etc/pkdd/; do
		grep -qx "$file" /lib/upgrade/keep.d/pkd || fail "$file would not survive a firmware upgrade"
	done
}

test_client() {
	local output payload
	knock --version | grep -qxF "knock $1" || fail "knock --version prints: $(knock --version)"
	# A key and a host that nobody uses; nothing is sent.
	output=$(printf '0x%064d\n' 7 | knock --key-file - --tag TEST --port 40000 --dry-run gw.example.net) || fail "knock --dry-run fails"
	case "$output" in
	"gw.example.net 40000 "*) ;;
	*) fail "knock --dry-run prints: $output" ;;
	esac
	payload=${output##* }
	case "$payload" in
	*[!0-9a-f]*) fail "the payload is not hexadecimal: $payload" ;;
	54455354*) ;;
	*) fail "the payload does not start with the tag: $payload" ;;
	esac
	[ ${#payload} = 112 ] || fail "the payload has ${#payload} digits: expected 112"
	printf '\n' | knock --key-file - --dry-run gw.example.net 2> /dev/null && fail "knock accepts an empty key"
	return 0
}

test_daemon() {
	local output
	pkdd --version | grep -qxF "pkdd $1" || fail "pkdd --version prints: $(pkdd --version)"
	pkdd no-such-command 2> /dev/null
	[ $? = 2 ] || fail "an unknown command does not exit with 2"
	pkdd_checks 22 || fail "pkdd rejects a valid configuration"
	output=$(pkdd_checks 0 2>&1) && fail "pkdd accepts port 0"
	case "$output" in
	*'service "ssh": invalid port 0'*) ;;
	*) fail "pkdd prints of port 0: $output" ;;
	esac
}

# pkdd_checks PORT: a configuration as uci export prints it, with a key that nobody uses
pkdd_checks() {
	pkdd openwrt check <<- EOT
		package pkd
		config gate 'gate'
			option zone 'any'
		config service 'ssh'
			option port '$1'
		config user 'me'
			option tag 'TEST'
			option key 'a key that nobody uses'
			list service 'ssh'
	EOT
}

case "$1" in
pkd)
	test_service "$2"
	;;
pkdd)
	test_daemon "$2"
	;;
pkd-knock)
	test_client "$2"
	;;
iptables-mod-pkd)
	has_mode -rw-r--r-- /usr/lib/iptables/libxt_pkd.so
	is_elf 3 /usr/lib/iptables/libxt_pkd.so
	grep -q 'key-file' /usr/lib/iptables/libxt_pkd.so || fail "the extension lacks the option --key-file"
	;;
kmod-ipt-pkd)
	set -- /lib/modules/*/xt_pkd.ko
	[ $# = 1 ] || fail "expected one module, found $#"
	has_mode -rw-r--r-- "$1"
	is_elf 1 "$1"
	for alias in ipt_pkd ip6t_pkd; do
		grep -q "alias=$alias" "$1" || fail "the module lacks the alias $alias"
	done
	[ "$(cat /etc/modules.d/ipt-pkd)" = xt_pkd ] || fail "the module would not be loaded at boot"
	;;
*)
	fail "unknown package '$1'"
	;;
esac
