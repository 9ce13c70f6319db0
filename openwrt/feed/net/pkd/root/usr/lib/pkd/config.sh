# shellcheck shell=dash
# SPDX-License-Identifier: GPL-2.0-only
# /etc/config/pkd: reads all of it, checks all of it, and ends with one line about the first thing that is wrong.
#
# What is read lands in a folder, one line an item:
#   services  NAME tcp|udp PORT SECONDS TAGS       (TAGS: 8 digits each, comma between; - for all)
#   users     NAME TAG WINDOW KEY-FILE SERVICES    (those whose knocks count today)
#   people    NAME TAG active|disabled|expired
# and in pkd_enabled, pkd_mode, pkd_port, pkd_zone, pkd_mask, pkd_rate, pkd_clock. Nothing of it is a key.

# shellcheck disable=SC3040
set -f
export LC_ALL=C

PKD_KEYS=/etc/pkd/keys
# Every mark takes a number of its own out of the mask's bits.
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

# pkd_number WHAT VALUE LEAST MOST: a decimal number without sign.
pkd_number() {
	case "$2" in
	'' | *[!0-9]* | 0?* | ???????????*) ;;
	*) [ "$2" -ge "$3" ] && [ "$2" -le "$4" ] && return ;;
	esac
	pkd_bad "$1 '$2' is no number of $3 to $4"
}

# pkd_name WHAT NAME MOST
pkd_name() {
	case "$2" in
	'' | *[!A-Za-z0-9_]*) ;;
	*) [ ${#2} -gt "$3" ] || return 0 ;;
	esac
	pkd_bad "$1 '$2' has a name that is not 1 to $3 letters, digits and underscores"
}

pkd_flag() {
	case "$2" in
	0 | 1) ;;
	*) pkd_bad "$1 '$2' is neither 0 nor 1" ;;
	esac
}

pkd_hex() {
	hexdump -v -e '1/1 "%02x"'
}

# pkd_tag WHAT TEXT: sets pkd_digits to the tag's 4 bytes in hexadecimal.
pkd_tag() {
	case "$2" in
	'') pkd_bad "$1 is empty" ;;
	0x*)
		pkd_digits=${2#0x}
		case "$pkd_digits" in
		'') pkd_bad "$1 '$2' has no digit after 0x" ;;
		*[!0-9a-fA-F]*) pkd_bad "$1 '$2' has a character that is no hexadecimal digit" ;;
		esac
		pkd_digits=$(printf %s "$pkd_digits" | tr A-F a-f)
		;;
	*) pkd_digits=$(printf %s "$2" | pkd_hex) ;;
	esac
	[ ${#pkd_digits} -le 8 ] || pkd_bad "$1 '$2' has more than 4 bytes"
	while [ ${#pkd_digits} -lt 8 ]; do
		pkd_digits=${pkd_digits}0
	done
}

# Sections and options that nobody reads are mistakes of somebody.
pkd_check_names() {
	uci -q show pkd | awk -F= '
		BEGIN {
			known["gate"] = " enabled mode port zone mark rate clock "
			known["service"] = " protocol port seconds tag "
			known["user"] = " enabled tag key key_file window service expires "
		}
		$1 ~ /^pkd\.[^.]+$/ {
			section = substr($1, 5)
			kind[section] = $2
			if (!($2 in known)) { print "section \047" section "\047 is of no kind that pkd knows: \047" $2 "\047"; exit }
		}
		$1 ~ /^pkd\.[^.]+\.[^.]+$/ {
			split($1, part, ".")
			if (part[2] in kind && !index(known[kind[part[2]]], " " part[3] " ")) {
				print kind[part[2]] " \047" part[2] "\047 has an option that pkd does not know: \047" part[3] "\047"; exit
			}
		}'
}

# A chain of a zone that does not exist would be passed by nobody, without a word.
pkd_has_zone() {
	uci -q show firewall | awk -F= -v wanted="'$1'" '
		$2 == "zone" { zone[$1] = 1 }
		$1 ~ /\.name$/ && $2 == wanted { sub(/\.name$/, "", $1); if ($1 in zone) found = 1 }
		END { exit !found }'
}

pkd_read_gate() {
	local value bits
	config_get value gate TYPE
	[ "$value" = gate ] || pkd_bad "there is no section gate 'gate'"
	config_get pkd_enabled gate enabled 0
	pkd_flag "gate: option enabled" "$pkd_enabled"
	config_get pkd_mode gate mode match
	case "$pkd_mode" in
	match | nft) ;;
	*) pkd_bad "gate: option mode '$pkd_mode' is neither match nor nft" ;;
	esac
	config_get pkd_rate gate rate 20
	pkd_number "gate: option rate" "$pkd_rate" 1 1000000
	config_get pkd_port gate port any
	[ "$pkd_port" = any ] || pkd_number "gate: option port" "$pkd_port" 1 65535
	config_get pkd_zone gate zone wan
	case "$pkd_zone" in
	'' | *[!A-Za-z0-9_-]*) pkd_bad "gate: option zone '$pkd_zone' is no name of a firewall zone" ;;
	any) ;;
	*) pkd_has_zone "$pkd_zone" || pkd_bad "gate: option zone '$pkd_zone' is no zone of /etc/config/firewall" ;;
	esac
	config_get pkd_clock gate clock ntp
	case "$pkd_clock" in
	ntp | trust) ;;
	*) pkd_bad "gate: option clock '$pkd_clock' is neither ntp nor trust" ;;
	esac
	config_get pkd_mask gate mark "$PKD_DEFAULT_MASK"
	case "$pkd_mask" in
	0x | 0x*[!0-9a-fA-F]* | 0x?????????*) bits= ;;
	0x*) bits=$((pkd_mask)) ;;
	*) bits= ;;
	esac
	[ -n "$bits" ] && [ "$bits" -ne 0 ] || pkd_bad "gate: option mark '$pkd_mask' is no hexadecimal number of up to 8 digits"
	pkd_unit=$((bits & -bits))
	pkd_most=$((bits / pkd_unit))
	[ $((pkd_most & (pkd_most + 1))) -eq 0 ] && [ "$pkd_most" -ge 3 ] && [ "$pkd_most" -le 255 ] ||
		pkd_bad "gate: option mark '$pkd_mask' is not one run of 2 to 8 bits"
}

