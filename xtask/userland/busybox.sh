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
# Clang believes the word const, and reads these pointers before busybox has set them.
sed -i 's/^extern struct globals \*const ptr_to_globals/extern struct globals *ptr_to_globals/' include/libbb.h
sed -i 's/^# define BB_GLOBAL_CONST const$/# define BB_GLOBAL_CONST/' include/libbb.h
# Zig's linker has no such words.
sed -i 's/-Wl,--warn-common//; s/-Wl,--verbose//; s/-Wl,-Map,[^ "]*//' scripts/trylink
make -j"$JOBS" CC="$CC" AR="$AR" HOSTCC=cc SKIP_STRIP=y CONFIG_EXTRA_LDFLAGS=-s busybox
install -D busybox "$OUT/bin/busybox"
