# shellcheck shell=dash
# SPDX-License-Identifier: GPL-2.0-only
# The gate's status, as JSON and as text. It never contains a key.

pkd_json_text() {
	printf '%s' "$1" | sed 's/\\/\\\\/g; s/"/\\"/g' | tr -d '\000-\037'
}

pkd_join() {
	awk '{ printf "%s%s", (NR > 1 ? "," : ""), $0 }'
}

# Sets pkd_state and pkd_reason.
pkd_find_state() {
	pkd_reason=
	if [ -e "$PKD_RUN/error" ]; then
		pkd_state=error
		read -r pkd_reason < "$PKD_RUN/error"
	elif [ "$(uci -q get pkd.gate.enabled)" != 1 ]; then
		pkd_state=disabled
	elif [ ! -e "$PKD_RUN/active" ]; then
		pkd_state=stopped
	elif ! pkd_fw4_runs; then
		pkd_state=stopped
		pkd_reason="the firewall is stopped"
	else
		pkd_clock=$(uci -q get pkd.gate.clock)
		pkd_state=open
		pkd_time_is_known || pkd_state=waiting-for-time
		if [ $pkd_state = open ] && pkd_is_nft_mode && [ -z "$(pkd_query_daemon metrics)" ]; then
			pkd_state=error
			pkd_reason="the daemon pkdd does not respond: see logread -e pkdd"
		fi
	fi
}

pkd_is_nft_mode() {
	[ "$(cat "$PKD_RUN/active/mode" 2> /dev/null)" = nft ]
}

# pkd_query_daemon COMMAND [OPTION]
pkd_query_daemon() {
	$PKDD --config "$PKD_RUN/active/pkdd.toml" "$@" 2> /dev/null
}

pkd_json_counters() {
	if pkd_is_nft_mode; then
		pkd_query_daemon metrics | sed -nE 's/^pkdd_datagrams_total\{verdict="(.)(.*)"\} (.*)/\1 \2 \3/p' |
			awk '{ printf "%s\"%s%s\":%s", (NR > 1 ? "," : ""), toupper($1), $2, $3 }'
		return
	fi
	[ -r "$PKD_STATUS" ] || return
	sed -nE 's/^Good packets: /"Accept":/p; s/^Packets of another length: /"Length":/p
		s/^Packets with another tag: /"Tag":/p; s/^Packets outside of time window: /"Window":/p
		s/^Replayed packets: /"Replay":/p; s/^Packets with a wrong digest: /"Digest":/p' "$PKD_STATUS" | pkd_join
}

pkd_json_caches() {
	if pkd_is_nft_mode; then
		# One user a line; null becomes 0, as in the kernel's report.
		pkd_query_daemon status --json | sed 's/.*"users":\[//; s/\],"services":.*//; s/},{/}\n{/g; s/"newest":null/"newest":0/g' |
			sed -nE 's/.*"tag":("(\\.|[^"\\])*"),"state":"active","window":([0-9]+),"knocks":([0-9]+),"floor":([0-9]+),"newest":([0-9]+),"wait":([0-9]+).*/{"tag":\1,"rules":1,"window":\3,"knocks":\4,"capacity":256,"floor":\5,"newest":\6,"wait":\7}/p' |
			pkd_join
		return
	fi
	[ -r "$PKD_STATUS" ] || return
	# The tag may contain any printable character.
	sed -n '/^Cache: /{s/\\/\\\\/g; s/"/\\"/g; p;}' "$PKD_STATUS" | sed -nE \
		's,^Cache: tag (.*) rules ([0-9]+) window ([0-9]+) knocks ([0-9]+)/([0-9]+) floor ([0-9]+) newest ([0-9]+) wait ([0-9]+).*,{"tag":"\1"\,"rules":\2\,"window":\3\,"knocks":\4\,"capacity":\5\,"floor":\6\,"newest":\7\,"wait":\8},p' |
		pkd_join
}

