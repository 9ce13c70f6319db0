# shellcheck shell=dash
# SPDX-License-Identifier: GPL-2.0-only
# Mode match: the kernel module and the iptables rules that pkdd has rendered.

PKD_MODULE=/proc/net/xt_pkd

# Prints the iptables commands to use, one per address family.
pkd_iptables() {
	echo iptables
	[ ! -e /proc/net/if_inet6 ] || echo ip6tables
}

pkd_load_module() {
	[ -r $PKD_MODULE ] || modprobe xt_pkd 2> /dev/null
	[ -r $PKD_MODULE ] || pkd_fail "cannot load the kernel module xt_pkd: install kmod-ipt-pkd built for exactly this kernel"
}

# pkd_check_iptables FOLDER: has iptables check the rendered rules and the key files in them.
pkd_check_iptables() {
	local command output
	pkd_load_module
	for command in $(pkd_iptables); do
		command -v "$command-restore" > /dev/null ||
			pkd_fail "$command-restore not found: install $command-nft and iptables-mod-pkd"
		output=$("$command-restore" --test --noflush < "$1/iptables" 2>&1) ||
			pkd_fail "$command rejected the rules: $(pkd_first_line "$output")"
	done
}

# Installs the rendered rules, each address family in one transaction.
pkd_install_iptables() {
	local command rules output
	for command in $(pkd_iptables); do
		rules=$("$command" -t mangle -S INPUT 2> /dev/null | $PKDD openwrt iptables 2>&1) || pkd_fail "${rules#pkdd: }"
		output=$(printf '%s\n' "$rules" | "$command-restore" --noflush 2>&1) ||
			pkd_fail "$command rejected the rules: $(pkd_first_line "$output")"
	done
}

# Works without pkdd, so that the gate closes whatever is installed.
pkd_remove_iptables() {
	local command
	for command in $(pkd_iptables); do
		command -v "$command-restore" > /dev/null || continue
		"$command" -t mangle -S pkd > /dev/null 2>&1 || continue
		{
			echo "*mangle"
			echo ":pkd - [0:0]"
			"$command" -t mangle -S INPUT | sed -n '/ -j pkd$/s/^-A/-D/p'
			echo "-X pkd"
			echo COMMIT
		} | "$command-restore" --noflush || pkd_fail "$command cannot remove the rules"
	done
}
