# shellcheck shell=dash
# SC2013: lists are words. SC2016: eval expands these later.
# shellcheck disable=SC2013,SC2016
# SPDX-License-Identifier: GPL-2.0-only
# A fake of OpenWrt's /lib/functions.sh: the functions that pkd's scripts and packages call, on the real uci.

# config_load PACKAGE
config_load() {
	local line name value section
	CONFIG_SECTIONS=
	eval "$(uci -q -X show "$1" | while IFS= read -r line; do
		name=${line%%=*}
		value=${line#*=}
		name=${name#*.}
		case "$name" in
		*.*)
			# Values are quoted for a shell; a list's values become words of one string.
			section=${name%%.*}
			printf 'config_set_words %s %s %s\n' "$section" "${name#*.}" "$value"
			;;
		*) printf 'CONFIG_SECTIONS="$CONFIG_SECTIONS %s"; CONFIG_%s_TYPE=%s\n' "$name" "$name" "$value" ;;
		esac
	done)"
}

config_set_words() {
	local section=$1 option=$2
	shift 2
	config_words="$*"
	eval "CONFIG_${section}_$option=\$config_words"
}

# config_get VARIABLE SECTION OPTION [DEFAULT]
config_get() {
	eval "config_words=\${CONFIG_$2_$3:-\$4}"
	eval "$1=\$config_words"
}

# config_foreach FUNCTION TYPE
config_foreach() {
	local section type
	for section in $CONFIG_SECTIONS; do
		config_get type "$section" TYPE
		[ "$type" != "$2" ] || "$1" "$section"
	done
}

# default_postinst SCRIPT: called by the packages' postinst on a running system.
default_postinst() {
	local name=${1##*/} i
	name=${name%.postinst}
	[ ! -f "/usr/lib/opkg/info/$name.postinst-pkg" ] || (. "/usr/lib/opkg/info/$name.postinst-pkg") || return
	! grep -q '^/etc/modules.d/' "/usr/lib/opkg/info/$name.list" || kmodloader
	for i in $(sed -n 's,^/etc/uci-defaults/,,p' "/usr/lib/opkg/info/$name.list"); do
		[ ! -f "/etc/uci-defaults/$i" ] || (cd /etc/uci-defaults && . "./$i") && rm -f "/etc/uci-defaults/$i"
	done
	for i in $(grep '^/etc/init.d/' "/usr/lib/opkg/info/$name.list"); do
		[ "$PKG_UPGRADE" = 1 ] || "$i" enable || return
		"$i" start
	done
	return 0
}

default_prerm() {
	local name=${1##*/} i
	name=${name%.prerm}
	[ ! -f "/usr/lib/opkg/info/$name.prerm-pkg" ] || (. "/usr/lib/opkg/info/$name.prerm-pkg") || return
	for i in $(grep '^/etc/init.d/' "/usr/lib/opkg/info/$name.list"); do
		[ "$PKG_UPGRADE" = 1 ] || "$i" disable
		"$i" stop
	done
	return 0
}
