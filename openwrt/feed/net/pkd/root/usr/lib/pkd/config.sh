# shellcheck shell=dash
# SPDX-License-Identifier: GPL-2.0-only
# Reads and validates all of /etc/config/pkd. Exits with one line about the first error.
#
# Writes the result to a folder, one item a line:
#   services     NAME tcp|udp PORT SECONDS TAGS       (TAGS: 8 digits each, comma-separated; - for all)
#   users        NAME TAG WINDOW KEY-FILE SERVICES    (active users only)
#   user-states  NAME TAG active|disabled|expired
# and sets pkd_enabled, pkd_mode, pkd_port, pkd_zone, pkd_mask, pkd_rate, pkd_clock. None of these contains a key.

# shellcheck disable=SC3040
set -f
export LC_ALL=C

PKD_KEYS=/etc/pkd/keys
# Each user's mark is a different number within these bits.
PKD_DEFAULT_MASK=0x00ff0000

pkd_fail() {
	mkdir -p "$PKD_RUN" && printf '%s\n' "$*" > "$PKD_RUN/error"
	logger -t pkd -p daemon.err "$*"
	echo "pkd: $*" >&2
	exit 1
}

pkd_bad() {
	pkd_fail "/etc/config/pkd: $*"
}

# pkd_invalid PLACE VALUE EXPECTED
pkd_invalid() {
	pkd_bad "$1: invalid value '$2': expected $3"
}

# pkd_number PLACE VALUE MIN MAX: a decimal number without a sign.
pkd_number() {
	case "$2" in
	'' | *[!0-9]* | 0?* | ???????????*) ;;
	*) [ "$2" -ge "$3" ] && [ "$2" -le "$4" ] && return ;;
	esac
	pkd_invalid "$1" "$2" "$3 to $4"
}

# pkd_name TYPE NAME MAX
pkd_name() {
	case "$2" in
	'' | *[!A-Za-z0-9_]*) ;;
	*) [ ${#2} -gt "$3" ] || return 0 ;;
	esac
	pkd_bad "$1 '$2': invalid name: expected 1 to $3 letters, digits and underscores"
}

pkd_flag() {
	case "$2" in
	0 | 1) ;;
	*) pkd_invalid "$1" "$2" "0 or 1" ;;
	esac
}

pkd_hex() {
	hexdump -v -e '1/1 "%02x"'
}

