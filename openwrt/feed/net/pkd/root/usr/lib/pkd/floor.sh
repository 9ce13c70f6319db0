# shellcheck shell=dash
# SPDX-License-Identifier: GPL-2.0-only
# The floor: knocks whose time is at or below it are ignored. The kernel keeps it while it runs. A copy on flash
# survives reboots, so that recorded knocks cannot be replayed after the clock was set back.

PKD_STATUS=/proc/net/xt_pkd
PKD_FLOOR=/etc/pkd/floor
# Least seconds between two writes to flash while the machine runs.
PKD_SAVE_INTERVAL=3600

# Prints the greatest floor that either mode has saved, or 0.
pkd_saved_floor() {
	cat "$PKD_FLOOR" "$PKD_DAEMON_STATE/floor" 2> /dev/null | grep -xE '[0-9]+' | sort -n | tail -n 1 | grep . || echo 0
}

pkd_uptime() {
	local whole
	IFS=. read -r whole _ < /proc/uptime
	echo "$whole"
}

# Whether no knock was ever accepted here, so that there is none to replay.
pkd_is_first_start() {
	[ ! -e $PKD_FLOOR ]
}

# Whether the clock can be relied on to check knocks.
pkd_time_is_known() {
	[ "$pkd_clock" = trust ] || [ -e "$PKD_RUN/time-known" ] || pkd_is_first_start
}

# pkd_restore_floor FOLDER: sets the floor in a kernel module that has none yet. The clock is correct by now, so
# everything accepted after the last save is below the current time plus the widest window.
pkd_restore_floor() {
	local floor now widest
	floor=$(sed -n 's/^Floor to save: //p' $PKD_STATUS)
	if [ -n "$floor" ]; then
		# The module was in use before the service: make sure that a floor is on flash for the next boot.
		! pkd_is_first_start || pkd_write_floor "$floor"
		return
	fi
	if pkd_is_first_start; then
		floor=0
		pkd_write_floor 0
		# The floor file now exists; without this, the next check would wait for NTP.
		: > "$PKD_RUN/time-known"
	else
		now=$(date +%s)
		widest=$(awk '$3 > most { most = $3 } END { print most + 0 }' "$1/users")
		floor=$(pkd_saved_floor)
		[ "$floor" -gt $((now + widest)) ] || floor=$((now + widest))
	fi
	echo "floor $floor" > $PKD_STATUS || pkd_fail "cannot set the floor $floor: the kernel rejected it"
}

pkd_write_floor() {
	mkdir -p /etc/pkd && echo "$1" > $PKD_FLOOR.new && mv $PKD_FLOOR.new $PKD_FLOOR ||
		pkd_fail "cannot write $PKD_FLOOR"
	sync
}

# pkd_save_floor [--if-due]: saves a floor that has risen; --if-due at most once per PKD_SAVE_INTERVAL.
pkd_save_floor() {
	local floor last=0
	[ -r $PKD_STATUS ] || return 0
	floor=$(sed -n 's/^Floor to save: //p' $PKD_STATUS)
	[ -n "$floor" ] && [ "$floor" -gt "$(pkd_saved_floor)" ] || return 0
	if [ "$1" = --if-due ]; then
		[ ! -e "$PKD_RUN/saved" ] || read -r last < "$PKD_RUN/saved"
		[ "$last" -eq 0 ] || [ $(($(pkd_uptime) - last)) -ge $PKD_SAVE_INTERVAL ] || return 0
	fi
	pkd_write_floor "$floor"
	pkd_uptime > "$PKD_RUN/saved"
}
