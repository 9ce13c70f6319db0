# shellcheck shell=dash
# SPDX-License-Identifier: GPL-2.0-only
# Mode nft: firewall4's own table passes possible knocks to the daemon pkdd over NFLOG. pkdd checks them and adds the
# senders to the services' sets. Needs neither our kernel module nor iptables.

PKDD=/usr/sbin/pkdd
# NFLOG group; no other program may use it.
PKD_GROUP=5644
# pkdd's state on flash. It belongs to the user that pkdd runs as, who has no access to /etc/pkd.
PKD_DAEMON_STATE=/etc/pkdd
PKD_DAEMON_USER=nobody

pkd_require_daemon() {
	[ -x $PKDD ] || pkd_fail "option mode 'nft' needs the package pkdd: install it"
}

# pkd_render_toml FOLDER: prints pkdd's configuration. It names the key files and contains no key.
pkd_render_toml() {
	local name protocol port seconds tags tag window file services
	echo "[gate]"
	echo "firewall = 'fw4'"
	[ "$pkd_port" = any ] || echo "port = $pkd_port"
	echo "group = $PKD_GROUP"
	echo "run = '/var/run/pkdd'"
	echo "state = '$PKD_DAEMON_STATE'"
	# Write flash at most once an hour, and when pkdd exits.
	echo "save = $PKD_SAVE_INTERVAL"
	echo "user = '$PKD_DAEMON_USER'"
	while read -r name protocol port seconds tags; do
		echo "[service.$name]"
		echo "protocol = '$protocol'"
		echo "port = $port"
		echo "seconds = $seconds"
		[ "$tags" = - ] || echo "tags = ['0x$(echo "$tags" | sed "s/,/', '0x/g")']"
	done < "$1/services"
	while read -r name tag window file services; do
		echo "[user.$name]"
		echo "tag = '0x$tag'"
		echo "key_file = '$file'"
		echo "window = $window"
		echo "services = ['$(echo "$services" | sed "s/,/', '/g")']"
	done < "$1/users"
}

# pkd_check_daemon FOLDER: renders pkdd's configuration and has pkdd check it, keys included.
pkd_check_daemon() {
	local output
	pkd_render_toml "$1" > "$1/pkdd.toml" || pkd_fail "cannot write to $1"
	output=$($PKDD --config "$1/pkdd.toml" check 2>&1) || pkd_fail "${output#pkdd: "$1/pkdd.toml": }"
}

# pkd_render_nflog FOLDER: the chains that pass possible knocks to pkdd: UDP datagrams of 64 bytes with a known tag,
# rate-limited by source.
pkd_render_nflog() {
	local tags
	tags=$(sed -E 's/^[^ ]* ([^ ]*) .*/0x\1/' "$1/users" | tr '\n' ',')
	echo "set pkd_sources_4 { type ipv4_addr; size 4096; flags dynamic,timeout; timeout 10s; }"
	echo "set pkd_sources_6 { type ipv6_addr; size 4096; flags dynamic,timeout; timeout 10s; }"
	echo "chain pkd_handover {"
	echo "	update @pkd_sources_4 { ip saddr limit rate over $pkd_rate/second burst $pkd_rate packets } drop"
	echo "	update @pkd_sources_6 { ip6 saddr & ffff:ffff:ffff:ffff:: limit rate over $pkd_rate/second burst $pkd_rate packets } drop"
	echo "	log group $PKD_GROUP snaplen 192 queue-threshold 1"
	echo "	drop"
	echo "}"
	echo "chain pkd_knocks {"
	# The tag is the first 4 bytes after the 8-byte UDP header.
	[ -z "$tags" ] || echo "	udp length 64 $([ "$pkd_port" = any ] || echo "udp dport $pkd_port ")@th,64,32 { ${tags%,} } goto pkd_handover"
	echo "}"
}

# Gives pkdd its first floor: the one that mode match saved, or 0 if no knock was ever accepted here.
pkd_prepare_state() {
	[ ! -e $PKD_DAEMON_STATE/floor ] || return 0
	mkdir -p $PKD_DAEMON_STATE || pkd_fail "cannot create $PKD_DAEMON_STATE"
	if pkd_is_first_start; then
		printf '0\nclean\n' > $PKD_DAEMON_STATE/floor || pkd_fail "cannot write $PKD_DAEMON_STATE/floor"
		pkd_write_floor 0
		# The floor file now exists; without this, the next check would wait for NTP.
		: > "$PKD_RUN/time-known"
	else
		cp "$PKD_FLOOR" $PKD_DAEMON_STATE/floor || pkd_fail "cannot write $PKD_DAEMON_STATE/floor"
	fi
}

# firewall4 was reloaded and its sets may be empty: has pkdd restore its grants.
pkd_notify_daemon() {
	killall -USR1 pkdd 2> /dev/null
	return 0
}