# pkd_tag PLACE TEXT: sets pkd_digits to the tag's 4 bytes in hexadecimal.
pkd_tag() {
	case "$2" in
	0x*)
		pkd_digits=${2#0x}
		case "$pkd_digits" in
		'' | *[!0-9a-fA-F]*) pkd_invalid "$1" "$2" "hexadecimal digits after 0x" ;;
		esac
		pkd_digits=$(printf %s "$pkd_digits" | tr A-F a-f)
		;;
	*) pkd_digits=$(printf %s "$2" | pkd_hex) ;;
	esac
	[ ${#pkd_digits} -le 8 ] || pkd_invalid "$1" "$2" "at most 4 bytes"
	while [ ${#pkd_digits} -lt 8 ]; do
		pkd_digits=${pkd_digits}0
	done
}

# Prints the first unknown section type or option, which would otherwise be ignored silently.
pkd_check_names() {
	uci -q show pkd | awk -F= '
		BEGIN {
			known["gate"] = " enabled mode port zone mark rate clock "
			known["service"] = " protocol port seconds tag "
			known["user"] = " enabled tag key key_file window service expires "
		}
		$1 ~ /^pkd\.[^.]+$/ {
			section = substr($1, 5)
			type[section] = $2
			if (!($2 in known)) { print "section \047" section "\047: unknown type \047" $2 "\047"; exit }
		}
		$1 ~ /^pkd\.[^.]+\.[^.]+$/ {
			split($1, part, ".")
			if (part[2] in type && !index(known[type[part[2]]], " " part[3] " ")) {
				print type[part[2]] " \047" part[2] "\047: unknown option \047" part[3] "\047"; exit
			}
		}'
}

# Without this check, a chain for a missing zone would silently never be reached.
pkd_has_zone() {
	uci -q show firewall | awk -F= -v wanted="'$1'" '
		$2 == "zone" { zone[$1] = 1 }
		$1 ~ /\.name$/ && $2 == wanted { sub(/\.name$/, "", $1); if ($1 in zone) found = 1 }
		END { exit !found }'
}

pkd_read_gate() {
	local value bits
	config_get value gate TYPE
	[ "$value" = gate ] || pkd_bad "missing section gate 'gate'"
	config_get pkd_enabled gate enabled 0
	pkd_flag "gate: option enabled" "$pkd_enabled"
	config_get pkd_mode gate mode match
	case "$pkd_mode" in
	match | nft) ;;
	*) pkd_invalid "gate: option mode" "$pkd_mode" "match or nft" ;;
	esac
	config_get pkd_rate gate rate 20
	pkd_number "gate: option rate" "$pkd_rate" 1 1000000
	config_get pkd_port gate port any
	[ "$pkd_port" = any ] || pkd_number "gate: option port" "$pkd_port" 1 65535
	config_get pkd_zone gate zone wan
	case "$pkd_zone" in
	'' | *[!A-Za-z0-9_-]*) pkd_invalid "gate: option zone" "$pkd_zone" "the name of a firewall zone, or any" ;;
	any) ;;
	*) pkd_has_zone "$pkd_zone" || pkd_bad "gate: option zone: no zone '$pkd_zone' in /etc/config/firewall" ;;
	esac
	config_get pkd_clock gate clock ntp
	case "$pkd_clock" in
	ntp | trust) ;;
	*) pkd_invalid "gate: option clock" "$pkd_clock" "ntp or trust" ;;
	esac
	config_get pkd_mask gate mark "$PKD_DEFAULT_MASK"
	case "$pkd_mask" in
	0x | 0x*[!0-9a-fA-F]* | 0x?????????*) bits= ;;
	0x*) bits=$((pkd_mask)) ;;
	*) bits= ;;
	esac
	[ -n "$bits" ] && [ "$bits" -ne 0 ] ||
		pkd_invalid "gate: option mark" "$pkd_mask" "a hexadecimal mask such as $PKD_DEFAULT_MASK"
	pkd_unit=$((bits & -bits))
	pkd_max_users=$((bits / pkd_unit))
	[ $((pkd_max_users & (pkd_max_users + 1))) -eq 0 ] && [ "$pkd_max_users" -ge 3 ] && [ "$pkd_max_users" -le 255 ] ||
		pkd_invalid "gate: option mark" "$pkd_mask" "2 to 8 adjacent bits"
}

pkd_read_service() {
	local protocol port seconds tags tag all=-
	pkd_name service "$1" 16
	config_get protocol "$1" protocol tcp
	case "$protocol" in
	tcp | udp) ;;
	*) pkd_invalid "service '$1': option protocol" "$protocol" "tcp or udp" ;;
	esac
	config_get port "$1" port
	[ -n "$port" ] || pkd_bad "service '$1': missing option port"
	pkd_number "service '$1': option port" "$port" 1 65535
	config_get seconds "$1" seconds 30
	pkd_number "service '$1': option seconds" "$seconds" 1 86400
	config_get tags "$1" tag
	for tag in $tags; do
		pkd_tag "service '$1': option tag" "$tag"
		all=${all#-},$pkd_digits
	done
	echo "$1 $protocol $port $seconds ${all#,}" >> "$pkd_to/services"
}

# Sets pkd_expired. A user expires at the end of the given day, in UTC.
pkd_read_expiry() {
	local end
	pkd_expired=
	[ -n "$2" ] || return
	case "$2" in
	[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]) end=$(date -u -d "$2 23:59:59" +%s 2> /dev/null) ;;
	*) end= ;;
	esac
	[ -n "$end" ] && [ "$(date -u -d "@$end" +%Y-%m-%d)" = "$2" ] ||
		pkd_invalid "user '$1': option expires" "$2" "a date such as 2027-12-31"
	[ "$(date +%s)" -le "$end" ] || pkd_expired=1
}