# Prints ADDRESS SECONDS for each element of a set as listed by nft.
pkd_elements() {
	# Three separate characters.
	# shellcheck disable=SC2020
	tr ',{}' '\n\n\n' | awk '
		{
			left = ""
			for (i = 1; i < NF; i++) if ($i == "expires") left = $(i + 1)
			if (left == "") next
			seconds = 0; number = ""
			for (i = 1; i <= length(left); i++) {
				c = substr(left, i, 1)
				if (c ~ /[0-9]/) { number = number c; continue }
				if (c == "m" && substr(left, i + 1, 1) == "s") break
				seconds += number * (c == "d" ? 86400 : c == "h" ? 3600 : c == "m" ? 60 : 1)
				number = ""
			}
			print ($1 == "elements" ? $3 : $1), seconds
		}'
}

# Prints SERVICE PROTOCOL PORT ADDRESS FAMILY SECONDS for each grant.
pkd_grants() {
	local name protocol port family address seconds
	[ -e "$PKD_RUN/active/services" ] || return
	while read -r name protocol port _; do
		for family in 4 6; do
			nft list set inet fw4 "pkd_${name}_$family" 2> /dev/null | pkd_elements | while read -r address seconds; do
				echo "$name $protocol $port $address $family $seconds"
			done
		done
	done < "$PKD_RUN/active/services"
}

pkd_tag_text() {
	local text
	case "$1" in
	*[!0-9a-f]* | '') return ;;
	esac
	# Printable ASCII as text, anything else as hexadecimal. Short tags are padded with zeros.
	text=$(echo "$1" | sed -E 's/(00)+$//')
	if echo "$text" | grep -qE '^((2[1-9a-f]|[3-6][0-9a-f]|7[0-9a-e]))+$'; then
		# shellcheck disable=SC2059
		printf "$(echo "$text" | sed -E 's/(..)/\\x\1/g')"
	else
		printf '0x%s' "$1"
	fi
}

pkd_json_users() {
	local name tag state
	[ -e "$PKD_RUN/active/user-states" ] || return
	while read -r name tag state; do
		printf '{"name":"%s","tag":"%s","state":"%s"}\n' "$name" "$(pkd_json_text "$(pkd_tag_text "$tag")")" "$state"
	done < "$PKD_RUN/active/user-states" | pkd_join
}

pkd_status_json() {
	local enabled=false
	pkd_find_state
	[ "$(uci -q get pkd.gate.enabled)" != 1 ] || enabled=true
	printf '{"version":"%s","now":%s,"enabled":%s,"mode":"%s","state":"%s","reason":"%s",' \
		"$PKD_VERSION" "$(date +%s)" $enabled "$(pkd_json_text "$(uci -q get pkd.gate.mode)")" "$pkd_state" "$(pkd_json_text "$pkd_reason")"
	printf '"counters":{%s},"caches":[%s],' "$(pkd_json_counters)" "$(pkd_json_caches)"
	printf '"grants":[%s],"users":[%s]}\n' "$(pkd_grants | awk '{
		printf "%s{\"service\":\"%s\",\"protocol\":\"%s\",\"port\":%s,\"address\":\"%s\",\"family\":%s,\"seconds_left\":%s}",
			(NR > 1 ? "," : ""), $1, $2, $3, $4, $5, $6
	}')" "$(pkd_json_users)"
}

pkd_status_text() {
	pkd_find_state
	case "$pkd_state" in
	disabled) echo "pkd is disabled: uci set pkd.gate.enabled=1; uci commit pkd; /etc/init.d/pkd start" ;;
	stopped) echo "pkd is stopped${pkd_reason:+: $pkd_reason}" ;;
	error) echo "pkd has an error, and the previous configuration stays in force: $pkd_reason" ;;
	waiting-for-time) echo "pkd is waiting: knocks are ignored until NTP has set the clock" ;;
	open) echo "pkd is running and accepts knocks" ;;
	esac
	if pkd_is_nft_mode; then
		pkd_query_daemon status
		return
	fi
	[ ! -r "$PKD_STATUS" ] || cat "$PKD_STATUS"
	pkd_grants | while read -r service protocol port address _ seconds; do
		echo "Grant: $address to $service ($protocol $port) for $seconds more seconds"
	done
}
