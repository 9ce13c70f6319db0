# shellcheck shell=dash
# SPDX-License-Identifier: GPL-2.0-only
# The floor: the time at or below which no knock counts. The kernel keeps it while it runs; flash
# keeps it over a reboot, against whoever can set the clock back and send old knocks again.

PKD_STATUS=/proc/net/xt_pkd
PKD_FLOOR=/etc/pkd/floor
# Seconds between two writes to flash while the machine runs.
PKD_SELDOM=3600

# The greatest that either mode has saved.
pkd_saved_floor() {
	cat "$PKD_FLOOR" "$PKD_DAEMON_STATE/floor" 2> /dev/null | grep -xE '[0-9]+' | sort -n | tail -n 1 | grep . || echo 0
}

pkd_uptime() {
	local whole
	IFS=. read -r whole _ < /proc/uptime
	echo "$whole"
}

# Whether no knock was ever accepted here: then there is none to be sent again.
pkd_is_first_life() {
	[ ! -e $PKD_FLOOR ]
}

# Whether what the clock says may decide about knocks.
pkd_time_is_known() {
	[ "$pkd_clock" = trust ] || [ -e "$PKD_RUN/time-known" ] || pkd_is_first_life
}

# pkd_restore_floor FOLDER: tells a kernel that remembers nothing what earlier lives accepted. The clock is
# right by now, so what was accepted after the last save lies below now and the widest window.
pkd_restore_floor() {
	local floor now widest
	floor=$(sed -n 's/^Floor to save: //p' $PKD_STATUS)
	if [ -n "$floor" ]; then
		# The module was at work before the service: the next life is no first one.
		! pkd_is_first_life || pkd_write_floor "$floor"
		return
	fi
	if pkd_is_first_life; then
		floor=0
		pkd_write_floor 0
		# Nobody asks a second time in this life.
		: > "$PKD_RUN/time-known"
	else
		now=$(date +%s)
		widest=$(awk '$3 > most { most = $3 } END { print most + 0 }' "$1/users")
		floor=$(pkd_saved_floor)
		[ "$floor" -gt $((now + widest)) ] || floor=$((now + widest))
	fi
	echo "floor $floor" > $PKD_STATUS || pkd_fail "the kernel does not take the floor $floor"
}

pkd_write_floor() {
	mkdir -p /etc/pkd && echo "$1" > $PKD_FLOOR.new && mv $PKD_FLOOR.new $PKD_FLOOR ||
		pkd_fail "cannot write $PKD_FLOOR"
	sync
}

# pkd_save_floor [--seldom]
pkd_save_floor() {
	local floor last=0
	[ -r $PKD_STATUS ] || return 0
	floor=$(sed -n 's/^Floor to save: //p' $PKD_STATUS)
	[ -n "$floor" ] && [ "$floor" -gt "$(pkd_saved_floor)" ] || return 0
	if [ "$1" = --seldom ]; then
		[ ! -e "$PKD_RUN/saved" ] || read -r last < "$PKD_RUN/saved"
		[ "$last" -eq 0 ] || [ $(($(pkd_uptime) - last)) -ge $PKD_SELDOM ] || return 0
	fi
	pkd_write_floor "$floor"
	pkd_uptime > "$PKD_RUN/saved"
}
