# shellcheck shell=dash
# SPDX-License-Identifier: GPL-2.0-only
# The rules of both modes. In mode match, an iptables rule checks each knock and marks an accepted one with its user's
# number. firewall4's table sees the mark, adds the sender to the sets of the user's services, and accepts new
# connections from the addresses in these sets.

PKD_FW4=/var/run/pkd/fw4
PKD_DROP_INS=/usr/share/nftables.d

# Prints the iptables commands to use, one per address family.
pkd_iptables() {
	echo iptables
	[ ! -e /proc/net/if_inet6 ] || echo ip6tables
}

# Rules for iptables-restore, which reads them on standard input, so that ps does not show them.
pkd_render_iptables() {
	local number=0 name tag window file
	echo "*mangle"
	echo ":pkd - [0:0]"
	# A mark that another program set must not pass for an accepted knock.
	echo "-A pkd -j MARK --set-xmark 0x0/$pkd_mask"
	# shellcheck disable=SC2034
	while read -r name tag window file _; do
		number=$((number + 1))
		printf -- '-A pkd -p udp -m pkd --key-file "%s" --tag 0x%s --window %s -j MARK --set-xmark 0x%x/%s\n' \
			"$file" "$tag" "$window" $((number * pkd_unit)) "$pkd_mask"
	done < "$1/users"
	echo COMMIT
}

pkd_render_table() {
	local name protocol port
	# shellcheck disable=SC2034
	while read -r name _; do
		echo "set pkd_${name}_4 { type ipv4_addr; size 4096; flags dynamic,timeout; }"
		echo "set pkd_${name}_6 { type ipv6_addr; size 4096; flags dynamic,timeout; }"
	done < "$1/services"
	if [ "$pkd_mode" = nft ]; then
		pkd_render_nflog "$1"
	else
		pkd_render_marks "$1"
	fi
	echo "chain pkd_input {"
	echo "	jump pkd_knocks"
	while read -r name protocol port _; do
		echo "	meta nfproto ipv4 $protocol dport $port ct state new ip saddr @pkd_${name}_4 accept comment \"pkd: $name\""
		echo "	meta nfproto ipv6 $protocol dport $port ct state new ip6 saddr @pkd_${name}_6 accept comment \"pkd: $name\""
	done < "$1/services"
	echo "}"
}

# The chains that turn marks into grants.
pkd_render_marks() {
	local number=0 name tag services service protocol port seconds tags
	while read -r name tag _ _ services; do
		number=$((number + 1))
		echo "chain pkd_user_$number {"
		while read -r service protocol port seconds tags; do
			case ",$services," in *",$service,"*) ;; *) continue ;; esac
			case ",$tags," in ,-, | *",$tag,"*) ;; *) continue ;; esac
			echo "	meta nfproto ipv4 update @pkd_${service}_4 { ip saddr timeout ${seconds}s }"
			echo "	meta nfproto ipv6 update @pkd_${service}_6 { ip6 saddr timeout ${seconds}s }"
		done < "$1/services"
		echo "	drop"
		echo "}"
	done < "$1/users"
	echo "chain pkd_knocks {"
	number=0
	while read -r name _; do
		number=$((number + 1))
		printf '\tmeta l4proto udp meta mark & %s == 0x%x goto pkd_user_%s comment "pkd: user %s"\n' \
			"$pkd_mask" $((number * pkd_unit)) $number "$name"
	done < "$1/users"
	echo "}"
}

# pkd_render FOLDER: renders FOLDER/fw4 and, for mode match, FOLDER/iptables, and has nft and iptables-restore check them
# before anything changes.
pkd_render() {
	local command output
	command -v nft > /dev/null && command -v fw4 > /dev/null || pkd_fail "nft or fw4 not found: install firewall4"
	mkdir "$1/fw4" && pkd_render_table "$1" > "$1/fw4/table-pkd.nft" &&
		echo "jump pkd_input" > "$1/fw4/chain-pkd.nft" || pkd_fail "cannot write to $1"
	{
		echo "table inet pkd_check {"
		echo "	include \"$1/fw4/table-pkd.nft\""
		echo "	chain input {"
		echo "		include \"$1/fw4/chain-pkd.nft\""
		echo "	}"
		echo "}"
	} > "$1/check.nft"
	output=$(nft -c -f "$1/check.nft" 2>&1) || pkd_fail "nft rejected the rules: $(pkd_first_line "$output")"
	[ "$pkd_mode" = match ] || return 0
	pkd_render_iptables "$1" > "$1/iptables" || pkd_fail "cannot write to $1"
	for command in $(pkd_iptables); do
		command -v "$command-restore" > /dev/null ||
			pkd_fail "$command-restore not found: install $command-nft and iptables-mod-pkd"
		output=$("$command-restore" --test --noflush < "$1/iptables" 2>&1) ||
			pkd_fail "$command rejected the rules: $(pkd_first_line "$output")"
	done
}

