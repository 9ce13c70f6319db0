# The C library that programs and extensions share, under the loader's name for this ABI.
./configure --target="$HOST" --prefix=/usr --syslibdir=/lib --disable-static --disable-wrapper CFLAGS="$CFLAGS"
make -j"$JOBS" lib/libc.so
# Zig adds its run-time library, whose hidden memcpy and the like hide those of musl. So once more, with
# nothing of it to be seen but what the compiler itself calls.
echo > empty.c
$ZIG build-lib empty.c -fcompiler-rt $ZIG_TARGET -OReleaseSmall -fPIC --name rt
"${BINUTILS}objcopy" --wildcard --keep-global-symbol='__*' "$($ZIG ar t librt.a | grep compiler_rt)" rt.o
mkdir -p "$OUT/lib"
find obj/src obj/ldso obj/compat -name '*.lo' | LC_ALL=C sort > objects
$ZIG ld.lld -shared -s --gc-sections --hash-style=sysv --no-undefined -z norelro --dynamic-list=dynamic.list \
    -Bsymbolic-functions -e _dlstart -soname libc.so -o "$OUT/lib/libc.so" @objects rt.o
variable() { sed -n "s/^$1 = //p" config.mak; }
ln -s libc.so "$OUT/lib/ld-musl-$(variable ARCH)$(variable SUBARCH).so.1"
