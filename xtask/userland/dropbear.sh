# The SSH server and what makes its key, static.
./configure --host="$HOST" --disable-zlib --enable-static --enable-bundled-libtom --disable-harden --disable-lastlog \
    --disable-utmp --disable-utmpx --disable-wtmp --disable-wtmpx CFLAGS="$CFLAGS" LDFLAGS=-s
make -j"$JOBS" PROGRAMS='dropbear dropbearkey' MULTI=1 STATIC=1
install -D dropbearmulti "$OUT/usr/sbin/dropbear"
mkdir -p "$OUT/usr/bin"
ln -s ../sbin/dropbear "$OUT/usr/bin/dropbearkey"