# Sets pkd_key_file; creates the key if the default key file is missing.
pkd_read_key() {
	local key=
	config_get key "$1" key
	config_get pkd_key_file "$1" key_file
	[ -z "$key" ] || [ -z "$pkd_key_file" ] || pkd_bad "user '$1': option key and option key_file are both set: remove one"
	if [ -n "$key" ]; then
		case "$key" in
		0x*) [ ${#key} -le 82 ] ;;
		*) [ ${#key} -le 40 ] ;;
		esac || pkd_bad "user '$1': option key: key too long: expected at most 40 bytes"
		# Keep the file that the running rules use: they may have to be restored from it.
		pkd_key_file=$PKD_RUN/keys/$1-1.key
		if grep -qF " $pkd_key_file " "$PKD_RUN/active/users" 2> /dev/null && [ "$(cat "$pkd_key_file")" != "$key" ]; then
			pkd_key_file=$PKD_RUN/keys/$1-2.key
		fi
		[ -z "$pkd_dry" ] || return 0
		mkdir -p "$PKD_RUN/keys" && printf '%s\n' "$key" > "$pkd_key_file" || pkd_fail "cannot write $pkd_key_file"
		return
	fi
	[ -n "$pkd_key_file" ] || pkd_key_file=$PKD_KEYS/$1.key
	case "$pkd_key_file" in
	*[!A-Za-z0-9_./-]*) pkd_invalid "user '$1': option key_file" "$pkd_key_file" "only letters, digits and _ . / -" ;;
	/*) ;;
	*) pkd_invalid "user '$1': option key_file" "$pkd_key_file" "an absolute path" ;;
	esac
	if [ "$pkd_key_file" = "$PKD_KEYS/$1.key" ] && [ ! -e "$pkd_key_file" ] && [ -z "$pkd_dry" ] && [ "$pkd_enabled" = 1 ]; then
		pkd_make_key "$1"
	fi
	[ -e "$pkd_key_file" ] || [ "$pkd_key_file" = "$PKD_KEYS/$1.key" ] ||
		pkd_bad "user '$1': option key_file: no such file '$pkd_key_file'"
}

pkd_make_key() {
	local digits
	digits=$(head -c 32 /dev/urandom | pkd_hex)
	[ ${#digits} -eq 64 ] || pkd_fail "cannot make a key for user '$1': /dev/urandom returned too few bytes"
	mkdir -p "$PKD_KEYS" && printf '0x%s\n' "$digits" > "$PKD_KEYS/.$1" &&
		mv "$PKD_KEYS/.$1" "$PKD_KEYS/$1.key" || pkd_fail "cannot write $PKD_KEYS/$1.key"
	pkd_made="$pkd_made $1"
}

pkd_read_user() {
	local enabled tag window services service state=active
	pkd_name user "$1" 32
	config_get enabled "$1" enabled 1
	pkd_flag "user '$1': option enabled" "$enabled"
	config_get tag "$1" tag
	[ -n "$tag" ] || pkd_bad "user '$1': missing option tag"
	pkd_tag "user '$1': option tag" "$tag"
	tag=$pkd_digits
	! grep -q "^[^ ]* $tag " "$pkd_to/user-states" ||
		pkd_bad "user '$1': same tag as user '$(sed -n "s/^\([^ ]*\) $tag .*/\1/p" "$pkd_to/user-states")'"
	config_get window "$1" window 10
	pkd_number "user '$1': option window" "$window" 1 86400
	config_get services "$1" service
	[ -n "$services" ] || pkd_bad "user '$1': missing option service: a knock would open nothing"
	for service in $services; do
		case "$service" in
		*[!A-Za-z0-9_]*) pkd_bad "user '$1': unknown service '$service'" ;;
		esac
		grep -q "^$service " "$pkd_to/services" || pkd_bad "user '$1': unknown service '$service'"
	done
	config_get expires "$1" expires
	pkd_read_expiry "$1" "$expires"
	pkd_read_key "$1"
	[ -z "$pkd_expired" ] || state=expired
	[ "$enabled" = 1 ] || state=disabled
	echo "$1 $tag $state" >> "$pkd_to/user-states"
	[ $state = active ] || return 0
	# shellcheck disable=SC2086
	set -- "$1" $services
	echo "$1 $tag $window $pkd_key_file $(
		shift
		IFS=,
		echo "$*"
	)" >> "$pkd_to/users"
	[ "$pkd_mode" = nft ] || [ "$(grep -c . "$pkd_to/users")" -le "$pkd_max_users" ] ||
		pkd_bad "gate: option mark: '$pkd_mask' has room for only $pkd_max_users users: use more bits"
}

# pkd_read FOLDER [dry]: dry makes no keys and accepts missing default key files.
pkd_read() {
	local fault
	pkd_to=$1 pkd_dry=$2 pkd_made=
	: > "$1/services" && : > "$1/users" && : > "$1/user-states" || pkd_fail "cannot write to $1"
	fault=$(uci export pkd 2>&1 > /dev/null) || pkd_bad "${fault#uci: }"
	fault=$(pkd_check_names)
	[ -z "$fault" ] || pkd_bad "$fault"
	config_load pkd
	pkd_read_gate
	config_foreach pkd_read_service service
	config_foreach pkd_read_user user
}