pkd_first_line() {
	printf '%s\n' "$1" | sed -n '/./{p;q;}'
}

pkd_load_module() {
	[ -r "$PKD_STATUS" ] || modprobe xt_pkd 2> /dev/null
	[ -r "$PKD_STATUS" ] || pkd_fail "cannot load the kernel module xt_pkd: install kmod-ipt-pkd built for exactly this kernel"
}

# pkd_jumps COMMAND: prints the rules that jump to our chain, as -A lines.
pkd_jumps() {
	"$1" -t mangle -S INPUT 2> /dev/null | grep -- ' -j pkd$'
}

# pkd_install_iptables FOLDER: installs the rendered rules, each address family in one transaction.
pkd_install_iptables() {
	local command jump old output
	jump="-A INPUT -p udp -j pkd"
	[ "$pkd_port" = any ] || jump="-A INPUT -p udp -m udp --dport $pkd_port -j pkd"
	for command in $(pkd_iptables); do
		old=$(pkd_jumps "$command")
		output=$({
			sed '/^COMMIT/d' "$1/iptables"
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

pkd_fw4_runs() {
	[ -e /var/run/fw4.state ]
}

# Makes firewall4's input chain of the zone include our jump. Flash is written only when the zone changes.
pkd_install_drop_in() {
	local wanted=$PKD_DROP_INS/chain-pre/input_$pkd_zone/20-pkd.nft text="include \"$PKD_FW4/chain-*.nft\""
	[ "$pkd_zone" != any ] || wanted=$PKD_DROP_INS/chain-pre/input/20-pkd.nft
	pkd_remove_drop_ins "$wanted"
	pkd_zone_changed=
	[ "$(cat "$wanted" 2> /dev/null)" = "$text" ] && return
	pkd_zone_changed=1
	(umask 022 && mkdir -p "${wanted%/*}" && echo "$text" > "$wanted") || pkd_fail "cannot write $wanted"
}

# pkd_remove_drop_ins [KEPT]
pkd_remove_drop_ins() {
	local file
	find $PKD_DROP_INS/chain-pre -name 20-pkd.nft 2> /dev/null | while read -r file; do
		[ "$file" = "$1" ] || { rm -f "$file" && rmdir "${file%/*}" 2> /dev/null; }
	done
}

# pkd_swap_fw4 NEW OLD: moves the files that firewall4 reads to OLD, and NEW, if it exists, into their place.
pkd_swap_fw4() {
	(
		# firewall4 reads the files while it holds this lock.
		flock -x 9
		rm -rf "$2"
		[ ! -e "$PKD_FW4" ] || mv "$PKD_FW4" "$2"
		[ ! -e "$1" ] || mv "$1" "$PKD_FW4"
	) 9> /var/run/fw4.lock
}

# pkd_install_fw4 FOLDER: has firewall4 load the rendered files. If it cannot, restores the previous ones.
pkd_install_fw4() {
	if pkd_is_loaded && cmp -s "$1/fw4/table-pkd.nft" $PKD_FW4/table-pkd.nft && [ -z "$pkd_zone_changed" ]; then
		return
	fi
	pkd_swap_fw4 "$1/fw4" "$PKD_FW4.old"
	pkd_fw4_runs || return 0
	if ! fw4 -q check; then
		pkd_swap_fw4 "$PKD_FW4.old" "$1/fw4"
		pkd_fail "cannot reload the firewall: /etc/config/firewall has an error that is not pkd's: run fw4 check"
	fi
	# A mark must never mean one user to iptables and another to firewall4. A knock during the switch is lost.
	pkd_remove_iptables
	fw4 -q reload || pkd_fail "fw4 reload failed"
	pkd_remove_stale_sets
}

pkd_is_loaded() {
	nft list chain inet fw4 pkd_input 2> /dev/null | grep -q dport
}

# A reload of firewall4 empties chains but keeps sets: deletes those that are no longer rendered.
pkd_remove_stale_sets() {
	local wanted
	wanted=$(sed -nE 's/^(set|chain) (pkd_[A-Za-z0-9_]+) .*/\1 \2/p' $PKD_FW4/table-pkd.nft 2> /dev/null)
	nft -t list table inet fw4 2> /dev/null |
		sed -nE 's/^[[:space:]]*(set|chain) (pkd_[A-Za-z0-9_]+) .*/\1 \2/p' |
		{ grep -vxF "${wanted:-none}" || :; } | sort | sed 's/^\([a-z]*\) /delete \1 inet fw4 /' |
		nft -f - || pkd_fail "nft cannot delete old sets"
}

pkd_remove_fw4() {
	pkd_remove_drop_ins
	[ -e "$PKD_FW4" ] || return 0
	rm -rf "$PKD_FW4"
	pkd_fw4_runs || return 0
	fw4 -q reload || pkd_fail "fw4 reload failed"
	pkd_remove_stale_sets
}