pkd_read_service() {
	local protocol port seconds tags tag all=-
	pkd_name service "$1" 16
	config_get protocol "$1" protocol tcp
	case "$protocol" in
	tcp | udp) ;;
	*) pkd_bad "service '$1': option protocol '$protocol' is neither tcp nor udp" ;;
	esac
	config_get port "$1" port
	pkd_number "service '$1': option port" "$port" 1 65535
	config_get seconds "$1" seconds 30
	pkd_number "service '$1': option seconds" "$seconds" 1 86400
	config_get tags "$1" tag
	for tag in $tags; do
		pkd_tag "service '$1': tag" "$tag"
		all=${all#-},$pkd_digits
	done
	echo "$1 $protocol $port $seconds ${all#,}" >> "$pkd_to/services"
}

# Today is over for a user at the end of the last day, in UTC.
pkd_read_expiry() {
	local end
	pkd_expired=
	[ -n "$2" ] || return
	case "$2" in
	[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]) end=$(date -u -d "$2 23:59:59" +%s 2> /dev/null) ;;
	*) end= ;;
	esac
	[ -n "$end" ] && [ "$(date -u -d "@$end" +%Y-%m-%d)" = "$2" ] ||
		pkd_bad "user '$1': option expires '$2' is no day such as 2027-12-31"
	[ "$(date +%s)" -le "$end" ] || pkd_expired=1
}

# Sets pkd_key_file; makes a key where the service does so by itself.
pkd_read_key() {
	local key=
	config_get key "$1" key
	config_get pkd_key_file "$1" key_file
	[ -z "$key" ] || [ -z "$pkd_key_file" ] || pkd_bad "user '$1' has both option key and option key_file"
	if [ -n "$key" ]; then
		case "$key" in
		0x*) [ ${#key} -le 82 ] ;;
		*) [ ${#key} -le 40 ] ;;
		esac || pkd_bad "user '$1': option key is longer than 40 bytes"
		# The file that the running rules were made from stays as it is: they may have to be made again.
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
	*[!A-Za-z0-9_./-]*) pkd_bad "user '$1': option key_file '$pkd_key_file' has a character other than letters, digits and _./-" ;;
	/*) ;;
	*) pkd_bad "user '$1': option key_file '$pkd_key_file' does not begin with /" ;;
	esac
	if [ "$pkd_key_file" = "$PKD_KEYS/$1.key" ] && [ ! -e "$pkd_key_file" ] && [ -z "$pkd_dry" ] && [ "$pkd_enabled" = 1 ]; then
		pkd_make_key "$1"
	fi
	[ -e "$pkd_key_file" ] || [ "$pkd_key_file" = "$PKD_KEYS/$1.key" ] ||
		pkd_bad "user '$1': option key_file '$pkd_key_file' names no file"
}

pkd_make_key() {
	local digits
	digits=$(head -c 32 /dev/urandom | pkd_hex)
	[ ${#digits} -eq 64 ] || pkd_fail "no random bytes for the key of user '$1'"
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
	pkd_tag "user '$1': option tag" "$tag"
	tag=$pkd_digits
	! grep -q "^[^ ]* $tag " "$pkd_to/people" ||
		pkd_bad "user '$1' has the tag of user '$(sed -n "s/^\([^ ]*\) $tag .*/\1/p" "$pkd_to/people")'"
	config_get window "$1" window 10
	pkd_number "user '$1': option window" "$window" 1 86400
	config_get services "$1" service
	[ -n "$services" ] || pkd_bad "user '$1' has no service: a knock would open nothing"
	for service in $services; do
		case "$service" in
		*[!A-Za-z0-9_]*) pkd_bad "user '$1': there is no service '$service'" ;;
		esac
		grep -q "^$service " "$pkd_to/services" || pkd_bad "user '$1': there is no service '$service'"
	done
	config_get expires "$1" expires
	pkd_read_expiry "$1" "$expires"
	pkd_read_key "$1"
	[ -z "$pkd_expired" ] || state=expired
	[ "$enabled" = 1 ] || state=disabled
	echo "$1 $tag $state" >> "$pkd_to/people"
	[ $state = active ] || return 0
	# shellcheck disable=SC2086
	set -- "$1" $services
	echo "$1 $tag $window $pkd_key_file $(
		shift
		IFS=,
		echo "$*"
	)" >> "$pkd_to/users"
	[ "$pkd_mode" = nft ] || [ "$(grep -c . "$pkd_to/users")" -le "$pkd_most" ] ||
		pkd_bad "gate: option mark '$pkd_mask' has room for $pkd_most users only"
}

# pkd_read FOLDER [dry]: dry makes no key and takes the missing ones for made.
pkd_read() {
	local fault
	pkd_to=$1 pkd_dry=$2 pkd_made=
	: > "$1/services" && : > "$1/users" && : > "$1/people" || pkd_fail "cannot write to $1"
	fault=$(uci export pkd 2>&1 > /dev/null) || pkd_bad "${fault#uci: }"
	fault=$(pkd_check_names)
	[ -z "$fault" ] || pkd_bad "$fault"
	config_load pkd
	pkd_read_gate
	config_foreach pkd_read_service service
	config_foreach pkd_read_user user
}
