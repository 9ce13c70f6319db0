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

# pkd_jumps COMMAND: prints the rules that jump to our chain, as -A lines.
pkd_jumps() {
	"$1" -t mangle -S INPUT 2> /dev/null | grep -- ' -j pkd$'
}

# Installs the rendered rules, each address family in one transaction.
pkd_install_iptables() {
	local command jump old output
	jump="-A INPUT -p udp -j pkd"
	[ "$pkd_port" = any ] || jump="-A INPUT -p udp -m udp --dport $pkd_port -j pkd"
	for command in $(pkd_iptables); do
		old=$(pkd_jumps "$command")
		output=$({
			sed '/^COMMIT/d' "$PKD_RUN/active/iptables"
			if [ "$old" != "$jump" ]; then
				[ -z "$old" ] || printf '%s\n' "$old" | sed 's/^-A/-D/'
				printf '%s\n' "$jump"
			fi
			echo COMMIT
		} | "$command-restore" --noflush 2>&1) || pkd_fail "$command rejected the rules: $(pkd_first_line "$output")"
	done
}

pkd_remove_iptables() {
	local command
	for command in $(pkd_iptables); do
		command -v "$command-restore" > /dev/null || continue
		"$command" -t mangle -S pkd > /dev/null 2>&1 || continue
		{
			echo "*mangle"
			echo ":pkd - [0:0]"
			pkd_jumps "$command" | sed 's/^-A/-D/'
			echo "-X pkd"
			echo COMMIT
		} | "$command-restore" --noflush || pkd_fail "$command cannot remove the rules"
	done
}
