# Debian's applets, static.
cp debian/config/pkg/static .config
# musl has no GNU regex, and today's kernel headers have no CBQ.
for option in EXTRA_COMPAT FEATURE_VI_REGEX_SEARCH TC; do
    sed -i "s/^CONFIG_$option=y/# CONFIG_$option is not set/" .config
done
# OpenWrt's scripts have them.
for option in FLOCK SETSID; do
    sed -i "s/^# CONFIG_$option is not set/CONFIG_$option=y/" .config
done
yes '' | make oldconfig > /dev/null
# Zig's linker has no such words.
sed -i 's/-Wl,--warn-common//; s/-Wl,--verbose//; s/-Wl,-Map,[^ "]*//' scripts/trylink
make -j"$JOBS" CC="$CC" AR="$AR" HOSTCC=cc SKIP_STRIP=y CONFIG_EXTRA_LDFLAGS=-s busybox
install -D busybox "$OUT/bin/busybox"
