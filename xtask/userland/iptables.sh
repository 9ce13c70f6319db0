# iptables with extensions that are loaded, in OpenWrt's folder for them.
CC="$CC -dynamic" ./configure --host="$HOST" --prefix=/usr --with-xtlibdir=/usr/lib/iptables --disable-static \
    --disable-dependency-tracking --disable-nftables CFLAGS="$CFLAGS" LDFLAGS=-s
# Zig does not know what an .oo file is.
sed -i 's/\.oo\b/.pic.o/g' extensions/GNUmakefile
make -j"$JOBS"
make DESTDIR="$OUT" install
rm -rf "$OUT/usr/share" "$OUT/usr/lib/pkgconfig" "$OUT"/usr/lib/*.la
