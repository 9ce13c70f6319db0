# shellcheck shell=dash
# SPDX-License-Identifier: GPL-2.0-only
# Has firewall4 include the sets and chains that pkdd has rendered.

PKD_FW4=/var/run/pkd/fw4

pkd_fw4_runs() {
	[ -e /var/run/fw4.state ]
}

# pkd_check_fw4 FOLDER: has nft check the rendered files, which check.nft includes, before anything changes.
pkd_check_fw4() {
	local output
	command -v nft > /dev/null && command -v fw4 > /dev/null || pkd_fail "nft or fw4 not found: install firewall4"
	output=$(nft -c -f "$1/check.nft" 2>&1) || pkd_fail "nft rejected the rules: $(pkd_first_line "$output")"
}

# pkd_install_fw4 FOLDER: has firewall4 load the rendered files. If it cannot, restores the previous ones.
pkd_install_fw4() {
	local zone
	zone=$(umask 022 && $PKDD openwrt drop-in "$pkd_zone" 2>&1) || pkd_fail "${zone#pkdd: }"
	if [ -z "$zone" ] && pkd_is_loaded && cmp -s "$1/fw4/table-pkd.nft" $PKD_FW4/table-pkd.nft; then
		return
	fi
	pkd_swap_fw4 "$1/fw4" $PKD_FW4.old
	pkd_fw4_runs || return 0
	if ! fw4 -q check; then
		pkd_swap_fw4 $PKD_FW4.old "$1/fw4"
		pkd_fail "cannot reload the firewall: /etc/config/firewall has an error that is not pkd's: run fw4 check"
	fi
	# A mark must never mean one user to iptables and another to firewall4. A knock during the switch is lost.
	pkd_remove_iptables
	fw4 -q reload || pkd_fail "fw4 reload failed"
	pkd_remove_stale
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

pkd_is_loaded() {
	nft list chain inet fw4 pkd.input 2> /dev/null | grep -q pkd.knocks
}

# A reload of firewall4 empties chains but keeps sets: deletes those that are no longer rendered.
pkd_remove_stale() {
	local wanted
	wanted=$(sed -nE 's/^(set|chain) (pkd[._][A-Za-z0-9_]+) .*/\1 \2/p' $PKD_FW4/table-pkd.nft 2> /dev/null)
	nft -t list table inet fw4 2> /dev/null |
		sed -nE 's/^[[:space:]]*(set|chain) (pkd[._][A-Za-z0-9_]+) .*/\1 \2/p' |
		{ grep -vxF "${wanted:-none}" || :; } | sort | sed 's/^\([a-z]*\) /delete \1 inet fw4 /' |
		nft -f - || pkd_fail "nft cannot delete old sets"
}

pkd_remove_fw4() {
	rm -f /usr/share/nftables.d/chain-pre/*/20-pkd.nft
	rmdir /usr/share/nftables.d/chain-pre/* 2> /dev/null
	[ -e "$PKD_FW4" ] || return 0
	rm -rf "$PKD_FW4"
	pkd_fw4_runs || return 0
	fw4 -q reload || pkd_fail "fw4 reload failed"
	pkd_remove_stale
}
