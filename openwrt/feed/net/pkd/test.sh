#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Run by the CI of OpenWrt's feeds on a router's root file system, with the package installed:
#   test.sh PACKAGE VERSION
# There is no kernel of the router's, so nothing is loaded and no rule is made.

fail() {
	echo "$*" >&2
	exit 1
}

# has_mode MODE FILE, MODE as ls shows it
has_mode() {
	# No stat on a router.
	# shellcheck disable=SC2012
	[ "$(ls -l "$2" | cut -c 1-10)" = "$1" ] || fail "$2 is missing, or has not the mode $1"
}

# is_elf TYPE FILE: 1 is an object, 3 a library
is_elf() {
	[ "$(head -c 4 "$2" | hexdump -v -e '1/1 "%02x"')" = 7f454c46 ] || fail "$2 is no ELF file"
	case "$(hexdump -v -s 16 -n 2 -e '1/1 "%02x"' "$2")" in
	"0${1}00" | "000$1") ;;
	*) fail "$2 is of another type than $1" ;;
	esac
}

test_service() {
	local file
	[ "$(pkd --version)" = "pkd $1" ] || fail "pkd says: $(pkd --version)"
	pkd --help | grep -q '^usage: pkd ' || fail "pkd has no help"
	pkd no-such-verb 2> /dev/null
	[ $? = 2 ] || fail "a wrong verb is no error"

	has_mode -rw------- /etc/config/pkd
	grep -qx "	option enabled '0'" /etc/config/pkd || fail "it is not disabled"
	grep -q 'option key' /etc/config/pkd && fail "there is a key that everybody has"
	[ ! -e /etc/pkd/keys ] || fail "installing made a key"

	for file in /etc/init.d/pkd /usr/sbin/pkd /usr/lib/pkd/keeper /usr/lib/pkd/firewall-include; do
		has_mode -rwxr-xr-x "$file"
	done
	for file in /etc/init.d/pkd /usr/sbin/pkd /usr/lib/pkd/* /etc/hotplug.d/ntp/50-pkd; do
		sh -n "$file" || fail "$file does not parse"
	done
	grep -qx 'include "/var/run/pkd/fw4/table-\*.nft"' /usr/share/nftables.d/table-pre/20-pkd.nft ||
		fail "firewall4 does not read our sets"
	for file in /etc/pkd/ /etc/pkdd/; do
		grep -qx "$file" /lib/upgrade/keep.d/pkd || fail "$file would not outlive a new firmware"
	done
}

test_client() {
	local said payload
	knock --version | grep -qxF "knock $1" || fail "knock says: $(knock --version)"
	# A key and a name that are nobody's; nothing is sent.
	said=$(printf '0x%064d\n' 7 | knock --key-file - --tag TEST --port 40000 --dry-run gw.example.net) || fail "knock fails"
	case "$said" in
	"gw.example.net 40000 "*) ;;
	*) fail "knock says: $said" ;;
	esac
	payload=${said##* }
	case "$payload" in
	*[!0-9a-f]*) fail "this is not hexadecimal: $payload" ;;
	54455354*) ;;
	*) fail "a payload does not begin with its tag: $payload" ;;
	esac
	[ ${#payload} = 112 ] || fail "a payload has ${#payload} digits, and not 56 bytes"
	printf '\n' | knock --key-file - --dry-run gw.example.net 2> /dev/null && fail "knock takes an empty key"
	return 0
}

test_daemon() {
	local said
	pkdd --version | grep -qxF "pkdd $1" || fail "pkdd says: $(pkdd --version)"
	pkdd no-such-verb 2> /dev/null
	[ $? = 2 ] || fail "a wrong verb is no error"
	cat > /tmp/pkdd.toml <<- EOT
		[gate]
		firewall = 'fw4'
		[service.ssh]
		port = 22
		[user.me]
		tag = 'TEST'
		key = 'nobody has this one'
		services = ['ssh']
	EOT
	chmod 600 /tmp/pkdd.toml
	said=$(pkdd -c /tmp/pkdd.toml check) || fail "pkdd does not take its configuration"
	[ "$said" = "/tmp/pkdd.toml: configuration OK: 1 services, 1 users" ] || fail "pkdd says: $said"
	sed -i 's/= 22/= 0/' /tmp/pkdd.toml
	pkdd -c /tmp/pkdd.toml check 2> /dev/null && fail "pkdd takes port 0"
	rm -f /tmp/pkdd.toml
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
	grep -q 'key-file' /usr/lib/iptables/libxt_pkd.so || fail "the extension has no option --key-file"
	;;
kmod-ipt-pkd)
	set -- /lib/modules/*/xt_pkd.ko
	[ $# = 1 ] || fail "there are $# modules"
	has_mode -rw-r--r-- "$1"
	is_elf 1 "$1"
	for alias in ipt_pkd ip6t_pkd; do
		grep -q "alias=$alias" "$1" || fail "the kernel would not find the module as $alias"
	done
	[ "$(cat /etc/modules.d/ipt-pkd)" = xt_pkd ] || fail "the module is not loaded at boot"
	;;
*)
	fail "there is no package $1"
	;;
esac
