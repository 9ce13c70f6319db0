# shellcheck shell=dash
# SPDX-License-Identifier: GPL-2.0-only
# Mode nft: firewall4's own table hands over what may be a knock, the daemon pkdd checks it and takes its sender into
# the sets of the services. No kernel module of ours, and no iptables.

PKDD=/usr/sbin/pkdd
# NFLOG's group; a number that nobody else uses.
PKD_GROUP=5644
# What pkdd keeps on flash. It belongs to the user that pkdd is, who may not enter /etc/pkd.
PKD_DAEMON_STATE=/etc/pkdd
PKD_DAEMON_USER=nobody

pkd_find_daemon() {
	[ -x $PKDD ] || pkd_fail "option mode 'nft' needs the package pkdd"
}

# pkd_render_toml FOLDER: pkdd's configuration. The keys stay in their files.
pkd_render_toml() {
	local name protocol port seconds tags tag window file services
	echo "[gate]"
	echo "firewall = 'fw4'"
	[ "$pkd_port" = any ] || echo "port = $pkd_port"
	echo "group = $PKD_GROUP"
	echo "run = '/var/run/pkdd'"
	echo "state = '$PKD_DAEMON_STATE'"
	# Flash is written at most once an hour, and when pkdd ends.
	echo "save = $PKD_SELDOM"
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

# pkd_check_daemon FOLDER: has pkdd read what was rendered. It names a key that is none.
pkd_check_daemon() {
	local said
	pkd_render_toml "$1" > "$1/pkdd.toml" || pkd_fail "cannot write to $1"
	said=$($PKDD --config "$1/pkdd.toml" check 2>&1) || pkd_fail "${said#pkdd: "$1/pkdd.toml": }"
}

# What hands over the knocks: 64 bytes of UDP with a known tag, so many a second of each source.
pkd_render_handover() {
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
	# The tag: the first 4 bytes behind the 8 of the UDP header.
	[ -z "$tags" ] || echo "	udp length 64 $([ "$pkd_port" = any ] || echo "udp dport $pkd_port ")@th,64,32 { ${tags%,} } goto pkd_handover"
	echo "}"
}

# The floor in the place where pkdd looks for it, from the mode before, or because this is the first life.
pkd_prepare_state() {
	[ ! -e $PKD_DAEMON_STATE/floor ] || return 0
	mkdir -p $PKD_DAEMON_STATE || pkd_fail "cannot make $PKD_DAEMON_STATE"
	if pkd_is_first_life; then
		printf '0\nclean\n' > $PKD_DAEMON_STATE/floor || pkd_fail "cannot write $PKD_DAEMON_STATE/floor"
		pkd_write_floor 0
		# Nobody asks a second time in this life.
		: > "$PKD_RUN/time-known"
	else
		cp "$PKD_FLOOR" $PKD_DAEMON_STATE/floor || pkd_fail "cannot write $PKD_DAEMON_STATE/floor"
	fi
}

# firewall4 has been loaded anew: its sets may be empty.
pkd_wake_daemon() {
	killall -USR1 pkdd 2> /dev/null
	return 0
}
